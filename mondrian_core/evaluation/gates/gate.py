"""What a gate is: one value with its rule, thresholds, judge, failure conditions, advice and weight in a promotion.

The report, the next steps, docs/reference/gates.md and the promotion decision are generated from these values, so a
gate is defined in one place. Texts are format strings: `{gates.p_value:g}` is a value of the recipe's `[gates]` table
and `{evaluate.latency_pairs}` one of its `[evaluate]` table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from mondrian_core.evaluation.gates.results import (
    FAIL,
    INCONCLUSIVE,
    Cause,
    GateMeasurements,
    GateResult,
    Verdict,
)
from mondrian_core.recipes import EvaluateRecipe, GateRecipe

NEVER = "never"
# Advice for causes that have nothing to do with the adapter.
COMMON_STEPS: Mapping[Cause, str] = {
    Cause.TOO_FEW: "Add critiques by this advisor: there are too few photographs for a verdict.",
    Cause.NOT_MEASURED: "Evaluate again: {gate} was not measured.",
    Cause.NO_ANSWER: "Look in the report why photographs got no answer, then evaluate again.",
}
TOO_FEW_TO_LEARN = (
    "The adapter learned from too few photographs ({trained}), which explains the result: "
    "add critiques by this advisor."
)
REPORTED_ONLY = "Reported only: this recipe does not require it for a promotion."


class Requirement(StrEnum):
    """When a promotion needs the gate's result. A result that is not PASS stops an automatic promotion.

    A gate that is required `BY_RECIPE` is only reported under other recipes (`Gate.decides`): then its result says so,
    counts for no verdict and stops nothing.
    """

    ALWAYS = "always"
    WITH_CHAMPION = "when a champion would be replaced"
    IF_MEASURED = "only where it applies"
    BY_RECIPE = "if the recipe requires it; otherwise it is reported"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a judge function found.

    Attributes:
        verdict: PASS, FAIL or INCONCLUSIVE.
        sentence: the reason, for people.
        observed: the number that is compared with the threshold; None when nothing was measured.
        n: number of photographs, pairs or files behind it.
        interval: of the observed value; one side may be None.
        parts: results of the checks that the gate combines.
        threshold: replaces the value of the first recipe field, for a gate without one.
        cause: why it is INCONCLUSIVE, or what makes it FAIL.
    """

    verdict: Verdict
    sentence: str
    observed: float | None = None
    n: int = 0
    interval: tuple[float | None, float | None] | None = None
    parts: tuple[GateResult, ...] = ()
    threshold: float | None = None
    cause: Cause | None = None


Judge = Callable[[GateMeasurements, GateRecipe], Judgement]


def _always(_: GateMeasurements) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Check:
    """A rule with a verdict. A gate is a check that a promotion depends on; `health` combines several checks.

    Attributes:
        name: the key in reports, such as "score_error".
        rule: what must hold to pass.
        fails_when, inconclusive_when: what leads to the other verdicts; `NEVER` where a verdict is impossible.
        recipe_fields: the `GateRecipe` fields that the rule uses; the first is reported as the threshold.
        judge: decides from the measurements and the recipe.
        applies: False for measurements to which the check is not applied, so that it has no result at all.
    """

    name: str
    rule: str
    fails_when: str
    inconclusive_when: str
    recipe_fields: tuple[str, ...]
    judge: Judge
    applies: Callable[[GateMeasurements], bool] = _always

    def evaluate(self, measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
        """The result for these measurements."""
        found = self.judge(measured, recipe)
        threshold = found.threshold
        if threshold is None and self.recipe_fields:
            threshold = float(getattr(recipe, self.recipe_fields[0]))
        return GateResult(
            name=self.name,
            rule=self.rule_text(recipe),
            threshold=threshold,
            observed=found.observed,
            n=found.n,
            interval=found.interval,
            verdict=found.verdict,
            sentence=found.sentence,
            parts=found.parts,
            cause=found.cause,
        )

    def rule_text(self, recipe: GateRecipe) -> str:
        """The rule with the numbers of the recipe."""
        return self.rule.format(gates=recipe)

    def condition_texts(self, gates: GateRecipe, evaluate: EvaluateRecipe) -> tuple[str, str]:
        """When it fails and when it is inconclusive, with the numbers of the recipe."""
        fails, inconclusive = self.fails_when, self.inconclusive_when
        return fails.format(gates=gates, evaluate=evaluate), inconclusive.format(gates=gates, evaluate=evaluate)


def _not_judged(found: GateResult) -> GateResult:
    """The result of a gate in an evaluation that stopped before everything was measured."""
    sentence = "Not judged: the evaluation stopped early, because the format can no longer pass."
    return replace(
        found, verdict=INCONCLUSIVE, sentence=sentence, cause=Cause.STOPPED, observed=None, n=0, interval=None, parts=()
    )


def _decides(_: GateRecipe) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Gate(Check):
    """A check that decides a promotion.

    Attributes:
        next_steps: what to do after FAIL and after INCONCLUSIVE.
        steps_by_cause: what to do instead for this cause; after INCONCLUSIVE `COMMON_STEPS` where it has no entry.
        learned: the result depends on what the adapter learned, so too few photographs of training explain a FAIL.
        further_steps: more advice after INCONCLUSIVE that depends on the measurements.
        required: when a promotion needs this gate's result.
        decides: False under a recipe that only reports the gate; for `Requirement.BY_RECIPE`.
        judges_stopped: True for a gate that is judged although the evaluation stopped early.

    Raises:
        ValueError: there is no next step for a verdict that the gate can give, or a gate that a promotion always needs
            could be merely reported.
    """

    next_steps: Mapping[Verdict, str]
    steps_by_cause: Mapping[Cause, str] = field(default_factory=dict)
    learned: bool = True
    further_steps: Callable[[GateMeasurements, GateRecipe], Sequence[str]] | None = None
    required: Requirement = Requirement.ALWAYS
    decides: Callable[[GateRecipe], bool] = _decides
    judges_stopped: bool = False

    def __post_init__(self) -> None:
        possible = [(FAIL, self.fails_when), (INCONCLUSIVE, self.inconclusive_when)]
        if missing := [verdict for verdict, when in possible if when != NEVER and not self.next_steps.get(verdict)]:
            raise ValueError(f"The gate {self.name} has no next step after {' and '.join(missing)}.")
        if (self.decides is not _decides) != (self.required is Requirement.BY_RECIPE):
            raise ValueError(f"The gate {self.name}: `decides` is for gates that are required by recipe.")

    def evaluate(self, measured: GateMeasurements, recipe: GateRecipe) -> GateResult:
        """The result for these measurements; its sentence says when it is only reported."""
        found = super().evaluate(measured, recipe)
        if measured.planned is not None and not self.judges_stopped:
            found = _not_judged(found)
        if self.decides(recipe):
            return found
        return replace(found, decides=False, sentence=f"{found.sentence} {REPORTED_ONLY}")

    def advice(
        self, verdict: Verdict, measured: GateMeasurements, recipe: GateRecipe, cause: Cause | None = None
    ) -> list[str]:
        """What to do after this verdict; nothing after PASS. It fits the cause, and not only the verdict."""
        if cause == Cause.STOPPED:
            return []  # the gate that stopped the evaluation says what to do
        step = self.next_steps.get(verdict)
        if verdict == FAIL and cause is not None:
            step = self.steps_by_cause.get(cause, step)
        if verdict == INCONCLUSIVE and cause is not None:
            common = COMMON_STEPS.get(cause)
            step = self.steps_by_cause.get(cause) or (common.format(gate=self.name) if common else step)
        trained = measured.trained_photographs
        if verdict == FAIL and self.learned and trained is not None and trained < recipe.score_photographs:
            step = TOO_FEW_TO_LEARN.format(trained=trained)
        steps = [step] if step else []
        if verdict == INCONCLUSIVE and self.further_steps:
            steps += self.further_steps(measured, recipe)
        return steps
