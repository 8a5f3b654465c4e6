"""Served scores: rounded expected values, a grade that fits, and no contradiction of the comment."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique, round_score
from mondrian_core.served_scores import states_score, with_served_scores

PLAIN = dict.fromkeys(DIMENSIONS, "Calm light on the ridge.")
EXPECTED = st.fixed_dictionaries(
    {name: st.floats(0, 10) | st.sampled_from([math.nan, math.inf, -math.inf]) for name in DIMENSIONS}
)


@given(st.fixed_dictionaries({name: st.integers(0, 10) for name in DIMENSIONS}), EXPECTED)
def test_served_critique_is_canonical_and_nearest_to_the_expected_scores(
    written: dict[str, float], expected: dict[str, float]
) -> None:
    served = with_served_scores(make_critique(written, PLAIN), expected)
    assert parse_critique_strict(canonical_answer(served)).scores == served.scores, "the strict reader accepts it"
    for name in DIMENSIONS:
        known = math.isfinite(expected[name])
        assert served.scores[name] == (round_score(expected[name]) if known else written[name])


def test_a_missing_expected_score_keeps_the_written_one() -> None:
    written = make_critique(dict.fromkeys(DIMENSIONS, 6), PLAIN, grade="6.4")
    assert with_served_scores(written, {}) is written, "nothing changes, not even the grade"
    served = with_served_scores(written, {"lighting": 7.6})
    assert (served.scores["lighting"], served.scores["composition"], served.overall_grade) == (8, 6, "6.3")


@pytest.mark.parametrize("comment", ["A solid 7.", "Light: 7/10", "seven out of ten", "Seven  out of 10", "f/7 (7)"])
def test_a_comment_that_states_the_written_score_is_not_contradicted(comment: str) -> None:
    written = make_critique(dict.fromkeys(DIMENSIONS, 7), {**PLAIN, "lighting": comment})
    served = with_served_scores(written, dict.fromkeys(DIMENSIONS, 8.8))
    assert (served.scores["lighting"], served.scores["composition"]) == (7, 9)


@pytest.mark.parametrize("comment", ["17 trees", "70 mm", "7.5 at best", "0.7 s", "seven trees", "1,7 and 7,5", "8/10"])
def test_other_numbers_are_not_the_score(comment: str) -> None:
    assert not states_score(comment, 7)


def test_ten_and_fractions_are_found() -> None:
    assert states_score("a 10!", 10) and not states_score("100 steps", 10)
    assert states_score("7.5 of 10", 7.5) and not states_score("7 of 10", 7.5)
