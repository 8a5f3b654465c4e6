"""What an evaluation is told about a candidate: where it was trained, what retrieval offers, how folds are trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mondrian_core import evidence, stages
from mondrian_core.data import whole
from mondrian_core.errors import BadInput
from mondrian_core.evaluation import Trained
from mondrian_core.events import Advanced, Event, Noticed, ignore
from mondrian_core.images import perceptual_hash
from mondrian_core.recipes import Recipe, TrainRecipe, recipe_of
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.settings import Settings
from mondrian_core.stages import Context


@pytest.fixture
def built(samples: Path) -> tuple[Context, Any]:
    """A run of the sample workspace as far as its dataset."""
    from mondrian_core.data.dataset import load

    context = stages.new_context(Settings(workspace=samples, base_model="mini"), "ansel", Recipe())
    stages.link(context)
    summary = stages.dataset(context)
    return context, load(Path(summary.path))


def found(context: Context, adapter: Path, listen: Callable[[Event], None] = ignore) -> Any:
    return evidence.trained_on(adapter, context.root / "datasets" / context.advisor, listen)


def test_an_adapter_in_a_run_was_trained_on_that_runs_dataset(built: tuple[Context, Any]) -> None:
    context, version = built
    (context.run_folder / "adapter").mkdir()
    trained = found(context, context.run_folder / "adapter")
    rows = version.rows("train")
    assert trained.lineages == {row.lineage for row in rows}
    assert len(trained.looks) == len(trained.critiques) == len(trained.scores) == len(trained.lineages) < len(rows)
    held_out = {row.lineage for row in version.rows(version.evaluation_split)}
    assert held_out and not held_out & trained.lineages


def test_a_registered_version_names_its_dataset(built: tuple[Context, Any], tmp_path: Path) -> None:
    context, version = built
    folder = tmp_path / "v0001"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"dataset": {"digest": version.digest}}))
    assert found(context, folder).lineages == {row.lineage for row in version.rows("train")}


@pytest.mark.parametrize("where", ["manifest", "run"])
def test_an_adapter_that_was_trained_on_everything_is_known_as_that(
    built: tuple[Context, Any], tmp_path: Path, where: str
) -> None:
    context, version = built
    folder = tmp_path / "elsewhere" / "v0001"
    folder.mkdir(parents=True)
    if where == "manifest":
        said = {"dataset": {"digest": version.digest, "trained_on": "all"}}
        (folder / "manifest.json").write_text(json.dumps(said))
    else:
        evidence.note_training(folder.parent, version, evidence.ALL)
    trained = found(context, folder)
    assert trained.everything and trained.lineages == set(version.groups) == version.photograph_hashes
    assert len(trained.looks) == len(trained.critiques) == len(trained.scores) == len(version.groups)
    rows, split = evidence.tested_on(version, trained)
    assert (rows, split) == ([], "folds")


def test_a_note_counts_from_the_moment_the_training_begins_and_over_a_dataset_built_later(
    built: tuple[Context, Any],
) -> None:
    context, version = built
    (context.run_folder / "adapter").mkdir()
    evidence.note_training(context.run_folder, version, evidence.ALL)
    (context.run_folder / "dataset.json").write_text(json.dumps({"path": "another"}))
    assert found(context, context.run_folder / "adapter").everything
    (context.run_folder / evidence.NOTE).write_text(json.dumps({"dataset": version.digest, "trained_on": "some"}))
    assert found(context, context.run_folder / "adapter") is None


def test_a_run_trained_anew_on_something_else_is_unknown_until_it_is_done(built: tuple[Context, Any]) -> None:
    context, version = built
    adapter = context.run_folder / "adapter"
    adapter.mkdir()
    evidence.note_training(context.run_folder, version, evidence.ALL)
    evidence.note_training(context.run_folder, version, evidence.TRAIN)  # interrupted: which adapter lies there?
    assert found(context, adapter) is None
    evidence.note_training(context.run_folder, version, evidence.TRAIN, done=True)
    assert not found(context, adapter).everything
    evidence.note_training(context.run_folder, version, evidence.TRAIN)  # once more the same, as a resumption does
    assert found(context, adapter) is not None


def test_what_it_never_saw_nor_a_twin_of_is_left_to_test_with(built: tuple[Context, Any]) -> None:
    _, version = built
    rows = whole.photographs(version)
    half = rows[:6]
    trained = Trained(
        lineages=frozenset(row.lineage for row in half),
        looks=tuple(perceptual_hash(row.image) for row in half),
        everything=True,
    )
    left, called = evidence.tested_on(version, trained)
    seen = {version.groups[row.lineage] for row in half}
    assert {row.lineage for row in left} == {name for name, group in version.groups.items() if group not in seen}
    assert left and called == "new photographs"
    twin = Trained(lineages=frozenset({"another"}), looks=(perceptual_hash(left[0].image),), everything=True)
    assert left[0].lineage not in {row.lineage for row in evidence.tested_on(version, twin)[0]}
    for known in (None, Trained(lineages=trained.lineages)):  # one that had something held out is tested on that
        assert evidence.tested_on(version, known)[1] == version.evaluation_split


def recipe(**evaluate: int) -> Recipe:
    return recipe_of({"evaluate": evaluate})


def test_a_small_set_is_trained_on_whole_where_folds_judge(built: tuple[Context, Any]) -> None:
    _, version = built
    held_out = version.photographs[version.evaluation_split]
    assert 0 < held_out < 8
    assert [evidence.trains_on_all(version, recipe(folds=folds)) for folds in (0, 3)] == [False, True]
    enough = recipe_of({"evaluate": {"folds": 3}, "gates": {"score_photographs": 5}})
    assert evidence.trains_on_all(version, enough) is (held_out < 5)
    taught = evidence.lessons(version, recipe(folds=3))
    assert (taught.extent, taught.photographs, list(taught.chosen_by)) == ("all", len(version.groups), [])
    assert {row.lineage for row in taught.rows} == set(version.groups)
    assert f"all {len(version.groups)} photographs" in taught.told
    plain = evidence.lessons(version, recipe())
    assert plain.extent == "train" and [row.answer for row in plain.rows] == [
        row.answer for row in version.rows("train")
    ]


def test_more_folds_than_photographs_are_refused_before_any_training(built: tuple[Context, Any]) -> None:
    with pytest.raises(BadInput, match="folds"):
        evidence.lessons(built[1], recipe(folds=20))


def test_preference_pairs_follow_what_is_trained_on(built: tuple[Context, Any]) -> None:
    _, version = built
    values = {"train": {"preference_epochs": 1}, "evaluate": {"folds": 3}}
    pairs = evidence.lessons(version, recipe_of(values)).pairs
    assert {pair.row.lineage for pair in pairs.train} == set(version.groups) and not pairs.validation
    split = evidence.lessons(version, recipe_of({**values, "evaluate": {"folds": 0}})).pairs
    assert {pair.row.lineage for pair in split.train} == {row.lineage for row in version.rows("train")}


def test_folds_repeat_the_settings_an_adapter_was_trained_by(tmp_path: Path) -> None:
    folder, heard = tmp_path / "v0001", []
    folder.mkdir()
    own, other = TrainRecipe(rank=2), TrainRecipe(rank=16)
    assert evidence.train_recipe_of(folder, other, heard.append) == other and not heard
    said = {"recipe": {"values": recipe_of({"train": {"rank": 2}}).model_dump(mode="json")}}
    (folder / "manifest.json").write_text(json.dumps(said))
    assert evidence.train_recipe_of(folder, other, heard.append) == own and "as v0001 was" in str(heard)
    (folder / "manifest.json").write_text(json.dumps({"recipe": {"values": {"train": {"of another release": 1}}}}))
    assert evidence.train_recipe_of(folder, other, heard.append) == other


@pytest.mark.parametrize("manifest", ["{}", "not json", '{"dataset": {"digest": "gone"}}', "[]"])
def test_an_unknown_training_set_is_told_and_not_guessed(
    built: tuple[Context, Any], tmp_path: Path, manifest: str
) -> None:
    folder = tmp_path / "elsewhere" / "v0001"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(manifest)
    heard: list[Event] = []
    assert found(built[0], folder, heard.append) is None
    assert "leakage stays open" in str(heard)


def test_photographs_are_called_by_their_file_names(built: tuple[Context, Any], samples: Path) -> None:
    _, version = built
    entries = evidence.labelled(version.rows(version.evaluation_split), version)
    names = {path.name for path in samples.rglob("*") if path.is_file()}
    assert entries and all(entry.title in names for entry in entries)
    assert len({entry.photograph for entry in entries}) == len(entries)


def test_retrieval_offers_training_photographs_only(built: tuple[Context, Any]) -> None:
    _, version = built
    rows = version.rows("train")
    told = evidence.consult_of(rows)(dict.fromkeys(DIMENSIONS, 6.0), "any")
    assert told is not None
    assert told.size == len({row.lineage for row in rows})
    assert {neighbour.name for neighbour in told.neighbours} <= {row.lineage[:12] for row in rows}
    assert evidence.consult_of([])(dict.fromkeys(DIMENSIONS, 6.0), "any") is None


def test_a_fold_is_trained_on_the_other_folds_alone(
    built: tuple[Context, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, version = built
    calls: list[Any] = []

    def train(base: object, rows: list[Any], validation: list[Any], recipe: object, out: Path, **options: Any) -> Any:
        calls.append((rows, validation, out, options["resume"]))
        return SimpleNamespace(adapter=out / "adapter")

    monkeypatch.setattr("mondrian_core.training.train", train)
    monkeypatch.setattr("mondrian_core.models.base.load_base", lambda name: name)
    folding = evidence.folding_of(version, 3, "mini", TrainRecipe(), tmp_path / "folds", ignore)
    assert set(folding.fold_of) == {entry.photograph for entry in folding.entries} == set(version.groups)
    assert set(folding.fold_of.values()) == {0, 1, 2}
    for group in set(version.groups.values()):
        assert len({folding.fold_of[name] for name, other in version.groups.items() if other == group}) == 1
    rest = frozenset(name for name, fold in folding.fold_of.items() if fold != 1)
    assert folding.train(1, rest) == tmp_path / "folds" / "fold-1" / "adapter"
    rows, validation, _, resumed = calls[0]
    assert {row.lineage for row in rows} == rest
    assert {row.answer for row in rows} == {
        row.answer for row in evidence.lessons(version, recipe(folds=3)).rows if row.lineage in rest
    }  # just as the adapter that is shipped
    assert (validation, resumed) == ([], None), "tried again it goes on if it is the same training"


def test_another_recipe_is_another_cross_validation(built: tuple[Context, Any], tmp_path: Path) -> None:
    digests = {
        evidence.folding_of(built[1], 3, "mini", TrainRecipe(rank=rank), tmp_path, ignore).digest for rank in (4, 8)
    }
    assert len(digests) == 2


def test_more_folds_than_photographs_say_so(built: tuple[Context, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="folds"):
        evidence.folding_of(built[1], 19, "mini", TrainRecipe(), tmp_path, ignore)


def test_what_is_noticed_names_the_file_of_the_photograph() -> None:
    members = [{"lineage": "a" * 64, "photograph": "source/advisor/photographer/ansel/half-dome.jpg"}]
    heard: list[Event] = []
    listen = evidence.naming_photographs(heard.append, SimpleNamespace(manifest={"members": members}))  # type: ignore[arg-type]
    listen(Noticed("train", f"The validation loss of {'a' * 64}, {'b' * 64} is not a number"))
    listen(Advanced("train", 1, 2))
    assert heard == [
        Noticed("train", f"The validation loss of half-dome.jpg, {'b' * 64} is not a number"),
        Advanced("train", 1, 2),
    ]
