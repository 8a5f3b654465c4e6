"""The planted faults do to the rows what their names say; training with them is the bench's own business."""

from __future__ import annotations

import numpy as np
import pytest

from bench import planted
from mondrian_core.mini.critic import ANSEL
from mondrian_core.rows import Row
from mondrian_core.rubric import Unparsable, read_strict


@pytest.fixture(scope="module")
def world() -> planted.World:
    return planted.world_of(4, seed=1)


@pytest.fixture(scope="module")
def rows(world: planted.World) -> list[Row]:
    return planted.rows_of(world.train, ANSEL)


def changed(name: str, world: planted.World, rows: list[Row]) -> list[Row]:
    return planted.FAULTS[name].change(world, rows)


def test_sound_rows_are_left_alone(world: planted.World, rows: list[Row]) -> None:
    assert changed("sound", world, rows) == rows
    assert all(read_strict(row.answer).scores == row.scores for row in rows)


def test_training_and_test_share_no_photograph(world: planted.World, rows: list[Row]) -> None:
    assert len(world.test) == planted.TESTED
    pictures = {row.image.tobytes() for row in rows}
    assert not pictures & {row.image.tobytes() for row in planted.rows_of(world.test, ANSEL, "test")}


def test_another_advisor_sees_the_same_photographs_otherwise(world: planted.World, rows: list[Row]) -> None:
    other = changed("another advisor", world, rows)
    assert [row.image.tobytes() for row in other] == [row.image.tobytes() for row in rows]
    assert any(row.scores != first.scores for row, first in zip(other, rows, strict=True))


def test_photographs_are_lost_or_mixed_up_and_answers_stay(world: planted.World, rows: list[Row]) -> None:
    for name in ("without photographs", "mixed up"):
        assert [row.answer for row in changed(name, world, rows)] == [row.answer for row in rows]
    assert all(np.ptp(np.asarray(row.image)) == 0 for row in changed("without photographs", world, rows))
    mixed = [row.image.tobytes() for row in changed("mixed up", world, rows)]
    own = [row.image.tobytes() for row in rows]
    assert sorted(mixed) == sorted(own) and all(a != b for a, b in zip(mixed, own, strict=True))


def test_scores_are_eight_or_upside_down_in_the_answer_too(world: planted.World, rows: list[Row]) -> None:
    eight = changed("always 8", world, rows)
    assert all(set(read_strict(row.answer).scores.values()) == {8} for row in eight)
    for row, first in zip(changed("upside down", world, rows), rows, strict=True):
        assert read_strict(row.answer).scores == {name: 10 - score for name, score in first.scores.items()}
        assert row.messages[-1]["content"][0]["text"] == row.answer


def test_cut_answers_cannot_be_read(world: planted.World, rows: list[Row]) -> None:
    for row in changed("cut short", world, rows):
        with pytest.raises(Unparsable):
            read_strict(row.answer)


def test_the_test_gets_into_the_training(world: planted.World, rows: list[Row]) -> None:
    test = {row.lineage for row in planted.rows_of(world.test, ANSEL, "test")}
    assert test <= {row.lineage for row in changed("test in training", world, rows)}


@pytest.mark.parametrize(
    ("fault", "verdict", "meant"),
    [
        ("sound", "PASS", True),
        ("sound", "INCONCLUSIVE", True),
        ("sound", "FAIL", False),
        ("mixed up", "FAIL", True),
        ("mixed up", "INCONCLUSIVE", True),
        ("mixed up", "PASS", False),
    ],
)
def test_what_counts_as_caught(fault: str, verdict: str, meant: bool) -> None:
    assert planted.as_meant({"fault": fault, "verdict": verdict}) is meant


def test_every_gate_that_is_named_exists() -> None:
    from mondrian_core.evaluation.gates import GATES

    assert {fault.gate for fault in planted.FAULTS.values()} <= set(GATES)
