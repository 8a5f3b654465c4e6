"""The recipe by the number of critiques, and the figures behind it."""

from __future__ import annotations

import numpy as np
import pytest

from bench import gate_error_rates
from mondrian_core.recipe_choice import (
    SIMULATED_SPREAD,
    WANTED_POWER,
    choose_recipe_for,
    expected_held_out,
    first_look_power,
)
from mondrian_core.recipes import SMALL_SET_THRESHOLD, Recipe


@pytest.mark.parametrize(("critiques", "name"), [(10, "small-set"), (20, "folds"), (40, "default"), (400, "default")])
def test_recipe_and_its_reason(critiques: int, name: str) -> None:
    choice = choose_recipe_for(critiques)
    assert choice.name == name == choice.recipe.name
    assert choice.reason.startswith(f"{critiques} critiques: the recipe '{name}'.")
    assert bool(choice.recipe.evaluate.folds) == (name != "default")


def test_choice_follows_the_gates_and_never_returns_to_folds() -> None:
    names = [choose_recipe_for(critiques).name for critiques in range(1, 300)]
    assert names == sorted(names, key=["small-set", "folds", "default"].index)
    assert names.count("small-set") == SMALL_SET_THRESHOLD - 1
    held_out = expected_held_out(names.index("default") + 1, Recipe())
    assert first_look_power(held_out, Recipe()) >= WANTED_POWER > first_look_power(held_out - 0.5, Recipe())


def test_folds_recipe_leaves_too_few_held_out_to_overrule_the_folds() -> None:
    for critiques in range(20, 40):
        choice = choose_recipe_for(critiques)
        if choice.name == "folds":
            assert expected_held_out(critiques, choice.recipe) < choice.recipe.gates.score_photographs
            assert choice.judged == critiques


def test_spread_is_that_of_the_simulated_errors() -> None:
    one, two = map(gate_error_rates._scaled_squared_errors, gate_error_rates._synthetic_errors())
    differences = np.concatenate([one - two / 2, two - one / 2])
    assert differences.std() / one.mean() == pytest.approx(SIMULATED_SPREAD, abs=0.01)
