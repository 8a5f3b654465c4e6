"""Two versions side by side, and a version's family: from files as the evaluation writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mondrian_core.cli import main
from mondrian_core.evaluation.measure.outcomes import failed_outcome, outcome_from_answer
from mondrian_core.registry import (
    Registry,
    compare_version_critiques,
    compare_version_scores,
    read_version_answers,
    version_family,
)
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique
from mondrian_core.samples_file import SamplesFile
from tests.registry.conftest import manifest, write_adapter

ADVISOR = dict.fromkeys(DIMENSIONS, 6.0)
PHOTOGRAPHS = ("dune", "river", "fence")


def spoken(score: float, words: str) -> Any:
    """An answer as a model gives it, every dimension the same."""
    text = canonical_answer(make_critique(dict.fromkeys(DIMENSIONS, score), dict.fromkeys(DIMENSIONS, words)))
    return SimpleNamespace(
        text=text,
        tokens=(1, 2),
        finish_reason="stop",
        prompt_tokens=3,
        image_tokens=4,
        prefill_seconds=0.1,
        decode_seconds=0.2,
        expected_scores={},
        score_chances={},
    )


def journal(path: Path, scores: dict[str, float | None], words: str) -> Path:
    """`samples.jsonl` by the evaluation's own writer; None is an answer that nobody can read."""
    kept = SamplesFile(path)
    kept.resume_or_start({"candidate": words})
    for photograph, score in scores.items():
        kept.append("label", {"photograph": photograph, "scores": ADVISOR, "picture": "AAAA"})
        answer = spoken(score or 0.0, words)
        if score is None:
            answer.text = "I like it."
        kept.append("answer", outcome_from_answer(photograph, "candidate", answer).as_dict())
        kept.append("answer", outcome_from_answer(photograph, "base", spoken(3.0, "The base says so.")).as_dict())
    kept.append("answer", failed_outcome("unlit", "candidate", RuntimeError("no light")).as_dict())
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def pair(registry: Registry, tmp_path: Path, workspace: Path) -> Registry:
    """v0001 with its answers in its folder, v0002 with its in the run's."""
    samples = journal(tmp_path / "samples.jsonl", {"dune": 7.0, "river": 6.0, "fence": 5.0}, "Calm | light.")
    recipe = {"digest": "a" * 64, "values": {"train": {"rank": 8, "epochs": 3}}}
    metrics = {
        "arms": {
            "candidate": {"scores": {"mse": 0.7, "dimensions": {"lighting": {"mse": 0.1}}}},
            "base": {"scores": {"mse": 4.0}},
        },
        "per_photograph": [1, 2],
    }
    registry.register(
        "ansel",
        write_adapter(tmp_path / "a", 1),
        manifest(recipe=recipe, metrics=metrics, dataset={"digest": "d" * 64}),
        attachments=[samples],
    )
    journal(workspace / "runs" / "run-2" / "samples.jsonl", {"dune": 9.0, "river": 6.0, "fence": 6.0}, "Loud light.")
    changed = json.loads(json.dumps(recipe).replace('"rank": 8', '"rank": 16').replace("a" * 64, "b" * 64))
    better = json.loads(json.dumps(metrics).replace("0.7", "0.9"))
    registry.register(
        "ansel",
        write_adapter(tmp_path / "b", 2),
        manifest(
            "INCONCLUSIVE", run="run-2", recipe=changed, metrics=better, dataset={"digest": "e" * 64}, parent="v0001"
        ),
    )
    return registry


def test_scores_on_the_photographs_that_both_answered(pair: Registry, workspace: Path) -> None:
    first, second = (read_version_answers(version, workspace) for version in pair.versions("ansel"))
    assert set(first.answers) == {*PHOTOGRAPHS, "unlit"}, "the base's answers are not the version's"
    found = compare_version_scores(first, second)
    assert found["photographs"] == 3
    assert found["first"] == pytest.approx({"mse": 2 / 3, "mae": 2 / 3, "bias": 0.0})
    assert found["second"] == pytest.approx({"mse": 3.0, "mae": 1.0, "bias": 1.0})
    assert found["dimensions"]["lighting"] == pytest.approx(
        {"advisor": 6.0, "first": 6.0, "second": 7.0, "first_mse": 2 / 3, "second_mse": 3.0}
    )


def test_the_photographs_that_differ_most_come_first(pair: Registry, workspace: Path) -> None:
    first, second = (read_version_answers(version, workspace) for version in pair.versions("ansel"))
    rows = compare_version_critiques(first, second, 9)
    assert [row["photograph"] for row in rows] == ["dune", "fence", "river", "unlit"]
    assert rows[3]["first"] == {"unreadable": ""}
    dune = rows[0]
    assert dune["advisor"] == ADVISOR
    assert [dune[arm]["dimensional_analysis"]["lighting"] for arm in ("first", "second")] == [
        {"score": 7, "comment": "Calm | light."},
        {"score": 9, "comment": "Loud light."},
    ]
    assert compare_version_critiques(first, second, 0) == []


def test_where_only_one_can_be_read_comes_first(pair: Registry, workspace: Path) -> None:
    journal(workspace / "runs" / "run-2" / "samples.jsonl", {"dune": 9.0, "river": None, "fence": 6.0}, "Loud light.")
    first, second = (read_version_answers(version, workspace) for version in pair.versions("ansel"))
    rows = compare_version_critiques(first, second, 2)
    assert [row["photograph"] for row in rows] == ["river", "dune"]
    assert rows[0]["second"] == {"unreadable": "I like it."}
    assert compare_version_scores(first, second)["photographs"] == 2


def test_expected_scores_go_before_written_ones(registry: Registry, tmp_path: Path) -> None:
    kept = SamplesFile(tmp_path / "samples.jsonl")
    answer = spoken(7.0, "x")
    answer.expected_scores = dict.fromkeys(DIMENSIONS, 6.8)
    kept.append("answer", outcome_from_answer("dune", "candidate", answer).as_dict())
    kept.path.write_text(kept.path.read_text() + 'torn {"kind"')
    version = registry.register("ansel", write_adapter(tmp_path / "a"), manifest(), attachments=[kept.path])
    told = read_version_answers(version).answers["dune"]
    assert told.scores["lighting"] == 6.8 and told.critique is not None and told.critique.scores["lighting"] == 7


def test_a_run_named_like_a_path_is_not_followed(registry: Registry, tmp_path: Path, workspace: Path) -> None:
    journal(tmp_path / "elsewhere" / "samples.jsonl", {"dune": 7.0}, "x")
    version = registry.register("ansel", write_adapter(tmp_path / "a"), manifest(run="../../elsewhere"))
    assert read_version_answers(version, workspace).source is None


@pytest.fixture
def mondrian(pair: Registry, workspace: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: str) -> str:
        where = ["--advisor", "ansel", "--adapters", str(pair.root), "--workspace", str(workspace)]
        assert main(["adapters", *words, *where]) == 0
        return capsys.readouterr().out

    return run


def test_the_command_shows_recipe_data_metrics_scores_and_critiques(mondrian: Callable[..., str]) -> None:
    told = json.loads(mondrian("diff", "v0001", "v0002", "--json"))
    rows = {row["what"]: (row["first"], row["second"]) for row in told["differences"]}
    assert rows["recipe.values.train.rank"] == (8, 16) and rows["dataset.digest"] == ("d" * 64, "e" * 64)
    assert rows["metrics.arms.candidate.scores.mse"] == (0.7, 0.9) and rows["gate effect"] == ("PASS", "INCONCLUSIVE")
    assert not [name for name in rows if "base" in name or "dimensions" in name or "per_photograph" in name]
    assert told["scores"]["photographs"] == 3 and len(told["critiques"]) == 2
    text = mondrian("diff", "v0001", "v0002", "--photographs", "4")
    for words in (
        "Recipe",
        "Data",
        "Metrics",
        "Gates",
        "Calm | light.",
        "Loud light.",
        "Photograph dune",
        "unreadable",
        "Scores on the 3 labelled photographs",
        "Focus & Sharpness",
    ):
        assert words in text, words
    assert "d" * 13 not in text, "hashes are shortened"


def test_missing_answers_are_reported(mondrian: Callable[..., str], workspace: Path) -> None:
    (workspace / "runs" / "run-2" / "samples.jsonl").unlink()
    text = mondrian("diff", "v0001", "v0002")
    assert "answers of v0002 are no longer stored" in text and "rank" in text


def test_show_draws_the_family_and_the_history(mondrian: Callable[..., str], pair: Registry, tmp_path: Path) -> None:
    for parent in ("v0002", "v0001", "v0003"):
        pair.register("ansel", write_adapter(tmp_path / "c"), manifest("FAIL", parent=parent), "rejected")
    pair.promote("ansel", "v0001", expected=None, actor="person:me", reason="the first")
    pair.promote("ansel", "v0002", expected="v0001", actor="person:me", reason="louder", forced=True)
    told = json.loads(mondrian("show", "v0003", "--json"))
    assert told["lineage"] == ["v0003", "v0002", "v0001"]
    text = mondrian("show", "v0002")
    lines = [line.rstrip() for line in text.splitlines()]
    start = next(k for k, line in enumerate(lines) if line.startswith("v0001  retired"))
    shape = [(line[: line.index("v0")], line[line.index("v0") :].split()[:2]) for line in lines[start : start + 5]]
    assert [(len(indent) // 4, *names) for indent, names in shape] == [
        (0, "v0001", "retired"),
        (1, "v0002", "champion"),
        (2, "v0003", "rejected"),
        (3, "v0005", "rejected"),
        (1, "v0004", "rejected"),
    ]
    assert "<- this one" in lines[start + 1]
    assert "louder" in text and "promote" in text and "the first" not in text


def test_cyclic_lineage_terminates() -> None:
    def version(name: str, parent: str) -> Any:
        return SimpleNamespace(version=name, parent=parent, state="candidate", verdict=None, manifest={})

    circle = {"v0001": version("v0001", "v0002"), "v0002": version("v0002", "v0001")}
    assert version_family(circle, "v0001")["children"][0]["children"] == []
    gone = version_family({"v0007": version("v0007", "v0001")}, "v0007")
    assert (gone["version"], gone["state"], gone["children"][0]["version"]) == ("v0001", None, "v0007")
