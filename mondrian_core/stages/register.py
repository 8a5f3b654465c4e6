"""The register stage: make a trained adapter an immutable version with its provenance."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

from mondrian_core.events import EventListener, StageNotice, StageStarted, ignore_events
from mondrian_core.files import read_json
from mondrian_core.lora_files import ANSWER_FORM_KEY, adapter_answer_form
from mondrian_core.portable_paths import without_absolute_paths
from mondrian_core.prompts import prompt_digest
from mondrian_core.registry import VersionState
from mondrian_core.samples_file import SAMPLES_NAME
from mondrian_core.software_identity import code_commit, package_versions
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.summaries import (
    DatasetSummary,
    EvaluateSummary,
    RegisterSummary,
    TrainSummary,
    read_stage_summary,
    write_stage_summary,
)


def register_stage(context: StageContext, listen: EventListener = ignore_events) -> RegisterSummary:
    """Register the adapter with everything that is needed to reproduce the run.

    A run has one version: a repeated call returns the version that exists. So does the registration of weights that a
    version has already, such as those of an equal retraining; that version gets the evaluation.
    """
    from mondrian_core.models.base_model import base_record

    listen(StageStarted("register"))
    trained = read_stage_summary(context, "train", TrainSummary)
    judged = read_stage_summary(context, "evaluate", EvaluateSummary)
    built = read_stage_summary(context, "dataset", DatasetSummary)
    champion = context.registry.champion(context.advisor)
    form = adapter_answer_form(Path(trained.adapter))
    manifest = {
        "run": context.run,
        "base": trained.base or base_record(context.base_model),
        ANSWER_FORM_KEY: form.value,
        "prompt_digest": prompt_digest(replace(context.advisor_prompt(), form=form)),
        "dataset": {
            "digest": built.digest,
            "photographs": built.photographs,
            **({} if built.critiques is None else {"critiques": built.critiques}),
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
    if version.manifest.get("run") != context.run:
        listen(StageNotice("register", f"The weights are those of {version.version}; there is no new version."))
        version = context.registry.record_evaluation(
            context.advisor, version.version, judged.gate_report, actor=context.actor
        )
    return write_stage_summary(
        context, "register", RegisterSummary(version.version, str(version.path), version.state), listen
    )
