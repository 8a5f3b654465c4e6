"""What makes a retraining worth its hours: something new; and a recipe that suits the number of critiques."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mondrian_core import software_identity, stages
from mondrian_core.cli import main
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.errors import BadRecipe, NothingNewToTrain
from mondrian_core.events import StageNotice
from mondrian_core.files import write_json
from mondrian_core.recipes import DEFAULT_RECIPE, Recipe, bundled_recipes, recipe_from_values, resolve_recipe
from mondrian_core.settings import Settings
from mondrian_core.stages import (
    StageContext,
    change_detection,
    choose_recipe_by_size,
    new_stage_context,
    require_changed_inputs,
    with_seed,
)
from mondrian_core.stages.change_detection import training_inputs_digest
from tests.registry.conftest import manifest, write_adapter

MODULE = "language_model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "workspace"
    create_workspace(folder, sample=True, photographs=12)
    return folder


@pytest.fixture
def context(sample: Path, tmp_path: Path) -> StageContext:
    """A retraining after `link`."""
    shutil.copytree(sample, tmp_path / "workspace")
    settings = Settings(workspace=tmp_path / "workspace", adapters=tmp_path / "adapters", base_model="mini")
    context = new_stage_context(settings, "ansel", Recipe())
    stages.link_stage(context)
    return context


@pytest.fixture
def done(context: StageContext, tmp_path: Path) -> StageContext:
    """The same after a retraining that ended with v0001."""
    rows = np.zeros((8, 4), np.float32)
    folder = tmp_path / "trained"
    folder.mkdir()
    save_file({f"{MODULE}.lora_a": rows, f"{MODULE}.lora_b": rows.T.copy()}, folder / "adapters.safetensors")
    parameters = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": [MODULE]}
    write_json(
        folder / "adapter_config.json", {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": parameters}
    )
    manifest = {
        "run": context.run,
        "base": {"name": "mini", "fingerprint": "f" * 64},
        "parent": None,
        "seed": 0,
        "gate_report": {"verdict": "FAIL", "gates": [], "training_inputs": training_inputs_digest(context)},
    }
    context.registry.register("ansel", folder, manifest, "rejected", actor="test")
    return context


def test_unchanged_inputs_are_nothing_new(done: StageContext) -> None:
    with pytest.raises(NothingNewToTrain, match=r"v0001.*--force"):
        require_changed_inputs(done)


def change_a_text(context: StageContext, column: str) -> StageContext:
    with sqlite3.connect(context.root / "mondrian.db") as database:
        database.execute(f"UPDATE dimensional_profiles SET {column} = 'The light falls flat.' WHERE rowid = 1")
    database.close()
    stages.link_stage(context)
    return context


def change_a_comment(context: StageContext) -> StageContext:
    return change_a_text(context, "lighting_comment")


def change_the_prompt(context: StageContext) -> StageContext:
    with sqlite3.connect(context.root / "mondrian.db") as database:
        database.execute("UPDATE advisors SET prompt = 'You are strict.'")
    database.close()
    return context


def other_base(context: StageContext) -> StageContext:
    from mondrian_core.models.base_model import resolve_base_path

    folder = context.root / "base"
    shutil.copytree(resolve_base_path("mini"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "note": "another"}))
    return replace(context, base_model=str(folder))


def without_the_version(context: StageContext) -> StageContext:
    shutil.rmtree(Path(context.adapters))
    return context


@pytest.mark.parametrize(
    "change",
    [
        change_a_comment,
        change_the_prompt,
        other_base,
        without_the_version,
        lambda context: with_seed(context, 7),
        lambda context: replace(context, recipe=recipe_from_values({"train": {"rank": 4}})),
        lambda context: replace(context, adapters=f"{context.adapters}-other"),
    ],
    ids=["comment", "prompt", "base", "version gone", "seed", "recipe", "registry"],
)
def test_what_decides_the_result_counts_as_new(done: StageContext, change: object) -> None:
    require_changed_inputs(change(done))  # type: ignore[operator]


@pytest.mark.parametrize(("form", "counts"), [("comments", False), ("auto", True), ("advice", True)])
def test_a_recommendation_counts_as_new_where_it_may_be_taught(context: StageContext, form: str, counts: bool) -> None:
    asked = replace(context, recipe=recipe_from_values({"data": {"answer_form": form}}))
    before = training_inputs_digest(asked)
    assert (training_inputs_digest(change_a_text(asked, "lighting_recommendation")) != before) is counts


@pytest.mark.parametrize(
    ("form", "epochs", "counts"), [("advice", 1, True), ("advice", 0, False), ("comments", 1, False)]
)
def test_judged_advice_counts_as_new_where_it_may_be_learned(
    context: StageContext, form: str, epochs: int, counts: bool
) -> None:
    values = {"data": {"answer_form": form}, "train": {"preference_epochs": epochs}}
    asked = replace(context, recipe=recipe_from_values(values))
    before, path = training_inputs_digest(asked), context.run_folder / "link_manifest.json"
    preference = {"kind": "recommendation", "chosen": "Wait for rain.", "rejected": "Use a flash."}
    write_json(path, {**json.loads(path.read_text()), "preferences": [preference]})
    assert (training_inputs_digest(asked) != before) is counts


def test_code_and_packages_count_as_inputs(done: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = software_identity.training_packages()
    assert {"mlx", "mlx-vlm", "transformers", "pillow"} <= packages.keys() and "prefect" not in packages
    for name, value in (("training_code_digest", "other"), ("training_packages", {**packages, "mlx": "0.99"})):
        with monkeypatch.context() as patched:
            patched.setattr(change_detection, name, lambda value=value: value)
            require_changed_inputs(done)
    with pytest.raises(NothingNewToTrain):
        require_changed_inputs(done)


def test_the_code_that_trains_determines_the_digest(tmp_path: Path) -> None:
    digests = []
    for name in ("training/loop.py", "images.py", "cli/app.py", "serving/http/app.py"):
        root = tmp_path / name.replace("/", "-")
        for path in ("training/loop.py", "images.py", "cli/app.py", "serving/http/app.py"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("changed" if path == name else "as it was")
        digests.append(software_identity.training_code_digest(root))
    assert len({digests[0], digests[1]}) == 2 and digests[2] == digests[3] and digests[2] not in digests[:2]


def moved(context: StageContext, tmp_path: Path) -> StageContext:
    """Workspace and registry under other names, without the folders of earlier runs."""
    here = tmp_path / "elsewhere"
    shutil.copytree(context.workspace, here / "photographs")
    shutil.rmtree(here / "photographs" / "runs")
    shutil.copytree(context.adapters, here / "versions")
    settings = Settings(workspace=here / "photographs", adapters=here / "versions", base_model="mini")
    again = new_stage_context(settings, "ansel", Recipe())
    stages.link_stage(again)
    return again


def test_the_registry_knows_what_was_trained_wherever_it_moves(done: StageContext, tmp_path: Path) -> None:
    with pytest.raises(NothingNewToTrain, match="v0001"):
        require_changed_inputs(moved(done, tmp_path))


def test_an_earlier_version_with_the_same_inputs_counts_too(done: StageContext, tmp_path: Path) -> None:
    """The last retraining had other inputs, such as a critique that was removed again."""
    done.registry.register("ansel", write_adapter(tmp_path / "later", 5), manifest(), actor="test")
    with pytest.raises(NothingNewToTrain, match="v0001"):
        require_changed_inputs(done)
    done.registry.quarantine("ansel", "v0001", actor="test", reason="a bad disk")
    require_changed_inputs(done)


def test_equal_weights_of_other_inputs_are_known_from_then_on(done: StageContext) -> None:
    """Training after an update of the program gave the weights of v0001 again, which got that evaluation."""
    updated = with_seed(done, 7)
    require_changed_inputs(updated)
    report = {"verdict": "FAIL", "gates": [], "training_inputs": training_inputs_digest(updated)}
    done.registry.record_evaluation("ansel", "v0001", report, actor="test")
    for context in (done, updated):
        with pytest.raises(NothingNewToTrain, match="v0001"):
            require_changed_inputs(context)


def test_retrain_with_nothing_new_exits_with_1(done: StageContext, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = {"training_inputs": training_inputs_digest(choose_recipe_by_size(done))}
    done.registry.record_evaluation("ansel", "v0001", {"verdict": "FAIL", "gates": [], **inputs}, actor="test")
    where = ["--workspace", done.workspace, "--adapters", done.adapters, "--base-model", "mini"]
    assert main(["retrain", "--advisor", "ansel", *where]) == 1
    said = capsys.readouterr()
    assert "Nothing new to train" in said.err and "--force" in said.err
    assert "small-set" in said.out + said.err
    assert [version.version for version in done.registry.versions("ansel")] == ["v0001"]


def test_few_critiques_get_the_recipe_for_small_sets(context: StageContext) -> None:
    heard: list[object] = []
    seeded = with_seed(context, 5)
    chosen = choose_recipe_by_size(seeded, heard.append)
    assert chosen.recipe.name == "small-set" and chosen.recipe.train.seed == 5
    assert any(isinstance(event, StageNotice) and "small-set" in event.message for event in heard)
    assert StageContext.load(context.run_folder / "context.json").recipe.name == "small-set"


@pytest.mark.parametrize(("used", "name"), [(19, "small-set"), (20, "folds"), (40, "default")])
def test_small_set_recipe_threshold(context: StageContext, used: int, name: str) -> None:
    path = context.run_folder / "link.json"
    write_json(path, {**json.loads(path.read_text()), "used": used})
    assert choose_recipe_by_size(context).recipe.name == name


def test_a_recipe_by_name_by_values_or_not_at_all() -> None:
    assert [resolve_recipe(name).name for name in bundled_recipes()] == list(bundled_recipes())
    assert resolve_recipe(None) == resolve_recipe(DEFAULT_RECIPE) == Recipe()
    assert resolve_recipe(Recipe(name="mine")).name == "mine"
    with pytest.raises(BadRecipe, match="small-set"):
        resolve_recipe("small")
