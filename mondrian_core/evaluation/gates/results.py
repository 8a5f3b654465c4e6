"""The result of a gate, and the measurements that gates take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeVar

from mondrian_core.evaluation.measure.calibration import CalibrationComparison
from mondrian_core.evaluation.measure.comment_measurement import CommentMeasurement
from mondrian_core.evaluation.measure.health_metrics import ImageDependence, ModeCollapse
from mondrian_core.evaluation.measure.latency import LatencyOverhead
from mondrian_core.evaluation.measure.metrics import ArmComparison, FormatStatistics
from mondrian_core.evaluation.measure.pooled_evidence import LookEvidence
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.recipes import GateRecipe

ComparedT = TypeVar("ComparedT", ArmComparison, ImageDependence, CalibrationComparison)
Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
PASS: Verdict = "PASS"
FAIL: Verdict = "FAIL"
INCONCLUSIVE: Verdict = "INCONCLUSIVE"


class Cause(StrEnum):
    """Why there is no verdict where the adapter is not the reason, or what a FAIL comes from; the advice fits it."""

    TOO_FEW = "too few photographs"
    NOT_MEASURED = "not measured"
    NO_ANSWER = "no answer"
    UNCERTAIN = "not certain"
    STOPPED = "the evaluation stopped early"
    LOOPS = "answers repeat themselves"
    CUT = "answers are cut"
    PROSE = "answers are not JSON"
    WRONG_KEYS = "answers have other keys"
    OTHER_SCRIPT = "answers are in another script"
    WRONG_VALUES = "scores, comments or grades are invalid"


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """The result of one gate, or of one check of a gate.

    Attributes:
        name: the gate's name, such as "score_error".
        rule: the rule in words, with the numbers of the recipe.
        threshold, observed: the numbers that are compared; None where the rule has none or nothing was measured.
        n: number of photographs, pairs or files behind it.
        interval: of the observed value; one side may be None. The rule states its confidence level.
        verdict: PASS, FAIL or INCONCLUSIVE.
        sentence: the reason, for people.
        parts: the checks that the gate combines.
        cause: why it is INCONCLUSIVE, or what makes it FAIL.
        decides: False for a gate that the recipe only reports: it counts for no verdict.
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
    cause: Cause | None = None
    decides: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "parts": [part.as_dict() for part in self.parts]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GateResult:
        """The result that `as_dict` wrote."""
        interval, cause = values.get("interval"), values.get("cause")
        return cls(
            **{
                **values,
                "interval": tuple(interval) if interval else None,
                "cause": Cause(cause) if cause else None,
                "parts": tuple(cls.from_dict(part) for part in values.get("parts", ())),
            }
        )


@dataclass(frozen=True, kw_only=True)
class GateMeasurements:
    """Everything that a gate can use; None where something was not measured.

    Attributes:
        samples: the recorded answers, times and labels; a gate that needs a number of its own computes it from them.
        problems: what the check of the adapter's files found.
        formats: format statistics by arm, over all photographs.
        formats_of_own: the same over the workspace's own photographs; None: all of them are. Where they are fewer than
            the recipe wants, answers about the photographs of the folds are added.
        formats_of_others: the same over rendered photographs, and those of which the origin wasn't recorded.
        own_by_folds: how many of the candidate's answers in `formats_of_own` come from the folds' adapters.
        other_photographs: what the others are, for a sentence.
        trained_photographs: number of photographs that the candidate was trained on; None when unknown.
        divergences: mean KL(base || candidate) in nats per score token, one per photograph.
        same_answers: share (0-1) of the photographs on which base and candidate wrote the same text.
        calibrations: the candidate against the best calibration of the base, a rival that needs no adapter.
        calibrations_by_folds: the same for the recipe's adapters, fold by fold.
        against_base, against_champion: paired comparisons. The latter covers only photographs that the champion was not
            trained on; None without a champion.
        has_champion: there is a champion to compare with.
        against_best, best_by_folds: the same comparisons with the best champion so far, whose margin is smaller.
        best_champion: name of the best champion so far; None when there is none on this base.
        look: which look of the year this is, and what the year's looks show together.
        champion_saw: number of scored photographs, including those of the folds, that the champion was trained on; None
            when its training set isn't known.
        overhead, collapse, dependence: see `LatencyOverhead`, `ModeCollapse` (over own photographs) and
            `ImageDependence`.
        stuttering: number of degenerate answers of the candidate (`text_quality`), and of its answers; own photographs.
        leaked: tested photographs that were known before, each with the reason (a key of `CONTAMINATION_LABELS`); None
            when the training set isn't known.
        fold_leaked: the same for the photographs that the folds are judged on.
        edits: metamorphic violations of the candidate by edit; None when the recipe asks for no edited copies.
        base_edits: the same for the base, whose faults an adapter inherits.
        by_folds: the recipe's adapters against the base, fold by fold; None without cross-validation.
        champion_by_folds: the same against the champion, on photographs that it wasn't trained on.
        dependence_by_folds: image dependence of the recipe's adapters, with answers exchanged inside a fold.
        comments: what the samples say about the words.
        untested: number of photographs that the adapter was trained on, when none is held out; else None.
        metal: times were measured on Metal.
        planned: numbers of photographs, own and others, that an evaluation which stopped early would have asked about;
            None for one that asked about all.
    """

    samples: EvaluationSamples | None = None
    problems: tuple[str, ...] = ()
    formats: Mapping[str, FormatStatistics] = field(default_factory=dict)
    formats_of_own: Mapping[str, FormatStatistics] | None = None
    formats_of_others: Mapping[str, FormatStatistics] = field(default_factory=dict)
    own_by_folds: int = 0
    other_photographs: str = "rendered photographs"
    trained_photographs: int | None = None
    divergences: tuple[float, ...] = ()
    same_answers: float | None = None
    calibrations: CalibrationComparison | None = None
    calibrations_by_folds: CalibrationComparison | None = None
    against_base: ArmComparison | None = None
    against_champion: ArmComparison | None = None
    against_best: ArmComparison | None = None
    has_champion: bool = False
    best_champion: str | None = None
    look: LookEvidence | None = None
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
    best_by_folds: ArmComparison | None = None
    dependence_by_folds: ImageDependence | None = None
    comments: CommentMeasurement | None = None
    untested: int | None = None
    metal: bool = False
    planned: tuple[int, int] | None = None

    @property
    def own_formats(self) -> Mapping[str, FormatStatistics]:
        """Format statistics by arm over the workspace's own photographs."""
        return self.formats if self.formats_of_own is None else self.formats_of_own


def deciding_comparison(
    own: ComparedT | None, by_folds: ComparedT | None, recipe: GateRecipe
) -> tuple[ComparedT | None, bool]:
    """The comparison that decides about scores, and whether it comes from cross-validation.

    Cross-validation decides only where the adapter's own held-out photographs are too few for a verdict.
    """
    if by_folds is not None and (own is None or own.n < recipe.score_photographs):
        return by_folds, True
    return own, False


def overall_verdict(gates: Sequence[GateResult]) -> Verdict:
    """Any FAIL: FAIL; else any INCONCLUSIVE, or no gate at all: INCONCLUSIVE; else PASS. Reported gates don't count."""
    verdicts = [gate.verdict for gate in gates if gate.decides]
    if FAIL in verdicts:
        return FAIL
    return PASS if verdicts and INCONCLUSIVE not in verdicts else INCONCLUSIVE


def short_number(value: float | None) -> str:
    """Three significant digits for a sentence; "-" for None."""
    return "-" if value is None else f"{value:.3g}"
