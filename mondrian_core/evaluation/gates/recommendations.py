"""What to do now, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mondrian_core.evaluation.gates.results import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    GateMeasurements,
    GateResult,
    deciding_comparison,
    overall_verdict,
)
from mondrian_core.recipes import GateRecipe


def recommended_next_steps(
    gates: Sequence[GateResult], measured: GateMeasurements, recipe: GateRecipe, unbeaten: Sequence[str] = ()
) -> tuple[str, ...]:
    """What to do now, for every gate that didn't pass; then what rivals say."""
    verdict = overall_verdict(gates)
    if verdict == PASS:
        return ("Nothing stands in the way of a promotion.", *unbeaten)
    advice = [_ADVICE[gate.name, gate.verdict] for gate in gates if (gate.name, gate.verdict) in _ADVICE]
    comparison, _ = deciding_comparison(measured.against_base, measured.by_folds, recipe)
    if any(gate.name == "score_error" and gate.verdict == INCONCLUSIVE for gate in gates):
        if comparison and comparison.detectable:
            advice.append(
                f"With {comparison.n} photographs of this spread, a drop of the error below "
                f"{comparison.detectable:.0%} usually can't be told from chance."
            )
        if measured.by_folds is None and (comparison or measured.untested is not None):
            advice.append("On a small set, --folds 5 lets every critique count: it retrains the recipe five times.")
    return tuple(dict.fromkeys([*advice, *unbeaten]))


_ADVICE: Mapping[tuple[str, str], str] = {
    ("integrity", FAIL): "Don't use these files: train again on this base, or fetch the version anew.",
    ("effect", FAIL): "Check that training ran at all (loss curve) and that the adapter's scale isn't close to 0.",
    ("effect", INCONCLUSIVE): "Measure the effect: it needs at least one photograph that the base answers.",
    (
        "format_compliance",
        FAIL,
    ): "Read the unparsable answers below; longer training, or a higher token limit where they are cut.",
    (
        "format_compliance",
        INCONCLUSIVE,
    ): "Evaluate on more photographs (evaluate.compliance_photographs); they need no labels.",
    ("latency_overhead", FAIL): "Train with fewer modules or a lower rank.",
    ("latency_overhead", INCONCLUSIVE): "Evaluate again on a quiet machine, or raise evaluate.latency_pairs.",
    (
        "score_error",
        FAIL,
    ): "The base is at least as close to the advisor: more critiques or other training settings are needed.",
    ("score_error", INCONCLUSIVE): "More critiques of this advisor make the comparison surer.",
    ("champion", FAIL): "The champion stays.",
    (
        "champion",
        INCONCLUSIVE,
    ): "The champion stays unless a person decides otherwise; look at the photographs below side by side.",
    ("health", FAIL): "Mend what the health check names before anything else; the averages can't be trusted.",
    ("health", INCONCLUSIVE): "Look at the critiques below for what the health check names.",
    ("seconds_per_photograph", FAIL): "A smaller base or shorter answers are needed to answer in time.",
}
