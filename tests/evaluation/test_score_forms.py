"""Written, expected and served scores of one arm against the advisor's, on the same photographs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mondrian_core.evaluation.gates.results import GateMeasurements
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome, failed_outcome
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.evaluation.measure.score_forms import EXPECTED, SERVED, WRITTEN, score_forms, served_scores_note
from mondrian_core.evaluation.report.caveats import report_caveats
from mondrian_core.recipes import GateRecipe
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique

Critic = Callable[[np.ndarray], np.ndarray]


def answers(
    count: int, written: Critic, expected: Critic, comment: str = "Calm."
) -> tuple[dict[str, dict[str, float]], list[EvaluationOutcome]]:
    """The advisor's scores, and the candidate's answers about them."""
    rng, labels, outcomes = np.random.default_rng(1), {}, []
    for number in range(count):
        truth = rng.integers(3, 8, len(DIMENSIONS)).astype(float)
        scores = dict(zip(DIMENSIONS, map(int, written(truth)), strict=True))
        labels[f"photo-{number}"] = dict(zip(DIMENSIONS, truth.tolist(), strict=True))
        outcomes.append(
            EvaluationOutcome(
                photograph=f"photo-{number}",
                arm="candidate",
                status="valid",
                text=canonical_answer(make_critique(scores, dict.fromkeys(DIMENSIONS, comment))),
                scores={name: float(score) for name, score in scores.items()},
                expected_scores=dict(zip(DIMENSIONS, expected(truth).tolist(), strict=True)),
            )
        )
    return labels, outcomes


def test_served_scores_are_the_rounded_expected_ones() -> None:
    labels, outcomes = answers(12, lambda truth: truth + 2, lambda truth: truth + 0.4)
    found = score_forms(labels, outcomes, "candidate")
    assert found.errors == {WRITTEN: pytest.approx(4), EXPECTED: pytest.approx(0.16), SERVED: pytest.approx(0)}
    assert (found.n, found.changed, found.changed_far) == (12, 1, 1)
    assert found.served_against_written.reduction == 1 and found.served_against_written.p_better == 0.5**12
    assert served_scores_note({"candidate": found}, "candidate", 0.05) == ()


def test_worse_served_scores_are_said() -> None:
    labels, outcomes = answers(12, lambda truth: truth, lambda truth: truth + 1.2)
    found = score_forms(labels, outcomes, "candidate")
    (note,) = served_scores_note({"candidate": found}, "candidate", 0.05)
    assert "squared error 1 against 0" in note


def test_stated_scores_are_served_as_written() -> None:
    labels, outcomes = answers(4, lambda truth: truth * 0 + 2, lambda truth: truth, comment="Only a 2.")
    found = score_forms(labels, outcomes, "candidate")
    assert found.errors[SERVED] == found.errors[WRITTEN] and found.changed == 0


def test_fractions_of_an_arm_are_said() -> None:
    _, outcomes = answers(4, lambda truth: truth, lambda truth: truth)
    halves = [replace(each, arm="base", scores=dict.fromkeys(DIMENSIONS, 8.5)) for each in outcomes[:3]]
    nothing = defaultdict[str, int](int)
    for said, sentences in (
        (outcomes, ()),
        ([*outcomes, *halves], ("3 of 3 answers by the base state fractions such as 8.5; these count.",)),
    ):
        measured = GateMeasurements(samples=EvaluationSamples(outcomes=tuple(said)))
        assert report_caveats(measured, nothing, GateRecipe()) == sentences


def test_unreadable_answers_and_missing_arms_have_no_error() -> None:
    labels, outcomes = answers(3, lambda truth: truth, lambda truth: truth)
    outcomes[0] = failed_outcome("photo-0", "candidate", ValueError("no answer"))
    assert score_forms(labels, outcomes, "candidate").n == 2
    nothing = score_forms(labels, outcomes, "base")
    assert nothing.n == 0 and set(nothing.errors.values()) == {None} and nothing.changed is None
    assert served_scores_note({"base": nothing}, "base", 0.05) == ()
