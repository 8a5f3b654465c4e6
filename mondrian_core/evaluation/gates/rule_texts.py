"""The rules of the gates in words, with the numbers of the recipe; docs/gates.md is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mondrian_core.recipes import GateRecipe


def _integrity(_: GateRecipe) -> str:
    return "every LoRA key of the base matched, shapes right, values finite, files and base as recorded"


def _effect(recipe: GateRecipe) -> str:
    return f"mean KL(base || adapter) over the score tokens of answers >= {recipe.effect_floor:g} nats"


def _format_compliance(recipe: GateRecipe) -> str:
    return (
        f"unconstrained answers that read strictly: observed >= {recipe.compliance_observed:.0%} and exact one-sided "
        f"95 % lower bound >= {recipe.compliance_bound:.0%}"
    )


def _latency_overhead(recipe: GateRecipe) -> str:
    return (
        "median of paired, interleaved time ratios candidate/base at equal output length, and its upper 95 % bound, "
        f"< {recipe.overhead_ratio:.2f}"
    )


def _score_error(recipe: GateRecipe) -> str:
    return (
        f"squared error at least {recipe.score_improvement:.0%} below the base's and one-sided p <= {recipe.p_value:g} "
        "(sign-flip, paired over photographs): PASS; not better: FAIL; between: INCONCLUSIVE"
    )


def _champion(recipe: GateRecipe) -> str:
    return (
        f"squared error less than {recipe.non_inferiority_margin:.0%} above the champion's (one-sided p <= "
        f"{recipe.p_value:g}, paired over photographs), and no dimension shown to be worse by more (Holm over eight)"
    )


def _health(_: GateRecipe) -> str:
    return (
        "scores haven't collapsed, answers aren't cut, don't stutter and depend on the photograph, spoilt copies don't "
        "gain, nothing leaked"
    )


def _seconds(recipe: GateRecipe) -> str:
    return f"median time of a critique < {recipe.seconds_per_photograph:g} s (a gate on Metal only)"


GATE_RULE_TEXTS: Mapping[str, Callable[[GateRecipe], str]] = {
    "integrity": _integrity,
    "effect": _effect,
    "format_compliance": _format_compliance,
    "latency_overhead": _latency_overhead,
    "score_error": _score_error,
    "champion": _champion,
    "health": _health,
    "seconds_per_photograph": _seconds,
}
