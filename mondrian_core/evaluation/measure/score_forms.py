"""The three forms of a model's scores against the advisor's: written digits, expected values, and what is served.

The gates judge expected scores. A person reads the served ones (`served_scores`): expected scores, rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.evaluation.measure.metrics import ArmComparison, ScoreArray, ScoreTable, compare_paired_errors
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.served_scores import with_served_scores

WRITTEN, EXPECTED, SERVED = "written", "expected", "served"
FAR = 2.0  # points between written and served score from which the comment may fit the served score badly


@dataclass(frozen=True, kw_only=True)
class ScoreForms:
    """One arm's scores in their three forms, on the photographs where it gave all of them.

    Attributes:
        n: photographs.
        errors: mean squared error by form, points squared; None without photographs.
        served_against_written: the paired comparison.
        changed: share (0-1) of the served scores that differ from the written ones; None without photographs.
        changed_far: share (0-1) that differ by `FAR` points or more.
    """

    n: int
    errors: Mapping[str, float | None]
    served_against_written: ArmComparison
    changed: float | None
    changed_far: float | None


def score_forms(
    labels: Mapping[str, Mapping[str, float]], outcomes: Sequence[EvaluationOutcome], arm: str, *, seed: int = 0
) -> ScoreForms:
    """Compare written, expected and served scores of one arm.

    Args:
        labels: the advisor's scores (0-10) by photograph and dimension.
        outcomes: answers of all arms.
        arm: whose answers are compared.
        seed: of the random draws.
    """
    answers = {outcome.photograph: outcome for outcome in outcomes if outcome.arm == arm and outcome.readable}
    names = tuple(name for name in labels if name in answers)
    forms = {form: _rows([_scores(answers[name], form) for name in names]) for form in (WRITTEN, EXPECTED, SERVED)}
    nothing_failed = np.zeros(len(names), dtype=np.bool_)
    table = ScoreTable(names, _rows([labels[name] for name in names]), forms, dict.fromkeys(forms, nothing_failed))
    moved = np.abs(forms[SERVED] - forms[WRITTEN])
    return ScoreForms(
        n=len(names),
        errors={form: float(table.squared_errors(form).mean()) if names else None for form in forms},
        served_against_written=compare_paired_errors(table, WRITTEN, margin=0.0, wanted=0.0, seed=seed, ours=SERVED),
        changed=float((moved > 0).mean()) if names else None,
        changed_far=float((moved >= FAR).mean()) if names else None,
    )


def _scores(outcome: EvaluationOutcome, form: str) -> Mapping[str, float]:
    if form == SERVED:
        try:
            critique = parse_critique_lenient(outcome.text).critique
        except CritiqueParseError:
            return outcome.scores
        return with_served_scores(critique, outcome.expected_scores).scores
    return outcome.best_scores if form == EXPECTED else outcome.scores


def _rows(scores: Sequence[Mapping[str, float]]) -> ScoreArray:
    table = np.array([[row[name] for name in DIMENSIONS] for row in scores], dtype=np.float64)
    return table.reshape(-1, len(DIMENSIONS))


def served_scores_note(forms: Mapping[str, ScoreForms], arm: str, p_value: float) -> tuple[str, ...]:
    """A sentence where an arm's served scores are shown to be further from the advisor's than the written ones.

    Args:
        forms: by arm.
        arm: to look at.
        p_value: significance level, one-sided.
    """
    found = forms.get(arm)
    if found is None or found.served_against_written.p_worse > p_value:
        return ()
    served, written = found.errors[SERVED], found.errors[WRITTEN]
    return (
        "The scores that people see (expected scores, rounded) are further from the advisor's than the digits that the "
        f"{arm} wrote: squared error {served:.3g} against {written:.3g}. Look at its score probabilities.",
    )
