"""Recipes: defaults, unknown keys, all mistakes at once, digest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mondrian_core.errors import BadRecipe
from mondrian_core.recipes import (
    Recipe,
    TrainRecipe,
    bundled_recipes,
    common_fields,
    expert_fields,
    load_recipe,
    recipe_from_values,
    recorded_recipe,
)


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_missing_keys_keep_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, 'name = "short"\n[train]\nepochs = 2\n'))
    assert (recipe.name, recipe.train.epochs, recipe.train.rank) == ("short", 2, Recipe().train.rank)


def test_options_go_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "[train]\nepochs = 2\nseed = 5\n")
    recipe = load_recipe(path, seed=9, epochs=None)
    assert (recipe.train.epochs, recipe.train.seed) == (2, 9)


def test_all_recipe_errors_are_reported_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "[train]\nepoch = 3\nrank = 0\n[gates]\np_value = 2.0\n[dta]\nseed = 1\n")
    with pytest.raises(BadRecipe) as caught:
        load_recipe(path)
    for key in ("train.epoch", "train.rank", "gates.p_value", "dta"):
        assert key in caught.value.problem
    assert str(path) in caught.value.problem
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("text", ["[train\n", "name = \n", "\x00"])
def test_invalid_toml_is_rejected(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadRecipe, match="not valid TOML"):
        load_recipe(written(tmp_path, text))


def test_binary_recipe_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadRecipe):
        load_recipe(path)


def test_missing_recipe_file_or_folder_is_rejected(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(BadRecipe, match="can't be read"):
            load_recipe(path)


@pytest.mark.parametrize("values", [{"train": 3}, {"train": None}, {"train": [1]}, {"name": 4}])
def test_recipe_values_of_wrong_type_are_rejected(values: dict[str, object]) -> None:
    with pytest.raises(BadRecipe):
        recipe_from_values(values)


def test_non_table_train_key_with_overrides_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe):
        load_recipe(written(tmp_path, "train = 3\n"), seed=1)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_nan_and_infinity_are_rejected(tmp_path: Path, text: str) -> None:
    for key in (
        "train.learning_rate",
        "train.alpha",
        "train.score_weight",
        "gates.seconds_per_photograph",
        "gates.non_inferiority_margin",
        "data.exposure_stops",
    ):
        table, name = key.split(".")
        with pytest.raises(BadRecipe, match=name):
            load_recipe(written(tmp_path, f"[{table}]\n{name} = {text}\n"))


def test_split_fractions_must_leave_training_data() -> None:
    with pytest.raises(BadRecipe, match="too little for training"):
        recipe_from_values({"data": {"validation_fraction": 0.5, "test_fraction": 0.5}})


def test_recipes_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Recipe().name = "other"


@given(st.integers(1, 100), st.integers(1, 256), st.floats(1e-6, 1.0))
def test_recipe_json_round_trip_keeps_digest(epochs: int, rank: int, rate: float) -> None:
    recipe = recipe_from_values({"train": {"epochs": epochs, "rank": rank, "learning_rate": rate}})
    again = recipe_from_values(json.loads(json.dumps(recipe.model_dump(mode="json"))))
    assert again == recipe
    assert again.digest == recipe.digest


def test_another_value_is_another_digest_and_the_default_is_stable() -> None:
    assert recipe_from_values({"train": {"seed": 1}}).digest != Recipe().digest
    assert recipe_from_values({}).digest == Recipe().digest == load_recipe().digest


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_every_shipped_recipe_loads_by_name_and_by_path(name: str) -> None:
    by_name = load_recipe(Path(name))
    assert by_name == load_recipe(bundled_recipes()[name])
    assert by_name.name == name
    assert by_name != Recipe(name=name), "it differs from the defaults in something"


def test_shipped_recipes_are_the_ones_that_are_documented() -> None:
    assert set(bundled_recipes()) == {"demo", "folds", "plan", "small-set"}
    plan = load_recipe(Path("plan")).train
    assert (plan.rank, plan.alpha, plan.dropout, plan.epochs, plan.accumulation) == (16, 32.0, 0.05, 3, 2)


def test_unknown_recipe_name_lists_known_recipes(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"demo, folds, plan, small-set"):
        load_recipe(Path("no-such-recipe"))


def test_every_setting_of_training_is_an_option() -> None:
    from mondrian_core.cli import parse_command
    from mondrian_core.cli.options import recipe_from_options

    words = [
        "train",
        "--advisor",
        "ansel",
        "--recipe",
        "plan",
        "--rank",
        "8",
        "--epochs",
        "5",
        "--learning-rate",
        "3e-4",
        "--choose-by",
        "score_error",
        "--target-modules",
        "q_proj",
        "v_proj",
    ]
    found = recipe_from_options(parse_command(words, print)[1].arguments["options"]).train
    assert (found.rank, found.epochs, found.learning_rate, found.alpha) == (8, 5, 3e-4, 32.0)
    assert (found.choose_by, found.target_modules) == ("score_error", ("q_proj", "v_proj"))
    options = parse_command(["train", "--advisor", "ansel"], print)[1].arguments["options"]
    assert set(TrainRecipe.model_fields) <= set(vars(options))


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("train", "rank", True),
        ("train", "learning_rate", True),
        ("train", "alpha", False),
        ("train", "seed", 2**63),
        ("data", "seed", 2**64),
        ("evaluate", "seed", 10**400),
        ("gates", "p_value", True),
        ("evaluate", "folds", False),
    ],
)
def test_booleans_as_numbers_and_too_large_seeds_are_rejected(table: str, key: str, value: object) -> None:
    with pytest.raises(BadRecipe, match=f"{table}.{key}"):
        recipe_from_values({table: {key: value}})


def test_boolean_keys_and_maximum_seed_are_accepted() -> None:
    recipe = recipe_from_values({"train": {"dora": True, "seed": 2**63 - 1}, "promote": {"rollout": True}})
    assert recipe.train.dora and recipe.promote.rollout and recipe.train.seed == 2**63 - 1


def test_recipe_name_takes_precedence_over_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("small-set", "default"):
        (tmp_path / name).mkdir()
        assert load_recipe(Path(name)).name == name
    with pytest.raises(BadRecipe, match="default, demo"):
        load_recipe(Path("smal-set"))


def test_common_and_expert_fields_divide_the_training_recipe() -> None:
    common, expert = common_fields(TrainRecipe), expert_fields(TrainRecipe)
    assert {"rank", "epochs", "learning_rate", "seed"} <= set(common)
    assert {"preference_beta", "score_spread"} <= set(expert)
    assert len(common) < len(expert) and set(common).isdisjoint(expert)
    assert {**common, **expert}.keys() == TrainRecipe.model_fields.keys()


def test_recorded_recipe_may_have_removed_keys_and_a_new_one_may_not() -> None:
    values = {"data": {"wording": "rules", "variants": 1}}
    assert recorded_recipe(values, "context.json").data.variants == 1
    with pytest.raises(BadRecipe, match=r"data\.wording"):
        recipe_from_values(values)
