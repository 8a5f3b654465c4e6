"""What counts as a loosened gate: each setting has a direction, and only that direction counts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

from mondrian_core.gate_strictness import JUDGED_TABLES, judged_settings, loosened_settings, looser_direction
from mondrian_core.recipes import Looser, Recipe, bundled_recipes, load_recipe, recipe_from_values

KEYS = [(table, key) for table, model in JUDGED_TABLES.items() for key in model.model_fields]


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_every_setting_that_a_verdict_depends_on_has_one_direction(table: str, key: str) -> None:
    marks = [mark for mark in JUDGED_TABLES[table].model_fields[key].metadata if isinstance(mark, Looser)]
    assert len(marks) == 1, f"mark {table}.{key} in recipes.py with Looser.BELOW, ABOVE or NEVER"


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_only_its_own_direction_loosens_a_setting(table: str, key: str) -> None:
    defaults = judged_settings(Recipe())
    value, direction = defaults[table][key], looser_direction(JUDGED_TABLES[table], key)
    names = {
        step: [each.name for each in loosened_settings({table: {key: value + step}})]
        for step in (-0.001, 0, 0.001)
        if not isinstance(value, bool | str)
    }
    expected: dict[float, list[str]] = {step: [] for step in names}
    if direction is Looser.BELOW:
        expected[-0.001] = [f"{table}.{key}"]
    if direction is Looser.ABOVE:
        expected[0.001] = [f"{table}.{key}"]
    assert names == expected


def test_a_setting_without_a_direction_is_loosened_by_any_change(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unmarked(BaseModel):
        limit: int = Field(default=3)

    monkeypatch.setitem(JUDGED_TABLES, "gates", Unmarked)
    for value in (2, 4):
        found = loosened_settings({"gates": {"limit": value}}, {"gates": {"limit": 3}})
        assert [str(each) for each in found] == [f"gates.limit is {value}, not 3"]


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_no_bundled_recipe_loosens_a_gate(name: str) -> None:
    assert loosened_settings(judged_settings(load_recipe(bundled_recipes()[name]))) == ()


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"gates": {"p_value": 0.5, "score_improvement": 0.2}}, ["gates.p_value"]),
        ({"evaluate": {"edited_photographs": 0}}, ["evaluate.edited_photographs"]),
        ({"evaluate": {"compliance_photographs": 1, "folds": 5, "seed": 3}}, []),
        ({"evaluate": {"temperature": 0.7}}, ["evaluate.temperature"]),
    ],
)
def test_loosened_settings_of_a_recipe(values: dict[str, Any], names: list[str]) -> None:
    assert [each.name for each in loosened_settings(judged_settings(recipe_from_values(values)))] == names


def test_what_an_earlier_release_recorded_is_compared_as_far_as_it_goes() -> None:
    assert loosened_settings({}) == () and loosened_settings({"gates": {"gone": 1}}) == ()
    assert [each.name for each in loosened_settings({"gates": {"p_value": 0.1, "gone": 1}})] == ["gates.p_value"]
