"""Killed again and again at random moments, a run ends with the adapter of an uninterrupted one."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(1800)]
KILLS = 3


def _start(root: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "tests.training.killable", str(out)], cwd=root, text=True,
                            stdout=subprocess.PIPE)  # fmt: skip


def killed_often(root: Path, folder: Path, kills: int, seed: int) -> tuple[int, list[int]]:
    """(kills that were survived, checkpointed steps at each); raises when the adapters differ."""
    from mondrian_core.training.checkpoints import load_checkpoint

    began = time.monotonic()
    whole, cut = folder / "whole", folder / "cut"
    process = _start(root, whole)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    began = time.monotonic()
    assert process.stdout.readline() == "ended\n"
    duration = time.monotonic() - began
    rng, steps = random.Random(seed), []
    for _ in range(kills):
        process = _start(root, cut)
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        time.sleep(rng.uniform(0, 2 * duration / kills))
        process.kill()
        process.wait()
        found = load_checkpoint(cut)
        steps.append(found[0].step if found else 0)
    process = _start(root, cut)
    assert process.wait() == 0
    for name in ("adapters.safetensors", "adapter_config.json"):
        assert (cut / "adapter" / name).read_bytes() == (whole / "adapter" / name).read_bytes()
    return kills, steps


def test_killed_at_random_moments(root: Path, tmp_path: Path) -> None:
    _, steps = killed_often(root, tmp_path, KILLS, seed=1)
    assert steps == sorted(steps)
