"""Stop an evaluation as soon as its format gate fails whatever the answers to come are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mondrian_core.evaluation.gates.format_gate import format_is_lost
from mondrian_core.evaluation.measure.metrics import format_statistics
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.measure.photographs import STAGE, EvaluationPhotograph
from mondrian_core.evaluation.measure.runner import EvaluationRunner
from mondrian_core.events import StageNotice
from mondrian_core.recipes import Recipe
from mondrian_core.samples_file import CANDIDATE, PhotographOrigin


def format_stopping_rule(
    subjects: Sequence[EvaluationPhotograph], recipe: Recipe, *, has_folds: bool
) -> Callable[[Sequence[EvaluationOutcome]], bool]:
    """Whether the format gate fails whatever the answers to come are; never where the folds' answers count too.

    Args:
        subjects: the photographs that the candidate is asked about.
        recipe: thresholds, and whether to stop at all.
        has_folds: True if cross-validation adds answers.
    """
    gates = recipe.gates
    own = {subject.name for subject in subjects if subject.origin == PhotographOrigin.OWN}
    folds_count = has_folds and len(own) < gates.own_photographs
    if folds_count or not recipe.evaluate.stop_early:
        return lambda _: False

    def is_lost(outcomes: Sequence[EvaluationOutcome]) -> bool:
        answers = [outcome for outcome in outcomes if outcome.arm == CANDIDATE]
        kinds = ([each for each in answers if (each.photograph in own) is of_own] for of_own in (True, False))
        mine, others = map(format_statistics, kinds)
        return format_is_lost(mine, others, (len(own), len(subjects) - len(own)), gates)

    return is_lost


def record_stop(
    runner: EvaluationRunner, subjects: Sequence[EvaluationPhotograph], outcomes: Sequence[EvaluationOutcome]
) -> None:
    """Record that the evaluation stopped after these outcomes, and of how many photographs it left the rest out."""
    own = sum(subject.origin == PhotographOrigin.OWN for subject in subjects)
    values = {"asked": len(outcomes), "own": own, "others": len(subjects) - own}
    runner.samples.append("stopped", {"values": values})
    says = f"Stopped after {len(outcomes)} answers: the format gate fails whatever the other answers are."
    runner.listen(StageNotice(STAGE, says))
