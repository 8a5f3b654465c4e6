"""The recipe bench: photographs in pairs, fields of a recipe, and results that are there already."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import ValidationError

from bench.recipe_comparison import (
    DEFAULT_NAME,
    RecipeFoldResult,
    cross_validate_recipes,
    parse_recipe_changes,
    recipe_comparison_rows,
)
from mondrian_core.recipes import TrainRecipe


def test_recipe_changes_override_defaults() -> None:
    assert parse_recipe_changes(DEFAULT_NAME) == TrainRecipe()
    changed = parse_recipe_changes("score_spread=0.5,dora=true")
    assert (changed.score_spread, changed.dora, changed.rank) == (0.5, True, TrainRecipe().rank)
    with pytest.raises(SystemExit, match="rang=4"):
        parse_recipe_changes("rang=4")
    with pytest.raises(ValidationError):
        parse_recipe_changes("rank=none")


def test_recipes_are_compared_photograph_by_photograph() -> None:
    plain = [RecipeFoldResult({"a": 4.0, "b": 1.0}, 2, 1.0, 1), RecipeFoldResult({"c": 2.0, "d": 9.0}, 1, 1.0, 3)]
    better = [RecipeFoldResult({"b": 0.5, "a": 3.0}, 2, 2.0, 2), RecipeFoldResult({"c": 1.5, "d": 8.0}, 2, 2.0, 2)]
    first, second = recipe_comparison_rows({DEFAULT_NAME: plain, "rank=4": better})
    assert (first["gain"], first["error"], first["p_better"]) == (0.0, 4.0, 1.0)
    assert second["gain"] == pytest.approx((1.0 + 0.5 + 0.5 + 1.0) / 4)
    assert second["interval"][0] < second["gain"] < second["interval"][1]
    assert second["p_better"] == pytest.approx(1 / 16) and second["p_worse"] == 1.0
    assert (second["valid"], second["photographs"], second["epochs"]) == (4, 4, [2, 2])
    assert second["by_fold"] == pytest.approx([1.75, 4.75])


@pytest.mark.mini
@pytest.mark.soak
def test_recipes_share_folds_and_results_are_cached(tmp_path: Path) -> None:
    from bench.training_speed import rendered_rows
    from mondrian_core.models.base_model import load_base

    base, rows = load_base("mini"), rendered_rows(10)
    names = ["epochs=1,rank=2,answered_photographs=0", "epochs=1,rank=4,answered_photographs=0"]
    found = cross_validate_recipes(base, rows, names, tmp_path, 1)
    first, second = (found[name][0] for name in names)
    assert first.errors.keys() == second.errors.keys() and 2 <= len(first.errors) <= 4
    assert first.errors != second.errors
    kept = tmp_path / f"{names[0]}-fold0" / "result.json"
    kept.write_text(json.dumps({**asdict(first), "valid": 77}))
    assert cross_validate_recipes(base, rows, names[:1], tmp_path, 1)[names[0]][0].valid == 77
