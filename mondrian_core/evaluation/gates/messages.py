"""Sentences that several gates share: results by cross-validation, and what a comparison still needs."""

from __future__ import annotations

from collections.abc import Sequence

from mondrian_core.evaluation.gates.results import GateMeasurements
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.recipes import GateRecipe
from mondrian_core.rubric import DIMENSION_TITLES
from mondrian_core.samples_file import PhotographOrigin

BY_FOLDS_PREFIX = "By folds, which measure the recipe and not this adapter"

_MANUALLY = "promote manually with a reason"


def folds_prefix(measured: GateMeasurements) -> str:
    """The beginning of a sentence whose figures come from cross-validation."""
    if measured.untested is None:
        return f"{BY_FOLDS_PREFIX}: "
    trained_on = f"no held-out photographs: it was trained on all {measured.untested}"
    return f"{BY_FOLDS_PREFIX} ({trained_on}): "


def untested_message(measured: GateMeasurements) -> str:
    """Why an adapter that was trained on everything has no score of its own; without the final full stop."""
    return (
        f"No held-out photographs: the adapter was trained on all {measured.untested}. Use --folds K to estimate "
        "performance by cross-validation"
    )


def not_compared_message(measured: GateMeasurements, recipe: GateRecipe) -> str:
    """Why no photograph could be compared with the champion, and what to do."""
    if measured.champion_saw:
        return f"Every photograph was used to train one of the two: {_critiques_to_add(recipe.score_photographs)}."
    if measured.champion_saw is None:
        return f"No photograph could be compared with the champion, and {_unknown_training_set()}."
    return "No photograph could be compared with the champion."


def too_few_new_message(n: int, measured: GateMeasurements, recipe: GateRecipe) -> str:
    """What is missing when only `n` photographs were used to train neither; the end of a sentence."""
    least = recipe.score_photographs
    if measured.champion_saw is None:
        return f"at least {least} photographs are needed, and {_unknown_training_set()}"
    if not measured.champion_saw:
        return f"at least {least} photographs are needed"
    return (
        f"at least {least} that neither was trained on are needed (the champion was on {measured.champion_saw} of the "
        f"others): {_critiques_to_add(least - n)}"
    )


def own_photographs_note(measured: GateMeasurements) -> str:
    """How many answers about own photographs come from the folds' adapters; "" when none does."""
    if not measured.own_by_folds:
        return ""
    return f", {measured.own_by_folds} of them by folds, which measure the recipe"


def rendered_note(samples: EvaluationSamples) -> str:
    """How many of the photographs were rendered, in brackets; "" when none was."""
    asked = {outcome.photograph for outcome in samples.outcomes}
    rendered = sum(samples.origin(name) == PhotographOrigin.RENDERED for name in asked)
    return f" ({rendered} of the photographs are rendered)" if rendered else ""


def dimension_titles(names: Sequence[str]) -> str:
    """The titles of these dimensions, for a sentence."""
    return ", ".join(DIMENSION_TITLES.get(name, name).lower() for name in names)


def _critiques_to_add(count: int) -> str:
    critiques = "critique of a photograph" if count == 1 else "critiques of photographs"
    return f"add {count} {critiques} that the champion hasn't seen and retrain with folds, or {_MANUALLY}"


def _unknown_training_set() -> str:
    return f"the champion's training set isn't known, so photographs of the folds can't be used: {_MANUALLY}"
