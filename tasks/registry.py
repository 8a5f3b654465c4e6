"""Tasks that change which adapter serves. They hold no model and no accelerator."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from mondrian_core import stages
from mondrian_core.decision import check_promotable
from mondrian_core.registry import Registry
from mondrian_core.stages import Context, PromoteSummary, RegisterSummary
from tasks import pages
from tasks.run import actor
from tasks.telling import artifact_key, leave_page, log_events

PROMOTED = "mondrian.adapter.promoted"
ROLLED_BACK = "mondrian.adapter.rolled-back"
BY_HAND = "promoted by hand"


@task(name="register", timeout_seconds=600, cache_policy=NO_CACHE)
def register(context_file: Path) -> RegisterSummary:
    """The adapter as an immutable version with its report. Not retried: a second try would write a second version."""
    context = Context.load(context_file)
    summary = stages.register(context, log_events())
    leave_page(artifact_key("version", context.advisor), pages.registered(summary, context.advisor), summary.version)
    return summary


@task(name="promote", timeout_seconds=600, cache_policy=NO_CACHE)
def promote(context_file: Path) -> PromoteSummary:
    """The gates' verdict carried out: promoted, kept as a candidate, or rejected."""
    context = Context.load(context_file)
    summary = stages.promote(context, log_events())
    leave_page(artifact_key("promotion", context.advisor), pages.decided(summary, context.advisor), summary.decision)
    if summary.decision == "promoted":
        _announce(PROMOTED, context.advisor, summary.version)
    return summary


@task(name="inspect version", timeout_seconds=600, cache_policy=NO_CACHE)
def inspect_version(adapters: Path, advisor: str, version: str, *, force: bool, reason: str) -> None:
    """Hash a version's files anew and show its gates.

    Raises:
        UnknownVersion: when there is none of that name.
        GateFailed: when its gates speak against it and it is not forced with a reason.
    """
    registry = Registry(adapters)
    chosen = registry.get(advisor, version)
    gates = (chosen.manifest.get("gate_report") or {}).get("gates", [])
    problems = registry.verify(advisor, chosen.version)
    leave_page(
        artifact_key("version", advisor),
        pages.version_facts(advisor, version, chosen.state, gates, problems),
        f"{version}, {chosen.state}",
    )
    check_promotable(chosen, force=force, reason=reason)


@task(name="promote by hand", timeout_seconds=600, cache_policy=NO_CACHE)
def promote_by_hand(
    adapters: Path, advisor: str, version: str, *, expected: str | None, force: bool, reason: str
) -> str:
    """Make a version the champion if the champion still is `expected`; gives the sentence that says so."""
    registry = Registry(adapters)
    registry.promote(advisor, version, expected=expected, actor=actor(), reason=reason or BY_HAND, forced=force)
    return _changed(PROMOTED, advisor, expected, version, reason or BY_HAND)


@task(name="roll back", timeout_seconds=600, cache_policy=NO_CACHE)
def roll_back(adapters: Path, advisor: str, *, reason: str) -> str:
    """Back to the previous champion; gives the sentence that says so."""
    registry = Registry(adapters)
    before = registry.current(advisor)
    restored = registry.rollback(advisor, actor=actor(), reason=reason)
    return _changed(ROLLED_BACK, advisor, before, restored.version if restored else None, reason)


def _changed(event: str, advisor: str, before: str | None, after: str | None, reason: str) -> str:
    sentence = f"The champion of '{advisor}' is now {after or 'the base alone'} (before: {before or 'the base alone'})."
    leave_page(
        artifact_key("promotion", advisor), pages.champion_changed(advisor, before, after, actor(), reason), sentence
    )
    _announce(event, advisor, after or "base")
    return sentence


def _announce(event: str, advisor: str, version: str) -> None:
    """For automations; the service looks at the pointer itself and needs no message."""
    emit_event(
        event,
        resource={"prefect.resource.id": f"mondrian.adapter.{advisor}", "mondrian.version": version},
        payload={"advisor": advisor, "version": version},
    )
