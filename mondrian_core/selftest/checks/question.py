"""The questions of the self-test: rendered photographs and critiques, the same on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mondrian_core.dataset_types import DatasetRow
from mondrian_core.mini.renderer import render_scene
from mondrian_core.mini.scene import sample_scene
from mondrian_core.mini.scene_critic import write_scene_critique
from mondrian_core.mini.tastes import GENERIC
from mondrian_core.prompts import AdvisorPrompt, critique_messages, training_messages
from mondrian_core.rubric import DIMENSIONS, canonical_answer

if TYPE_CHECKING:
    from PIL import Image

ADVISOR = AdvisorPrompt("selftest", "Self-test")
SMALL_SIDE = 192  # pixels of the long side: few image tokens, so that a CPU keeps up
_SHORT_CHARACTERS = 80  # of an answer: the output layer over a large vocabulary is slow on a CPU
_SEED = 18


def question(long_side: int = SMALL_SIDE) -> tuple[list[dict[str, Any]], Image.Image]:
    """Messages and photograph of a question."""
    return critique_messages(ADVISOR), rows_to_train(1, long_side)[0].image


def rows_to_train(count: int, long_side: int = SMALL_SIDE, *, short: bool = False) -> list[DatasetRow]:
    """Rows of rendered photographs with critiques, the same at every call; `short` answers are only their beginning."""
    rng, rows = np.random.default_rng(_SEED), []
    for number in range(count):
        scene = sample_scene(rng)
        critique = write_scene_critique(scene, GENERIC, rng)
        answer = canonical_answer(critique)[: _SHORT_CHARACTERS if short else None]
        rows.append(
            DatasetRow(
                photo_id=f"selftest{number}",
                image=_resized(render_scene(scene), long_side),
                messages=training_messages(ADVISOR, answer),
                answer=answer,
                scores=critique.scores,
                loss_dimensions=tuple(DIMENSIONS),
                weight=1.0,
            )
        )
    return rows


def _resized(image: Image.Image, long_side: int) -> Image.Image:
    factor = long_side / max(image.size)
    return image.resize((round(image.width * factor), round(image.height * factor)))
