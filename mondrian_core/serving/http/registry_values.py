"""What the pages of the registry show, as plain values: all advisors, one advisor, one version.

A version or a whole advisor that can't be read is a value too, so that damage is shown instead of an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mondrian_core import rollout
from mondrian_core.errors import BadAdapter, MondrianError, UnknownVersion
from mondrian_core.gate_strictness import loosened_text
from mondrian_core.portable_paths import without_absolute_paths
from mondrian_core.registry import (
    OBJECTIONS,
    AdapterVersion,
    HistoryEntry,
    Registry,
    champion_reigns,
    check_version_files,
    version_family,
)
from mondrian_core.runs import score_errors

HIDDEN_EVENTS = frozenset({"look", "look_result"})  # evaluations repeat their number; the rest is bookkeeping
# What a reader of damaged files may raise; parse_manifest and HistoryEntry check the parts that are known.
_DAMAGE = (AttributeError, KeyError, TypeError, ValueError, OSError)
REPORT_FILE = "report.html"
_UNKNOWN_ROW: Mapping[str, Any] = {
    **dict.fromkeys(("verdict", "look", "created_at", "parent", "photographs", "recipe", "run")),
    **{"candidate_error": None, "base_error": None, "by_folds": False},
    **{"gates": (), "loosened": "", "unanswered_failure": False, "dataset": ""},
}


def registry_overview(registry: Registry, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every advisor of the workspace and of the registry, sorted by ID.

    Args:
        registry: the versions.
        names: of the workspace's advisors, by ID.
    """
    known = sorted({*names, *registry.advisors()})
    return [
        {"advisor": advisor, "name": names.get(advisor, ""), **_or_damage(_overview_of, registry, advisor)}
        for advisor in known
    ]


def _overview_of(registry: Registry, advisor: str) -> dict[str, Any]:
    versions = [version_row(version) for version in registry.versions(advisor)]
    by_name = {row["version"]: row for row in versions}
    reigns = champion_reigns(registry.history(advisor))
    champion = registry.current(advisor)
    return {
        "champion": by_name.get(champion) if champion else None,
        "champion_name": champion,
        "since": reigns[-1].since if reigns else None,
        "reason": reigns[-1].reason if reigns else "",
        "versions": len(versions),
        "waiting": [row["version"] for row in versions if row["state"] == "candidate"],
        "latest": versions[-1] if versions else None,
        "rollout": _or_damage(_rollout_of, registry, advisor).get("rollout"),
    }


def _rollout_of(registry: Registry, advisor: str) -> dict[str, Any]:
    return {"rollout": rollout_values(registry, advisor)}


def rollout_values(registry: Registry, advisor: str) -> dict[str, Any] | None:
    """The rollout in force; None without one."""
    running = rollout.active_rollout(registry, advisor)
    if running is None:
        return None
    return {"version": running.version, "position": running.position, "control": running.control}


def advisor_values(registry: Registry, advisor: str) -> dict[str, Any]:
    """Versions (newest first), champions over time, history (newest first) and problems of one advisor."""
    nothing: dict[str, Any] = {"champion": None, "versions": [], "reigns": [], "history": [], "problems": []}
    return {"advisor": advisor, **nothing, "rollout": None, **_or_damage(_advisor_values, registry, advisor)}


def _advisor_values(registry: Registry, advisor: str) -> dict[str, Any]:
    versions = registry.versions(advisor)
    history = registry.history(advisor)
    running = _or_damage(_rollout_of, registry, advisor)
    return {
        "champion": registry.current(advisor),
        "versions": [version_row(version) for version in reversed(versions)],
        "reigns": [reign.as_dict() for reign in champion_reigns(history)],
        "history": [_history_row(entry) for entry in reversed(history) if entry.event not in HIDDEN_EVENTS],
        "problems": [
            without_absolute_paths(each, {}) for each in (*registry.check(advisor), running["damaged"]) if each
        ],
        "rollout": running.get("rollout"),
    }


def version_row(version: AdapterVersion) -> dict[str, Any]:
    """One version for a table: state, verdict by gate, look, dataset, parent, figures."""
    return {"version": version.version, "state": version.state, **_UNKNOWN_ROW, **_or_damage(_row_of, version)}


def _row_of(version: AdapterVersion) -> dict[str, Any]:
    manifest, newest = version.manifest, version.evaluations[-1] if version.evaluations else None
    report = newest.report if newest else {}
    trained_on = (manifest.get("training") or {}).get("trained_on") or {}
    return {
        "verdict": newest.verdict if newest else None,
        "gates": [{"name": name, "verdict": verdict} for name, verdict in newest.verdicts.items()] if newest else [],
        "look": (report.get("look") or {}).get("number"),
        "loosened": loosened_text(newest.loosened) if newest else "",
        "unanswered_failure": bool(version.unanswered_failures),
        "created_at": manifest.get("created_at"),
        "parent": version.parent,
        "dataset": str((manifest.get("dataset") or {}).get("digest") or ""),
        "photographs": trained_on.get("photographs"),
        "recipe": ((manifest.get("recipe") or {}).get("values") or {}).get("name"),
        "run": manifest.get("run"),
        **score_errors(manifest.get("metrics") or {}),
    }


def find_version(registry: Registry, advisor: str, name: str) -> AdapterVersion:
    """A version without downloading its files.

    Raises:
        UnknownVersion: there is none.
    """
    found = next((each for each in registry.versions(advisor) if each.version == name), None)
    if found is None:
        raise UnknownVersion(f"'{advisor}' has no version '{name[:80]}'.", "List them with `mondrian adapters list`.")
    return found


def version_values(registry: Registry, version: AdapterVersion) -> dict[str, Any]:
    """Everything about one version but its pictures."""
    advisor, manifest = version.advisor, version.manifest
    history = [entry for entry in registry.history(advisor) if version.version in (entry.version, entry.before)]
    return {
        "advisor": advisor,
        **version_row(version),
        "evaluations": _or_damage(lambda: {"evaluations": _evaluations(version)}).get("evaluations", []),
        "gate_rows": _or_damage(lambda: {"gates": gate_rows((version.report or {}).get("gates") or [])}).get(
            "gates", []
        ),
        "facts": _or_damage(lambda: {"facts": _facts(version)}).get("facts", {}),
        "training": manifest.get("training") or {},
        "recipe_values": (manifest.get("recipe") or {}).get("values") or {},
        "files": [check.as_dict() for check in check_version_files(version, remote=registry.url is not None)],
        "has_report": REPORT_FILE in (manifest.get("files") or {}),
        "quarantined_because": next((entry.reason for entry in reversed(history) if entry.event == "quarantine"), ""),
        "history": [_history_row(entry) for entry in reversed(history) if entry.event not in HIDDEN_EVENTS],
        "family": version_family({each.version: each for each in registry.versions(advisor)}, version.version),
    }


def gate_rows(gates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Gates as rows of a table; the checks of a gate that did not pass follow it."""
    rows = []
    for gate in gates:
        rows.append(_gate_row(gate, part=False))
        rows += [_gate_row(part, part=True) for part in gate.get("parts") or () if part.get("verdict") != "PASS"]
    return rows


def _gate_row(gate: Mapping[str, Any], *, part: bool) -> dict[str, Any]:
    figures = {key: gate.get(key) for key in ("sentence", "observed", "threshold", "n", "interval", "rule")}
    return {
        "name": gate["name"],
        "verdict": gate["verdict"],
        "decides": gate.get("decides", True),
        "part": part,
        **figures,
    }


def _evaluations(version: AdapterVersion) -> list[dict[str, Any]]:
    return [
        {
            "at": each.at or version.manifest.get("created_at"),
            "actor": each.actor or "registration",
            "verdict": each.verdict,
            "look": (each.report.get("look") or {}).get("number"),
            "level": (each.report.get("look") or {}).get("level"),
            "run": each.report.get("run"),
            "split": each.report.get("split"),
            "compared_with": (each.report.get("compared_with") or {}).get("version"),
            "failed": list(each.failed_gates),
            "loosened": loosened_text(each.loosened),
        }
        for each in reversed(version.evaluations)
    ]


def _facts(version: AdapterVersion) -> dict[str, Any]:
    manifest = version.manifest
    dataset = manifest.get("dataset") or {}
    return {
        "Registered": manifest.get("created_at"),
        "Run": manifest.get("run"),
        "Parent": version.parent,
        "Base model": (manifest.get("base") or {}).get("name"),
        "Fingerprint of the base": version.base_fingerprint,
        "Dataset": dataset.get("digest"),
        "Evaluated on": dataset.get("evaluated_on"),
        "Seed": manifest.get("seed"),
        "Commit of the code": manifest.get("code_commit"),
        "Imported from": (manifest.get("imported_from") or {}).get("layout"),
    }


def _history_row(entry: HistoryEntry) -> dict[str, Any]:
    return {
        "serial": entry.serial,
        "at": entry.at,
        "event": entry.event,
        "version": entry.version,
        "before": entry.before,
        "after": entry.after,
        "moves_pointer": entry.moves_pointer,
        "actor": entry.actor,
        "reason": entry.reason,
        "forced": entry.forced,
        "objections": [str(each) for each in entry.detail.get(OBJECTIONS) or ()],
    }


def _or_damage(read: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What `read` gives; {"damaged": why} when the files can't be read."""
    try:
        return {"damaged": "", **read(*arguments)}
    except BadAdapter as error:
        why = error.problem
    except MondrianError as error:
        why = str(error)
    except _DAMAGE as error:
        why = f"its files can't be read ({type(error).__name__}: {str(error)[:200]})"
    return {"damaged": without_absolute_paths(why, {})}


def seconds_of(at: str) -> float | None:
    """Seconds since the epoch of an ISO 8601 time; None when it can't be read."""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
