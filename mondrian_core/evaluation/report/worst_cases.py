"""Rows of the report about single photographs: largest losses, largest errors, and answers far from the base's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mondrian_core.evaluation.gates.results import GateResult
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS
from mondrian_core.samples_file import BASE, CANDIDATE, CHAMPION

WORST = 8
LOSSES = 3  # photographs with the largest loss, for each opponent
DEVIANT = 8

Outcomes = Mapping[tuple[str, str], EvaluationOutcome]


def photograph_title(name: str, label: Mapping[str, Any] | None) -> str:
    """The file name of a photograph; the beginning of its ID if it has none."""
    return str((label or {}).get("title") or (name if len(name) <= 24 else f"{name[:12]}…"))


def worst_photographs(
    rows: Sequence[Mapping[str, Any]], labels: Mapping[str, Mapping[str, Any]], outcomes: Outcomes
) -> list[dict[str, Any]]:
    """The photographs with the largest errors of the candidate, unreadable answers first, then the largest losses.

    A loss is the candidate's squared error - that of the base or of the champion. `why` says which of these it is.

    Args:
        rows: squared error by arm of every photograph.
        labels: label records by photograph.
        outcomes: answers by arm and photograph.
    """
    known = [row for row in rows if (CANDIDATE, row["photograph"]) in outcomes]
    known.sort(key=lambda row: -(row[CANDIDATE] if row.get(CANDIDATE) is not None else 1e9))
    reasons: dict[str, list[str]] = {row["photograph"]: ["large error"] for row in known[:WORST]}
    for arm in (BASE, CHAMPION):
        losses = [
            (row[CANDIDATE] - row[arm], row["photograph"])
            for row in known
            if row.get(CANDIDATE) is not None and row.get(arm) is not None and row[CANDIDATE] > row[arm]
        ]
        for loss, name in sorted(losses, reverse=True)[:LOSSES]:
            reasons.setdefault(name, []).append(f"{loss:.2f} worse than the {arm}")
    by_name = {row["photograph"]: row for row in known}
    return [
        {
            **by_name[name],
            "photograph": photograph_title(name, labels[name]),
            "picture": labels[name].get("picture"),
            "why": "; ".join(why),
            "errors": _largest_errors(labels[name], outcomes[CANDIDATE, name]),
        }
        for name, why in reasons.items()
    ]


def _largest_errors(label: Mapping[str, Any], outcome: EvaluationOutcome) -> str:
    scores = outcome.best_scores
    worst = sorted(scores, key=lambda name: -abs(scores[name] - label["scores"][name]))
    errors = [f"{DIMENSION_TITLES[name]} {scores[name]:.1f} instead of {label['scores'][name]:g}" for name in worst[:3]]
    return "; ".join(errors) or f"unreadable: {outcome.reason}"


def deviant_photographs(tail: GateResult | None, samples: EvaluationSamples) -> list[dict[str, Any]]:
    """The photographs that the tail gate found, each with thumbnail and scores: (dimension, base, candidate)."""
    outcomes = {(outcome.arm, outcome.photograph): outcome.best_scores for outcome in samples.outcomes}
    found = []
    for part in (tail.parts if tail else ())[:DEVIANT]:
        record = samples.labels.get(part.name) or samples.pictures.get(part.name) or {}
        base, candidate = outcomes[BASE, part.name], outcomes[CANDIDATE, part.name]
        found.append(
            {
                "photograph": photograph_title(part.name, record),
                "picture": record.get("picture"),
                "deviation": part.observed,
                "verdict": part.verdict,
                "says": part.sentence,
                "scores": [(DIMENSION_TITLES[name], base[name], candidate[name]) for name in DIMENSIONS],
            }
        )
    return found
