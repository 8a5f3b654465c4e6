"""The stages that make an adapter a version, and decide what goes live."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from mondrian_core import rollout
from mondrian_core.errors import ChampionChanged
from mondrian_core.events import EventListener, StageStarted, ignore_events
from mondrian_core.files import read_json
from mondrian_core.portable_paths import without_absolute_paths
from mondrian_core.prompts import prompt_digest
from mondrian_core.registry import ChampionReference, VersionState
from mondrian_core.samples_file import SAMPLES_NAME
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.promotion_decision import Keep, Promote, decide_promotion, keep_for_reevaluation
from mondrian_core.stages.summaries import (
    DatasetSummary,
    EvaluateSummary,
    PromoteSummary,
    RegisterSummary,
    TrainSummary,
    read_stage_summary,
    write_stage_summary,
)

RECORDED_PACKAGES = ("mlx", "mlx-vlm", "transformers", "datasets", "numpy", "prefect")


def register_stage(context: StageContext, listen: EventListener = ignore_events) -> RegisterSummary:
    """Make the adapter an immutable version with everything that is needed to repeat the run.

    A run has one version: called again, it gives the one that is there.
    """
    from mondrian_core.models.base_model import base_record

    listen(StageStarted("register"))
    trained = read_stage_summary(context, "train", TrainSummary)
    judged = read_stage_summary(context, "evaluate", EvaluateSummary)
    built = read_stage_summary(context, "dataset", DatasetSummary)
    champion = context.registry.champion(context.advisor)
    manifest = {
        "run": context.run,
        "base": trained.base or base_record(context.base_model),
        "prompt_digest": prompt_digest(context.store().advisor(context.advisor)),
        "dataset": {
            "digest": built.digest,
            "photographs": built.photographs,
            "rows": built.rows,
            "evaluated_on": judged.split,
            "trained_on": (trained.trained_on or {}).get("extent", "train"),
        },
        "recipe": {"digest": context.recipe.digest, "values": context.recipe.model_dump(mode="json")},
        "seed": context.recipe.train.seed,
        "parent": champion.version if champion else None,
        "packages": package_versions(),
        "device": {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()},
        "code_commit": code_commit(),
        "training": {key: value for key, value in trained.as_stored(context).items() if key != "base"},
        "gate_report": judged.gate_report,
        "metrics": read_json(Path(judged.report)).get("metrics", {}),
    }
    state: VersionState = "rejected" if judged.verdict == "FAIL" else "candidate"
    version = context.registry.register(
        context.advisor,
        Path(trained.adapter),
        without_absolute_paths(manifest, context.named_places),
        state,
        actor=context.actor,
        attachments=[
            Path(judged.report),
            Path(judged.html),
            Path(judged.report).with_name(SAMPLES_NAME),
            Path(trained.curve),
            Path(trained.log),
        ],
        run=context.run,
    )
    return write_stage_summary(
        context, "register", RegisterSummary(version.version, str(version.path), version.state), listen
    )


def promote_stage(context: StageContext, listen: EventListener = ignore_events) -> PromoteSummary:
    """Let the gates' verdict decide: promote, keep as a candidate, or leave as rejected.

    It decides by the report that the version carries, and only over the champion that this report compared with. What
    the run has promoted once is not promoted again.
    """
    listen(StageStarted("promote"))
    registered = read_stage_summary(context, "register", RegisterSummary)
    return write_stage_summary(context, "promote", _promote_summary(context, registered.version), listen)


def _promote_summary(context: StageContext, version: str) -> PromoteSummary:
    registry, advisor = context.registry, context.advisor
    if (done := registry.promotion_by(advisor, version, context.run)) is not None:
        return PromoteSummary("promoted", version, done.reason)
    champion = registry.reference(advisor)
    decision = decide_promotion(registry.get(advisor, version).report or {}, champion, advisor=advisor, version=version)
    running = rollout.active_rollout(registry, advisor)
    if isinstance(decision, Promote) and running is not None:
        sentence = f"Kept as a candidate: all gates passed, but the rollout of {running.version} is {running.position}."
        by_hand = f"mondrian adapters promote --advisor {advisor} --version {version}"
        return PromoteSummary("candidate", version, sentence, by_hand)
    if isinstance(decision, Promote):
        try:
            return PromoteSummary(
                "promoted", version, _promote_now_or_staged(context, version, champion, decision.sentence)
            )
        except ChampionChanged:  # between the decision and the registry's lock
            decision = keep_for_reevaluation(champion, registry.reference(advisor), advisor, version)
    if isinstance(decision, Keep):
        return PromoteSummary("candidate", version, decision.sentence, decision.command)
    return PromoteSummary("rejected", version, decision.sentence)


def _promote_now_or_staged(context: StageContext, version: str, champion: ChampionReference, sentence: str) -> str:
    """Make it the champion, at once or for a share first; gives what was done. Its own gates go into the history."""
    facts: dict[str, Any] = {"expected": champion, "actor": context.actor, "run": context.run}
    if not context.recipe.promote.rollout:
        context.registry.promote(context.advisor, version, reason=sentence, **facts)
        return sentence
    with context.store() as store:
        plan = rollout.rollout_plan_for_traffic(store, context.advisor)
    begun = rollout.start_rollout(context.registry, context.advisor, version, plan, reason=sentence, **facts)
    return f"{sentence} Its rollout begins {begun.position}."


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes; a missing one is left out."""
    versions = {}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def code_commit() -> str | None:
    """The checkout's commit with "-dirty" when files differ; None outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        status = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("-dirty" if status.stdout.strip() else "")
