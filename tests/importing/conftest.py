"""A workspace with an advisor, and photographs that differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mondrian_core.importing.importer import ImportSettings
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.store import Store

MAX_PIXELS = 80_000_000


def write_photograph(path: Path, seed: int = 0, size: tuple[int, int] = (96, 64), **more: Any) -> Path:
    """A photograph of soft random areas; another seed is another picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, **more)
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    (root / "source").mkdir(parents=True)
    with Store.create(root / "mondrian.db") as made:
        made.add_advisor(AdvisorPrompt("ansel", "Ansel Adams"))
        made.add_advisor(AdvisorPrompt("dorothea", "Dorothea Lange"))
    return root


@pytest.fixture
def store(workspace: Path) -> Iterator[Store]:
    with Store(workspace / "mondrian.db") as opened:
        yield opened


@pytest.fixture
def settings(workspace: Path) -> Callable[..., ImportSettings]:
    """Settings of an import for ansel, with changes."""

    def make(**changes: Any) -> ImportSettings:
        return ImportSettings(**{"root": workspace, "advisor": "ansel", "max_pixels": MAX_PIXELS} | changes)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a photographer: two sub-folders with equal names, a copy, bad files, other files, odd names."""
    top = tmp_path / "Pictures"
    for number, year in enumerate(("2024", "2025")):
        write_photograph(top / year / "IMG_0001.jpg", number)
    write_photograph(top / "2025" / "Überblick.png", 3)
    (top / "2025" / "copy.jpg").write_bytes((top / "2024" / "IMG_0001.jpg").read_bytes())
    (top / "2025" / "empty.jpg").touch()
    (top / "2025" / "cut.jpg").write_bytes((top / "2024" / "IMG_0001.jpg").read_bytes()[:300])
    (top / "2025" / "page.jpg").write_bytes(b"<!doctype html><p>Not found")
    (top / "2025" / "notes.txt").write_text("a note")
    return top
