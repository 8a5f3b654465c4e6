"""The signals that the drift watch follows, and how their values become bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, MAX_ANSWER_TOKENS, MAX_SCORE
from mondrian_core.statistics.conformal_martingale import BetKind

BINS = 201
REPAIRED, LENGTH, REFUSED, DISTANCE = "repaired", "length", "refused", "distance"
_ALARM_YEAR = 0.05  # false alarms a year and advisor, all signals together


@dataclass(frozen=True, kw_only=True)
class DriftSignal:
    """One signal of an answer.

    Attributes:
        name: key in JSON and in the database.
        title: for people.
        unit: of a value.
        kind: what is bet on.
        highest: the value of the last bin; the first one is 0.
        root: bins are equally wide in the square root of the value, so small values have bins of their own.
        meaning: what an alarm means.
        action: what to do about it.
    """

    name: str
    title: str
    unit: str
    kind: BetKind
    highest: float
    root: bool = False
    meaning: str
    action: str

    def bin(self, value: float) -> int:
        """The bin of a value; values outside are clipped."""
        share = min(max(value / self.highest, 0.0), 1.0)
        return round((share**0.5 if self.root else share) * (BINS - 1))

    def value(self, place: int) -> float:
        """The value in the middle of a bin."""
        share = place / (BINS - 1)
        return self.highest * (share**2 if self.root else share)


def _score_signal(name: str) -> DriftSignal:
    title = DIMENSION_TITLES[name]
    return DriftSignal(
        name=name,
        title=title,
        unit="points",
        kind="two_sided",
        highest=float(MAX_SCORE),
        meaning=f"The scores of {title} are not distributed as in the evaluation of this version.",
        action="Look at the latest critiques. If the photographs are of another kind, critique some of them and "
        "retrain; if the scores are wrong, roll back.",
    )


SIGNALS: tuple[DriftSignal, ...] = (
    *(_score_signal(name) for name in DIMENSIONS),
    DriftSignal(
        name=REPAIRED,
        title="Repaired answers",
        unit="share",
        kind="rate",
        highest=1.0,
        meaning="Answers need a second attempt or a repair of their format more often than in the evaluation.",
        action="Check that base model and prompt are those of the evaluation (`mondrian doctor`), then roll back.",
    ),
    DriftSignal(
        name=LENGTH,
        title="Length of answers",
        unit="tokens",
        kind="two_sided",
        highest=float(MAX_ANSWER_TOKENS),
        root=True,
        meaning="Answers are longer, shorter, or more alike in length than in the evaluation.",
        action="Read the latest critiques: repeated or empty comments show first in their length.",
    ),
    DriftSignal(
        name=REFUSED,
        title="Refusals and failures",
        unit="share",
        kind="rate",
        highest=1.0,
        meaning="Requests end without an answer of this version more often than in the evaluation.",
        action="The failed jobs say why. A model process that dies often, or a full disk, is a fault of the machine.",
    ),
    DriftSignal(
        name=DISTANCE,
        title="Distance to the portfolio",
        unit="cosine distance",
        kind="upper",
        highest=1.0,
        root=True,
        meaning="Incoming photographs are less like the advisor's own ones than those are like one another.",
        action="Critique some of the new photographs and retrain: the version has seen nothing like them.",
    ),
)
KINDS: tuple[BetKind, ...] = tuple(signal.kind for signal in SIGNALS)
ALARM_EVIDENCE = len(SIGNALS) / _ALARM_YEAR  # each signal has an equal part of the year's false alarms

SignalValues = Mapping[str, float]  # value by name of the signal; a signal without a value is missing
