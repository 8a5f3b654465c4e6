"""The answer to train on: what fits into it, what is left out by name, and its spelling."""

from __future__ import annotations

from dataclasses import replace

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.rubric import (
    DIMENSIONS,
    MAX_COMMENT_CHARACTERS,
    MAX_PRIORITIES,
    MAX_REGIONS,
    AnswerForm,
    Assessment,
    Critique,
    make_critique,
)
from mondrian_core.training_target import fitting_advice, overlong_comments, training_target


def test_training_target_is_unescaped_nfc() -> None:
    comments = dict.fromkeys(DIMENSIONS, "It\u2019s scho\u0308n\u2028\x7f")
    text = training_target(make_critique(dict.fromkeys(DIMENSIONS, 7), comments))
    assert '"It\u2019s sch\u00f6n\u2028\\u007f"' in text
    assert parse_critique_strict(text).assessments["lighting"].comment == "It\u2019s sch\u00f6n\u2028\x7f"


def test_comments_over_the_limit_are_named_by_their_characters() -> None:
    assert overlong_comments({"lighting": "e\u0301" * 600}) == ""
    assert (
        overlong_comments({"lighting": "\U0001f305" * 601, "composition": "Level."})
        == "lighting 601 of at most 600 characters"
    )


def advising(assessment: Assessment, priorities: int = 0) -> Critique:
    plain = make_critique(dict.fromkeys(DIMENSIONS, 7), dict.fromkeys(DIMENSIONS, "Calm."))
    priority_improvements = tuple(f"Wait for rain {number}." for number in range(priorities))
    assessments = {**plain.assessments, "lighting": assessment}
    return replace(plain, assessments=assessments, priority_improvements=priority_improvements)


def test_advice_that_does_not_fit_is_left_out_by_name() -> None:
    box = (0.1, 0.1, 0.5, 0.5)
    regions = (*[box] * (MAX_REGIONS + 1), (0.2, 0.2, 0.2001, 0.9))
    kept, lost = fitting_advice(advising(Assessment(7, "Calm.", "Wait.", regions), MAX_PRIORITIES + 2))
    assert kept.regions == {"lighting": (box,) * MAX_REGIONS}
    assert len(kept.priority_improvements) == MAX_PRIORITIES
    assert lost == (
        "1 of the regions of lighting (too small to point at something)",
        f"1 of the regions of lighting (more than {MAX_REGIONS})",
        f"2 of the priority_improvements (more than {MAX_PRIORITIES})",
    )


def test_a_recommendation_that_does_not_fit_takes_its_regions_along() -> None:
    for text, problem in (("\u200b", "it says nothing"), ("x" * (MAX_COMMENT_CHARACTERS + 1), "601 of at most 600")):
        critique = advising(Assessment(7, "Calm.", text, ((0.1, 0.1, 0.5, 0.5),)))
        kept, (lost,) = fitting_advice(critique)
        assert kept.assessments["lighting"] == Assessment(7, "Calm.")
        assert lost.startswith("the recommendation on lighting (") and problem in lost
        assert parse_critique_strict(training_target(critique, AnswerForm.ADVICE)).recommendations == {}
