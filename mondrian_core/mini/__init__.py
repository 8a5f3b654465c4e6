"""mini, the bundled base model: a small Qwen3-VL trained by this folder on rendered photographs."""

from __future__ import annotations

from pathlib import Path

__all__ = ["weights_path"]


def weights_path() -> Path:
    """The folder that `mlx_vlm.load` opens: config, float32 weights, tokenizer, processor and model card."""
    return Path(__file__).resolve().parent / "weights"
