"""The figures of a retraining come from its report, wherever the other folders of `runs` are in the order of names."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench import sample_retraining
from mondrian_core.errors import Broken


def test_the_run_with_a_report_is_found_among_caches_and_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"

    def retrain(*_: object, **__: object) -> None:
        for name in ("20261128-170214-retrain", "cache", "retrained"):
            (runs / name).mkdir(parents=True)
        (runs / "20261128-170214-retrain" / "comparison_report.json").write_text(json.dumps({"verdict": "PASS"}))

    monkeypatch.setattr(subprocess, "run", retrain)
    run = sample_retraining._retrained_run(tmp_path, ())
    assert sample_retraining._report_of(run) == {"verdict": "PASS"}


def test_a_retraining_without_evaluation_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "cache").mkdir(parents=True)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    with pytest.raises(Broken, match="without an evaluation"):
        sample_retraining._retrained_run(tmp_path, ())
