"""Small workspaces for the tests of this room: plain pictures, no renderer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mondrian_core.prompts import Voice
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import Profile, Store

VOICE = Voice("ansel", "Ansel Adams", "Landscapes.", "You are Ansel Adams.")


def picture(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Soft blobs, different for each seed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 220, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def jpeg(seed: int, size: tuple[int, int] = (96, 64)) -> bytes:
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def profile(number: int, path: str | None = None, **changes: Any) -> Profile:
    """A complete critique by a person; `changes` go over the fields."""
    values: dict[str, Any] = {
        "id": f"p{number}",
        "advisor": "ansel",
        "image_path": path or f"source/photo_{number}.jpg",
        "scores": {name: float((number + index) % 11) for index, name in enumerate(DIMENSIONS)},
        "comments": dict.fromkeys(DIMENSIONS, f"Photograph {number}: the tree stands on the left."),
        "overall_grade": "5.0",
        "origin": "human",
        "created_at": f"2026-01-01T10:00:{number % 60:02d}",
    }
    return Profile(**{**values, **changes})


def workspace_of(folder: Path, photographs: int, first: int = 0) -> Store:
    """A workspace with that many photographs and a critique of each; the store is open for writing."""
    (folder / "source").mkdir(parents=True, exist_ok=True)
    (folder / "analysis_md").mkdir(exist_ok=True)
    for number in range(first, first + photographs):
        (folder / "source" / f"photo_{number}.jpg").write_bytes(jpeg(number))
    path = folder / "mondrian.db"
    store = Store(path) if path.exists() else Store.create(path)
    store.add_advisor(VOICE)
    store.add_profiles(profile(number) for number in range(first, first + photographs))
    return store
