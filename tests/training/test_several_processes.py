"""One adapter trained by two processes: as by one, within rounding; what a lost process leaves can be gone on with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.training.conftest import files_of
from tests.training.starting import ended, started

pytestmark = [pytest.mark.mini, pytest.mark.slow]

MODULE = "tests.training.ranked_training"
LOSS_TOLERANCE = 1e-3  # relative: sums in another order, carried on by AdamW over six steps
WEIGHT_TOLERANCE = 0.05  # of the change's norm


def _together(root: Path, folder: Path, how: str) -> list[tuple[int, str, str]]:
    folder.mkdir(exist_ok=True)
    with started(root, folder, MODULE, str(folder), how) as running:
        return ended(running, 90)


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "0" / "training_log.jsonl").read_text().splitlines()]


def _close(found: Path, expected: Path) -> None:
    """Equal log and adapter, within the tolerances."""
    ours, theirs = _lines(found), _lines(expected)
    assert [(line["kind"], line["step"]) for line in ours] == [(line["kind"], line["step"]) for line in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        for name in ("loss", "train_loss", "validation_loss", "answers_score_error"):
            assert (mine.get(name) is None) == (other.get(name) is None), (mine["step"], name)
            if mine.get(name) is not None:
                assert mine[name] == pytest.approx(other[name], rel=LOSS_TOLERANCE), (mine["step"], name)
    weights, wanted = (load_file(each / "0" / "adapter" / "adapters.safetensors") for each in (found, expected))
    assert weights.keys() == wanted.keys()
    for name, array in wanted.items():
        assert np.linalg.norm(weights[name] - array) <= WEIGHT_TOLERANCE * np.linalg.norm(array), name


@pytest.mark.timeout(300)
def test_two_processes_train_as_one_and_go_on_after_a_loss(root: Path, tmp_path: Path) -> None:
    alone, two, lost = tmp_path / "alone", tmp_path / "two", tmp_path / "lost"
    alone.mkdir()
    subprocess.run([sys.executable, "-m", MODULE, str(alone), "whole"], cwd=root, check=True, timeout=90)
    said = _together(root, two, "whole")
    assert [status for status, _, _ in said] == [0, 0], said
    assert files_of(two) == {"hosts.json", "0"}  # the second rank wrote nothing
    _close(two, alone)
    said = _together(root, lost, "lost")
    assert [status for status, _, _ in said] == [3, -9], said
    assert "RankLost: Another process of this training went away." in said[0][2]
    assert not (lost / "0" / "adapter").exists() and _lines(lost)[-1]["step"] >= 4
    said = _together(root, lost, "resume")
    assert [status for status, _, _ in said] == [0, 0], said
    _close(lost, alone)


def test_other_rows_are_refused_before_the_first_step(root: Path, tmp_path: Path) -> None:
    said = _together(root, tmp_path / "rows", "rows")
    assert [status for status, _, _ in said] == [2, 2], said
    assert all("different from rank 0 in rows (rank 1)" in errors for _, _, errors in said)
    assert files_of(tmp_path / "rows") == {"hosts.json"}


@pytest.mark.timeout(300)
def test_two_processes_tune_as_one(root: Path, tmp_path: Path) -> None:
    """The second one has no file of the first's: adapter and reference come over the wire."""
    alone, two, module = tmp_path / "alone", tmp_path / "two", "tests.training.ranked_tuning"
    alone.mkdir()
    two.mkdir()
    subprocess.run([sys.executable, "-m", module, str(alone)], cwd=root, check=True, timeout=90)
    with started(root, two, module, str(two)) as running:
        said = ended(running, 90)
    assert [status for status, _, _ in said] == [0, 0], said
    assert files_of(two) == {"hosts.json", "0"}
    _close(two, alone)
    margins = [line["validation_margin"] for line in _lines(two) if "validation_margin" in line]
    assert len(margins) == 3 and margins[0] == 0.0 and margins[-1] > 0
