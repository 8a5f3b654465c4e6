"""Data for an evaluation: test photographs, the retrieval portfolio, and the folds of cross-validation.

The packages data, training and evaluation don't import one another; this module connects them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.dataset_types import original_rows
from mondrian_core.events import EventListener, StageNotice
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import Assessment, Critique, canonical_answer
from mondrian_core.stages.training_data import photograph_file_names, preference_pairs_among

if TYPE_CHECKING:
    from mondrian_core.data.dataset.version import DatasetVersion
    from mondrian_core.dataset_types import DatasetRow
    from mondrian_core.evaluation import CrossValidationPlan, LabelledPhotograph, TrainingProvenance
    from mondrian_core.evaluation.measure.probes import RetrievalLookup
    from mondrian_core.prompts import PortfolioComparison
    from mondrian_core.stages.context import StageContext

MOST_OTHER_CRITIQUES = 200  # to compare voices; more make the file of samples large and the comparison no better


def select_test_rows(version: DatasetVersion, trained: TrainingProvenance | None) -> tuple[list[DatasetRow], str]:
    """The photographs that can test an adapter itself, one row each, and the name of that selection.

    These are the held-out split, unless the adapter was trained on all photographs of a dataset: then they are the
    photographs of this dataset, of any split, that it was not trained on and that aren't near-duplicates of those.
    """
    from mondrian_core.data.dataset import full_dataset
    from mondrian_core.evaluation.measure.contamination import photographs_trained_on

    if trained is None or not trained.whole_dataset:
        return version.rows(version.evaluation_split), version.evaluation_split
    rows = full_dataset.all_photograph_rows(version)
    trained_on = photographs_trained_on([(row.photo_id, row.image) for row in rows], trained)
    trained_groups = {version.near_duplicate_groups[photo_id] for photo_id in trained_on}
    unseen = [row for row in rows if version.near_duplicate_groups[row.photo_id] not in trained_groups]
    return unseen, "new photographs" if unseen else "folds"


def labelled_photographs_from_rows(rows: list[DatasetRow], version: DatasetVersion) -> list[LabelledPhotograph]:
    """Dataset rows as labelled photographs of an evaluation, each photograph once, titled with its file name."""
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


def other_advisors_critiques(context: StageContext) -> list[str]:
    """Complete critiques by the workspace's other advisors as answers, at most `MOST_OTHER_CRITIQUES`.

    None where the machine has no database.
    """
    from mondrian_core.critique_files.records import record_from_profile

    if not (context.root / "mondrian.db").is_file():
        return []
    with context.store() as store:
        profiles = [each for each in store.each_profile() if each.advisor != context.advisor and each.origin == "human"]
    profiles.sort(key=lambda profile: (profile.advisor, profile.id))
    records = [record for profile in profiles if (record := record_from_profile(profile)) is not None]
    count = min(len(records), MOST_OTHER_CRITIQUES)
    answers = []
    for record in (records[k * len(records) // count] for k in range(count)):
        assessments = {
            name: Assessment(score, record.comments[name], record.recommendations.get(name))
            for name, score in record.scores.items()
        }
        answers.append(canonical_answer(Critique(assessments, record.overall_grade)))
    return answers


def build_retrieval_lookup(rows: list[DatasetRow]) -> RetrievalLookup:
    """Retrieval over `rows`, the training photographs, so that no held-out photograph is offered."""
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

    def compare_with_portfolio(scores: Mapping[str, float], _photo_id: str) -> PortfolioComparison | None:
        if not portfolio.references:
            return None
        return comparison_from_neighbors(scores, portfolio, nearest_references(scores, portfolio))

    return compare_with_portfolio


def build_cross_validation_plan(
    version: DatasetVersion, count: int, base_model: str, recipe: TrainRecipe, folder: Path, listen: EventListener
) -> CrossValidationPlan:
    """Cross-validation of a recipe over all photographs of a dataset, with near-duplicates in one fold.

    Args:
        version: the dataset.
        count: number of folds.
        base_model: to train on.
        recipe: to train with.
        folder: for the adapters of the folds; an interrupted training resumes there.
        listen: receives progress and notices.

    Raises:
        BadInput: when there are fewer groups of near-duplicates than folds.
    """
    from mondrian_core.data.dataset import full_dataset
    from mondrian_core.data.splits.split import assign_folds
    from mondrian_core.evaluation import CrossValidationPlan

    rows, fold_of = full_dataset.all_training_rows(version), assign_folds(version.near_duplicate_groups, count)
    if left_out := full_dataset.count_reviewed_drafts(version):
        listen(
            StageNotice(
                "folds",
                f"The folds leave out {left_out} reviewed drafts: they were calibrated on all critiques.",
            )
        )

    def train(fold: int, photo_ids: frozenset[str]) -> Path:
        from mondrian_core.models.base_model import load_base
        from mondrian_core.training import TrainingRows, train_adapter

        out = folder / f"fold-{fold}"
        kept = [row for row in rows if row.photo_id in photo_ids]
        base = load_base(base_model)  # a separate copy: the evaluated one may have an adapter in use
        return train_adapter(
            base,
            TrainingRows(kept, pairs=preference_pairs_among(kept, version, recipe)),
            recipe,
            out,
            resume=None,
            listen=listen,
        ).adapter

    identity = json.dumps([version.digest, recipe.model_dump(mode="json"), "with variants"], sort_keys=True)
    return CrossValidationPlan(
        labelled_photographs_from_rows(rows, version), fold_of, train, hashlib.sha256(identity.encode()).hexdigest()
    )
