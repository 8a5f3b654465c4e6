"""Small workspaces for the data tests: plain pictures, no renderer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mondrian_core.data.base_model_critic import BaseModelOutput
from mondrian_core.prompts import AdvisorPrompt, PortfolioComparison
from mondrian_core.rubric import DIMENSIONS, Critique, make_critique
from mondrian_core.store import DimensionalProfile, Store

VOICE = AdvisorPrompt("ansel", "Ansel Adams", "Landscapes.", "You are Ansel Adams.")


def picture(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A picture of soft blobs, different for each seed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 220, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def jpeg(seed: int, size: tuple[int, int] = (96, 64)) -> bytes:
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def profile(number: int, path: str | None = None, **changes: Any) -> DimensionalProfile:
    """A complete critique by a person; `changes` replace fields."""
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
    return DimensionalProfile(**{**values, **changes})


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


class Stub:
    """A critic without a model: sees the mean colour, scores by it, and says so. `unreadable` photographs (by the
    size of their pictures) get no critique; `compares` is what the second look gives."""

    def __init__(
        self, fingerprint: str = "stub", unreadable: tuple[tuple[int, int], ...] = (), compares: str | None = None
    ) -> None:
        self.fingerprint, self.unreadable, self.compares = fingerprint, unreadable, compares
        self.looked = self.scored = self.compared = 0

    def analyze_photograph(self, image: Image.Image, *, critique: bool) -> BaseModelOutput:
        self.looked += 1
        mean = np.asarray(image, dtype=float).mean(axis=(0, 1))
        vector = tuple(float(value) for value in mean / np.linalg.norm(mean))
        if not critique:
            return BaseModelOutput(vector)
        if image.size in self.unreadable:
            return BaseModelOutput(vector, problem="it mumbles")
        self.scored += 1
        scores = {name: 4.0 + (float(mean[place % 3]) - 120) / 20 for place, name in enumerate(DIMENSIONS)}
        scores = {name: min(10.0, max(0.0, score)) for name, score in scores.items()}
        return BaseModelOutput(
            vector, make_critique(scores, dict.fromkeys(DIMENSIONS, "The photograph shows a stone."))
        )

    def critique_with_references(self, image: Image.Image, comparison: PortfolioComparison) -> Critique | None:
        self.compared += 1
        self.comparison = comparison
        return make_critique(comparison.scores, dict.fromkeys(DIMENSIONS, self.compares)) if self.compares else None
