"""The stages that make an adapter a version, and decide what goes live."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from mondrian_core import rollout
from mondrian_core.decision import Keep, Promote, decide
from mondrian_core.events import Listener, Started, ignore
from mondrian_core.files import read_json
from mondrian_core.portable_paths import base_name, without_absolute_paths
from mondrian_core.prompts import prompt_digest
from mondrian_core.registry import State
from mondrian_core.registry.answers import SAMPLES
from mondrian_core.stages.context import Context
from mondrian_core.stages.summaries import (
    DatasetSummary,
    EvaluateSummary,
    PromoteSummary,
    RegisterSummary,
    TrainSummary,
    leave,
    summary_of,
)

PACKAGES = ("mlx", "mlx-vlm", "transformers", "datasets", "numpy", "prefect")


def register(context: Context, listen: Listener = ignore) -> RegisterSummary:
    """Make the adapter an immutable version with everything that is needed to repeat the run."""
    from mondrian_core.models.base import fingerprint

    listen(Started("register"))
    trained = summary_of(context, "train", TrainSummary)
    judged = summary_of(context, "evaluate", EvaluateSummary)
    built = summary_of(context, "dataset", DatasetSummary)
    champion = context.registry.champion(context.advisor)
    manifest = {
        "run": context.run,
        "base": {"name": base_name(context.base_model), "fingerprint": fingerprint(context.base_model)},
        "prompt_digest": prompt_digest(context.store().voice(context.advisor)),
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
        "training": trained.as_stored(context),
        "gate_report": {"verdict": judged.verdict, "gates": judged.gates},
        "metrics": read_json(Path(judged.report)).get("metrics", {}),
    }
    state: State = "rejected" if judged.verdict == "FAIL" else "candidate"
    version = context.registry.register(
        context.advisor, Path(trained.adapter), without_absolute_paths(manifest, context.named_places), state,
        actor=context.actor,
        attachments=[Path(judged.report), Path(judged.html), Path(judged.report).with_name(SAMPLES),
                     Path(trained.curve), Path(trained.log)],
    )  # fmt: skip
    return leave(context, "register", RegisterSummary(version.version, str(version.path), state), listen)


def promote(context: Context, listen: Listener = ignore) -> PromoteSummary:
    """Let the gates' verdict decide: promote, keep as a candidate, or leave as rejected."""
    listen(Started("promote"))
    registered = summary_of(context, "register", RegisterSummary)
    judged = summary_of(context, "evaluate", EvaluateSummary)
    champion = context.registry.champion(context.advisor)
    decision = decide(read_json(Path(judged.report)), champion.version if champion else None,
                      advisor=context.advisor, version=registered.version)  # fmt: skip
    running = rollout.active(context.registry, context.advisor)
    if isinstance(decision, Promote) and running is not None:
        sentence = f"Kept as a candidate: all gates passed, but the rollout of {running.version} is {running.place}."
        by_hand = f"mondrian adapters promote --advisor {context.advisor} --version {registered.version}"
        outcome = PromoteSummary("candidate", registered.version, sentence, by_hand)
    elif isinstance(decision, Promote):
        sentence = _carry_out(context, registered.version, champion.version if champion else None, decision.sentence)
        outcome = PromoteSummary("promoted", registered.version, sentence)
    elif isinstance(decision, Keep):
        outcome = PromoteSummary("candidate", registered.version, decision.sentence, decision.command)
    else:
        outcome = PromoteSummary("rejected", registered.version, decision.sentence)
    return leave(context, "promote", outcome, listen)


def _carry_out(context: Context, version: str, champion: str | None, sentence: str) -> str:
    """Make it the champion, at once or for a share first; gives what was done. Its own gates go into the history."""
    if not context.recipe.promote.rollout:
        context.registry.promote(context.advisor, version, expected=champion, actor=context.actor, reason=sentence)
        return sentence
    with context.store() as store:
        plan = rollout.suitable_plan(store, context.advisor)
    begun = rollout.start(context.registry, context.advisor, version, plan, expected=champion, actor=context.actor,
                          reason=sentence)  # fmt: skip
    return f"{sentence} Its rollout begins {begun.place}."


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes; a missing one is left out."""
    versions = {}
    for name in PACKAGES:
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
        status = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True,
                                check=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("-dirty" if status.stdout.strip() else "")
