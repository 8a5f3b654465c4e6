"""Tasks that make a version the champion, after a retraining or on a person's request. They need no accelerator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core import stages
from mondrian_core.promotion import (
    ManualPromotion,
    inspect_version_in_subprocess,
    promote_manually,
    review_manual_promotion,
)
from mondrian_core.promotion.manual import MANUAL_REASON
from mondrian_core.registry import Registry
from mondrian_core.rollout import RolloutPlan
from mondrian_core.stages import PromoteSummary, StageContext
from tasks import artifact_pages
from tasks.reporting import (
    REGISTRY_TASK_OPTIONS,
    artifact_key,
    log_listener,
    publish_markdown_artifact,
    without_local_paths,
)
from tasks.run_context import current_actor
from tasks.served_pages import ServedPage, version_page


@dataclass(frozen=True, kw_only=True)
class VersionInspection:
    """What was found before a manual promotion.

    Attributes:
        problems: of its files, or of its fit to the base; the promotion puts such a version in quarantine.
        objections: what speaks against it and is overridden by force or a reason.
    """

    problems: tuple[str, ...]
    objections: tuple[str, ...]


@task(name="promote", **REGISTRY_TASK_OPTIONS)
def promote_task(context_file: Path) -> PromoteSummary:
    """Apply the gates' verdict: promote, keep as a candidate, or reject. A run promotes at most once."""
    context = StageContext.load(context_file)
    summary = stages.promote_stage(context, log_listener())
    page = version_page(context.root, context.advisor, summary.version, report=True)
    publish_markdown_artifact(
        artifact_key("promotion", context.advisor),
        artifact_pages.promotion_markdown(summary, context.advisor, page),
        summary.decision,
    )
    return summary


@task(name="inspect version", timeout_seconds=900, cache_policy=NO_CACHE)
def inspect_version_task(request: ManualPromotion) -> VersionInspection:
    """Hash a version's files, compare it with its base, publish its gates.

    Raises:
        UnknownVersion: no version has that name.
        GateFailed: its gates or its conditions speak against it and it is not forced with a reason.
        BadInput: a reason is missing, such as for a version that was compared with another champion.
        AlreadyChampion: it has the champion's weights.
    """
    registry, advisor = Registry(request.settings.adapters_root), request.advisor
    chosen = registry.get(advisor, request.version)
    problems = registry.verify(advisor, chosen.version)
    inspection: dict[str, Any] = {} if problems else inspect_version_in_subprocess(chosen, request.settings.base)
    problems = problems or tuple(inspection["problems"])
    gates = (chosen.report or {}).get("gates", [])
    publish_markdown_artifact(
        artifact_key("version", advisor),
        artifact_pages.version_markdown(
            f"{advisor} {chosen.version}, {chosen.state}",
            gates,
            problems,
            _version_report(request),
            inspection,
        ),
        f"{chosen.version}, {chosen.state}",
    )
    return VersionInspection(problems=problems, objections=review_manual_promotion(request))


def approval_question(request: ManualPromotion, inspected: VersionInspection, until: datetime) -> str:
    """What a person should know before approving a promotion, for the form in Prefect's UI."""
    version = Registry(request.settings.adapters_root).get(request.advisor, request.version)
    report = version.report or {}
    return without_local_paths(
        artifact_pages.approval_markdown(
            request,
            verdict=str(report.get("verdict") or "never evaluated"),
            gates=report.get("gates", []),
            objections=inspected.objections,
            page=_version_report(request),
            until=until,
        )
    )


def _version_report(request: ManualPromotion) -> ServedPage:
    return version_page(request.settings.root, request.advisor, request.version, report=True)


@task(name="promote by hand", timeout_seconds=600, cache_policy=NO_CACHE)
def manual_promote_task(
    request: ManualPromotion, *, problems: Sequence[str] = (), plan: RolloutPlan | None = None
) -> str:
    """Promote a version while the champion still is the expected one; gives the sentence that reports it.

    It is reviewed again: while the run waited for an approval, an evaluation may have failed. With a `plan` it starts
    with the plan's first share of the traffic.
    """
    outcome = promote_manually(request, actor=current_actor(), inspect=lambda _version: problems, plan=plan)
    changed = report_champion_change(request.advisor, outcome.before, outcome.version, request.reason or MANUAL_REASON)
    begins = f" Its rollout begins {outcome.rollout}." if outcome.rollout else ""
    against = f" Promoted although {'; '.join(outcome.objections)}." if outcome.objections else ""
    return f"{changed}{begins}{against}"


def report_champion_change(advisor: str, before: str | None, after: str | None, reason: str) -> str:
    """Publish the page of a promotion or rollback; gives the sentence that reports it.

    Args:
        advisor: whose champion changed.
        before: the earlier champion; None: the base alone.
        after: the new champion; None: the base alone.
        reason: as given for the registry's history.
    """
    sentence = f"The champion of '{advisor}' is now {after or 'the base alone'} (before: {before or 'the base alone'})."
    publish_markdown_artifact(
        artifact_key("promotion", advisor),
        artifact_pages.champion_change_markdown(advisor, before, after, current_actor(), reason),
        sentence,
    )
    return sentence
