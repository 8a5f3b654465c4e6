"""Events of a registry's history: promotions, rejections and rollbacks, whoever made them. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from mondrian_core.domain_events.event import (
    ADAPTER_PROMOTED,
    ADAPTER_REJECTED,
    ADAPTER_ROLLED_BACK,
    DomainEvent,
)
from mondrian_core.registry import HistoryEntry

BASE_ALONE = "the base alone"
RUN, OBJECTIONS, ROLLOUT = "run", "objections", "rollout"  # keys of an entry's details


def history_events(advisor: str, entries: Sequence[HistoryEntry], service: str = "") -> list[DomainEvent]:
    """The events of a whole history, oldest first. The key of each is the SHA-256 of its line, so it never changes.

    Args:
        advisor: whose history.
        entries: all of them; a rejection is an event only when the version was not rejected before.
        service: address of the service, which links begin with; empty: links are paths.
    """
    events: list[DomainEvent] = []
    states: dict[str, str] = {}
    runs: dict[str, str] = {}
    for entry in entries:
        version = entry.version or ""
        before = states.get(version)
        after = "rejected" if entry.event == "reject" else str(entry.detail.get("state") or before or "")
        states[version] = after
        if entry.event in ("register", "adopt") and entry.detail.get(RUN):
            runs[version] = str(entry.detail[RUN])
        run = str(entry.detail.get(RUN) or (entry.detail.get("report") or {}).get(RUN) or runs.get(version) or "")
        facts: dict[str, Any] = {"run": run or None, "link": f"{service}/registry/{advisor}/{version}"}
        if entry.moves_pointer:
            events.append(_pointer_event(advisor, entry, facts))
        elif after == "rejected" and before != "rejected":
            title = f"{advisor}: {version} was rejected."
            events.append(
                _event(ADAPTER_REJECTED, advisor, entry, title=title, **facts | {"verdict": _verdict(entry) or "FAIL"})
            )
    return events


def _pointer_event(advisor: str, entry: HistoryEntry, facts: Mapping[str, Any]) -> DomainEvent:
    before, after = entry.before or BASE_ALONE, entry.after or BASE_ALONE
    if entry.event == "promote":
        stage = " It begins with a share of the photographs." if entry.detail.get(ROLLOUT) else ""
        title = f"{advisor}: {after} is the champion (before: {before}).{stage}"
        return _event(ADAPTER_PROMOTED, advisor, entry, title=title, **facts)
    title = f"{advisor}: rolled back from {before} to {after}."
    return _event(ADAPTER_ROLLED_BACK, advisor, entry, title=title, **facts)


def _event(name: str, advisor: str, entry: HistoryEntry, **facts: Any) -> DomainEvent:
    evidence = {
        "change": entry.event,
        "actor": entry.actor,
        "before": entry.before,
        "after": entry.after,
        "forced": entry.forced,
        "objections": list(entry.detail.get(OBJECTIONS) or []),
        "rollout": entry.detail.get(ROLLOUT),
        "gates": dict(entry.verdicts),
        "serial": entry.serial,
    }
    return DomainEvent(
        **{
            "name": name,
            "advisor": advisor,
            "key": entry.sha256,
            "reason": entry.reason,
            "version": entry.version,
            "verdict": _verdict(entry),
            "evidence": evidence,
            "occurred": datetime.fromisoformat(entry.at),
            **facts,
        }
    )


def _verdict(entry: HistoryEntry) -> str | None:
    """The worst verdict of the entry's gates; None when it has none."""
    found = set(entry.verdicts.values()) or {str((entry.detail.get("report") or {}).get("verdict"))}
    return next((verdict for verdict in ("FAIL", "INCONCLUSIVE", "PASS") if verdict in found), None)
