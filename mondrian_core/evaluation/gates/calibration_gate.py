"""The gate about what an adapter adds: better than the best calibration of the base, which needs no adapter."""

from __future__ import annotations

from mondrian_core.evaluation.gates.comparison_gates import no_pair_cause, too_many_unanswered, undecided_cause
from mondrian_core.evaluation.gates.gate import Gate, Judgement, Requirement
from mondrian_core.evaluation.gates.messages import folds_prefix, untested_message
from mondrian_core.evaluation.gates.results import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    GateMeasurements,
    Verdict,
    deciding_comparison,
    short_number,
)
from mondrian_core.evaluation.measure.baselines import BASELINE_TITLES
from mondrian_core.evaluation.measure.calibration import FITTED_ON_TEXTS, MINIMUM_FITTED, CalibrationComparison
from mondrian_core.recipes import GateRecipe


def _judge_beyond_calibration(measured: GateMeasurements, recipe: GateRecipe) -> Judgement:
    """The adapter is closer to the advisor than the best calibration of the base, by more than that one's fit costs."""
    compared, by_folds = deciding_comparison(measured.calibrations, measured.calibrations_by_folds, recipe)
    if compared is None or compared.against.reduction is None:
        why = _why_not_compared(measured)
        return Judgement(
            verdict=INCONCLUSIVE,
            sentence=f"{why}.",
            threshold=_least(0.0, recipe),
            cause=no_pair_cause(compared.against if compared else None, measured),
        )
    against, gain = compared.against, compared.against.reduction
    verdict, why = _verdict(compared, gain, recipe)
    prefix = folds_prefix(measured) if by_folds else ""
    says = (
        f"{prefix}Squared error {short_number(against.error_ours)} against {short_number(against.error_theirs)} of "
        f"{BASELINE_TITLES[compared.chosen]} (the best calibration, fitted on {compared.photographs} "
        f"{FITTED_ON_TEXTS[compared.fitted_on]}): {abs(gain):.1%} {'lower' if gain > 0 else 'higher'} on {against.n} "
        f"photographs, p = {short_number(against.p_better)}"
    )
    detectable = "" if against.detectable is None else _detectable(against.n, against.detectable + compared.fit_cost)
    return Judgement(
        verdict=verdict,
        sentence=f"{says}{why}.{detectable}",
        observed=gain,
        n=against.n,
        interval=against.interval,
        threshold=_least(compared.fit_cost, recipe),
        cause=undecided_cause(verdict, against, recipe),
    )


def _least(fit_cost: float, recipe: GateRecipe) -> float:
    """The smallest observed reduction (0-1) that can pass."""
    return max(recipe.score_improvement, fit_cost)


def _verdict(compared: CalibrationComparison, gain: float, recipe: GateRecipe) -> tuple[Verdict, str]:
    """The verdict, and the reason as the end of a sentence."""
    against, least = compared.against, _least(compared.fit_cost, recipe)
    if against.n < recipe.score_photographs:
        return INCONCLUSIVE, f"; at least {recipe.score_photographs} photographs are needed"
    if gain <= 0:
        return FAIL, "; it adds nothing to a calibration"
    if too_many_unanswered(against, recipe):
        return INCONCLUSIVE, f"; {against.no_answer} photographs got no answer"
    if gain < least:
        return INCONCLUSIVE, f"; better, but by less than {least:.0%}"
    if against.p_not_inferior > recipe.p_value:
        enough = f"; about {against.needed} photographs would show it" if (against.needed or 0) > against.n else ""
        beyond = f"p = {short_number(against.p_not_inferior)} beyond the {compared.fit_cost:.1%} that its fit may cost"
        return INCONCLUSIVE, f"; this may be chance ({beyond}){enough}"
    return PASS, ""


def _why_not_compared(measured: GateMeasurements) -> str:
    if measured.calibrations is None and measured.calibrations_by_folds is None:
        if measured.untested is not None:
            return untested_message(measured)
        return f"No calibration of the base could be fitted: it takes {MINIMUM_FITTED} photographs that it answers"
    return "No photograph could be compared with a calibration of the base"


def _detectable(n: int, reduction: float) -> str:
    return f" {n} photographs of this spread usually show a reduction of {reduction:.0%} or more."


BEYOND_CALIBRATION = Gate(
    name="beyond_calibration",
    rule="squared error at least {gates.score_improvement:.0%} below that of the best calibration of the base (none, "
    "shift, line, isotonic, mean; fitted and chosen without the tested photographs), and below it by more than fitting "
    "on so few photographs may cost the calibration: one-sided p <= {gates.p_value:g} beyond that (sign-flip test, "
    "paired over photographs)",
    fails_when="not better than the best calibration",
    inconclusive_when="fewer than {gates.score_photographs} paired photographs (folds as for score_error); better by "
    f"less than required, or possibly by chance; fewer than {MINIMUM_FITTED} photographs to fit a calibration on",
    recipe_fields=("score_improvement", "beyond_calibration", "p_value", "score_photographs", "failed_share"),
    judge=_judge_beyond_calibration,
    next_steps={
        FAIL: "A calibration of the base gets as close to the advisor's scores without an adapter. Compare the "
        "comments in the report; more varied critiques may teach the adapter more than the advisor's level.",
        INCONCLUSIVE: "Whether the adapter's scores beat a calibrated base is open: add critiques, which makes the "
        "comparison with it more certain.",
    },
    required=Requirement.BY_RECIPE,
    decides=lambda recipe: recipe.beyond_calibration == "required",
)
