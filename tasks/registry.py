"""Tasks that change which adapter serves. They hold no model and no accelerator."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from mondrian_core import rollout, stages
from mondrian_core.errors import BadInput, Broken, NegativeOutcome
from mondrian_core.registry import AdapterVersion, ChampionReference, Registry
from mondrian_core.rollout import RolloutPlan
from mondrian_core.stages import PromoteSummary, RegisterSummary, StageContext
from mondrian_core.stages.promotion_decision import check_manual_promotion
from tasks import artifact_pages
from tasks.reporting import artifact_key, log_listener, publish_markdown_artifact, retry_unless
from tasks.run_context import current_actor

PROMOTED = "mondrian.adapter.promoted"
ROLLED_BACK = "mondrian.adapter.rolled-back"
BY_HAND = "promoted by hand"
ROOT = Path(__file__).resolve().parent.parent
INSPECTION_SECONDS = 600.0  # the fingerprint of a large base is a hash of all its bytes


RETRY_OPTIONS: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": 10,
    "retry_condition_fn": retry_unless(NegativeOutcome, BadInput),
}


@task(name="register", timeout_seconds=600, cache_policy=NO_CACHE, **RETRY_OPTIONS)
def register_task(context_file: Path) -> RegisterSummary:
    """The adapter as an immutable version with its report. Tried again, it finds the version that the run has."""
    context = StageContext.load(context_file)
    summary = stages.register_stage(context, log_listener())
    publish_markdown_artifact(
        artifact_key("version", context.advisor),
        artifact_pages.registration_markdown(summary, context.advisor),
        summary.version,
    )
    return summary


@task(name="promote", timeout_seconds=600, cache_policy=NO_CACHE, **RETRY_OPTIONS)
def promote_task(context_file: Path) -> PromoteSummary:
    """The gates' verdict carried out: promoted, kept as a candidate, or rejected. A run promotes once."""
    context = StageContext.load(context_file)
    summary = stages.promote_stage(context, log_listener())
    publish_markdown_artifact(
        artifact_key("promotion", context.advisor),
        artifact_pages.promotion_markdown(summary, context.advisor),
        summary.decision,
    )
    if summary.decision == "promoted":
        _emit_champion_event(PROMOTED, context.advisor, summary.version)
    return summary


@task(name="inspect version", timeout_seconds=900, cache_policy=NO_CACHE)
def inspect_version_task(
    adapters: Path, advisor: str, version: str, *, champion: ChampionReference, force: bool, reason: str, base: str
) -> tuple[str, ...]:
    """Hash a version's files anew, hold it against its base, show its gates; gives what is wrong with it.

    Raises:
        UnknownVersion: when there is none of that name.
        GateFailed: when its gates speak against it and it is not forced with a reason.
        BadInput: when a reason is missing, such as for a version that was compared with another than `champion`.
    """
    registry = Registry(adapters)
    chosen = registry.get(advisor, version)
    problems = registry.verify(advisor, chosen.version)
    seen: dict[str, Any] = {} if problems else inspect_version_in_subprocess(chosen, base)
    problems = problems or tuple(seen["problems"])
    publish_markdown_artifact(
        artifact_key("version", advisor),
        artifact_pages.version_markdown(
            advisor, version, chosen.state, (chosen.report or {}).get("gates", []), problems, seen
        ),
        f"{version}, {chosen.state}",
    )
    check_manual_promotion(chosen, champion, force=force, reason=reason)
    return problems


def inspect_version_in_subprocess(version: AdapterVersion, base: str) -> dict[str, Any]:
    """The fields of `models.inspection.Inspection`, found by a process of its own: this one holds no model.

    Raises:
        Broken: when that process fails.
    """
    named = (version.manifest.get("base") or {}).get("name")
    command = [
        sys.executable,
        "-m",
        "mondrian_core.models.lora.adapter_inspection",
        str(version.path),
        version.base_fingerprint or "",
        *filter(None, [named, base]),
    ]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=INSPECTION_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        told = error.stderr if isinstance(error.stderr, str) else ""
        raise Broken(
            f"{version.version} could not be held against its base: {(told.strip().splitlines() or [str(error)])[-1]}",
            f"`mondrian adapters verify --advisor {version.advisor} {version.version} --debug` shows more.",
        ) from error
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@task(name="promote by hand", timeout_seconds=600, cache_policy=NO_CACHE)
def manual_promote_task(
    adapters: Path,
    advisor: str,
    version: str,
    *,
    expected: ChampionReference,
    force: bool,
    reason: str,
    problems: Sequence[str] = (),
    plan: RolloutPlan | None = None,
) -> str:
    """Make a version the champion if the champion still is `expected`; gives the sentence that says so.

    With a `plan` it begins with the plan's first share.
    """
    registry, why = Registry(adapters), reason or BY_HAND
    facts: dict[str, Any] = {
        "expected": expected,
        "actor": current_actor(),
        "reason": why,
        "forced": force,
        "problems": problems,
    }
    if plan is None:
        rollout.require_no_active_rollout(registry, advisor)
        registry.promote(advisor, version, **facts)
        return _report_champion_change(PROMOTED, advisor, expected.version, version, why)
    begun = rollout.start_rollout(registry, advisor, version, plan, **facts)
    return f"{_report_champion_change(PROMOTED, advisor, expected.version, version, why)} Its rollout begins {begun.position}."


@task(name="roll back", timeout_seconds=600, cache_policy=NO_CACHE)
def rollback_task(adapters: Path, advisor: str, *, reason: str) -> str:
    """Back to the previous champion; gives the sentence that says so."""
    registry = Registry(adapters)
    before = registry.current(advisor)
    restored = registry.rollback(advisor, actor=current_actor(), reason=reason)
    return _report_champion_change(ROLLED_BACK, advisor, before, restored.version if restored else None, reason)


def _report_champion_change(event: str, advisor: str, before: str | None, after: str | None, reason: str) -> str:
    sentence = f"The champion of '{advisor}' is now {after or 'the base alone'} (before: {before or 'the base alone'})."
    publish_markdown_artifact(
        artifact_key("promotion", advisor),
        artifact_pages.champion_change_markdown(advisor, before, after, current_actor(), reason),
        sentence,
    )
    _emit_champion_event(event, advisor, after or "base")
    return sentence


def _emit_champion_event(event: str, advisor: str, version: str) -> None:
    """For automations; the service looks at the pointer itself and needs no message."""
    emit_event(
        event,
        resource={"prefect.resource.id": f"mondrian.adapter.{advisor}", "mondrian.version": version},
        payload={"advisor": advisor, "version": version},
    )
