"""Which bundled recipe fits a number of critiques, and why: from the splits, the gates and the power of their test.

A verdict on scores needs `gates.score_photographs` photographs that the adapter wasn't trained on, and enough of them
to show an improvement. Where the default recipe holds out too few, cross-validation judges on all of them
(docs/decisions/0113).
"""

from __future__ import annotations

from dataclasses import dataclass

from mondrian_core.recipes import DEFAULT_RECIPE, SMALL_SET_RECIPE, Recipe, resolve_recipe

FOLDS_RECIPE = "folds"
FIRST_CRITIQUES = 10  # for a first adapter: the 8 that a verdict on scores needs, and two that may be left out
SHOWN_REDUCTION = 0.5  # the improvement that a first look should show: half the base model's squared error
WANTED_POWER = 0.8
# Standard deviation of an adapter's paired differences that halves the error, as a share of the base's error: that of
# the simulated errors in `bench.gate_error_rates`. An advisor's own is known only after the first evaluation.
SIMULATED_SPREAD = 0.55


@dataclass(frozen=True, kw_only=True)
class RecipeChoice:
    """A recipe for a number of critiques.

    Attributes:
        critiques: the number.
        name: of the recipe.
        judged: photographs that decide about scores, about.
        power: chance (0-1) that they show a halved error at the first look of a year.
        reason: for people, one or two sentences.
    """

    critiques: int
    name: str
    judged: float
    power: float
    reason: str

    @property
    def recipe(self) -> Recipe:
        """The recipe itself."""
        return resolve_recipe(None if self.name == DEFAULT_RECIPE else self.name)


def choose_recipe_for(critiques: int) -> RecipeChoice:
    """The recipe for a retraining that names none.

    Args:
        critiques: usable ones, each of another photograph.
    """
    default = Recipe()
    held_out = expected_held_out(critiques, default)
    shown = first_look_power(held_out, default)
    begins = f"{critiques} critique{'' if critiques == 1 else 's'}: the recipe"
    if held_out < default.gates.score_photographs:
        return RecipeChoice(
            critiques=critiques,
            name=SMALL_SET_RECIPE,
            judged=critiques,
            power=first_look_power(critiques, default),
            reason=f"{begins} '{SMALL_SET_RECIPE}'. The default recipe would hold out about {held_out:.0f} "
            f"photographs, and a verdict on scores needs {default.gates.score_photographs}. So the adapter learns from "
            f"all {critiques}, and five folds judge the recipe on all of them.",
        )
    if shown < WANTED_POWER:
        by_folds = first_look_power(critiques, default)
        return RecipeChoice(
            critiques=critiques,
            name=FOLDS_RECIPE,
            judged=critiques,
            power=by_folds,
            reason=f"{begins} '{FOLDS_RECIPE}'. The about {held_out:.0f} photographs that the default recipe holds out "
            f"would show a halved error in about {shown:.0%} of the evaluations, five folds on all {critiques} in "
            f"about {by_folds:.0%}.",
        )
    return RecipeChoice(
        critiques=critiques,
        name=DEFAULT_RECIPE,
        judged=held_out,
        power=shown,
        reason=f"{begins} '{DEFAULT_RECIPE}'. The about {held_out:.0f} photographs that it holds out show a halved "
        f"error in about {shown:.0%} of the evaluations.",
    )


def expected_held_out(critiques: int, recipe: Recipe) -> float:
    """How many of `critiques` photographs a recipe holds out for the verdict, on average."""
    data = recipe.data
    has_test = critiques >= data.test_from and data.test_fraction > 0
    return critiques * (data.test_fraction if has_test else data.test_fraction + data.validation_fraction)


def first_look_power(photographs: float, recipe: Recipe) -> float:
    """Chance (0-1) that the score gate passes an adapter that halves the error, at the first look of a year."""
    from mondrian_core.statistics.sample_size import detection_power

    if photographs < recipe.gates.score_photographs:
        return 0.0
    return detection_power(photographs, SHOWN_REDUCTION, SIMULATED_SPREAD, alpha=recipe.gates.first_look_level)
