"""What earlier answers let expect: bounded, of the same kind as what was seen, and modest where it is often wrong."""

from __future__ import annotations

import random

import pytest

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.models.inference.decoding import PASS_WIDTHS
from mondrian_core.models.inference.ngram_draft import CONTEXT_SIZES, ForwardPassCosts, NgramDrafter

ANSWER = list(range(100, 160))


@pytest.fixture(autouse=True)
def fixed_pass_costs() -> None:
    """These tests give the times of passes themselves, so the costs may follow them."""


def taught(*answers: list[int], entries: int = 1 << 12) -> NgramDrafter:
    memory = NgramDrafter(entries)
    for answer in answers:
        memory.learn_answer(answer)
    return memory


def test_repeated_answer_is_drafted() -> None:
    memory = taught(ANSWER, ANSWER, ANSWER)
    assert memory.worth_drafting
    memory.start_answer()
    assert memory.likely_continuation(5)[0] == ANSWER[:5], "from the first token on"
    for token in ANSWER[:20]:
        memory.observe(token)
    tokens, chances = memory.likely_continuation(8)
    assert tokens == ANSWER[20:28]
    assert len(chances) == 8 and chances == sorted(chances, reverse=True)
    assert all(0 < chance <= 1 for chance in chances)


def test_longest_matching_context_is_used() -> None:
    first, second = [1, 2, 3, 4, 9, 9, 5, 6], [7, 2, 3, 8, 9, 9, 4, 4]
    memory = taught(first, second)
    memory.start_answer()
    for token in [1, 2, 3, 4, 9, 9]:
        memory.observe(token)
    assert memory.likely_continuation(1)[0] == [5], "after (9, 9) alone the other answer was the last"
    memory.start_answer()
    for token in [0, 9, 9]:
        memory.observe(token)
    assert memory.likely_continuation(1)[0] in ([4], [5])


def test_steady_continuation_survives_one_exception() -> None:
    memory = taught(*[[1, 2, 3]] * 4, [1, 2, 4])

    def expected() -> list[int]:
        memory.start_answer()
        memory.observe(1)
        memory.observe(2)
        return memory.likely_continuation(1)[0]

    assert expected() == [3]
    for _ in range(6):
        memory.learn_answer([1, 2, 4])
    assert expected() == [4]


def test_unseen_context_has_no_draft() -> None:
    memory = taught(ANSWER)
    memory.start_answer()
    memory.observe(1)
    memory.observe(2)
    assert memory.likely_continuation(4) == ([], [])
    assert NgramDrafter().likely_continuation(4) == ([], []) and not NgramDrafter().worth_drafting


def test_table_is_bounded_and_drops_oldest_first() -> None:
    memory = NgramDrafter(entries=400)
    rng = random.Random(0)
    memory.learn_answer(ANSWER)
    for _ in range(50):
        memory.learn_answer([rng.randrange(5000) for _ in range(60)])
        assert len(memory) <= 400
    memory.start_answer()
    for token in ANSWER[:20]:
        memory.observe(token)
    assert memory.likely_continuation(4)[0] == [], "what was never seen again is forgotten"
    memory.learn_answer([rng.randrange(5000) for _ in range(20)])
    assert memory.likely_continuation(1)[0] == []


def test_failing_ngram_contexts_stop_drafting() -> None:
    """Two tokens that anything may follow, again and again: the trust in such guesses falls, nothing is drafted."""
    memory, rng = taught(*[ANSWER] * 3), random.Random(1)
    assert memory.worth_drafting
    for _ in range(100):
        memory.learn_answer([1, 2, rng.randrange(1000, 5000)])
    memory.start_answer()
    memory.observe(1)
    memory.observe(2)
    assert memory.draft(1, 20) == []
    assert memory.drafted == 0
    for _ in range(100):
        memory.learn_answer([rng.randrange(1000, 5000)])
    assert not memory.worth_drafting


def test_drafts_fit_pass_widths() -> None:
    memory = taught(*[ANSWER] * 30)
    memory.start_answer()
    for token in ANSWER[:10]:
        memory.observe(token)
    assert memory.draft(1, 100) == ANSWER[10 : 10 + PASS_WIDTHS[-1] - 1], (
        "as many as a pass of the greatest width takes"
    )
    assert memory.draft(3, 4) == ANSWER[10:14]
    assert memory.draft(1, 0) == [] and memory.draft(PASS_WIDTHS[-1], 100) == []


def test_measured_costs_determine_draft_length() -> None:
    memory = taught(*[ANSWER] * 30)
    memory.start_answer()
    for token in ANSWER[:10]:
        memory.observe(token)
    memory.costs.record(1, 0.001)
    for _ in range(9):
        memory.costs.record(16, 0.1)
    assert memory.draft(1, 100) == [], "a machine on which a wider pass costs as much as single ones"
    for _ in range(600):
        memory.costs.record(1, 0.001)
    assert memory.draft(1, 100), "a measurement that is not made anew is forgotten"


def test_costs_ignore_outliers() -> None:
    costs = ForwardPassCosts()
    guessed = [costs.cost(width) for width in PASS_WIDTHS]
    assert guessed == sorted(guessed) and guessed[0] == 1.0
    costs.record(8, 3.0)
    costs.record(1, 0.003)
    costs.record(8, 3.0)
    assert [costs.cost(width) for width in PASS_WIDTHS] == guessed, "one measurement is none"
    for width in (7, 4, 16, 5):
        costs.record(1, 0.003)
        costs.record(width, 0.003 * (1 + 0.1 * (next(each for each in PASS_WIDTHS if each >= width) - 1)))
    for width in (17, 2):
        costs.record(width, 99.0)
    assert costs.cost(8) == costs.cost(5) == pytest.approx(1.7)
    assert costs.cost(1) == 1.0 and costs.cost(16) == pytest.approx(2.5)


def test_context_lengths_are_descending() -> None:
    assert list(CONTEXT_SIZES) == sorted(CONTEXT_SIZES, reverse=True) and CONTEXT_SIZES[-1] >= 2
