"""What a gate says, and the numbers it looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from mondrian_core.evaluation.measure.health_metrics import ImageDependence, ModeCollapse
from mondrian_core.evaluation.measure.latency import LatencyOverhead
from mondrian_core.evaluation.measure.metrics import ArmComparison, FormatStatistics
from mondrian_core.recipes import GateRecipe

ComparedT = TypeVar("ComparedT", ArmComparison, ImageDependence)
Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
PASS: Verdict = "PASS"
FAIL: Verdict = "FAIL"
INCONCLUSIVE: Verdict = "INCONCLUSIVE"


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """What one gate says.

    Attributes:
        name: as in PRODUCT, such as "score_error".
        rule: the rule in words, with its numbers.
        threshold, observed: the numbers that are compared; None where the rule has none or nothing was measured.
        n: photographs, pairs or files behind it.
        interval: of the observed value; one side may be None. The rule says how sure it is.
        verdict: PASS, FAIL or INCONCLUSIVE.
        sentence: why, for people.
        parts: the checks it is made of, if it is made of several.
    """

    name: str
    rule: str
    threshold: float | None
    observed: float | None
    n: int
    interval: tuple[float | None, float | None] | None
    verdict: Verdict
    sentence: str
    parts: tuple[GateResult, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "parts": [part.as_dict() for part in self.parts]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GateResult:
        """The result that `as_dict` wrote."""
        interval = values.get("interval")
        return cls(
            **{
                **values,
                "interval": tuple(interval) if interval else None,
                "parts": tuple(cls.from_dict(part) for part in values.get("parts", ())),
            }
        )


@dataclass(frozen=True, kw_only=True)
class GateMeasurements:
    """All numbers that the gates look at; None where something wasn't measured.

    Attributes:
        problems: what the check of the adapter's files found.
        formats: by arm.
        divergences: mean KL(base || candidate) in nats per score token, one per photograph.
        same_answers: share of photographs on which base and candidate wrote the same text.
        against_base, against_champion: comparisons in pairs; the latter is None without a champion, and only on
            photographs that the champion wasn't trained on.
        has_champion: there is one to compare with.
        champion_saw: how many of the photographs with scores the champion was trained on, those of the folds included;
            None when what it was trained on isn't known.
        overhead, collapse, dependence: see their modules.
        stuttering: answers of the candidate that are degenerate (`text_quality`), and answers that ran.
        leaked: photographs of the test that were known before, and how (`leaks.SAYS`); None when what was trained on
            isn't known.
        fold_leaked: the same of the photographs that the folds are judged on.
        edits: by edit how the candidate judged edited copies (`edits.violations`), None when the recipe wants none;
            base_edits: the same of the base, whose faults an adapter inherits.
        by_folds: the recipe's adapters against the base, fold by fold; None without cross-validation.
        champion_by_folds: the same against the champion, on photographs of the folds that it wasn't trained on.
        dependence_by_folds: of the recipe's adapters, photographs exchanged inside their fold.
        untested: how many photographs the adapter was trained on, when those are all there are and none is left to test
            it with; None: some are left.
        metal: the figures of time come from Metal.
    """

    problems: tuple[str, ...] = ()
    formats: Mapping[str, FormatStatistics] = field(default_factory=dict)
    divergences: tuple[float, ...] = ()
    same_answers: float | None = None
    against_base: ArmComparison | None = None
    against_champion: ArmComparison | None = None
    has_champion: bool = False
    champion_saw: int | None = 0
    overhead: LatencyOverhead | None = None
    collapse: ModeCollapse | None = None
    dependence: ImageDependence | None = None
    stuttering: tuple[int, int] | None = None
    leaked: tuple[tuple[str, str], ...] | None = None
    fold_leaked: tuple[tuple[str, str], ...] = ()
    edits: Mapping[str, Mapping[str, Any]] | None = None
    base_edits: Mapping[str, Mapping[str, Any]] | None = None
    by_folds: ArmComparison | None = None
    champion_by_folds: ArmComparison | None = None
    dependence_by_folds: ImageDependence | None = None
    untested: int | None = None
    metal: bool = False


def deciding_comparison(
    own: ComparedT | None, by_folds: ComparedT | None, recipe: GateRecipe
) -> tuple[ComparedT | None, bool]:
    """What decides about scores, and whether it is the folds' word: theirs counts where the adapter's own photographs
    are too few for a verdict. An adapter that can be judged itself always is.
    """
    if by_folds is not None and (own is None or own.n < recipe.score_photographs):
        return by_folds, True
    return own, False


def overall_verdict(gates: Sequence[GateResult]) -> Verdict:
    """Any FAIL: FAIL; else any INCONCLUSIVE, or no gate at all: INCONCLUSIVE; else PASS."""
    verdicts = [gate.verdict for gate in gates]
    if FAIL in verdicts:
        return FAIL
    return PASS if verdicts and INCONCLUSIVE not in verdicts else INCONCLUSIVE


def short_number(value: float | None) -> str:
    """Three significant digits for a sentence; "-" for None."""
    return "-" if value is None else f"{value:.3g}"
