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

from mondrian_core.models.base_model import BaseVLM
from tests.training.killable import STEPS_PER_EPOCH, train

pytestmark = [pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(1800)]


@contextmanager
def _started(root: Path, out: Path, epochs: int) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A training that is about to take its next step, and what it prints."""
    command = [sys.executable, "-m", "tests.training.killable", str(out), str(epochs)]
    with subprocess.Popen(command, cwd=root, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        yield process, process.stdout


@pytest.mark.parametrize(("kills", "epochs"), [(2, 4), pytest.param(20, 12, marks=pytest.mark.soak)])
def test_training_resumes_after_kill_at_random_moments(
    base: BaseVLM, root: Path, tmp_path: Path, kills: int, epochs: int
) -> None:
    """Killed by counted steps plus a part of a step, so that the load of the machine doesn't matter."""
    from mondrian_core.training.checkpoints import load_checkpoint

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    began, total = time.monotonic(), epochs * STEPS_PER_EPOCH
    train(base, whole, epochs)
    step_seconds = (time.monotonic() - began) / total
    rng, reached = random.Random(kills), []
    for number in range(kills):
        with _started(root, cut, epochs) as (process, output):
            for _ in range(rng.randint(1, (total - 2) // kills) + (number == 0)):  # a checkpoint is there by the second
                assert output.readline().strip().isdigit()
            time.sleep(rng.uniform(0, step_seconds))
            process.kill()
        found = load_checkpoint(cut)
        assert found is not None
        reached.append(found[0].step)
    with _started(root, cut, epochs) as (process, output):
        assert output.read().endswith("ended\n")
    assert process.returncode == 0
    assert reached == sorted(reached) and 0 < reached[0] < total
    for name in ("adapters.safetensors", "adapter_config.json"):
        assert (cut / "adapter" / name).read_bytes() == (whole / "adapter" / name).read_bytes()
