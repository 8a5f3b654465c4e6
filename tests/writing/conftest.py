"""A workspace with an advisor, photographs of a few kinds, and a desk to write at."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import Store
from mondrian_core.store.photographs import Photograph, Photographs
from mondrian_core.writing.critique_entry import CritiqueEntry, parse_entry
from mondrian_core.writing.writing_desk import WritingDesk


def picture(hue: tuple[int, int, int], seed: int, size: tuple[int, int] = (96, 64)) -> bytes:
    """A JPEG of mostly one color, with noise of its own."""
    noise = np.random.default_rng(seed).integers(-20, 20, (size[1], size[0], 3))
    pixels = np.clip(np.array(hue) + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def full_entry(score: float = 7.0, **scores: float) -> CritiqueEntry:
    """A complete critique; `scores` replace the score of a dimension."""
    dimensions = {
        name: {"score": scores.get(name, score), "comment": f"The {name} carries the picture."} for name in DIMENSIONS
    }
    return parse_entry({"dimensions": dimensions})


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with the advisor vera and no photograph."""
    (tmp_path / "source").mkdir()
    with Store.create(tmp_path / "mondrian.db") as store:
        store.add_advisor(AdvisorPrompt("vera", "Vera", "Streets."))
    return tmp_path


@pytest.fixture
def store(workspace: Path) -> Iterator[Store]:
    with Store(workspace / "mondrian.db") as found:
        yield found


@pytest.fixture
def add_photograph(workspace: Path, store: Store) -> Callable[..., str]:
    """Add a photograph; returns its SHA-256."""

    def add(name: str, hue: tuple[int, int, int] = (90, 90, 90), seed: int = 0, portfolio: bool = False) -> str:
        data = picture(hue, seed)
        (workspace / "source" / name).write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        Photographs(store).add(
            Photograph(
                sha256=sha256,
                image_path=f"source/{name}",
                advisor="vera",
                portfolio=portfolio,
                width=96,
                height=64,
            )
        )
        return sha256

    return add


@pytest.fixture
def make_desk(workspace: Path, store: Store) -> Callable[[], WritingDesk]:
    """The desk as the workspace is now."""
    return lambda: WritingDesk(store, workspace, "vera")
