"""The measurements of an evaluation as values, read from `samples.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mondrian_core.evaluation.measure.calibration import TrainingAnswer
from mondrian_core.evaluation.measure.comments.likelihood import (
    LIKELIHOOD,
    PROCESSOR_TIME,
    ReadCritique,
    read_critique_from_record,
)
from mondrian_core.evaluation.measure.cross_validation import CrossValidationSamples
from mondrian_core.evaluation.measure.latency import LatencyPair, latency_pair_from_record
from mondrian_core.evaluation.measure.metamorphic import EditedCopyOutcome
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.samples_file import PhotographOrigin, SamplesFile

OTHER_ADVISORS = "other_advisors"  # kind of the record with the other advisors' critiques
_NOT_RECORDED = PhotographOrigin.UNKNOWN


@dataclass(frozen=True, kw_only=True)
class EvaluationSamples:
    """Everything that an evaluation measured.

    Attributes:
        identity: what was evaluated.
        facts: what isn't measured: split, integrity problems, contaminated photographs and so on.
        labels: records of the labelled photographs by name, in order.
        origins: of the photographs without labels, by name; empty in files of earlier releases.
        outcomes: answers of all arms.
        divergences: by photograph the mean KL divergence of the candidate from the base, in nats.
        pairs: timed pairs of answers.
        edited: answers to edited copies.
        constrained: answers constrained to the schema.
        calibration: the base's answers about photographs of training, on which its calibrations are fitted.
        folds: samples of cross-validation.
        training: critiques that the candidate was trained on.
        other_critiques: by the workspace's other advisors, to compare voices.
        processor_time: seconds by part, "comments" (likelihoods) and "evaluation" (everything; not of a resumed one).
        comment_likelihoods: how likely the advisor's held-out comments are under base and candidate.
        pictures: by name, records of the photographs without labels on which candidate and base differ most:
            "picture", a thumbnail (JPEG, base64), and "title", the file; None for a rendered one.
        preferences: blind preferences (`preference.PreferenceChoice` as plain values).
        load_seconds: time of the adapter's first use.
        stopped: where the evaluation stopped early, the numbers of answers that it had "asked" for and of photographs
            that it would have asked the candidate about ("own" and "others"); None for a complete one.
    """

    identity: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    origins: Mapping[str, PhotographOrigin] = field(default_factory=dict)
    outcomes: tuple[EvaluationOutcome, ...] = ()
    divergences: Mapping[str, float] = field(default_factory=dict)
    pairs: tuple[LatencyPair, ...] = ()
    edited: tuple[EditedCopyOutcome, ...] = ()
    constrained: tuple[EvaluationOutcome, ...] = ()
    calibration: tuple[TrainingAnswer, ...] = ()
    folds: CrossValidationSamples = field(default_factory=CrossValidationSamples)
    training: tuple[str, ...] = ()
    other_critiques: tuple[str, ...] = ()
    processor_time: Mapping[str, float] = field(default_factory=dict)
    comment_likelihoods: tuple[ReadCritique, ...] = ()
    pictures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    preferences: tuple[Mapping[str, str], ...] = ()
    load_seconds: float | None = None
    stopped: Mapping[str, int] | None = None

    def origin(self, photograph: str) -> PhotographOrigin:
        """Where a photograph comes from; a labelled one is always of the workspace."""
        return PhotographOrigin.OWN if photograph in self.labels else self.origins.get(photograph, _NOT_RECORDED)

    def answers_of(self, arm: str, *, own: bool) -> list[EvaluationOutcome]:
        """An arm's answers about the workspace's own photographs, or about all others."""
        return [
            outcome
            for outcome in self.outcomes
            if outcome.arm == arm and (self.origin(outcome.photograph) == PhotographOrigin.OWN) is own
        ]

    @property
    def critiques(self) -> dict[str, str]:
        """The advisor's critiques of the labelled photographs, for those that have one."""
        return {name: record["critique"] for name, record in self.labels.items() if record.get("critique")}

    @property
    def scored(self) -> tuple[Mapping[str, Mapping[str, Any]], Sequence[EvaluationOutcome]]:
        """Labelled photographs and the answers about them; those of the folds where there are no others."""
        if self.labels or not self.folds.outcomes:
            return self.labels, self.outcomes
        return self.folds.records, self.folds.outcomes


def load_evaluation_samples(path: Path) -> EvaluationSamples:
    """The samples in a file; of two records with the same key the later one counts."""
    latest: dict[str, dict[Any, Any]] = {kind: {} for kind in _KEYS}
    pairs: list[LatencyPair] = []
    for record in SamplesFile(path).records():
        kind = record.pop("kind")
        if kind == "pair":
            pairs.append(latency_pair_from_record(record))
        elif kind in _KEYS:
            latest[kind][tuple(record[name] for name in _KEYS[kind])] = record

    def single(kind: str, name: str, default: Any) -> Any:
        return latest[kind].get((), {}).get(name, default)

    folds = [(record.pop("fold"), EvaluationOutcome.from_dict(record)) for record in latest["fold"].values()]
    return EvaluationSamples(
        identity=single("identity", "values", {}),
        facts=single("facts", "values", {}),
        labels={name: record for (name,), record in latest["label"].items()},
        origins={name: PhotographOrigin(record["origin"]) for (name,), record in latest["origin"].items()},
        outcomes=tuple(EvaluationOutcome.from_dict(record) for record in latest["answer"].values()),
        divergences={name: float(record["nats"]) for (name,), record in latest["divergence"].items()},
        pairs=tuple(pairs),
        edited=tuple(
            EditedCopyOutcome(record.pop("edit"), EvaluationOutcome.from_dict(record))
            for record in latest["edited"].values()
        ),
        constrained=tuple(EvaluationOutcome.from_dict(record) for record in latest["constrained"].values()),
        calibration=tuple(
            TrainingAnswer(record.pop("advisor_scores"), EvaluationOutcome.from_dict(record))
            for record in latest["calibration"].values()
        ),
        folds=CrossValidationSamples(
            {name: record for (name,), record in latest["fold_label"].items()},
            {outcome.photograph: fold for fold, outcome in folds},
            tuple(outcome for _, outcome in folds),
        ),
        training=tuple(single("training", "critiques", ())),
        other_critiques=tuple(single(OTHER_ADVISORS, "critiques", ())),
        processor_time={part: float(record["seconds"]) for (part,), record in latest[PROCESSOR_TIME].items()},
        comment_likelihoods=tuple(read_critique_from_record(record) for record in latest[LIKELIHOOD].values()),
        pictures={name: record for (name,), record in latest["picture"].items()},
        preferences=tuple(latest["preference"].values()),
        load_seconds=single("load", "seconds", None),
        stopped=single("stopped", "values", None),
    )


# The key of each kind of record; a kind without one has a single record.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "identity": (),
    "facts": (),
    "training": (),
    OTHER_ADVISORS: (),
    PROCESSOR_TIME: ("part",),
    LIKELIHOOD: ("photograph", "arm"),
    "load": (),
    "stopped": (),
    "label": ("photograph",),
    "origin": ("photograph",),
    "answer": ("photograph", "arm"),
    "divergence": ("photograph",),
    "edited": ("edit", "photograph", "arm"),
    "constrained": ("photograph", "arm"),
    "calibration": ("photograph",),
    "fold_label": ("photograph",),
    "fold": ("photograph", "arm"),
    "picture": ("photograph",),
    "preference": ("judge", "photograph"),
}
