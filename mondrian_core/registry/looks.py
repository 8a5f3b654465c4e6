"""Looks: how often an advisor's retrainings were judged, and at which significance level the next one may pass.

A look is one evaluation of one adapter by the gates. It is a line of the history, written before the verdict is known,
so that a crash can't hide it. What it measured follows as a line of its own. Looks are counted in years of 52 weeks: a
year begins with its first look, and all looks of a year share one error rate (docs/decisions/0101).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from mondrian_core.registry.history import LOOK_EVENT, LOOK_RESULT_EVENT, HistoryEntry
from mondrian_core.statistics.sequential_levels import crossing_probability, look_levels

YEAR_OF_LOOKS = timedelta(weeks=52)
PHOTOGRAPH_ID_LENGTH = 16  # hexadecimal digits of a photograph's ID in the history
BETTER_THAN_BEST = "better_than_best"  # key of a look's result
_DIFFERENCES = "differences"


@dataclass(frozen=True, kw_only=True)
class LookRules:
    """What the recipe says about looks.

    Attributes:
        yearly_level: chance (0-1) that a worthless candidate passes at least once in a year of looks.
        first_level: the part of it that the first look of a year may spend.
        per_year: how many looks share the rest; further ones can't pass.
    """

    yearly_level: float
    first_level: float
    per_year: int

    def next_level(self, earlier: Sequence[float], same: int) -> float:
        """One-sided level (0-1) of a year's next look; 0: nothing is left.

        A look whose evidence begins again, on another base or prompt, begins again at a low level: the levels grow
        because evidence accumulates. Only the first look of a year has the first level.

        Args:
            earlier: the levels of the year's looks so far.
            same: how many of them are about the same question.
        """
        if len(earlier) >= self.per_year:
            return 0.0
        place = max(1, same) if earlier else 0
        level = look_levels(self.yearly_level, self.first_level, self.per_year)[place]
        return level if self.spent((*earlier, level)) <= self.yearly_level * (1 + 1e-6) else 0.0

    @staticmethod
    def spent(levels: Sequence[float]) -> float:
        """Chance (0-1) that a worthless candidate passes at one of the looks at these levels."""
        return crossing_probability(levels)


@dataclass(frozen=True, kw_only=True)
class LookRequest:
    """What is about to be judged.

    Attributes:
        run: the run that evaluates; it has one look at its candidate, however often it is repeated.
        candidate: digest of the adapter's files.
        question: digest of base and prompt: only looks that share it are evidence about the same thing.
        photographs: IDs of the photographs that decide about scores.
        rules: of the recipe.
        version: the registered version that is judged; None for an adapter that is not registered yet.
    """

    run: str
    candidate: str
    question: str
    photographs: Sequence[str]
    rules: LookRules
    version: str | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationLook:
    """A look as the history records it.

    Attributes:
        number: 1, 2, ... within the year of looks.
        level: one-sided p (0-1) at which this look may pass; 0 when the year has nothing left.
        spent: part of `yearly_level` that is spent once this look is taken.
        yearly_level: chance (0-1) that a worthless candidate passes at least once in a year of looks.
        year_began: time of the year's first look, ISO 8601.
        fresh: how many of the photographs no earlier look has used.
        photographs: shortened IDs of the photographs that decide about scores.
        run, candidate, question: as in `LookRequest`.
    """

    number: int
    run: str
    candidate: str
    question: str
    level: float
    spent: float
    yearly_level: float
    year_began: str
    fresh: int
    photographs: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "photographs": list(self.photographs)}

    @classmethod
    def from_entry(cls, entry: HistoryEntry) -> EvaluationLook:
        """The look that a line of the history records."""
        return cls(**{**entry.detail["look"], "photographs": tuple(entry.detail["look"]["photographs"])})


def looks_in_history(entries: Sequence[HistoryEntry]) -> list[EvaluationLook]:
    """All looks, oldest first."""
    return [EvaluationLook.from_entry(entry) for entry in entries if entry.event == LOOK_EVENT]


def look_of_run(entries: Sequence[HistoryEntry], run: str, candidate: str) -> EvaluationLook | None:
    """The look that a run took at a candidate. A run that trained again, to other weights, has another candidate."""
    taken = (look for look in looks_in_history(entries) if (look.run, look.candidate) == (run, candidate))
    return next(taken, None)


def next_look(entries: Sequence[HistoryEntry], request: LookRequest, now: datetime) -> EvaluationLook:
    """The look that this request takes; a pure function.

    A clock that goes back doesn't begin another year.
    """
    looks = looks_in_history(entries)
    year = looks_of_year(looks, looks[-1].year_began) if looks else []
    if not year or now >= datetime.fromisoformat(year[-1].year_began) + YEAR_OF_LOOKS:
        year = []
    earlier = [look.level for look in year]
    level = request.rules.next_level(earlier, sum(look.question == request.question for look in year))
    used = {name for look in looks for name in look.photographs}
    photographs = tuple(sorted({name[:PHOTOGRAPH_ID_LENGTH] for name in request.photographs}))
    return EvaluationLook(
        number=len(year) + 1,
        run=request.run,
        candidate=request.candidate,
        question=request.question,
        level=level,
        spent=LookRules.spent((*earlier, level)),
        yearly_level=request.rules.yearly_level,
        year_began=year[-1].year_began if year else now.isoformat(timespec="seconds"),
        fresh=sum(name not in used for name in photographs),
        photographs=photographs,
    )


def looks_of_year(looks: Sequence[EvaluationLook], year_began: str) -> list[EvaluationLook]:
    """The looks of one year, oldest first."""
    return [look for look in looks if look.year_began == year_began]


def earlier_differences(entries: Sequence[HistoryEntry], look: EvaluationLook) -> list[Mapping[str, float]]:
    """What the earlier looks of the year measured about the same question, one mapping per candidate.

    A mapping holds the base's error minus the candidate's (points squared) by shortened photograph ID. A candidate that
    was looked at twice counts with its latest look; the one of `look` itself doesn't count.
    """
    results = look_results(entries)
    by_candidate: dict[str, Mapping[str, float]] = {}
    for earlier in looks_of_year(looks_in_history(entries), look.year_began):
        same = earlier.question == look.question and earlier.candidate != look.candidate
        result = results.get((earlier.run, earlier.candidate))
        if earlier.number < look.number and same and result is not None:
            by_candidate[earlier.candidate] = result[_DIFFERENCES]
    return list(by_candidate.values())


def look_results(entries: Sequence[HistoryEntry]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """What each look measured, by run and candidate."""
    results = (entry.detail for entry in entries if entry.event == LOOK_RESULT_EVENT)
    return {(result["run"], result["candidate"]): result for result in results}


def look_result(look: EvaluationLook, differences: Mapping[str, float], *, better_than_best: bool) -> dict[str, Any]:
    """A look's result for the history.

    Args:
        look: the look that was taken.
        differences: by photograph ID, the base's error minus the candidate's, in points squared.
        better_than_best: the candidate was shown to be better than the best champion so far.
    """
    short = {name[:PHOTOGRAPH_ID_LENGTH]: float(f"{value:.5g}") for name, value in sorted(differences.items())}
    return {"run": look.run, "candidate": look.candidate, _DIFFERENCES: short, BETTER_THAN_BEST: better_than_best}


def best_champions(entries: Sequence[HistoryEntry]) -> tuple[str, ...]:
    """The best champion so far, last, after the champions that were the best before it.

    The first champion is the best until a later one was shown to be better than it. A champion that was merely not
    worse never becomes the best, so a chain of slightly worse ones is still compared with its beginning. One that was
    rolled back, quarantined or rejected is no longer the best.
    """
    runs = {entry.version: entry.detail.get("run") for entry in entries if entry.event == "register"}
    looks = {entry.version: entry.detail["look"]["run"] for entry in entries if entry.event == LOOK_EVENT}
    results = {run: result for (run, _), result in look_results(entries).items()}  # a run registers its last candidate
    best: list[str] = []
    for entry in entries:
        if entry.event == "promote" and entry.after is not None and entry.after not in best:
            result = results.get(looks.get(entry.after) or runs.get(entry.after) or "")
            if not best or (result is not None and result[BETTER_THAN_BEST]):
                best.append(entry.after)
        elif entry.event in ("rollback", "quarantine", "reject") and entry.version in best:
            best.remove(entry.version)
    return tuple(best)
