"""The planted faults do to the rows what their names say; training with them is the bench's own business."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import planted_faults
from bench.comment_faults import COMMENT_FAULTS
from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.measure.samples import load_evaluation_samples
from mondrian_core.mini.scene_critic import ANSEL
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import SamplesFile


@pytest.fixture(scope="module")
def world() -> planted_faults.SceneSplit:
    return planted_faults.make_scene_split(4, seed=1)


@pytest.fixture(scope="module")
def rows(world: planted_faults.SceneSplit) -> list[DatasetRow]:
    return planted_faults.scene_rows(world.train, ANSEL)


def changed(name: str, world: planted_faults.SceneSplit, rows: list[DatasetRow]) -> list[DatasetRow]:
    return planted_faults.FAULTS[name].transform(world, rows)


def test_no_fault_leaves_rows_unchanged(world: planted_faults.SceneSplit, rows: list[DatasetRow]) -> None:
    assert changed("sound", world, rows) == rows
    assert all(parse_critique_strict(row.answer).scores == row.scores for row in rows)


def test_training_and_test_share_no_photograph(world: planted_faults.SceneSplit, rows: list[DatasetRow]) -> None:
    assert len(world.test) == planted_faults.TEST_PHOTOGRAPHS
    pictures = {row.image.tobytes() for row in rows}
    assert not pictures & {row.image.tobytes() for row in planted_faults.scene_rows(world.test, ANSEL, "test")}


def test_advisor_fault_changes_critiques_of_same_photographs(
    world: planted_faults.SceneSplit, rows: list[DatasetRow]
) -> None:
    other = changed("another advisor", world, rows)
    assert [row.image.tobytes() for row in other] == [row.image.tobytes() for row in rows]
    assert any(row.scores != first.scores for row, first in zip(other, rows, strict=True))


def test_photograph_faults_keep_answers(world: planted_faults.SceneSplit, rows: list[DatasetRow]) -> None:
    for name in ("without photographs", "mixed up"):
        assert [row.answer for row in changed(name, world, rows)] == [row.answer for row in rows]
    assert all(np.ptp(np.asarray(row.image)) == 0 for row in changed("without photographs", world, rows))
    mixed = [row.image.tobytes() for row in changed("mixed up", world, rows)]
    own = [row.image.tobytes() for row in rows]
    assert sorted(mixed) == sorted(own) and all(a != b for a, b in zip(mixed, own, strict=True))


def test_score_faults_change_scores_and_answer(world: planted_faults.SceneSplit, rows: list[DatasetRow]) -> None:
    eight = changed("always 8", world, rows)
    assert all(set(parse_critique_strict(row.answer).scores.values()) == {8} for row in eight)
    for row, first in zip(changed("upside down", world, rows), rows, strict=True):
        assert parse_critique_strict(row.answer).scores == {name: 10 - score for name, score in first.scores.items()}
        assert row.messages[-1]["content"][0]["text"] == row.answer


@pytest.mark.parametrize("name", COMMENT_FAULTS)
def test_comment_faults_keep_scores_and_photographs(
    world: planted_faults.SceneSplit, rows: list[DatasetRow], name: str
) -> None:
    for row, first in zip(changed(name, world, rows), rows, strict=True):
        now, before = parse_critique_strict(row.answer), parse_critique_strict(first.answer)
        assert (row.image, row.scores, now.scores) == (first.image, first.scores, before.scores)
        assert all(now.assessments[key].comment != before.assessments[key].comment for key in DIMENSIONS[:1])
        assert row.messages[-1]["content"][0]["text"] == row.answer


@pytest.mark.mini
@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["sound", *COMMENT_FAULTS])
def test_adapters_trained_with_faulty_comments_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A sound adapter isn't, trained on as little."""
    assert planted_faults.main([name, "--photographs", "24", "--epochs", "3"]) == 0
    assert f"| {name} |" in capsys.readouterr().out


def test_truncated_answers_are_unparsable(world: planted_faults.SceneSplit, rows: list[DatasetRow]) -> None:
    for row in changed("cut short", world, rows):
        with pytest.raises(CritiqueParseError):
            parse_critique_strict(row.answer)


def test_leakage_fault_adds_test_photographs_to_training(
    world: planted_faults.SceneSplit, rows: list[DatasetRow]
) -> None:
    test = {row.photo_id for row in planted_faults.scene_rows(world.test, ANSEL, "test")}
    assert test <= {row.photo_id for row in changed("test in training", world, rows)}


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
def test_expected_verdict_per_fault(fault: str, verdict: str, meant: bool) -> None:
    assert planted_faults.is_expected_fault_result({"fault": fault, "verdict": verdict}) is meant


def test_every_gate_that_is_named_exists() -> None:
    from mondrian_core.evaluation.gates.definitions import GATES

    assert {fault.gate for fault in planted_faults.FAULTS.values()} <= {gate.name for gate in GATES}


def test_catastrophes_are_planted_on_photographs_without_labels(tmp_path: Path) -> None:
    samples = SamplesFile(tmp_path / "samples.jsonl")
    samples.resume_or_start({})
    for k in range(44):
        if k < 20:
            samples.append("label", {"photograph": str(k), "scores": dict.fromkeys(DIMENSIONS, 7.0)})
        for arm in ("base", "candidate"):
            scores = dict.fromkeys(DIMENSIONS, 7.0)
            samples.append(
                "answer",
                EvaluationOutcome(
                    photograph=str(k), arm=arm, status="valid", scores=scores, expected_scores=scores
                ).as_dict(),
            )
    planted_faults.invert_some_answers(samples.path)
    found = load_evaluation_samples(samples.path)
    inverted = [each for each in found.outcomes if set(each.best_scores.values()) == {3.0}]
    assert [(each.arm, each.photograph) for each in inverted] == [("candidate", "20"), ("candidate", "32")]
    assert len(found.outcomes) == 88
