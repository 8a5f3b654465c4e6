"""What an evaluation is told about a candidate: where it was trained, what retrieval offers, how folds are trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mondrian_core import stages
from mondrian_core.data.dataset import full_dataset
from mondrian_core.errors import BadInput
from mondrian_core.evaluation import TrainingProvenance
from mondrian_core.events import StageEvent, StageNotice, StageProgressed, ignore_events
from mondrian_core.images import perceptual_hash
from mondrian_core.recipes import Recipe, TrainRecipe, recipe_from_values
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.settings import Settings
from mondrian_core.stages import StageContext, data_selection


@pytest.fixture
def built(samples: Path) -> tuple[StageContext, Any]:
    """A run of the sample workspace as far as its dataset."""
    from mondrian_core.data.dataset.builder import load_dataset_version

    context = stages.new_stage_context(Settings(workspace=samples, base_model="mini"), "ansel", Recipe())
    stages.link_stage(context)
    summary = stages.dataset_stage(context)
    return context, load_dataset_version(Path(summary.path))


def found(context: StageContext, adapter: Path, listen: Callable[[StageEvent], None] = ignore_events) -> Any:
    return data_selection.load_training_provenance(
        adapter, context.root / "datasets" / context.advisor, listen, context.datasets.open
    )


def test_an_adapter_in_a_run_was_trained_on_that_runs_dataset(built: tuple[StageContext, Any]) -> None:
    context, version = built
    (context.run_folder / "adapter").mkdir()
    trained = found(context, context.run_folder / "adapter")
    rows = version.rows("train")
    assert trained.photo_ids == {row.photo_id for row in rows}
    assert (
        len(trained.perceptual_hashes)
        == len(trained.critiques)
        == len(trained.scores)
        == len(trained.photo_ids)
        < len(rows)
    )
    held_out = {row.photo_id for row in version.rows(version.evaluation_split)}
    assert held_out and not held_out & trained.photo_ids


def test_a_registered_version_names_its_dataset(built: tuple[StageContext, Any], tmp_path: Path) -> None:
    context, version = built
    folder = tmp_path / "v0001"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"dataset": {"digest": version.digest}}))
    assert found(context, folder).photo_ids == {row.photo_id for row in version.rows("train")}


@pytest.mark.parametrize("where", ["manifest", "run"])
def test_an_adapter_that_was_trained_on_everything_is_known_as_that(
    built: tuple[StageContext, Any], tmp_path: Path, where: str
) -> None:
    context, version = built
    folder = tmp_path / "elsewhere" / "v0001"
    folder.mkdir(parents=True)
    if where == "manifest":
        said = {"dataset": {"digest": version.digest, "trained_on": "all"}}
        (folder / "manifest.json").write_text(json.dumps(said))
    else:
        data_selection.record_training_data(folder.parent, version, data_selection.ALL)
    trained = found(context, folder)
    assert (
        trained.whole_dataset and trained.photo_ids == set(version.near_duplicate_groups) == version.photograph_hashes
    )
    assert (
        len(trained.perceptual_hashes)
        == len(trained.critiques)
        == len(trained.scores)
        == len(version.near_duplicate_groups)
    )
    rows, split = data_selection.select_test_rows(version, trained)
    assert (rows, split) == ([], "folds")


def test_a_note_counts_from_the_moment_the_training_begins_and_over_a_dataset_built_later(
    built: tuple[StageContext, Any],
) -> None:
    context, version = built
    (context.run_folder / "adapter").mkdir()
    data_selection.record_training_data(context.run_folder, version, data_selection.ALL)
    (context.run_folder / "dataset.json").write_text(json.dumps({"path": "another"}))
    assert found(context, context.run_folder / "adapter").everything
    (context.run_folder / data_selection.TRAINING_NOTE_FILE).write_text(
        json.dumps({"dataset": version.digest, "trained_on": "some"})
    )
    assert found(context, context.run_folder / "adapter") is None


def test_a_run_trained_anew_on_something_else_is_unknown_until_it_is_done(built: tuple[StageContext, Any]) -> None:
    context, version = built
    adapter = context.run_folder / "adapter"
    adapter.mkdir()
    data_selection.record_training_data(context.run_folder, version, data_selection.ALL)
    data_selection.record_training_data(
        context.run_folder, version, data_selection.TRAIN
    )  # interrupted: which adapter lies there?
    assert found(context, adapter) is None
    data_selection.record_training_data(context.run_folder, version, data_selection.TRAIN, done=True)
    assert not found(context, adapter).everything
    data_selection.record_training_data(
        context.run_folder, version, data_selection.TRAIN
    )  # once more the same, as a resumption does
    assert found(context, adapter) is not None


def test_test_data_excludes_training_near_duplicates(built: tuple[StageContext, Any]) -> None:
    _, version = built
    rows = full_dataset.all_photograph_rows(version)
    half = rows[:6]
    trained = TrainingProvenance(
        photo_ids=frozenset(row.photo_id for row in half),
        perceptual_hashes=tuple(perceptual_hash(row.image) for row in half),
        whole_dataset=True,
    )
    left, called = data_selection.select_test_rows(version, trained)
    seen = {version.near_duplicate_groups[row.photo_id] for row in half}
    assert {row.photo_id for row in left} == {
        name for name, group in version.near_duplicate_groups.items() if group not in seen
    }
    assert left and called == "new photographs"
    twin = TrainingProvenance(
        photo_ids=frozenset({"another"}), perceptual_hashes=(perceptual_hash(left[0].image),), whole_dataset=True
    )
    assert left[0].photo_id not in {row.photo_id for row in data_selection.select_test_rows(version, twin)[0]}
    for known in (
        None,
        TrainingProvenance(photo_ids=trained.photo_ids),
    ):  # one that had something held out is tested on that
        assert data_selection.select_test_rows(version, known)[1] == version.evaluation_split


def recipe(**evaluate: int) -> Recipe:
    return recipe_from_values({"evaluate": evaluate})


def test_a_small_set_is_trained_on_whole_where_folds_judge(built: tuple[StageContext, Any]) -> None:
    _, version = built
    held_out = version.photographs[version.evaluation_split]
    assert 0 < held_out < 8
    assert [data_selection.trains_on_full_dataset(version, recipe(folds=folds)) for folds in (0, 3)] == [False, True]
    enough = recipe_from_values({"evaluate": {"folds": 3}, "gates": {"score_photographs": 5}})
    assert data_selection.trains_on_full_dataset(version, enough) is (held_out < 5)
    taught = data_selection.select_training_data(version, recipe(folds=3))
    assert (taught.extent, taught.photographs, list(taught.selection_rows)) == (
        "all",
        len(version.near_duplicate_groups),
        [],
    )
    assert {row.photo_id for row in taught.rows} == set(version.near_duplicate_groups)
    assert f"all {len(version.near_duplicate_groups)} photographs" in taught.description
    plain = data_selection.select_training_data(version, recipe())
    assert plain.extent == "train" and [row.answer for row in plain.rows] == [
        row.answer for row in version.rows("train")
    ]


def test_more_folds_than_photographs_are_refused_before_any_training(built: tuple[StageContext, Any]) -> None:
    with pytest.raises(BadInput, match="folds"):
        data_selection.select_training_data(built[1], recipe(folds=20))


def test_preference_pairs_follow_what_is_trained_on(built: tuple[StageContext, Any]) -> None:
    _, version = built
    values = {"train": {"preference_epochs": 1}, "evaluate": {"folds": 3}}
    pairs = data_selection.select_training_data(version, recipe_from_values(values)).pairs
    assert {pair.row.photo_id for pair in pairs.train} == set(version.near_duplicate_groups) and not pairs.validation
    split = data_selection.select_training_data(version, recipe_from_values({**values, "evaluate": {"folds": 0}})).pairs
    assert {pair.row.photo_id for pair in split.train} == {row.photo_id for row in version.rows("train")}


def test_folds_repeat_the_settings_an_adapter_was_trained_by(tmp_path: Path) -> None:
    folder = tmp_path / "v0001"
    heard: list[Any] = []
    folder.mkdir()
    own, other = TrainRecipe(rank=2), TrainRecipe(rank=16)
    assert data_selection.load_train_recipe(folder, other, heard.append) == other and not heard
    said = {"recipe": {"values": recipe_from_values({"train": {"rank": 2}}).model_dump(mode="json")}}
    (folder / "manifest.json").write_text(json.dumps(said))
    assert data_selection.load_train_recipe(folder, other, heard.append) == own and "as v0001 was" in str(heard)
    (folder / "manifest.json").write_text(json.dumps({"recipe": {"values": {"train": {"of another release": 1}}}}))
    assert data_selection.load_train_recipe(folder, other, heard.append) == other


@pytest.mark.parametrize("manifest", ["{}", "not json", '{"dataset": {"digest": "gone"}}', "[]"])
def test_unknown_training_data_is_reported(built: tuple[StageContext, Any], tmp_path: Path, manifest: str) -> None:
    folder = tmp_path / "elsewhere" / "v0001"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(manifest)
    heard: list[StageEvent] = []
    assert found(built[0], folder, heard.append) is None
    assert "leakage stays open" in str(heard)


def test_photographs_are_reported_by_file_name(built: tuple[StageContext, Any], samples: Path) -> None:
    _, version = built
    entries = data_selection.labelled_photographs_from_rows(version.rows(version.evaluation_split), version)
    names = {path.name for path in samples.rglob("*") if path.is_file()}
    assert entries and all(entry.title in names for entry in entries)
    assert len({entry.photograph for entry in entries}) == len(entries)


def test_retrieval_offers_training_photographs_only(built: tuple[StageContext, Any]) -> None:
    _, version = built
    rows = version.rows("train")
    told = data_selection.build_retrieval_lookup(rows)(dict.fromkeys(DIMENSIONS, 6.0), "any")
    assert told is not None
    assert told.size == len({row.photo_id for row in rows})
    assert {neighbour.name for neighbour in told.neighbours} <= {row.photo_id[:12] for row in rows}
    assert data_selection.build_retrieval_lookup([])(dict.fromkeys(DIMENSIONS, 6.0), "any") is None


def test_fold_training_excludes_its_own_photographs(
    built: tuple[StageContext, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, version = built
    calls: list[Any] = []

    def train(base: object, rows: list[Any], validation: list[Any], recipe: object, out: Path, **options: Any) -> Any:
        calls.append((rows, validation, out, options["resume"]))
        return SimpleNamespace(adapter=out / "adapter")

    monkeypatch.setattr("mondrian_core.training.train_adapter", train)
    monkeypatch.setattr("mondrian_core.models.base_model.load_base", lambda name: name)
    folding = data_selection.build_cross_validation_plan(
        version, 3, "mini", TrainRecipe(), tmp_path / "folds", ignore_events
    )
    assert set(folding.fold_of) == {entry.photograph for entry in folding.entries} == set(version.near_duplicate_groups)
    assert set(folding.fold_of.values()) == {0, 1, 2}
    for group in set(version.near_duplicate_groups.values()):
        assert (
            len({folding.fold_of[name] for name, other in version.near_duplicate_groups.items() if other == group}) == 1
        )
    rest = frozenset(name for name, fold in folding.fold_of.items() if fold != 1)
    assert folding.train(1, rest) == tmp_path / "folds" / "fold-1" / "adapter"
    rows, validation, _, resumed = calls[0]
    assert {row.photo_id for row in rows} == rest
    assert {row.answer for row in rows} == {
        row.answer for row in data_selection.select_training_data(version, recipe(folds=3)).rows if row.photo_id in rest
    }  # just as the adapter that is shipped
    assert (validation, resumed) == ([], None), "tried again it goes on if it is the same training"


def test_another_recipe_is_another_cross_validation(built: tuple[StageContext, Any], tmp_path: Path) -> None:
    digests = {
        data_selection.build_cross_validation_plan(
            built[1], 3, "mini", TrainRecipe(rank=rank), tmp_path, ignore_events
        ).digest
        for rank in (4, 8)
    }
    assert len(digests) == 2


def test_more_folds_than_photographs_is_reported(built: tuple[StageContext, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="folds"):
        data_selection.build_cross_validation_plan(built[1], 19, "mini", TrainRecipe(), tmp_path, ignore_events)


def test_what_is_noticed_names_the_file_of_the_photograph() -> None:
    members = [{"lineage": "a" * 64, "photograph": "source/advisor/photographer/ansel/half-dome.jpg"}]
    heard: list[StageEvent] = []
    listen = data_selection.listener_with_file_names(heard.append, SimpleNamespace(manifest={"members": members}))  # type: ignore[arg-type]
    listen(StageNotice("train", f"The validation loss of {'a' * 64}, {'b' * 64} is not a number"))
    listen(StageProgressed("train", 1, 2))
    assert heard == [
        StageNotice("train", f"The validation loss of half-dome.jpg, {'b' * 64} is not a number"),
        StageProgressed("train", 1, 2),
    ]
