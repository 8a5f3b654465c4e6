"""What an evaluation is told about a candidate besides its weights: what it was trained on, what retrieval offers, and
how the recipe is trained again fold by fold. Here the rooms meet that don't know one another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from mondrian_core.errors import BadInput
from mondrian_core.events import Listener, Noticed
from mondrian_core.files import read_json
from mondrian_core.images import perceptual_hash
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import Unparsable, read_lenient

if TYPE_CHECKING:
    from mondrian_core.data.dataset import DatasetVersion
    from mondrian_core.evaluation import Folding, Labelled, Trained
    from mondrian_core.evaluation.probing import Consult
    from mondrian_core.prompts import Comparison
    from mondrian_core.rows import Row


def labelled(rows: list[Row], version: DatasetVersion) -> list[Labelled]:
    """Rows as photographs of an evaluation, each lineage once, with the file names that the dataset knows."""
    from mondrian_core.evaluation import Labelled

    titles = {each["lineage"]: PurePath(each["photograph"]).name for each in version.manifest["members"]}
    return [Labelled(row.lineage, row.image, dict(row.scores), row.answer, titles.get(row.lineage))
            for row in originals(rows)]  # fmt: skip


def originals(rows: list[Row]) -> list[Row]:
    """The first row of every lineage: the photograph itself, before its variants."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.lineage, row)
    return list(first.values())


def trained_on(adapter: Path, datasets: Path, listen: Listener) -> Trained | None:
    """What an adapter was trained on, from its manifest or its run; None when that can't be told.

    Args:
        adapter: a version's folder, or the folder that a training left in its run.
        datasets: the advisor's dataset versions.
    """
    from mondrian_core.data.dataset import load
    from mondrian_core.evaluation import Trained

    folder = _dataset_of(adapter, datasets)
    if folder is None:
        listen(Noticed("evaluate", f"What {adapter.name} was trained on isn't known: leakage stays open."))
        return None
    try:
        rows = originals(load(folder).rows("train"))
    except BadInput as error:
        listen(Noticed("evaluate", f"The dataset it was trained on can't be read: {error.problem}"))
        return None
    return Trained(
        lineages=frozenset(row.lineage for row in rows),
        looks=tuple(perceptual_hash(row.image) for row in rows),
        scores=tuple(dict(row.scores) for row in rows),
        critiques=tuple(row.answer for row in rows),
    )


def _dataset_of(adapter: Path, datasets: Path) -> Path | None:
    digest = (_values(adapter / "manifest.json").get("dataset") or {}).get("digest")
    run = adapter.parent
    found = [datasets / digest] if isinstance(digest, str) else []
    found += [Path(value) for value in (_values(run / "context.json").get("dataset"),
                                        _values(run / "dataset.json").get("path")) if value]  # fmt: skip
    return next((folder for folder in found if (folder / "manifest.json").is_file()), None)


def _values(path: Path) -> Mapping[str, Any]:
    try:
        values = read_json(path)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def consult_of(rows: list[Row]) -> Consult:
    """Retrieval over the training photographs alone, so that nothing held out is looked up."""
    from mondrian_core.serving.retrieval import Portfolio, Reference, comparison, nearest

    references = []
    for row in originals(rows):
        try:
            critique = read_lenient(row.answer).critique
        except Unparsable:
            continue
        comments = {name: assessment.comment for name, assessment in critique.assessments.items()}
        references.append(Reference(row.lineage[:12], dict(row.scores), comments, critique.overall_grade))
    portfolio = Portfolio(tuple(references))

    def consult(scores: Mapping[str, float], lineage: str) -> Comparison | None:
        if not portfolio.references:
            return None
        return comparison(scores, portfolio, nearest(scores, portfolio))

    return consult


def folding_of(version: DatasetVersion, count: int, base_model: str, recipe: TrainRecipe, folder: Path,
               listen: Listener) -> Folding:  # fmt: skip
    """Cross-validation of the recipe over all photographs of a dataset, twins in one fold.

    Each fold's adapter is left in `folder`; a training that was interrupted goes on.

    Raises:
        BadInput: when there are fewer photographs that differ than folds.
    """
    from mondrian_core.data.pairs import pairs_of
    from mondrian_core.data.split import SPLITS, Subject, folds
    from mondrian_core.evaluation import Folding

    rows = [row for split in SPLITS for row in version.rows(split) if row.lineage in version.groups]
    fold_of = folds([Subject(row.lineage, perceptual_hash(row.image)) for row in originals(rows)], count)

    def train(fold: int, lineages: frozenset[str]) -> Path:
        from mondrian_core.models.base import load_base
        from mondrian_core.training import Pairs
        from mondrian_core.training import train as train_adapter

        out = folder / f"fold-{fold}"
        kept = [row for row in rows if row.lineage in lineages]
        others = recipe.preference_others if recipe.preference_epochs else 0
        pairs = Pairs(pairs_of(kept, version.groups, version.corrections, others, recipe.seed))
        base = load_base(base_model)  # one of its own: the other may have an adapter mounted
        return train_adapter(base, kept, [], recipe, out, pairs=pairs, resume=out.exists(), listen=listen).adapter

    text = json.dumps([version.digest, recipe.model_dump(mode="json")], sort_keys=True)
    return Folding(labelled(rows, version), fold_of, train, hashlib.sha256(text.encode()).hexdigest())
