"""Runs as values: states, figures, damage, links, and how fast many of them are listed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.errors import BadInput
from mondrian_core.runs import ACTIVE_SECONDS, RunCatalogue, UnknownRun, compare_runs, score_errors

RECIPE = {"name": "demo", "train": {"rank": 8, "seed": 3, "target_modules": ["q_proj"]}, "gates": {"p_value": 0.05}}
METRICS = {
    "photographs": {"labelled": 20},
    "arms": {"candidate": {"scores": {"mse": 1.5}}, "base": {"scores": {"mse": 2.8}}},
    "folds": None,
}
WHOLE = {
    "context.json": {"advisor": "ansel", "recipe": RECIPE, "adapter": None},
    "link.json": {"used": 60},
    "dataset.json": {"digest": "d" * 64, "photographs": {"train": 48, "test": 12}, "rows": {"train": 123}},
    "train.json": {"steps": 93, "best_epoch": 2, "seconds": 70.5, "trained_on": {"photographs": 48, "rows": 123}},
    "comparison_report.json": {"metrics": METRICS},
    "evaluate.json": {"verdict": "PASS"},
    "register.json": {"version": "v0002"},
    "promote.json": {"decision": "promoted", "version": "v0002", "sentence": "Promoted."},
}
BEGAN = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC


def write_run(
    workspace: Path, name: str = "20260921-141320-retrain-ansel-1a2b3c4d", last: str = "promote.json", **files: Any
) -> Path:
    """A run that came as far as the file `last`; `files` replace single ones by their stem."""
    folder = workspace / "runs" / name
    folder.mkdir(parents=True)
    for number, (file, values) in enumerate(WHOLE.items()):
        values = files.get(Path(file).stem, values)
        (folder / file).write_text(values if isinstance(values, str) else json.dumps(values))
        os.utime(folder / file, (BEGAN + 10 * number, BEGAN + 10 * number))
        if file == last:
            break
    return folder


def test_complete_run_is_read(tmp_path: Path) -> None:
    write_run(tmp_path)
    (run,) = RunCatalogue(tmp_path).runs()
    assert (run.advisor, run.state, run.recipe, run.seed, run.steps) == ("ansel", "complete", "demo", 3, 93)
    assert (run.verdict, run.decision, run.version) == ("PASS", "promoted", "v0002")
    assert (run.candidate_error, run.base_error, run.photographs, run.rows) == (1.5, 2.8, 48, 123)
    assert (run.started_at, run.training_seconds) == ("2026-09-21T14:13:20+00:00", 70.5)
    assert run.settings["train.rank"] == 8 and run.settings["gates.p_value"] == 0.05
    json.dumps(run.as_dict())


@pytest.mark.parametrize(
    ("last", "state", "command"),
    [
        ("link.json", "stopped", ""),
        ("dataset.json", "resumable", "mondrian retrain --advisor ansel --resume {name}"),
        ("train.json", "resumable", "mondrian retrain --advisor ansel --resume {name}"),
        ("evaluate.json", "resumable", "mondrian retrain --advisor ansel --resume {name}"),
        ("promote.json", "complete", ""),
    ],
)
def test_state_follows_from_the_files(tmp_path: Path, last: str, state: str, command: str) -> None:
    folder = write_run(tmp_path, last=last)
    (run,) = RunCatalogue(tmp_path, clock=lambda: BEGAN + 1e6).runs()
    assert (run.state, run.resume_command) == (state, command.format(name=folder.name))


def test_unfinished_run_with_recent_files_is_active(tmp_path: Path) -> None:
    write_run(tmp_path, last="train.json")
    now = [BEGAN + 30 + ACTIVE_SECONDS / 2]
    catalogue = RunCatalogue(tmp_path, clock=lambda: now[0])
    assert catalogue.runs()[0].state == "active"
    now[0] += ACTIVE_SECONDS
    assert catalogue.runs()[0].state == "resumable", "nothing has changed but the time"


def test_summaries_of_single_stages_are_no_run(tmp_path: Path) -> None:
    """`mondrian dataset` and `mondrian train --dry-run` leave them."""
    folder = write_run(tmp_path, last="dataset.json")
    (folder / "context.json").unlink()
    catalogue = RunCatalogue(tmp_path, clock=lambda: BEGAN + 30)
    assert catalogue.runs() == []
    with pytest.raises(UnknownRun):
        catalogue.run(folder.name)
    (folder / "context.json").write_text(json.dumps(WHOLE["context.json"]))
    assert [run.state for run in catalogue.runs()] == ["active"]


def test_evaluation_alone_is_complete_and_names_its_version(tmp_path: Path) -> None:
    context = {**WHOLE["context.json"], "adapter": "../adapters/ansel/v0007"}
    write_run(tmp_path, last="evaluate.json", context=context)
    (run,) = RunCatalogue(tmp_path, clock=lambda: BEGAN + 1e6).runs()
    assert (run.state, run.version, run.evaluates) == ("complete", "v0007", True)


def test_errors_by_folds_are_those_of_the_recipe() -> None:
    folds = {"arms": {"candidate": {"mse": 2.0}, "base": {"mse": 3.0}}}
    found = score_errors({"photographs": {"labelled": 0}, "arms": {"candidate": {"scores": {}}}, "folds": folds})
    assert found == {"candidate_error": 2.0, "base_error": 3.0, "by_folds": True}


@pytest.mark.parametrize(
    "damage",
    ["{", "[]", "null", '"text"', "[" * 100_000, "\x00\xff", '{"advisor": 5, "recipe": [], "train": "x"}', "NaN"],
)
def test_damaged_files_hide_no_run(tmp_path: Path, damage: str) -> None:
    write_run(tmp_path, "20260901-000000-sound-ansel", last="promote.json")
    write_run(tmp_path, "20260902-000000-broken-ansel", **dict.fromkeys((Path(file).stem for file in WHOLE), damage))
    broken, sound = RunCatalogue(tmp_path).runs()
    assert (sound.name, broken.name) == ("20260901-000000-sound-ansel", "20260902-000000-broken-ansel")
    assert sound.verdict == "PASS" and broken.verdict is None
    json.dumps([broken.as_dict()], allow_nan=False)


def test_figures_that_are_not_finite_are_unknown(tmp_path: Path) -> None:
    report = '{"metrics": {"photographs": {"labelled": 1}, "arms": {"candidate": {"scores": {"mse": NaN}}, "base": {"scores": {"mse": 1e400}}}}}'  # noqa: E501
    write_run(tmp_path, comparison_report=report)
    (run,) = RunCatalogue(tmp_path).runs()
    assert (run.candidate_error, run.base_error) == (None, None)


def test_links_and_other_folders_are_no_runs(tmp_path: Path) -> None:
    outside = write_run(tmp_path / "elsewhere", "20260101-000000-secret")
    folder = write_run(tmp_path, last="dataset.json")
    (tmp_path / "runs" / "20260102-000000-link").symlink_to(outside)
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "cache").mkdir()
    (tmp_path / "runs" / "cache" / "abc.json").write_text("{}")
    (folder / "report.html").symlink_to(outside / "train.json")
    catalogue = RunCatalogue(tmp_path)
    assert [run.name for run in catalogue.runs()] == [folder.name]
    assert catalogue.file(folder.name, "report.html") is None
    assert not catalogue.run(folder.name).has_report


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../runs/x", "a/b", "a\x00b", "x" * 300, "20260102-000000-link", "%2e%2e"]
)
def test_names_lead_out_of_no_folder(tmp_path: Path, name: str) -> None:
    write_run(tmp_path)
    (tmp_path / "runs" / "20260102-000000-link").symlink_to(write_run(tmp_path / "elsewhere", "secret"))
    with pytest.raises(UnknownRun, match="There is no run"):
        RunCatalogue(tmp_path).run(name)


def test_changed_run_is_read_again(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    catalogue = RunCatalogue(tmp_path)
    assert catalogue.runs()[0].verdict == "PASS"
    (folder / "evaluate.json").write_text('{"verdict": "FAIL"}')
    assert catalogue.runs()[0].verdict == "FAIL"
    (folder / "promote.json").unlink()
    assert catalogue.runs()[0].decision is None


def test_many_runs_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        write_run(tmp_path, f"20260921-1413{number:02}-retrain-ansel")
    catalogue = RunCatalogue(tmp_path)
    assert len(catalogue.runs()) == 60
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read again"))
    assert len(catalogue.runs()) == 60


def test_comparison_shows_what_differs(tmp_path: Path) -> None:
    write_run(tmp_path, "20260901-000000-a")
    other = {**RECIPE, "train": {**RECIPE["train"], "rank": 16}}
    write_run(tmp_path, "20260902-000000-b", context={"advisor": "ansel", "recipe": other, "adapter": None})
    runs = RunCatalogue(tmp_path).runs()
    compared = compare_runs(runs)
    assert compared["settings"] == [{"what": "train.rank", "values": [16, 8]}]
    assert {"what": "verdict", "values": ["PASS", "PASS"]} in compared["figures"]
    for chosen in (runs[:1], [runs[0], runs[0]], []):
        with pytest.raises(BadInput, match="Choose 2 to 8"):
            compare_runs(chosen)
