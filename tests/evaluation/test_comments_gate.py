"""The gate `comments`: faults planted into recorded answers are refused by name, and sound answers pass.

The answers are critiques of mini's scenes, as an adapter with errors of one point would write them: no model runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.comment_error_rates import (
    SimulatedWriter,
    judge_comments,
    scored_scenes,
    write_comment_samples,
    written_comments,
)
from bench.comment_faults import COMMENT_FAULTS, Comments, ScoredScene
from mondrian_core.cli import main
from mondrian_core.evaluation.gates.comments_gate import COMMENT_CHECKS
from mondrian_core.evaluation.gates.results import FAIL, INCONCLUSIVE, PASS, GateResult
from mondrian_core.evaluation.measure.samples import load_evaluation_samples
from mondrian_core.rubric import canonical_answer, make_critique
from mondrian_core.samples_file import CANDIDATE, SAMPLES_NAME, SamplesFile

CHECKS = {check.name for check in COMMENT_CHECKS}


def scenes(count: int) -> list[ScoredScene]:
    """Photographs with an adapter's scores."""
    return scored_scenes(count, np.random.default_rng(11))


def write_run(folder: Path, subjects: Sequence[ScoredScene], comments: Sequence[Comments], **options: Any) -> Path:
    """A run folder whose candidate wrote these comments."""
    return write_comment_samples(folder, subjects, comments, np.random.default_rng(3), **options)


def sound(subjects: Sequence[ScoredScene]) -> list[Comments]:
    return written_comments(subjects, SimulatedWriter(), np.random.default_rng(5))


def parts_of(result: GateResult) -> dict[str, str]:
    return {part.name: part.verdict for part in result.parts}


@pytest.mark.parametrize("count", [8, 20])
def test_sound_comments_pass(tmp_path: Path, count: int) -> None:
    subjects = scenes(count)
    result = judge_comments(write_run(tmp_path, subjects, sound(subjects)))
    assert result.verdict == PASS, result.sentence
    assert FAIL not in parts_of(result).values()
    assert set(parts_of(result)) == CHECKS


# What a fault in the answers, and not in the likelihoods, is refused by.
NAMED = {
    "gibberish": {"broken", "voice", "specificity"},
    "comments of other photographs": {"specificity", "agreement"},
    "an empty word": {"broken", "specificity"},
    "another advisor's voice": {"voice"},
    "comments contradict scores": {"agreement"},
}


@pytest.mark.parametrize("fault", COMMENT_FAULTS)
def test_planted_fault_is_refused_by_name(tmp_path: Path, fault: str) -> None:
    subjects = scenes(20)
    result = judge_comments(write_run(tmp_path, subjects, COMMENT_FAULTS[fault](subjects, np.random.default_rng(5))))
    failed = {name for name, verdict in parts_of(result).items() if verdict == FAIL}
    assert result.verdict == FAIL
    assert failed & NAMED[fault], result.sentence
    assert all(f"{name}:" in result.sentence for name in failed)


def test_recited_critiques_are_copied(tmp_path: Path) -> None:
    subjects = scenes(12)
    folder = write_run(tmp_path, subjects, sound(subjects))
    samples, file = load_evaluation_samples(folder / SAMPLES_NAME), SamplesFile(folder / SAMPLES_NAME)
    long = {name: f"{text} I would carry the camera up the ridge again before dawn." for name, text in _long(samples)}
    recited = [canonical_answer(make_critique(dict(subject.scores), long)) for subject in subjects]
    file.append("training", {"critiques": [*samples.training, recited[0]]})
    for number, text in enumerate(recited):
        record = {"photograph": f"photo-{number:02d}", "arm": CANDIDATE, "status": "valid"}
        file.append("answer", {**record, "text": text, "scores": subjects[number].scores})
    assert parts_of(judge_comments(folder))["copied"] == FAIL


def _long(samples: Any) -> list[tuple[str, str]]:
    analysis = json.loads(samples.training[0])["dimensional_analysis"]
    return [(name, entry["comment"]) for name, entry in analysis.items()]


@pytest.mark.parametrize(
    ("arm", "change", "check"),
    [
        (CANDIDATE, lambda nats, name: {key: value * 1.4 for key, value in nats.items()}, "likelihood"),
        (
            CANDIDATE,
            lambda nats, name: dict.fromkeys(nats, nats[name]),
            "comments_depend_on_photograph",
        ),
    ],
)
def test_likelihoods_that_are_worse_than_the_bases_fail(tmp_path: Path, arm: str, change: Any, check: str) -> None:
    subjects = scenes(12)
    folder = write_run(tmp_path, subjects, sound(subjects))
    for read in load_evaluation_samples(folder / SAMPLES_NAME).comment_likelihoods:
        if read.arm == arm:
            record = {"photograph": read.photograph, "arm": arm, "nats": change(read.nats, read.photograph)}
            SamplesFile(folder / SAMPLES_NAME).append("comment_likelihood", record)
    result = judge_comments(folder)
    assert (result.verdict, parts_of(result)[check]) == (FAIL, FAIL)


def test_voice_is_not_judged_without_other_advisors_and_stops_nothing(tmp_path: Path) -> None:
    subjects = scenes(12)
    result = judge_comments(write_run(tmp_path, subjects, sound(subjects), others=False))
    assert (parts_of(result)["voice"], result.verdict) == (INCONCLUSIVE, PASS)
    assert "not judged: voice" in result.sentence


def test_too_few_photographs_are_inconclusive(tmp_path: Path) -> None:
    subjects = scenes(7)
    result = judge_comments(write_run(tmp_path, subjects, sound(subjects)))
    assert (result.verdict, result.n) == (INCONCLUSIVE, 7)


def test_samples_without_likelihoods_are_inconclusive(tmp_path: Path) -> None:
    subjects = scenes(12)
    folder = write_run(tmp_path, subjects, sound(subjects))
    path = folder / SAMPLES_NAME
    kept = [line for line in path.read_text().splitlines() if "comment_likelihood" not in line]
    path.write_text("\n".join(kept) + "\n")
    assert judge_comments(folder).verdict == INCONCLUSIVE


def test_command_line_refuses_contradicting_comments_and_shows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subjects = scenes(12)
    faulty = COMMENT_FAULTS["comments contradict scores"](subjects, np.random.default_rng(5))
    run = write_run(tmp_path / "run", subjects, faulty)
    assert main(["evaluate", "--rescore", str(run), "--json"]) == 1
    report = json.loads(Path(json.loads(capsys.readouterr().out)["report"]).read_text())
    gate = next(gate for gate in report["gates"] if gate["name"] == "comments")
    assert gate["verdict"] == "FAIL"
    assert "agreement:" in gate["sentence"]
    page = next((run / "rescored").rglob("report.html")).read_text()
    assert "<h2>Comments</h2>" in page
    assert "fits worst" in page
