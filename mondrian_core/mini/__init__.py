"""mini, the bundled base model: weights of a small Qwen3-VL, and the renderer of the photographs it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["mini_weights_path", "rendered_photographs"]


def mini_weights_path() -> Path:
    """The folder that `mlx_vlm.load` opens: config, float32 weights, tokenizer, processor and model card."""
    return Path(__file__).resolve().parent / "weights"


def rendered_photographs(count: int, seed: int) -> list[Image.Image]:
    """`count` rendered photographs (RGB, 384-480 pixels on the long side); the same seed gives the same pictures."""
    import numpy as np

    from mondrian_core.mini.renderer import render_scene
    from mondrian_core.mini.scene import sample_scene

    rng = np.random.default_rng(seed)
    return [render_scene(sample_scene(rng)) for _ in range(count)]
