"""The files of a run's folder, `runs/RUN/`."""

from __future__ import annotations

from dataclasses import fields

from mondrian_core.data.linking.link_manifest import AdvicePreference, ExcludedRecord, LinkedRecord
from mondrian_core.evaluation.gates.results import GateResult
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.events import StageFinished, StageNotice, StageProgressed, StageStarted
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.summaries import (
    DatasetSummary,
    EvaluateSummary,
    IndexSummary,
    LinkSummary,
    PromoteSummary,
    RegisterSummary,
    SynthesizeSummary,
    TrainSummary,
)
from mondrian_core.training.checkpoints import TrainingProgress
from mondrian_core.training.dpo import DPO_METRICS
from mondrian_core.training.generative_validation import GenerativeValidation
from tests.architecture.reference.file_format import FileFormat

_STAGE = "The result of the stage `{stage}`, which later stages read."
_SAMPLE_KINDS = {
    "identity": "what determines the measurements: models, prompt, photographs and sampling",
    "facts": "what else the verdict depends on: leaks, training data, the champion, the look",
    "training": "critiques that the adapter was trained on, to find answers that repeat them",
    "label": "the advisor's scores and critique of one photograph",
    "origin": "where a photograph without labels comes from: own, rendered or unknown",
    "load": "seconds that loading the adapter took",
    "answer": "an answer by one arm about one photograph; the keys are below",
    "picture": "a small picture of a photograph, for the report",
    "divergence": "KL divergence of candidate and base over the score tokens of one photograph, in nats",
    "pair": "times of one pair of answers by candidate and base, in seconds",
    "edited": "an answer about an edited copy, and which edit",
    "constrained": "an answer under the grammar",
    "calibration": "the base's answer about a photograph that only fits calibrations",
    "fold_label": "as `label`, of cross-validation",
    "fold": "as `answer`, by an adapter that was trained without the photograph, and its fold",
    "stopped": "why the evaluation ended early",
    "preference": "a person's or a model's choice between two critiques (`--rescore RUN --choices`)",
}

_PREFERENCE = {
    "accuracy": "share of pairs in the right order",
    "margin": "mean difference of a pair's rewards, in nats",
    "chosen_reward": "mean reward of the preferred answers, in nats",
    "rejected_reward": "mean reward of the other answers, in nats",
}
_LOGGED = {
    **{f"answers_{each.name}": "of the answers about validation photographs" for each in fields(GenerativeValidation)},
    **{name: f"{_PREFERENCE[name]}, in preference tuning" for name in DPO_METRICS},
    **{f"validation_{name}": f"{_PREFERENCE[name]}, of validation pairs" for name in DPO_METRICS},
}
RUN_FILES = (
    FileFormat(
        name="context.json",
        place="workspace/runs/*/context.json",
        about="What the run works with. Paths are relative to the workspace.",
        fields=(
            StageContext,
            {"advisor": "string: whose adapter", "recipe": "object: the [recipe](recipes.md), every value"},
        ),
    ),
    FileFormat(
        name="link.json",
        place="workspace/runs/*/link.json",
        about=_STAGE.format(stage="link"),
        fields=(
            LinkSummary,
            {
                "manifest": "string: path of link_manifest.json",
                "used": "integer: critiques that were linked to a photograph",
                "left_out": "object: records by reason",
                "table": "string: the same as a Markdown table",
            },
        ),
    ),
    FileFormat(
        name="link_manifest.json",
        place="workspace/runs/*/link_manifest.json",
        about="Every record of the database: used, or left out with its reason.",
        fields=(
            {
                "advisor": "string: whose critiques",
                "database_version": "integer: of the [database](database.md)",
                "counts": "object: records by outcome",
                "parts": "object: by part of an advising answer, how many records have it",
                "used": "list of object: the records below",
                "left_out": "list of object: the records below",
                "preferences": "list of object: pairs of answers from people's judgements of advice",
            },
        ),
        inside={
            "used": (LinkedRecord,),
            "preferences": (AdvicePreference,),
            "left_out": (
                ExcludedRecord,
                {
                    "record": "string: `profile:ID`, `job:ID` or `draft:ID`",
                    "reason": "string: why it is not used",
                    "detail": "string: the other record, the path or the column",
                    "parts": "object: items of advice that it holds",
                },
            ),
        },
    ),
    FileFormat(
        name="dataset.json",
        place="workspace/runs/*/dataset.json",
        about=_STAGE.format(stage="dataset"),
        fields=(
            DatasetSummary,
            {
                "path": "string: folder of the dataset version",
                "digest": "string: of what its rows teach",
                "photographs": "object: number by split",
                "rows": "object: number by split",
                "contact_sheet": "string: picture of the training data",
            },
        ),
    ),
    FileFormat(
        name="train.json",
        place="workspace/runs/*/train.json",
        about=_STAGE.format(stage="train"),
        fields=(
            TrainSummary,
            {
                "adapter": "string: folder of the adapter",
                "curve": "string: picture of the loss curve",
                "log": "string: training_log.jsonl",
                "steps": "integer: optimizer steps",
                "best_epoch": "integer: the epoch that was chosen",
            },
        ),
    ),
    FileFormat(
        name="trained_on.json",
        place="workspace/runs/*/trained_on.json",
        about="What the run's adapter is trained on, written before the training.",
        fields=(
            {
                "dataset": "string: digest of the dataset version",
                "path": "string: its folder",
                "trained_on": "string: `train` (the split), `all`, or `unknown` while it may be either",
            },
        ),
    ),
    FileFormat(
        name="training_log.jsonl",
        place="workspace/runs/*/training_log.jsonl",
        about="One line per optimizer step and one per epoch.",
        fields=(
            {
                "phase": "string: `preference` in preference tuning",
                "step": "integer: finished optimizer steps",
                "epoch": "integer: passes over the rows",
                "loss": "number: per token, of the step's rows",
                "gradient_norm": "number: before clipping",
                "learning_rate": "number: of the step",
                "seconds": "number: training time so far",
                "train_loss": "number or null: mean of the epoch",
                "validation_loss": "number or null: per token",
                **{name: f"number: {meaning}" for name, meaning in _LOGGED.items()},
            },
        ),
        kinds={"step": "an optimizer step", "epoch": "an epoch's validation"},
        optional=(
            *("phase", "loss", "gradient_norm", "learning_rate", "seconds"),
            *("train_loss", "validation_loss", *_LOGGED),
        ),
    ),
    FileFormat(
        name="checkpoint.safetensors",
        about="Adapter, optimizer and best adapter of an interrupted training; the metadata `progress` is JSON:",
        fields=(TrainingProgress,),
    ),
    FileFormat(
        name="samples.jsonl",
        place="workspace/runs/*/samples.jsonl",
        about="Everything that an evaluation measured. The report follows from it (`mondrian evaluate --rescore RUN`). "
        "An answer has these keys:",
        kinds=_SAMPLE_KINDS,
        fields=(EvaluationOutcome,),
    ),
    FileFormat(
        name="comparison_report.json",
        place="workspace/runs/*/comparison_report.json",
        about="The report of an evaluation; `report.html` shows the same.",
        fields=(
            {
                "format": "integer: of the file",
                "verdict": "string: PASS, FAIL or INCONCLUSIVE",
                "meaning": "string: the verdict in words",
                "gain": "string: what the gain over the base is, in one sentence",
                "loosened": "list of object: settings that are looser than the defaults",
                "caveats": "list of string: which figures don't come from this adapter or from own photographs",
                "gates": "list of object: the results below",
                "next_steps": "list of string: recommended next steps",
                "about": "object: what was evaluated, with digests",
                "look": "object or null: which look of the year this is, and what it may spend",
                "metrics": "object: the numbers behind the gates",
            },
        ),
        inside={"gates": (GateResult,)},
    ),
    FileFormat(
        name="evaluate.json",
        place="workspace/runs/*/evaluate.json",
        about=_STAGE.format(stage="evaluate"),
        fields=(
            EvaluateSummary,
            {
                "report": "string: path of comparison_report.json",
                "html": "string: path of report.html",
                "verdict": "string: PASS, FAIL or INCONCLUSIVE",
                "split": "string: photographs that it was judged on",
            },
        ),
    ),
    FileFormat(
        name="register.json",
        place="workspace/runs/*/register.json",
        about=_STAGE.format(stage="register"),
        fields=(
            RegisterSummary,
            {
                "version": "string: such as v0003",
                "path": "string: its folder",
                "state": "string: candidate or rejected",
            },
        ),
    ),
    FileFormat(
        name="promote.json",
        place="workspace/runs/*/promote.json",
        about=_STAGE.format(stage="promote"),
        fields=(
            PromoteSummary,
            {
                "decision": "string: promoted, candidate, rejected or unchanged",
                "version": "string: that it is about",
                "sentence": "string: the reason",
                "command": "string or null: the next command",
            },
        ),
    ),
    FileFormat(
        name="index.json, synthesize.json",
        about="The results of the stages `index` and `synthesize`.",
        fields=(
            IndexSummary,
            SynthesizeSummary,
            {
                "photographs": "integer: in the index",
                "known": "integer: indexed, or drafted, before",
                "embedded": "integer: embedded now",
                "scored": "integer: scored by the base model",
                "left_out": "list of object: paths and reasons",
                "base": "string: fingerprint of the base model",
                "drafted": "integer: drafted now",
                "remaining": "integer: photographs that still have no draft",
                "calibrated_on": "integer: critiques that the scores were calibrated on",
                "waiting": "integer: drafts without a review",
            },
        ),
    ),
    FileFormat(
        name="retrain.jsonl",
        place="workspace/runs/*/retrain.jsonl",
        about="Progress of a retraining; the page /start follows it.",
        kind_key="event",
        kinds={
            "StageStarted": "a stage began",
            "StageProgressed": "units of a stage are finished",
            "StageFinished": "a stage ended",
            "StageNotice": "a message",
        },
        fields=(
            *(StageStarted, StageProgressed, StageFinished, StageNotice),
            {
                "stage": "string: its name",
                "total": "integer or null: units, if known",
                "done": "integer: finished units",
                "detail": "string: for people",
                "message": "string: for people",
                "summary": "not written",
            },
        ),
        optional=("total", "done", "detail", "message", "summary"),
    ),
    FileFormat(
        name="STAGE.error.json",
        about="Why a stage failed that ran in a process of its own.",
        fields=(
            {
                "problem": "string: what happened",
                "next_step": "string: what to do next",
                "exit_status": "integer: as on the [command line](command-line.md#exit-statuses)",
            },
        ),
    ),
    FileFormat(
        name="inputs.json",
        about="For a machine without the database: advisor and digest of the inputs.",
        fields=(
            {
                "advisor": "object: name, biography and system message",
                "training_inputs": "string: digest of the inputs",
            },
        ),
    ),
)
