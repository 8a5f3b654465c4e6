"""Training data of an adapter: what a recipe trains on, and what an existing adapter was trained on.

A recipe trains on a dataset in one of two ways. `TRAIN`: on the training split. `ALL`: on every photograph that the
advisor critiqued, where so few are held out that cross-validation has to decide anyway (docs/decisions/0035).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mondrian_core.dataset_types import original_rows
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener, StageEvent, StageNotice
from mondrian_core.files import read_json, write_json
from mondrian_core.near_duplicates import photograph_fingerprint
from mondrian_core.portable_paths import absolute_from_portable, portable_path
from mondrian_core.recipes import Recipe, TrainRecipe

if TYPE_CHECKING:
    from mondrian_core.data.dataset.version import DatasetVersion
    from mondrian_core.dataset_types import DatasetRow
    from mondrian_core.evaluation import TrainingProvenance
    from mondrian_core.training import PreferencePairSplit

TRAIN, ALL, UNKNOWN = "train", "all", "unknown"
TRAINING_NOTE_FILE = "trained_on.json"  # in a run's folder, from the start of its training
_PHOTO_ID = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The part of a dataset that a recipe trains on.

    Attributes:
        extent: `TRAIN` or `ALL`.
        photographs: number of photographs trained on.
        rows: to train on.
        selection_rows: to choose the best epoch by; none where all epochs are run.
        pairs: for preference tuning; none where the recipe has no epochs for it.
    """

    extent: str
    photographs: int
    rows: Sequence[DatasetRow]
    selection_rows: Sequence[DatasetRow]
    pairs: PreferencePairSplit

    @property
    def description(self) -> str:
        """For people, such as "36 rows of all 12 photographs, none held out"."""
        if self.extent == ALL:
            return f"{len(self.rows)} rows of all {self.photographs} photographs, none held out: folds judge the recipe"
        return f"{len(self.rows)} rows of {self.photographs} photographs"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the run and the adapter's manifest."""
        return {"extent": self.extent, "photographs": self.photographs, "rows": len(self.rows)}


def trains_on_full_dataset(version: DatasetVersion, recipe: Recipe) -> bool:
    """True when this recipe trains on all photographs of this dataset and holds none out.

    That is so where the recipe has folds and fewer photographs are held out than a verdict on scores needs: then
    cross-validation decides anyway, and it estimates the recipe trained without a validation set.
    """
    held_out = version.photographs[version.evaluation_split]
    return recipe.evaluate.folds > 0 and held_out < recipe.gates.score_photographs


def select_training_data(version: DatasetVersion, recipe: Recipe) -> TrainingData:
    """The rows and pairs that this recipe trains on.

    Raises:
        BadInput: when the dataset can't be read, or has fewer groups of near-duplicates than the recipe has folds.
    """
    from mondrian_core.data.dataset import full_dataset
    from mondrian_core.data.dataset.preference_pairs import split_preference_pairs
    from mondrian_core.data.splits.split import assign_folds
    from mondrian_core.training import PreferencePairSplit

    train, pairs = recipe.train, PreferencePairSplit()
    if recipe.evaluate.folds:
        assign_folds(version.near_duplicate_groups, recipe.evaluate.folds)  # fail before minutes of training, not after
    if trains_on_full_dataset(version, recipe):
        rows = full_dataset.all_training_rows(version)
        return TrainingData(
            extent=ALL,
            photographs=len(version.near_duplicate_groups),
            rows=rows,
            selection_rows=(),
            pairs=preference_pairs_among(rows, version, train),
        )
    selection_splits = [version.selection_split] if version.selection_split else []
    if train.preference_epochs:
        pairs = PreferencePairSplit(
            *(
                split_preference_pairs(version, split, train.preference_others, train.seed)
                for split in [TRAIN, *selection_splits]
            )
        )
    return TrainingData(
        extent=TRAIN,
        photographs=version.photographs[TRAIN],
        rows=version.rows(TRAIN),
        selection_rows=[row for split in selection_splits for row in version.rows(split)],
        pairs=pairs,
    )


def preference_pairs_among(
    rows: Sequence[DatasetRow], version: DatasetVersion, recipe: TrainRecipe
) -> PreferencePairSplit:
    """The recipe's preference pairs of these rows' photographs; none is held out to choose an epoch."""
    from mondrian_core.data.dataset.preference_pairs import preference_pairs_from_rows
    from mondrian_core.training import PreferencePairSplit

    if not recipe.preference_epochs:
        return PreferencePairSplit()
    pairs = preference_pairs_from_rows(
        rows, version.near_duplicate_groups, version.corrections, recipe.preference_others, recipe.seed
    )
    return PreferencePairSplit([*pairs, *version.advice_pairs({row.photo_id for row in rows}, others=True)])


def record_training_data(run: Path, version: DatasetVersion, extent: str, *, done: bool = False) -> None:
    """Record in a run's folder what its adapter is trained on.

    Called before training, so that an interrupted one is known too, and again when it is done. In between, a run whose
    earlier adapter was trained on other data records `UNKNOWN`: the folder may hold either adapter.

    Args:
        run: the run's folder.
        version: the dataset.
        extent: `TRAIN` or `ALL`.
        done: True when the training has finished.
    """
    note = {"dataset": version.digest, "path": portable_path(version.path, run.parents[1]), "trained_on": extent}
    before = _values(run / TRAINING_NOTE_FILE)
    if not done and before and any(before.get(key) != note[key] for key in ("dataset", "trained_on")):
        note["trained_on"] = UNKNOWN
    write_json(run / TRAINING_NOTE_FILE, note)


def load_training_provenance(
    adapter: Path, datasets: Path, listen: EventListener, open_dataset: Callable[[Path], DatasetVersion]
) -> TrainingProvenance | None:
    """What an adapter was trained on, from its manifest or its run; None, with a notice, when that isn't known.

    Args:
        adapter: a version's folder, or the adapter folder in a training run.
        datasets: folder of the advisor's dataset versions.
        listen: receives the notice.
        open_dataset: opens a dataset version's folder.
    """
    from mondrian_core.data.dataset import full_dataset
    from mondrian_core.evaluation import TrainingProvenance

    folder, extent = _dataset_of(adapter, datasets)
    if folder is None or extent not in (TRAIN, ALL):
        listen(StageNotice("evaluate", f"The training data of {adapter.name} is unknown, so leakage can't be checked."))
        return None
    try:
        version = open_dataset(folder)
        rows = full_dataset.all_photograph_rows(version) if extent == ALL else original_rows(version.rows(TRAIN))
        kept = {row.photo_id for row in rows}
        pairs = version.advice_pairs(kept, others=True) if _has_preferences(adapter) else []
    except BadInput as error:
        listen(StageNotice("evaluate", f"Can't read the dataset it was trained on: {error.problem}"))
        return None
    shown = {row.photo_id: row.image for row in [*(pair.row for pair in pairs), *rows]}
    return TrainingProvenance(
        photo_ids=frozenset(shown),
        fingerprints=tuple(photograph_fingerprint(photo_id, image) for photo_id, image in shown.items()),
        scores=tuple(dict(row.scores) for row in rows),
        critiques=tuple(row.answer for row in rows),
        whole_dataset=extent == ALL,
    )


def _has_preferences(adapter: Path) -> bool:
    """True when the recipe of an adapter has preference tuning, whose pairs may show further photographs."""
    try:
        return bool(_recorded_recipe(adapter)["train"]["preference_epochs"])
    except (KeyError, TypeError):
        return False


def _recorded_recipe(adapter: Path) -> Mapping[str, Any]:
    """The recipe's values in an adapter's manifest or its run; empty when neither has any."""
    recorded = _values(adapter / "manifest.json").get("recipe") or {}
    return recorded.get("values") or _values(adapter.parent / "context.json").get("recipe") or {}


def _dataset_of(adapter: Path, datasets: Path) -> tuple[Path | None, str]:
    """The folder of an adapter's dataset, None when it no longer exists, and `TRAIN`, `ALL` or `UNKNOWN`.

    `TRAIN` where neither manifest nor run records the extent: older releases knew nothing else.
    """
    recorded = _values(adapter / "manifest.json").get("dataset") or {}
    run = adapter.parent
    note = _values(run / TRAINING_NOTE_FILE)
    if isinstance(recorded.get("digest"), str):
        extent, folders = recorded.get("trained_on", TRAIN), [datasets / recorded["digest"]]
    elif note:
        recorded_folder = Path(absolute_from_portable(str(note.get("path")), datasets.parents[1]))
        extent, folders = note.get("trained_on"), [datasets / str(note.get("dataset")), recorded_folder]
    else:
        paths = (_values(run / "context.json").get("dataset"), _values(run / "dataset.json").get("path"))
        extent, folders = TRAIN, [Path(absolute_from_portable(path, datasets.parents[1])) for path in paths if path]
    return next((folder for folder in folders if (folder / "manifest.json").is_file()), None), str(extent)


def load_train_recipe(adapter: Path, default: TrainRecipe, listen: EventListener) -> TrainRecipe:
    """The recipe that an adapter was trained with, from its manifest or its run: folds must repeat that recipe.

    Args:
        adapter: a version's folder, or the adapter folder in a training run.
        default: returned where neither records a recipe that this release can read.
        listen: receives a notice when the recipe differs from `default`.
    """
    try:
        recipe = TrainRecipe.model_validate(_recorded_recipe(adapter)["train"])
    except (KeyError, TypeError, ValidationError):
        return default
    if recipe != default:
        listen(StageNotice("folds", f"Folds use the training recipe of {adapter.name}, not that of this evaluation."))
    return recipe


def _values(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file; empty when there is none that can be read."""
    try:
        values = read_json(path)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def photograph_file_names(version: DatasetVersion) -> dict[str, str]:
    """File names of a dataset's photographs by photograph ID."""
    return {member["lineage"]: PurePath(member["photograph"]).name for member in version.manifest["members"]}


def listener_with_file_names(listen: EventListener, version: DatasetVersion) -> EventListener:
    """A listener that replaces photograph IDs, which training reports, by file names before it calls `listen`."""
    titles = photograph_file_names(version)

    def on_event(event: StageEvent) -> None:
        if isinstance(event, StageNotice):
            message = _PHOTO_ID.sub(lambda match: titles.get(match[0], match[0]), event.message)
            event = replace(event, message=message)
        listen(event)

    return on_event
