"""In words: whom the folds speak for, what was left to test with, and what would make a comparison possible."""

from __future__ import annotations

from mondrian_core.evaluation.gates.results import GateMeasurements
from mondrian_core.recipes import GateRecipe

BY_FOLDS_PREFIX = "By folds, which say what the recipe does and not this adapter"

_BY_HAND = "promote by hand with a reason"


def folds_prefix(measured: GateMeasurements) -> str:
    """The beginning of a sentence whose figures come from the folds."""
    if measured.untested is None:
        return f"{BY_FOLDS_PREFIX}: "
    return f"{BY_FOLDS_PREFIX} (it is trained on all {measured.untested} photographs, so none is left to measure it with): "


def untested_message(measured: GateMeasurements) -> str:
    """Why an adapter that was trained on everything has no figure of its own; a sentence without its full stop."""
    return (
        f"It is trained on all {measured.untested} photographs, so none is left to measure it with; --folds K says "
        "what its recipe does"
    )


def not_compared_message(measured: GateMeasurements, recipe: GateRecipe) -> str:
    """Why there is no photograph to compare with the champion on, and what to do."""
    if measured.champion_saw:
        return f"There is no photograph that neither was trained on: {_wanted(recipe.score_photographs)}."
    if measured.champion_saw is None:
        return f"No photograph could be compared with the champion, and {_unknown()}."
    return "No photograph could be compared with the champion."


def too_few_new_message(n: int, measured: GateMeasurements, recipe: GateRecipe) -> str:
    """What is missing where `n` photographs that neither was trained on are too few; the end of a sentence."""
    least = recipe.score_photographs
    if measured.champion_saw is None:
        return f"at least {least} photographs are needed, and {_unknown()}"
    if not measured.champion_saw:
        return f"at least {least} photographs are needed"
    return (
        f"at least {least} that neither was trained on are needed (the champion was on {measured.champion_saw} of the "
        f"others): {_wanted(least - n)}"
    )


def _wanted(count: int) -> str:
    critiques = "critique of a photograph" if count == 1 else "critiques of photographs"
    return f"add {count} {critiques} that the champion hasn't seen and retrain with folds, or {_BY_HAND}"


def _unknown() -> str:
    return f"what the champion was trained on isn't known, so the folds' photographs can't be used: {_BY_HAND}"
