"""What earlier answers let expect: bounded, of the same kind as what was seen, and modest where it is often wrong."""

from __future__ import annotations

import random

import pytest

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.models.decoding import WIDTHS
from mondrian_core.models.precedents import SIZES, PassCosts, Precedents

ANSWER = list(range(100, 160))


def taught(*answers: list[int], entries: int = 1 << 12) -> Precedents:
    memory = Precedents(entries)
    for answer in answers:
        memory.remember(answer)
    return memory


def test_an_answer_that_came_before_is_expected_again() -> None:
    memory = taught(ANSWER, ANSWER, ANSWER)
    assert memory.promising
    memory.begin()
    assert memory.ahead(5)[0] == ANSWER[:5], "from the first token on"
    for token in ANSWER[:20]:
        memory.add(token)
    tokens, chances = memory.ahead(8)
    assert tokens == ANSWER[20:28]
    assert len(chances) == 8 and chances == sorted(chances, reverse=True)
    assert all(0 < chance <= 1 for chance in chances)


def test_the_longest_context_decides() -> None:
    first, second = [1, 2, 3, 4, 9, 9, 5, 6], [7, 2, 3, 8, 9, 9, 4, 4]
    memory = taught(first, second)
    memory.begin()
    for token in [1, 2, 3, 4, 9, 9]:
        memory.add(token)
    assert memory.ahead(1)[0] == [5], "after (9, 9) alone the other answer was the last"
    memory.begin()
    for token in [0, 9, 9]:
        memory.add(token)
    assert memory.ahead(1)[0] in ([4], [5])


def test_a_steady_habit_outlives_one_exception_and_a_change_is_learned() -> None:
    memory = taught(*[[1, 2, 3]] * 4, [1, 2, 4])

    def expected() -> list[int]:
        memory.begin()
        memory.add(1)
        memory.add(2)
        return memory.ahead(1)[0]

    assert expected() == [3]
    for _ in range(6):
        memory.remember([1, 2, 4])
    assert expected() == [4]


def test_nothing_is_expected_after_what_never_came() -> None:
    memory = taught(ANSWER)
    memory.begin()
    memory.add(1)
    memory.add(2)
    assert memory.ahead(4) == ([], [])
    assert Precedents().ahead(4) == ([], []) and not Precedents().promising


def test_the_memory_is_bounded_and_the_oldest_goes_first() -> None:
    memory = Precedents(entries=400)
    rng = random.Random(0)
    memory.remember(ANSWER)
    for _ in range(50):
        memory.remember([rng.randrange(5000) for _ in range(60)])
        assert len(memory) <= 400
    memory.begin()
    for token in ANSWER[:20]:
        memory.add(token)
    assert memory.ahead(4)[0] == [], "what was never seen again is forgotten"
    memory.remember([rng.randrange(5000) for _ in range(20)])
    assert memory.ahead(1)[0] == []


def test_guesses_that_are_wrong_end_drafts_without_a_draft() -> None:
    """Two tokens that anything may follow, again and again: the trust in such guesses falls, nothing is drafted."""
    memory, rng = taught(*[ANSWER] * 3), random.Random(1)
    assert memory.promising
    for _ in range(100):
        memory.remember([1, 2, rng.randrange(1000, 5000)])
    memory.begin()
    memory.add(1)
    memory.add(2)
    assert memory.draft(1, 20) == []
    assert memory.drafted == 0
    for _ in range(100):
        memory.remember([rng.randrange(1000, 5000)])
    assert not memory.promising


def test_drafts_fill_passes_and_leave_room() -> None:
    memory = taught(*[ANSWER] * 30)
    memory.begin()
    for token in ANSWER[:10]:
        memory.add(token)
    assert memory.draft(1, 100) == ANSWER[10 : 10 + WIDTHS[-1] - 1], "as many as a pass of the greatest width takes"
    assert memory.draft(3, 4) == ANSWER[10:14]
    assert memory.draft(1, 0) == [] and memory.draft(WIDTHS[-1], 100) == []


def test_costs_that_were_measured_decide_how_long_a_draft_is() -> None:
    memory = taught(*[ANSWER] * 30)
    memory.begin()
    for token in ANSWER[:10]:
        memory.add(token)
    memory.costs.add(1, 0.001)
    for _ in range(9):
        memory.costs.add(16, 0.1)
    assert memory.draft(1, 100) == [], "a machine on which a wider pass costs as much as single ones"
    for _ in range(600):
        memory.costs.add(1, 0.001)
    assert memory.draft(1, 100), "a measurement that is not made anew is forgotten"


def test_neither_a_compilation_nor_an_interruption_moves_the_costs() -> None:
    costs = PassCosts()
    guessed = [costs.of(width) for width in WIDTHS]
    assert guessed == sorted(guessed) and guessed[0] == 1.0
    costs.add(8, 3.0)
    costs.add(1, 0.003)
    costs.add(8, 3.0)
    assert [costs.of(width) for width in WIDTHS] == guessed, "one measurement is none"
    for width in (7, 4, 16, 5):
        costs.add(1, 0.003)
        costs.add(width, 0.003 * (1 + 0.1 * (next(each for each in WIDTHS if each >= width) - 1)))
    for width in (17, 2):
        costs.add(width, 99.0)
    assert costs.of(8) == costs.of(5) == pytest.approx(1.7)
    assert costs.of(1) == 1.0 and costs.of(16) == pytest.approx(2.5)


def test_contexts_are_of_falling_size() -> None:
    assert list(SIZES) == sorted(SIZES, reverse=True) and SIZES[-1] >= 2
