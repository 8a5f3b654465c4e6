"""Probes in addition to the plain question: edited copies, constrained decoding, training photographs, retrieval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mondrian_core.evaluation.measure.answer_cache import pixel_digest
from mondrian_core.evaluation.measure.calibration import TrainingAnswer
from mondrian_core.evaluation.measure.metamorphic import METAMORPHIC_RELATIONS, EditedCopyOutcome
from mondrian_core.evaluation.measure.outcomes import BASE_RAG, EvaluationOutcome
from mondrian_core.evaluation.measure.photographs import (
    FILE_INFO,
    EvaluationPhotograph,
    LabelledPhotograph,
    open_labelled_photographs,
    thumbnail_text,
)
from mondrian_core.evaluation.measure.runner import (
    PHOTOGRAPHS_AT_ONCE,
    EvaluationRunner,
    Inquiry,
)
from mondrian_core.evaluation.measure.tail import largest_deviations
from mondrian_core.events import StageNotice, StageProgressed
from mondrian_core.prompts import PortfolioComparison
from mondrian_core.samples_file import BASE, CANDIDATE

if TYPE_CHECKING:
    from PIL import Image

# (scores of the first answer, photograph ID) -> the advisor's similar photographs; None when there are none.
RetrievalLookup = Callable[[Mapping[str, float], str], PortfolioComparison | None]
RETRIEVAL_TRIES = 3
PICTURED = 12  # photographs without labels whose thumbnails are recorded


def record_pictures_of_tail(
    runner: EvaluationRunner,
    subjects: Sequence[EvaluationPhotograph],
    outcomes: Sequence[EvaluationOutcome],
    known: Iterable[str],
) -> None:
    """Record thumbnails of the photographs without labels on which candidate and base differ most."""
    by_name, done = {subject.name: subject for subject in subjects if not subject.labelled}, set(known)
    furthest = largest_deviations([outcome for outcome in outcomes if outcome.photograph in by_name], PICTURED)
    for name in furthest:
        if name not in done:
            image = by_name[name].image
            record = {"photograph": name, "title": image.info.get(FILE_INFO), "picture": thumbnail_text(image)}
            runner.samples.append("picture", record)


def probe_edited_copies(
    runner: EvaluationRunner, subjects: Sequence[EvaluationPhotograph], known: Iterable[EditedCopyOutcome]
) -> None:
    """Ask base and candidate about edited copies of the first photographs."""
    done = {(copy.edit, copy.outcome.photograph, copy.outcome.arm) for copy in known}
    chosen = subjects[: runner.recipe.evaluate.edited_photographs]
    total = len(chosen) * len(METAMORPHIC_RELATIONS) * 2
    count = len(done)
    for edit, relation in METAMORPHIC_RELATIONS.items():
        missing = [
            Inquiry(subject=copy, arm=arm)
            for copy in (_edited_copy(subject, relation.edit(subject.image)) for subject in chosen)
            for arm in (BASE, CANDIDATE)
            if (edit, copy.name, arm) not in done
        ]
        for inquiry, outcome in runner.ask_each(missing):
            runner.samples.append("edited", {"edit": edit, **outcome.as_dict()})
            count += 1
            what = f"{inquiry.subject.name}: {edit}, {inquiry.arm}"
            runner.listen(StageProgressed("edited copies", count, total, what))


def _edited_copy(subject: EvaluationPhotograph, image: Image.Image) -> EvaluationPhotograph:
    return replace(subject, image=image, digest=pixel_digest(image))


def probe_constrained_decoding(
    runner: EvaluationRunner, subjects: Sequence[EvaluationPhotograph], known: Iterable[EvaluationOutcome]
) -> None:
    """Ask base and candidate about the first photographs again, with decoding constrained to the schema."""
    done = {(outcome.photograph, outcome.arm) for outcome in known}
    chosen = subjects[: runner.recipe.evaluate.constrained_photographs]
    missing = [
        Inquiry(subject=subject, arm=arm, constrained=True)
        for subject in chosen
        for arm in (BASE, CANDIDATE)
        if (subject.name, arm) not in done
    ]
    for count, (inquiry, outcome) in enumerate(runner.ask_each(missing), 1 + 2 * len(chosen) - len(missing)):
        runner.samples.append("constrained", outcome.as_dict())
        what = f"{inquiry.subject.name}: {inquiry.arm}"
        runner.listen(StageProgressed("under the schema", count, 2 * len(chosen), what))


def probe_training_photographs(
    runner: EvaluationRunner, labelled: Sequence[LabelledPhotograph], known: Iterable[TrainingAnswer]
) -> None:
    """Ask the base, and nobody else, about photographs of training: its calibrations are fitted on these answers.

    Of more than `evaluate.calibration_photographs`, the same ones are chosen every time, so that the cache has them.
    """
    done = {answer.outcome.photograph for answer in known}
    by_name = {entry.photograph: entry for entry in labelled}
    chosen = [by_name[name] for name in sorted(by_name)[: runner.recipe.evaluate.calibration_photographs]]
    missing = [entry for entry in chosen if entry.photograph not in done]
    count = len(chosen) - len(missing)
    for first in range(0, len(missing), PHOTOGRAPHS_AT_ONCE):  # decoded photographs are large
        subjects, kept = open_labelled_photographs(missing[first : first + PHOTOGRAPHS_AT_ONCE], runner.listen)
        labels = {entry.photograph: entry for entry in kept}
        for inquiry, outcome in runner.ask_each([Inquiry(subject=subject, arm=BASE) for subject in subjects]):
            entry = labels[inquiry.subject.name]
            runner.samples.append("calibration", {"advisor_scores": dict(entry.scores), **outcome.as_dict()})
            count += 1
            runner.listen(
                StageProgressed("calibration", count, len(chosen), f"{entry.title or entry.photograph}: base")
            )


def probe_base_with_retrieval(
    runner: EvaluationRunner,
    subjects: Sequence[EvaluationPhotograph],
    outcomes: Sequence[EvaluationOutcome],
    lookup: RetrievalLookup,
    known: Iterable[EvaluationOutcome],
) -> None:
    """Ask the base again about every labelled photograph that it scored, with similar photographs in the prompt.

    It stops after three unreadable answers: a small base that never saw such a prompt writes until the token limit.

    Args:
        runner: the evaluation in progress.
        subjects: photographs of the evaluation.
        outcomes: answers without retrieval.
        lookup: finds the similar photographs.
        known: answers with retrieval that are recorded already.
    """
    first = {outcome.photograph: outcome.best_scores for outcome in outcomes if outcome.arm == BASE}
    answered = [outcome for outcome in known if outcome.arm == BASE_RAG]
    done = {outcome.photograph for outcome in answered}
    labelled = [subject for subject in subjects if subject.labelled and subject.name not in done]
    for count, subject in enumerate(labelled, 1):
        if len(answered) >= RETRIEVAL_TRIES and not any(outcome.best_scores for outcome in answered):
            runner.listen(
                StageNotice("retrieval", f"The base's answers with retrieval can't be read ({RETRIEVAL_TRIES} tried).")
            )
            return
        comparison = lookup(first[subject.name], subject.name) if first.get(subject.name) else None
        if comparison is None:
            continue
        outcome = runner.ask(Inquiry(subject=subject, arm=BASE_RAG, comparison=comparison))
        runner.samples.append("answer", outcome.as_dict())
        answered.append(outcome)
        runner.listen(StageProgressed("retrieval", count, len(labelled), subject.name))
