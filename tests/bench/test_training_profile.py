"""The profile of a training row, at a size that takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

import mondrian_core.training  # noqa: F401  (before mlx)
from bench import training_profile

pytestmark = pytest.mark.mini


def test_profile_compares_every_saving(tmp_path: Path) -> None:
    row = training_profile.RowProfile("mini", tokens=64, answer=40)
    savings = training_profile.measure_savings(row, pairs=2)
    assert savings["both"]["memory"][0] < 0.8 < savings[training_profile.PLAIN]["memory"][0] == 1.0
    parts = row.parts()
    text = training_profile.profile_markdown(savings, parts)
    assert all(f"| {name} |" in text for name in (*training_profile.SAVINGS, *parts))
    training_profile.draw_savings(savings, tmp_path / "profile.png")
    assert (tmp_path / "profile.png").read_bytes().startswith(b"\x89PNG")
