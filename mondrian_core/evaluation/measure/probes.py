"""Questions beside the plain one: edited copies, answers under the schema, and the base with retrieval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from mondrian_core.evaluation.measure.answer_cache import pixel_digest
from mondrian_core.evaluation.measure.metamorphic import METAMORPHIC_RELATIONS, EditedCopyOutcome
from mondrian_core.evaluation.measure.outcomes import BASE_RAG, EvaluationOutcome
from mondrian_core.evaluation.measure.runner import EvaluationPhotograph, EvaluationRunner
from mondrian_core.events import StageNotice, StageProgressed
from mondrian_core.prompts import PortfolioComparison
from mondrian_core.samples_file import BASE, CANDIDATE

# From the first look's scores and the photograph's lineage to what a second look is told; None: nothing to tell.
RetrievalLookup = Callable[[Mapping[str, float], str], PortfolioComparison | None]
RETRIEVAL_TRIES = 3


def probe_edited_copies(
    asking: EvaluationRunner, subjects: Sequence[EvaluationPhotograph], known: Iterable[EditedCopyOutcome]
) -> None:
    """Ask base and candidate about edited copies of the first photographs."""
    done = {(each.edit, each.outcome.photograph, each.outcome.arm) for each in known}
    chosen = subjects[: asking.recipe.evaluate.edited_photographs]
    wanted = [(subject, edit, arm) for subject in chosen for edit in METAMORPHIC_RELATIONS for arm in (BASE, CANDIDATE)]
    for count, (subject, edit, arm) in enumerate(wanted, 1):
        if (edit, subject.name, arm) in done:
            continue
        image = METAMORPHIC_RELATIONS[edit].edit(subject.image)
        outcome = asking.ask(EvaluationPhotograph(subject.name, image, pixel_digest(image), subject.labelled), arm)
        asking.journal.append("edited", {"edit": edit, **outcome.as_dict()})
        asking.listen(StageProgressed("edited copies", count, len(wanted), f"{subject.name}: {edit}, {arm}"))


def probe_constrained_decoding(
    asking: EvaluationRunner, subjects: Sequence[EvaluationPhotograph], known: Iterable[EvaluationOutcome]
) -> None:
    """Ask base and candidate about the first photographs once more, with decoding held to the schema."""
    done = {(outcome.photograph, outcome.arm) for outcome in known}
    chosen = subjects[: asking.recipe.evaluate.constrained_photographs]
    wanted = [(subject, arm) for subject in chosen for arm in (BASE, CANDIDATE)]
    for count, (subject, arm) in enumerate(wanted, 1):
        if (subject.name, arm) in done:
            continue
        outcome = asking.ask(subject, arm, constrained=True)
        asking.journal.append("constrained", outcome.as_dict())
        asking.listen(StageProgressed("under the schema", count, len(wanted), f"{subject.name}: {arm}"))


def probe_base_with_retrieval(
    asking: EvaluationRunner,
    subjects: Sequence[EvaluationPhotograph],
    outcomes: Sequence[EvaluationOutcome],
    consult: RetrievalLookup,
    known: Iterable[EvaluationOutcome],
) -> None:
    """The base's second look at every labelled photograph that it scored at first sight.

    Given up after three that nobody can read: a small base that never saw such a prompt writes on to the token limit.
    """
    first = {outcome.photograph: outcome.best_scores for outcome in outcomes if outcome.arm == BASE}
    answered = [outcome for outcome in known if outcome.arm == BASE_RAG]
    done = {outcome.photograph for outcome in answered}
    labelled = [subject for subject in subjects if subject.labelled and subject.name not in done]
    for count, subject in enumerate(labelled, 1):
        if len(answered) >= RETRIEVAL_TRIES and not any(outcome.best_scores for outcome in answered):
            asking.listen(
                StageNotice("retrieval", f"The base's answers with retrieval can't be read ({RETRIEVAL_TRIES} tried).")
            )
            return
        told = consult(first[subject.name], subject.name) if first.get(subject.name) else None
        if told is None:
            continue
        outcome = asking.ask(subject, BASE_RAG, comparison=told)
        asking.journal.append("answer", outcome.as_dict())
        answered.append(outcome)
        asking.listen(StageProgressed("retrieval", count, len(labelled), subject.name))
