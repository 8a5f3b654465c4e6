"""What an evaluation left in `samples.jsonl`, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mondrian_core.evaluation.measure.cross_validation import CrossValidationSamples
from mondrian_core.evaluation.measure.latency import LatencyPair, latency_pair_from_record
from mondrian_core.evaluation.measure.metamorphic import EditedCopyOutcome
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.samples_file import SamplesFile


@dataclass(frozen=True, kw_only=True)
class EvaluationSamples:
    """Everything that was measured, as it lies in `samples.jsonl`.

    Attributes:
        identity: what was evaluated; facts: what can't be measured (split, integrity problems, leaked lineages, ...).
        labels: the records of labelled photographs by name, in order.
        edited: answers to edited copies; constrained: answers under the schema.
        folds: what cross-validation measured; training: the critiques that were trained on.
        preferences: what was preferred blind (`preference.Choice` as values).
        load_seconds: what putting the adapter in use for the first time took.
    """

    identity: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outcomes: tuple[EvaluationOutcome, ...] = ()
    divergences: Mapping[str, float] = field(default_factory=dict)
    pairs: tuple[LatencyPair, ...] = ()
    edited: tuple[EditedCopyOutcome, ...] = ()
    constrained: tuple[EvaluationOutcome, ...] = ()
    folds: CrossValidationSamples = field(default_factory=CrossValidationSamples)
    training: tuple[str, ...] = ()
    preferences: tuple[Mapping[str, str], ...] = ()
    load_seconds: float | None = None

    @property
    def scored(self) -> tuple[Mapping[str, Mapping[str, Any]], Sequence[EvaluationOutcome]]:
        """Photographs with the advisor's scores and the answers about them: the folds' where there are no others."""
        if self.labels or not self.folds.outcomes:
            return self.labels, self.outcomes
        return self.folds.records, self.folds.outcomes


def load_evaluation_samples(path: Path) -> EvaluationSamples:
    """What a journal holds; of two records about the same thing the later one counts."""
    found: dict[str, dict[Any, Any]] = {kind: {} for kind in _KEYS}
    pairs: list[LatencyPair] = []
    for record in SamplesFile(path).records():
        kind = record.pop("kind")
        if kind == "pair":
            pairs.append(latency_pair_from_record(record))
        elif kind in _KEYS:
            found[kind][tuple(record[name] for name in _KEYS[kind])] = record

    def only(kind: str, name: str, default: Any) -> Any:
        return found[kind].get((), {}).get(name, default)

    folds = [(record.pop("fold"), EvaluationOutcome.from_dict(record)) for record in found["fold"].values()]
    return EvaluationSamples(
        identity=only("identity", "values", {}),
        facts=only("facts", "values", {}),
        labels={name: record for (name,), record in found["label"].items()},
        outcomes=tuple(EvaluationOutcome.from_dict(record) for record in found["answer"].values()),
        divergences={name: float(record["nats"]) for (name,), record in found["divergence"].items()},
        pairs=tuple(pairs),
        edited=tuple(
            EditedCopyOutcome(record.pop("edit"), EvaluationOutcome.from_dict(record))
            for record in found["edited"].values()
        ),
        constrained=tuple(EvaluationOutcome.from_dict(record) for record in found["constrained"].values()),
        folds=CrossValidationSamples(
            {name: record for (name,), record in found["fold_label"].items()},
            {outcome.photograph: fold for fold, outcome in folds},
            tuple(outcome for _, outcome in folds),
        ),
        training=tuple(only("training", "critiques", ())),
        preferences=tuple(found["preference"].values()),
        load_seconds=only("load", "seconds", None),
    )


# What tells records of a kind apart; of one kind without a key there is one.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "identity": (),
    "facts": (),
    "training": (),
    "load": (),
    "label": ("photograph",),
    "answer": ("photograph", "arm"),
    "divergence": ("photograph",),
    "edited": ("edit", "photograph", "arm"),
    "constrained": ("photograph", "arm"),
    "fold_label": ("photograph",),
    "fold": ("photograph", "arm"),
    "preference": ("judge", "photograph"),
}
