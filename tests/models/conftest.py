"""The bundled base, loaded once, and a small photograph with a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.lora import lora_layers
from mondrian_core.prompts import AdvisorPrompt, critique_messages
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique

ADVISOR = AdvisorPrompt("ansel", "Ansel Adams", "American landscape photographer.")


def photograph(seed: int, size: tuple[int, int] = (160, 128)) -> Image.Image:
    """Noise of one seed over a gradient."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 120, (size[1], size[0], 3)) + np.linspace(0, 130, size[0])[None, :, None]
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="session")
def base() -> BaseVLM:
    """mini."""
    return load_base("mini")


@pytest.fixture(scope="session")
def messages() -> list[dict[str, Any]]:
    """System and user message."""
    return critique_messages(ADVISOR)


@pytest.fixture(scope="session")
def image() -> Image.Image:
    """A small photograph."""
    return photograph(1)


@pytest.fixture(scope="session")
def answer() -> str:
    """A short canonical answer; one score is a ten and one is a one."""
    scores = dict(zip(DIMENSIONS, (7, 10, 1, 4, 8, 0, 6, 9), strict=True))
    return canonical_answer(make_critique(scores, dict.fromkeys(DIMENSIONS, "Calm light.")))


def make_adapter(base: BaseVLM, folder: Path, *, seed: int = 0, size: float = 0.05, **recipe: Any) -> Path:
    """An adapter with random A and B, as training would leave it."""
    lora_layers.attach_lora(base, TrainRecipe(**recipe), seed)
    try:
        weights = lora_layers.attached_parameters(base)
        key = mx.random.key(seed)
        for name in sorted(weights):
            if name.endswith("lora_b"):
                key, own = mx.random.split(key)
                weights[name] = size * mx.random.normal(weights[name].shape, key=own)
        lora_layers.save_attached_adapter(base, folder, weights)
    finally:
        lora_layers.detach_lora(base)
    return folder


@pytest.fixture(scope="session")
def adapter(base: BaseVLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound adapter that changes the answers."""
    return make_adapter(base, tmp_path_factory.mktemp("adapter"), size=0.3)


@pytest.fixture(autouse=True)
def _no_adapter_left(base: BaseVLM) -> Any:
    yield
    mounted = base.cache.get("mounted")
    if mounted is not None:
        mounted.use(None)
