"""The gate `comments`: faults planted into recorded answers are refused by name, and sound answers pass.

The answers are critiques of mini's scenes, as an adapter with errors of one point would write them: no model runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.comment_faults import COMMENT_FAULTS, Comments, ScoredScene, sound_comments
from mondrian_core.cli import main
from mondrian_core.evaluation.gates.comments_gate import COMMENT_CHECKS, COMMENTS
from mondrian_core.evaluation.gates.results import FAIL, INCONCLUSIVE, PASS, GateMeasurements, GateResult
from mondrian_core.evaluation.measure.comments.measurement import comment_measurement
from mondrian_core.evaluation.measure.samples import load_evaluation_samples
from mondrian_core.mini import renderer
from mondrian_core.mini.scene_critic import ANSEL, GENERIC, WATKINS, score_scene
from mondrian_core.mini.tastes import AdvisorTaste
from mondrian_core.recipes import GateRecipe
from mondrian_core.rubric import MAX_SCORE, canonical_answer, make_critique
from mondrian_core.samples_file import BASE, CANDIDATE, SAMPLES_FORMAT, SAMPLES_NAME, SamplesFile

CHECKS = {check.name: check for check in COMMENT_CHECKS}
TRAINED, CANDIDATE_NATS, BASE_NATS, TOLD = 40, 0.26, 0.29, 0.15


def scenes(count: int, seed: int) -> list[ScoredScene]:
    """Scenes with the scores of an adapter: the advisor's, some of them a point off."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        scene = renderer.sample_scene(rng)
        scores = {
            name: int(np.clip(score + rng.integers(-1, 2), 0, MAX_SCORE))
            for name, score in score_scene(scene, ANSEL).items()
        }
        found.append(ScoredScene(scene, scores))
    return found


def answer(scores: Mapping[str, Any], comments: Comments) -> str:
    return canonical_answer(make_critique(dict(scores), comments))


def critiques(subjects: Sequence[ScoredScene], taste: AdvisorTaste, seed: int) -> list[str]:
    """What an advisor would write: own scores, own words."""
    rng = np.random.default_rng(seed)
    scored = [ScoredScene(each.scene, score_scene(each.scene, taste)) for each in subjects]
    return [answer(each.scores, each.comments(taste, rng)) for each in scored]


def write_run(
    folder: Path, subjects: Sequence[ScoredScene], comments: Sequence[Comments], *, others: bool = True
) -> Path:
    """A run folder with the samples of an evaluation whose candidate wrote these comments."""
    file = SamplesFile(folder / SAMPLES_NAME)
    file.resume_or_start({"format": SAMPLES_FORMAT, "asked": [BASE, CANDIDATE]})
    file.append("facts", {"values": {"advisor": "ansel", "split": "test", "leaked": []}})
    trained = scenes(TRAINED, 7)
    file.append("training", {"critiques": critiques(trained, ANSEL, 1)})
    if others:
        file.append("other_advisors", {"critiques": critiques(trained, WATKINS, 2)})
    rng, labels = np.random.default_rng(3), critiques(subjects, ANSEL, 4)
    names = [f"photo-{number:02d}" for number in range(len(subjects))]
    for number, (name, subject) in enumerate(zip(names, subjects, strict=True)):
        scores = score_scene(subject.scene, ANSEL)
        file.append("label", {"photograph": name, "title": name, "scores": scores, "critique": labels[number]})
        own = answer(subject.scores, comments[number])
        base = answer(score_scene(subject.scene, GENERIC), subject.comments(GENERIC, rng))
        for arm, text, nats in ((BASE, base, BASE_NATS), (CANDIDATE, own, CANDIDATE_NATS)):
            record = {"photograph": name, "arm": arm}
            file.append("answer", {**record, "status": "valid", "text": text, "scores": subject.scores})
            others_shown = [names[(number + step) % len(names)] for step in range(1, min(8, len(names)))]
            read = {other: nats + TOLD + rng.normal(0, 0.02) for other in others_shown}
            file.append("comment_likelihood", {**record, "nats": {name: nats + rng.normal(0, 0.01), **read}})
    return folder


def judged(folder: Path, recipe: GateRecipe | None = None) -> GateResult:
    """The gate's result on a run folder."""
    samples = load_evaluation_samples(folder / SAMPLES_NAME)
    return COMMENTS.evaluate(GateMeasurements(comments=comment_measurement(samples)), recipe or GateRecipe())


def parts_of(result: GateResult) -> dict[str, str]:
    return {part.name: part.verdict for part in result.parts}


@pytest.mark.parametrize("count", [8, 20])
def test_sound_comments_pass(tmp_path: Path, count: int) -> None:
    subjects = scenes(count, 11)
    result = judged(write_run(tmp_path, subjects, sound_comments(subjects, np.random.default_rng(5))))
    assert result.verdict == PASS, result.sentence
    assert FAIL not in parts_of(result).values()
    assert set(parts_of(result)) == set(CHECKS)


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
    subjects = scenes(20, 11)
    result = judged(write_run(tmp_path, subjects, COMMENT_FAULTS[fault](subjects, np.random.default_rng(5))))
    failed = {name for name, verdict in parts_of(result).items() if verdict == FAIL}
    assert result.verdict == FAIL
    assert failed & NAMED[fault], result.sentence
    assert all(f"{name}:" in result.sentence for name in failed)


def test_recited_critiques_are_copied(tmp_path: Path) -> None:
    subjects = scenes(12, 11)
    folder = write_run(tmp_path, subjects, sound_comments(subjects, np.random.default_rng(5)))
    samples, file = load_evaluation_samples(folder / SAMPLES_NAME), SamplesFile(folder / SAMPLES_NAME)
    long = {name: f"{text} I would carry the camera up the ridge again before dawn." for name, text in _long(samples)}
    recited = [answer(subject.scores, long) for subject in subjects]
    file.append("training", {"critiques": [*samples.training, recited[0]]})
    for number, text in enumerate(recited):
        record = {"photograph": f"photo-{number:02d}", "arm": CANDIDATE, "status": "valid"}
        file.append("answer", {**record, "text": text, "scores": subjects[number].scores})
    assert parts_of(judged(folder))["copied"] == FAIL


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
    subjects = scenes(12, 11)
    folder = write_run(tmp_path, subjects, sound_comments(subjects, np.random.default_rng(5)))
    for read in load_evaluation_samples(folder / SAMPLES_NAME).comment_likelihoods:
        if read.arm == arm:
            record = {"photograph": read.photograph, "arm": arm, "nats": change(read.nats, read.photograph)}
            SamplesFile(folder / SAMPLES_NAME).append("comment_likelihood", record)
    result = judged(folder)
    assert (result.verdict, parts_of(result)[check]) == (FAIL, FAIL)


def test_voice_is_not_judged_without_other_advisors_and_stops_nothing(tmp_path: Path) -> None:
    subjects = scenes(12, 11)
    sound = sound_comments(subjects, np.random.default_rng(5))
    result = judged(write_run(tmp_path, subjects, sound, others=False))
    assert (parts_of(result)["voice"], result.verdict) == (INCONCLUSIVE, PASS)
    assert "not judged: voice" in result.sentence


def test_too_few_photographs_are_inconclusive(tmp_path: Path) -> None:
    subjects = scenes(7, 11)
    result = judged(write_run(tmp_path, subjects, sound_comments(subjects, np.random.default_rng(5))))
    assert (result.verdict, result.n) == (INCONCLUSIVE, 7)


def test_samples_without_likelihoods_are_inconclusive(tmp_path: Path) -> None:
    subjects = scenes(12, 11)
    folder = write_run(tmp_path, subjects, sound_comments(subjects, np.random.default_rng(5)))
    path = folder / SAMPLES_NAME
    kept = [line for line in path.read_text().splitlines() if "comment_likelihood" not in line]
    path.write_text("\n".join(kept) + "\n")
    assert judged(folder).verdict == INCONCLUSIVE


def test_command_line_refuses_contradicting_comments_and_shows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subjects = scenes(12, 11)
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
