"""What an evaluation left in `samples.jsonl`, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mondrian_core.evaluation.latency import Pair, pair_of
from mondrian_core.evaluation.outcomes import Journal, Outcome


@dataclass(frozen=True)
class Samples:
    """Everything that was measured, as it lies in `samples.jsonl`.

    Attributes:
        identity: what was evaluated; facts: what can't be measured (split, integrity problems, leaked lineages, ...).
        labels: the records of labelled photographs by name, in order.
    """

    identity: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    divergences: Mapping[str, float] = field(default_factory=dict)
    pairs: tuple[Pair, ...] = ()


def read_samples(path: Path) -> Samples:
    """What a journal holds; of two records about the same thing the later one counts."""
    single: dict[str, Mapping[str, Any]] = {"identity": {}, "facts": {}}
    labels: dict[str, Mapping[str, Any]] = {}
    outcomes: dict[tuple[str, str], Outcome] = {}
    divergences: dict[str, float] = {}
    pairs: list[Pair] = []
    for record in Journal(path).records():
        kind = record.pop("kind")
        if kind in single:
            single[kind] = record["values"]
        elif kind == "label":
            labels[record["photograph"]] = record
        elif kind == "answer":
            outcome = Outcome.from_dict(record)
            outcomes[outcome.photograph, outcome.arm] = outcome
        elif kind == "divergence":
            divergences[record["photograph"]] = float(record["nats"])
        elif kind == "pair":
            pairs.append(pair_of(record))
    return Samples(single["identity"], single["facts"], labels, tuple(outcomes.values()), divergences, tuple(pairs))
