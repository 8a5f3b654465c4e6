"""Killed again and again at random moments, a run ends with the adapter of an uninterrupted one."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

pytestmark = [pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(1800)]


@contextmanager
def _started(root: Path, out: Path) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A training that is about to take its first step, and what it prints."""
    command = [sys.executable, "-m", "tests.training.killable", str(out)]
    with subprocess.Popen(command, cwd=root, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        yield process, process.stdout


def _run_through(root: Path, out: Path) -> float:
    """Seconds from the first step to the end."""
    with _started(root, out) as (process, said):
        began = time.monotonic()
        assert said.readline() == "ended\n"
        seconds = time.monotonic() - began
        assert process.wait() == 0
    return seconds


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_training_resumes_after_kill_at_random_moments(root: Path, tmp_path: Path, kills: int) -> None:
    from mondrian_core.training.checkpoints import load_checkpoint

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    duration = _run_through(root, whole)
    rng, steps = random.Random(kills), []
    for _ in range(kills):
        with _started(root, cut) as (process, _):
            time.sleep(rng.uniform(0, 2 * duration / kills))
            process.kill()
        found = load_checkpoint(cut)
        steps.append(found[0].step if found else 0)
    _run_through(root, cut)
    assert steps == sorted(steps) and steps[-1] > 0
    for name in ("adapters.safetensors", "adapter_config.json"):
        assert (cut / "adapter" / name).read_bytes() == (whole / "adapter" / name).read_bytes()
