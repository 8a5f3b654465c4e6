"""Critiques where only their number matters."""

from __future__ import annotations

from pathlib import Path

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import DimensionalProfile, Store


def save_critiques(root: Path, advisor: str, count: int) -> None:
    """Save `count` complete critiques by `advisor` in a workspace, each of another photograph that has no file."""
    with Store(root / "mondrian.db") as store:
        for number in range(count):
            store.save_profile(
                DimensionalProfile(
                    id=f"{advisor}-{number}",
                    advisor=advisor,
                    image_path=f"source/{number}.jpg",
                    scores=dict.fromkeys(DIMENSIONS, 7.0),
                    comments=dict.fromkeys(DIMENSIONS, "Clear."),
                    overall_grade="7.0",
                )
            )
