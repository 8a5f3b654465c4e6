"""Training and evaluation data of a candidate: provenance, test photographs, retrieval and folds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mondrian_core import stages
from mondrian_core.critique_parsing import parse_critique_lenient
from mondrian_core.data.dataset import full_dataset
from mondrian_core.errors import BadInput
from mondrian_core.evaluation import TrainingProvenance
from mondrian_core.events import StageEvent, StageNotice, StageProgressed, ignore_events
from mondrian_core.near_duplicates import photograph_fingerprint
from mondrian_core.recipes import Recipe, TrainRecipe, recipe_from_values
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.settings import Settings
from mondrian_core.stages import StageContext, evaluation_data, indexed_photographs, training_data
from mondrian_core.stages.context import OpenedDatasets
from mondrian_core.store.embeddings import Embedding, EmbeddingStore


@pytest.fixture(scope="module")
def built_once(legacy_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[StageContext, Path]:
    """A run of the sample workspace as far as its dataset, and the dataset's folder; read-only."""
    workspace = tmp_path_factory.mktemp("built") / "workspace"
    shutil.copytree(legacy_workspace, workspace)
    context = stages.new_stage_context(Settings(workspace=workspace, base_model="mini"), "ansel", Recipe())
    stages.link_stage(context)
    return context, Path(stages.dataset_stage(context).path)


@pytest.fixture
def built(built_once: tuple[StageContext, Path], tmp_path: Path) -> tuple[StageContext, Any]:
    """That run in a copy of the workspace."""
    from mondrian_core.data.dataset.version import load_dataset_version

    first, dataset = built_once
    copy = tmp_path / "built"
    shutil.copytree(first.root, copy)
    context = replace(first, workspace=str(copy), datasets=OpenedDatasets())
    return context, load_dataset_version(copy / dataset.relative_to(first.root))


def found(context: StageContext, adapter: Path, listen: Callable[[StageEvent], None] = ignore_events) -> Any:
    return training_data.load_training_provenance(
        adapter, context.root / "datasets" / context.advisor, listen, context.datasets.open
    )


def test_run_adapter_was_trained_on_run_dataset(built: tuple[StageContext, Any]) -> None:
    context, version = built
    (context.run_folder / "adapter").mkdir()
    trained = found(context, context.run_folder / "adapter")
    rows = version.rows("train")
    assert trained.photo_ids == {row.photo_id for row in rows}
    assert (
        len(trained.fingerprints) == len(trained.critiques) == len(trained.scores) == len(trained.photo_ids) < len(rows)
    )
    held_out = {row.photo_id for row in version.rows(version.evaluation_split)}
    assert held_out and not held_out & trained.photo_ids


def test_registered_version_records_its_dataset(built: tuple[StageContext, Any], tmp_path: Path) -> None:
    context, version = built
    folder = tmp_path / "v0001"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"dataset": {"digest": version.digest}}))
    assert found(context, folder).photo_ids == {row.photo_id for row in version.rows("train")}


@pytest.mark.parametrize("where", ["manifest", "run"])
def test_training_on_full_dataset_is_recorded(built: tuple[StageContext, Any], tmp_path: Path, where: str) -> None:
    context, version = built
    folder = tmp_path / "elsewhere" / "v0001"
    folder.mkdir(parents=True)
    if where == "manifest":
        said = {"dataset": {"digest": version.digest, "trained_on": "all"}}
        (folder / "manifest.json").write_text(json.dumps(said))
    else:
        training_data.record_training_data(folder.parent, version, training_data.ALL)
    trained = found(context, folder)
    assert (
        trained.whole_dataset and trained.photo_ids == set(version.near_duplicate_groups) == version.photograph_hashes
    )
    assert (
        len(trained.fingerprints) == len(trained.critiques) == len(trained.scores) == len(version.near_duplicate_groups)
    )
    rows, split = evaluation_data.select_test_rows(version, trained)
    assert (rows, split) == ([], "folds")


def test_training_note_counts_from_start_and_over_later_dataset(
    built: tuple[StageContext, Any],
) -> None:
    context, version = built
    (context.run_folder / "adapter").mkdir()
    training_data.record_training_data(context.run_folder, version, training_data.ALL)
    (context.run_folder / "dataset.json").write_text(json.dumps({"path": "another"}))
    assert found(context, context.run_folder / "adapter").whole_dataset
    (context.run_folder / training_data.TRAINING_NOTE_FILE).write_text(
        json.dumps({"dataset": version.digest, "trained_on": "some"})
    )
    assert found(context, context.run_folder / "adapter") is None


def test_retraining_on_other_data_is_unknown_until_done(built: tuple[StageContext, Any]) -> None:
    context, version = built
    adapter = context.run_folder / "adapter"
    adapter.mkdir()
    training_data.record_training_data(context.run_folder, version, training_data.ALL)
    training_data.record_training_data(
        context.run_folder, version, training_data.TRAIN
    )  # interrupted: the folder may hold either adapter
    assert found(context, adapter) is None
    training_data.record_training_data(context.run_folder, version, training_data.TRAIN, done=True)
    assert not found(context, adapter).whole_dataset
    training_data.record_training_data(
        context.run_folder, version, training_data.TRAIN
    )  # the same again, as when resuming
    assert found(context, adapter) is not None


def test_test_data_excludes_training_near_duplicates(built: tuple[StageContext, Any]) -> None:
    _, version = built
    rows = full_dataset.all_photograph_rows(version)
    half = rows[:6]
    trained = TrainingProvenance(
        photo_ids=frozenset(row.photo_id for row in half),
        fingerprints=tuple(photograph_fingerprint(row.photo_id, row.image) for row in half),
        whole_dataset=True,
    )
    left, called = evaluation_data.select_test_rows(version, trained)
    seen = {version.near_duplicate_groups[row.photo_id] for row in half}
    assert {row.photo_id for row in left} == {
        name for name, group in version.near_duplicate_groups.items() if group not in seen
    }
    assert left and called == "new photographs"
    twin = TrainingProvenance(
        photo_ids=frozenset({"another"}),
        fingerprints=(photograph_fingerprint("another", left[0].image),),
        whole_dataset=True,
    )
    assert left[0].photo_id not in {row.photo_id for row in evaluation_data.select_test_rows(version, twin)[0]}
    for known in (
        None,
        TrainingProvenance(photo_ids=trained.photo_ids),
    ):  # an adapter with a held-out split is tested on it
        assert evaluation_data.select_test_rows(version, known)[1] == version.evaluation_split


def recipe(**evaluate: int) -> Recipe:
    return recipe_from_values({"evaluate": evaluate})


def test_small_dataset_is_trained_entirely_where_folds_decide(built: tuple[StageContext, Any]) -> None:
    _, version = built
    held_out = version.photographs[version.evaluation_split]
    assert 0 < held_out < 8
    assert [training_data.trains_on_full_dataset(version, recipe(folds=folds)) for folds in (0, 3)] == [False, True]
    enough = recipe_from_values({"evaluate": {"folds": 3}, "gates": {"score_photographs": 5}})
    assert training_data.trains_on_full_dataset(version, enough) is (held_out < 5)
    taught = training_data.select_training_data(version, recipe(folds=3))
    assert (taught.extent, taught.photographs, list(taught.selection_rows)) == (
        "all",
        len(version.near_duplicate_groups),
        [],
    )
    assert {row.photo_id for row in taught.rows} == set(version.near_duplicate_groups)
    assert f"all {len(version.near_duplicate_groups)} photographs" in taught.description
    plain = training_data.select_training_data(version, recipe())
    assert plain.extent == "train" and [row.answer for row in plain.rows] == [
        row.answer for row in version.rows("train")
    ]


def test_too_many_folds_are_rejected_before_training(built: tuple[StageContext, Any]) -> None:
    with pytest.raises(BadInput, match="folds"):
        training_data.select_training_data(built[1], recipe(folds=20))


def test_preference_pairs_come_from_training_photographs(built: tuple[StageContext, Any]) -> None:
    _, version = built
    values = {"train": {"preference_epochs": 1}, "evaluate": {"folds": 3}}
    pairs = training_data.select_training_data(version, recipe_from_values(values)).pairs
    assert {pair.row.photo_id for pair in pairs.train} == set(version.near_duplicate_groups) and not pairs.validation
    split = training_data.select_training_data(version, recipe_from_values({**values, "evaluate": {"folds": 0}})).pairs
    assert {pair.row.photo_id for pair in split.train} == {row.photo_id for row in version.rows("train")}


def test_folds_use_training_recipe_of_adapter(tmp_path: Path) -> None:
    folder = tmp_path / "v0001"
    heard: list[Any] = []
    folder.mkdir()
    own, other = TrainRecipe(rank=2), TrainRecipe(rank=16)
    assert training_data.load_train_recipe(folder, other, heard.append) == other and not heard
    said = {"recipe": {"values": recipe_from_values({"train": {"rank": 2}}).model_dump(mode="json")}}
    (folder / "manifest.json").write_text(json.dumps(said))
    assert training_data.load_train_recipe(folder, other, heard.append) == own and "recipe of v0001" in str(heard)
    (folder / "manifest.json").write_text(json.dumps({"recipe": {"values": {"train": {"of another release": 1}}}}))
    assert training_data.load_train_recipe(folder, other, heard.append) == other


@pytest.mark.parametrize("manifest", ["{}", "not json", '{"dataset": {"digest": "gone"}}', "[]"])
def test_unknown_training_data_is_reported(built: tuple[StageContext, Any], tmp_path: Path, manifest: str) -> None:
    folder = tmp_path / "elsewhere" / "v0001"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(manifest)
    heard: list[StageEvent] = []
    assert found(built[0], folder, heard.append) is None
    assert "leakage can't be checked" in str(heard)


def test_photographs_are_reported_by_file_name(built: tuple[StageContext, Any]) -> None:
    context, version = built
    entries = evaluation_data.labelled_photographs_from_rows(version.rows(version.evaluation_split), version)
    names = {path.name for path in context.root.rglob("*") if path.is_file()}
    assert entries and all(entry.title in names for entry in entries)
    assert len({entry.photograph for entry in entries}) == len(entries)


def test_retrieval_offers_training_photographs_only(built: tuple[StageContext, Any]) -> None:
    _, version = built
    rows = version.rows("train")
    comparison = evaluation_data.build_retrieval_lookup(rows)(dict.fromkeys(DIMENSIONS, 6.0), "any")
    assert comparison is not None
    assert comparison.size == len({row.photo_id for row in rows})
    assert {neighbour.name for neighbour in comparison.neighbours} <= {row.photo_id[:12] for row in rows}
    assert evaluation_data.build_retrieval_lookup([])(dict.fromkeys(DIMENSIONS, 6.0), "any") is None


def test_fold_training_excludes_its_own_photographs(
    built: tuple[StageContext, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, version = built
    calls: list[Any] = []

    def train(base: object, data: Any, recipe: object, out: Path, **options: Any) -> Any:
        calls.append((data.train, list(data.validation), out, options["resume"]))
        return SimpleNamespace(adapter=out / "adapter")

    monkeypatch.setattr("mondrian_core.training.train_adapter", train)
    monkeypatch.setattr("mondrian_core.models.base_model.load_base", lambda name: name)
    folding = evaluation_data.build_cross_validation_plan(
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
        row.answer for row in training_data.select_training_data(version, recipe(folds=3)).rows if row.photo_id in rest
    }  # like the shipped adapter
    assert (validation, resumed) == ([], None), "tried again it goes on if it is the same training"


def test_other_recipe_is_another_cross_validation(built: tuple[StageContext, Any], tmp_path: Path) -> None:
    digests = {
        evaluation_data.build_cross_validation_plan(
            built[1], 3, "mini", TrainRecipe(rank=rank), tmp_path, ignore_events
        ).digest
        for rank in (4, 8)
    }
    assert len(digests) == 2


def test_more_folds_than_photographs_is_reported(built: tuple[StageContext, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="folds"):
        evaluation_data.build_cross_validation_plan(built[1], 19, "mini", TrainRecipe(), tmp_path, ignore_events)


def test_notices_name_photograph_files() -> None:
    members = [{"lineage": "a" * 64, "photograph": "source/advisor/photographer/ansel/half-dome.jpg"}]
    heard: list[StageEvent] = []
    listen = training_data.listener_with_file_names(heard.append, SimpleNamespace(manifest={"members": members}))
    listen(StageNotice("train", f"The validation loss of {'a' * 64}, {'b' * 64} is not a number"))
    listen(StageProgressed("train", 1, 2))
    assert heard == [
        StageNotice("train", f"The validation loss of half-dome.jpg, {'b' * 64} is not a number"),
        StageProgressed("train", 1, 2),
    ]


def test_old_index_entries_are_compared_by_hash_and_the_dataset_says_so(built: tuple[StageContext, Any]) -> None:
    context, _ = built
    entry = Embedding(
        advisor="ansel", sha256="ab", image_path="source/x.jpg", base="base", perceptual_hashes=(1, 2), vector=(1.0,)
    )
    heard: list[StageEvent] = []
    for thumbnail, notices in ((None, 1), (bytes(48 * 48), 0)):
        with context.store_for_writing() as store:
            EmbeddingStore(store).save(replace(entry, thumbnail=thumbnail))
        heard.clear()
        assert [(each.perceptual_hashes, each.thumbnail) for each in indexed_photographs(context, heard.append)] == [
            ((1, 2), thumbnail)
        ]
        assert len(heard) == notices
        assert all("mondrian index --advisor" in str(each) for each in heard)


def test_other_advisors_critiques_are_those_of_the_others_alone(built: tuple[StageContext, Any]) -> None:
    context, _ = built
    with context.store() as store:
        own = [each for each in store.profiles("ansel") if each.origin == "human"]
    everyone = evaluation_data.other_advisors_critiques(replace(context, advisor="nobody"))
    others = evaluation_data.other_advisors_critiques(context)
    assert len(others) < len(everyone) <= len(others) + len(own)
    assert all(parse_critique_lenient(answer).critique.scores for answer in everyone)
    (context.root / "mondrian.db").unlink()
    assert evaluation_data.other_advisors_critiques(context) == []
