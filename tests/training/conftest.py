"""The bundled base and a few short rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.prompts import AdvisorPrompt, training_messages
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique

ADVISOR = AdvisorPrompt("ansel", "Ansel Adams")


@pytest.fixture(scope="session")
def base() -> BaseVLM:
    """mini."""
    return load_base("mini")


def make_row(
    number: int,
    *,
    loss_dimensions: tuple[str, ...] = DIMENSIONS,
    weight: float = 1.0,
    size: tuple[int, int] = (128, 128),
    words: int = 1,
) -> DatasetRow:
    """A row of noise with scores that depend on its number; `words` makes it longer."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    scores = {name: float((number * 3 + i * 5) % 11) for i, name in enumerate(DIMENSIONS)}
    answer = canonical_answer(make_critique(scores, dict.fromkeys(DIMENSIONS, " ".join(["light"] * words))))
    return DatasetRow(
        photo_id=f"p{number}",
        image=image,
        messages=training_messages(ADVISOR, answer),
        answer=answer,
        scores=scores,
        loss_dimensions=loss_dimensions,
        weight=weight,
    )


@pytest.fixture(scope="session")
def rows() -> list[DatasetRow]:
    """Five rows of different lengths and shapes."""
    sizes = [(128, 128), (160, 128), (128, 192), (128, 128), (224, 128)]
    return [make_row(i, size=size, words=1 + i % 3) for i, size in enumerate(sizes)]


@pytest.fixture(scope="session")
def recipe() -> TrainRecipe:
    """Small enough for a test."""
    return TrainRecipe(rank=4, alpha=8, epochs=2, accumulation=2, learning_rate=5e-3, patience=5)


RowMaker = Callable[..., DatasetRow]


def files_of(folder: Path) -> set[str]:
    """Names in a folder, to see that nothing half-written is left."""
    return {path.name for path in folder.iterdir()}
