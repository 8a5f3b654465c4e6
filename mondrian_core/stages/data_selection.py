"""What is trained on, what was, what is left to test with, what retrieval offers, and how the recipe is trained again
fold by fold. Here the rooms meet that don't know one another.

A dataset is trained on in one of two ways. `TRAIN`: on its training split. `ALL`: on every photograph that the advisor
critiqued, where so few are held out that the folds have to speak anyway (docs/decisions/0035).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.dataset_types import original_rows
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener, StageEvent, StageNotice
from mondrian_core.files import read_json, write_json
from mondrian_core.images import perceptual_hash
from mondrian_core.portable_paths import absolute_from_portable, portable_path
from mondrian_core.recipes import Recipe, TrainRecipe

if TYPE_CHECKING:
    from mondrian_core.data.dataset.builder import DatasetVersion
    from mondrian_core.dataset_types import DatasetRow
    from mondrian_core.evaluation import CrossValidationPlan, LabelledPhotograph, TrainingProvenance
    from mondrian_core.evaluation.measure.probes import RetrievalLookup
    from mondrian_core.prompts import PortfolioComparison
    from mondrian_core.training import PreferencePairSplit

TRAIN, ALL, UNKNOWN = "train", "all", "unknown"
_LINEAGE = re.compile(r"\b[0-9a-f]{64}\b")
TRAINING_NOTE_FILE = "trained_on.json"  # in a run's folder, from the moment its training begins


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a recipe makes of a dataset.

    Attributes:
        extent: `TRAIN` or `ALL`.
        photographs: how many are trained on.
        rows: to train on; chosen_by: rows by which the epoch is chosen, none where every epoch is run.
        pairs: for preference tuning, none where the recipe has no epochs for that.
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
    """True when a training of this recipe on this dataset holds nothing out.

    So it is where the recipe has folds and fewer photographs are held out than a verdict on scores needs: then the
    folds decide anyway, and what they estimate is the recipe, trained without a validation set.
    """
    held_out = version.photographs[version.evaluation_split]
    return recipe.evaluate.folds > 0 and held_out < recipe.gates.score_photographs


def select_training_data(version: DatasetVersion, recipe: Recipe) -> TrainingData:
    """The rows and pairs that a training of this recipe on this dataset learns from.

    Raises:
        BadInput: when the dataset can't be read, or has fewer photographs that differ than the recipe has folds.
    """
    from mondrian_core.data.dataset import full_dataset
    from mondrian_core.data.dataset.preference_pairs import split_preference_pairs
    from mondrian_core.data.splits.split import assign_folds
    from mondrian_core.training import PreferencePairSplit

    train, pairs = recipe.train, PreferencePairSplit()
    if recipe.evaluate.folds:
        assign_folds(version.near_duplicate_groups, recipe.evaluate.folds)  # before minutes of training, not after them
    if trains_on_full_dataset(version, recipe):
        rows = full_dataset.all_training_rows(version)
        return TrainingData(
            extent=ALL,
            photographs=len(version.near_duplicate_groups),
            rows=rows,
            selection_rows=(),
            pairs=_pairs_among(rows, version, train),
        )
    chosen_by = [version.selection_split] if version.selection_split else []
    if train.preference_epochs:
        pairs = PreferencePairSplit(
            *(
                split_preference_pairs(version, split, train.preference_others, train.seed)
                for split in [TRAIN, *chosen_by]
            )
        )
    return TrainingData(
        extent=TRAIN,
        photographs=version.photographs[TRAIN],
        rows=version.rows(TRAIN),
        selection_rows=[row for split in chosen_by for row in version.rows(split)],
        pairs=pairs,
    )


def _pairs_among(rows: Sequence[DatasetRow], version: DatasetVersion, recipe: TrainRecipe) -> PreferencePairSplit:
    """Pairs of these photographs alone, as the recipe wants them; none of them chooses an epoch."""
    from mondrian_core.data.dataset.preference_pairs import preference_pairs_from_rows
    from mondrian_core.training import PreferencePairSplit

    if not recipe.preference_epochs:
        return PreferencePairSplit()
    return PreferencePairSplit(
        preference_pairs_from_rows(
            rows, version.near_duplicate_groups, version.corrections, recipe.preference_others, recipe.seed
        )
    )


def record_training_data(run: Path, version: DatasetVersion, extent: str, *, done: bool = False) -> None:
    """Leave in a run's folder what its adapter is trained on.

    Called before the training, so that a torn one is known too, and again when it is `done`. In between, a run whose
    earlier adapter was trained on something else says that it isn't known: either may lie there.
    """
    note = {"dataset": version.digest, "path": portable_path(version.path, run.parents[1]), "trained_on": extent}
    before = _values(run / TRAINING_NOTE_FILE)
    if not done and before and any(before.get(key) != note[key] for key in ("dataset", "trained_on")):
        note["trained_on"] = UNKNOWN
    write_json(run / TRAINING_NOTE_FILE, note)


def photograph_file_names(version: DatasetVersion) -> dict[str, str]:
    """File names of a dataset's photographs by lineage."""
    return {each["lineage"]: PurePath(each["photograph"]).name for each in version.manifest["members"]}


def listener_with_file_names(listen: EventListener, version: DatasetVersion) -> EventListener:
    """Give photographs their file names in what is noticed: a training knows them by lineage alone."""
    titles = photograph_file_names(version)

    def tell(event: StageEvent) -> None:
        if isinstance(event, StageNotice):
            named = _LINEAGE.sub(lambda found: titles.get(found[0], found[0]), event.message)
            event = replace(event, message=named)
        listen(event)

    return tell


def labelled_photographs_from_rows(rows: list[DatasetRow], version: DatasetVersion) -> list[LabelledPhotograph]:
    """Rows as photographs of an evaluation, each lineage once, with the file names that the dataset knows."""
    from mondrian_core.evaluation import LabelledPhotograph

    titles = photograph_file_names(version)
    return [
        LabelledPhotograph(
            photograph=row.photo_id,
            image=row.image,
            scores=dict(row.scores),
            critique=row.answer,
            title=titles.get(row.photo_id),
        )
        for row in original_rows(rows)
    ]


def load_training_provenance(adapter: Path, datasets: Path, listen: EventListener) -> TrainingProvenance | None:
    """What an adapter was trained on, from its manifest or its run; None when that can't be told.

    Args:
        adapter: a version's folder, or the folder that a training left in its run.
        datasets: the advisor's dataset versions.
    """
    from mondrian_core.data.dataset import full_dataset
    from mondrian_core.data.dataset.builder import load_dataset_version
    from mondrian_core.evaluation import TrainingProvenance

    folder, extent = _dataset_of(adapter, datasets)
    if folder is None or extent not in (TRAIN, ALL):
        listen(StageNotice("evaluate", f"What {adapter.name} was trained on isn't known: leakage stays open."))
        return None
    try:
        version = load_dataset_version(folder)
        rows = full_dataset.all_photograph_rows(version) if extent == ALL else original_rows(version.rows(TRAIN))
    except BadInput as error:
        listen(StageNotice("evaluate", f"The dataset it was trained on can't be read: {error.problem}"))
        return None
    return TrainingProvenance(
        photo_ids=frozenset(row.photo_id for row in rows),
        perceptual_hashes=tuple(perceptual_hash(row.image) for row in rows),
        scores=tuple(dict(row.scores) for row in rows),
        critiques=tuple(row.answer for row in rows),
        whole_dataset=extent == ALL,
    )


def _dataset_of(adapter: Path, datasets: Path) -> tuple[Path | None, str]:
    """The dataset that an adapter was trained on, None when it isn't there any more, and `TRAIN` or `ALL`.

    What neither manifest nor run says otherwise was trained on the training split: there was a time without folds.
    """
    recorded = _values(adapter / "manifest.json").get("dataset") or {}
    run = adapter.parent
    note = _values(run / TRAINING_NOTE_FILE)
    if isinstance(recorded.get("digest"), str):
        extent, found = recorded.get("trained_on", TRAIN), [datasets / recorded["digest"]]
    elif note:
        elsewhere = Path(absolute_from_portable(str(note.get("path")), datasets.parents[1]))
        extent, found = note.get("trained_on"), [datasets / str(note.get("dataset")), elsewhere]
    else:
        named = (_values(run / "context.json").get("dataset"), _values(run / "dataset.json").get("path"))
        extent, found = TRAIN, [Path(absolute_from_portable(path, datasets.parents[1])) for path in named if path]
    return next((folder for folder in found if (folder / "manifest.json").is_file()), None), str(extent)


def select_test_rows(version: DatasetVersion, trained: TrainingProvenance | None) -> tuple[list[DatasetRow], str]:
    """The photographs that an adapter can be tested on itself, one row each, and what they are called.

    They are those of the held-out split, unless the adapter was trained on every photograph of a dataset: then the
    ones of this dataset, of whatever split, that it never saw, nor a twin of them.
    """
    from mondrian_core.data.dataset import full_dataset
    from mondrian_core.evaluation.measure.contamination import photographs_trained_on

    if trained is None or not trained.whole_dataset:
        return version.rows(version.evaluation_split), version.evaluation_split
    rows = full_dataset.all_photograph_rows(version)
    seen = photographs_trained_on([(row.photo_id, row.image) for row in rows], trained)
    groups = {version.near_duplicate_groups[lineage] for lineage in seen}
    unseen = [row for row in rows if version.near_duplicate_groups[row.photo_id] not in groups]
    return unseen, "new photographs" if unseen else "folds"


def load_train_recipe(adapter: Path, otherwise: TrainRecipe, listen: EventListener) -> TrainRecipe:
    """The settings that an adapter was trained by, from its manifest or its run: folds must repeat those.

    Args:
        otherwise: given where neither says, or not in the words of this release.
    """
    recorded = _values(adapter / "manifest.json").get("recipe") or {}
    values = recorded.get("values") or _values(adapter.parent / "context.json").get("recipe") or {}
    try:
        found = TrainRecipe.model_validate(values["train"])
    except (KeyError, TypeError, ValidationError):
        return otherwise
    if found != otherwise:
        listen(StageNotice("folds", f"Folds are trained as {adapter.name} was, not by the recipe of this evaluation."))
    return found


def _values(path: Path) -> Mapping[str, Any]:
    try:
        values = read_json(path)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def build_retrieval_lookup(rows: list[DatasetRow]) -> RetrievalLookup:
    """Retrieval over the training photographs alone, so that nothing held out is looked up."""
    from mondrian_core.retrieval.nearest_neighbors import (
        Portfolio,
        ReferencePhotograph,
        comparison_from_neighbors,
        nearest_references,
    )

    references = []
    for row in original_rows(rows):
        try:
            critique = parse_critique_lenient(row.answer).critique
        except CritiqueParseError:
            continue
        comments = {name: assessment.comment for name, assessment in critique.assessments.items()}
        references.append(
            ReferencePhotograph(
                path=row.photo_id[:12], scores=dict(row.scores), comments=comments, grade=critique.overall_grade
            )
        )
    portfolio = Portfolio(tuple(references))

    def consult(scores: Mapping[str, float], lineage: str) -> PortfolioComparison | None:
        if not portfolio.references:
            return None
        return comparison_from_neighbors(scores, portfolio, nearest_references(scores, portfolio))

    return consult


def build_cross_validation_plan(
    version: DatasetVersion, count: int, base_model: str, recipe: TrainRecipe, folder: Path, listen: EventListener
) -> CrossValidationPlan:
    """Cross-validation of the recipe over all photographs of a dataset, twins in one fold.

    Each fold's adapter is left in `folder`; a training that was interrupted goes on.

    Raises:
        BadInput: when there are fewer photographs that differ than folds.
    """
    from mondrian_core.data.dataset import full_dataset
    from mondrian_core.data.splits.split import assign_folds
    from mondrian_core.evaluation import CrossValidationPlan

    rows, fold_of = full_dataset.all_training_rows(version), assign_folds(version.near_duplicate_groups, count)
    if left_out := full_dataset.count_reviewed_drafts(version):
        listen(
            StageNotice("folds", f"{left_out} reviewed drafts are in no fold: they were calibrated on all critiques.")
        )

    def train(fold: int, lineages: frozenset[str]) -> Path:
        from mondrian_core.models.base_model import load_base
        from mondrian_core.training import train_adapter

        out = folder / f"fold-{fold}"
        kept = [row for row in rows if row.photo_id in lineages]
        base = load_base(base_model)  # one of its own: the other may have an adapter mounted
        return train_adapter(
            base, kept, [], recipe, out, pairs=_pairs_among(kept, version, recipe), resume=None, listen=listen
        ).adapter

    text = json.dumps([version.digest, recipe.model_dump(mode="json"), "with variants"], sort_keys=True)
    return CrossValidationPlan(
        labelled_photographs_from_rows(rows, version), fold_of, train, hashlib.sha256(text.encode()).hexdigest()
    )
