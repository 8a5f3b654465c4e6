"""Probes in addition to the plain question: edited copies, constrained decoding, training photographs, retrieval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from mondrian_core.evaluation.measure.answer_cache import pixel_digest
from mondrian_core.evaluation.measure.calibration import TrainingAnswer
from mondrian_core.evaluation.measure.metamorphic import METAMORPHIC_RELATIONS, EditedCopyOutcome
from mondrian_core.evaluation.measure.outcomes import BASE_RAG, EvaluationOutcome
from mondrian_core.evaluation.measure.runner import (
    FILE_INFO,
    EvaluationPhotograph,
    EvaluationRunner,
    LabelledPhotograph,
    open_labelled_photographs,
    thumbnail_text,
)
from mondrian_core.evaluation.measure.tail import largest_deviations
from mondrian_core.events import StageNotice, StageProgressed
from mondrian_core.prompts import PortfolioComparison
from mondrian_core.samples_file import BASE, CANDIDATE

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
    wanted = [(subject, edit, arm) for subject in chosen for edit in METAMORPHIC_RELATIONS for arm in (BASE, CANDIDATE)]
    for count, (subject, edit, arm) in enumerate(wanted, 1):
        if (edit, subject.name, arm) in done:
            continue
        image = METAMORPHIC_RELATIONS[edit].edit(subject.image)
        outcome = runner.ask(replace(subject, image=image, digest=pixel_digest(image)), arm)
        runner.samples.append("edited", {"edit": edit, **outcome.as_dict()})
        runner.listen(StageProgressed("edited copies", count, len(wanted), f"{subject.name}: {edit}, {arm}"))


def probe_constrained_decoding(
    runner: EvaluationRunner, subjects: Sequence[EvaluationPhotograph], known: Iterable[EvaluationOutcome]
) -> None:
    """Ask base and candidate about the first photographs again, with decoding constrained to the schema."""
    done = {(outcome.photograph, outcome.arm) for outcome in known}
    chosen = subjects[: runner.recipe.evaluate.constrained_photographs]
    wanted = [(subject, arm) for subject in chosen for arm in (BASE, CANDIDATE)]
    for count, (subject, arm) in enumerate(wanted, 1):
        if (subject.name, arm) in done:
            continue
        outcome = runner.ask(subject, arm, constrained=True)
        runner.samples.append("constrained", outcome.as_dict())
        runner.listen(StageProgressed("under the schema", count, len(wanted), f"{subject.name}: {arm}"))


def probe_training_photographs(
    runner: EvaluationRunner, labelled: Sequence[LabelledPhotograph], known: Iterable[TrainingAnswer]
) -> None:
    """Ask the base, and nobody else, about photographs of training: its calibrations are fitted on these answers.

    Of more than `evaluate.calibration_photographs`, the same ones are chosen every time, so that the cache has them.
    """
    done = {answer.outcome.photograph for answer in known}
    by_name = {entry.photograph: entry for entry in labelled}
    chosen = [by_name[name] for name in sorted(by_name)[: runner.recipe.evaluate.calibration_photographs]]
    for count, entry in enumerate(chosen, 1):
        if entry.photograph in done:
            continue
        (subject,), _ = open_labelled_photographs([entry], runner.listen)
        outcome = runner.ask(subject, BASE)
        runner.samples.append("calibration", {"advisor_scores": dict(entry.scores), **outcome.as_dict()})
        runner.listen(StageProgressed("calibration", count, len(chosen), f"{entry.title or entry.photograph}: base"))


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
        outcome = runner.ask(subject, BASE_RAG, comparison=comparison)
        runner.samples.append("answer", outcome.as_dict())
        answered.append(outcome)
        runner.listen(StageProgressed("retrieval", count, len(labelled), subject.name))
