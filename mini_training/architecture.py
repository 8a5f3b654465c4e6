"""The shape of mini: a Qwen3-VL small enough for two CPU cores. Imports torch; only the training script needs it."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

PATCH, MERGE = 16, 2
VISION_WIDTH, TEXT_WIDTH = 160, 256
ROPE_THETA = 10000.0
MROPE_SECTION = [6, 5, 5]  # sums to head_dim / 2


def make_mini_config(vocab_size: int, token_ids: dict[str, int]) -> Qwen3VLConfig:
    """The configuration; `token_ids` maps Qwen's special tokens to their ids in our vocabulary."""
    rope = {"rope_type": "default", "rope_theta": ROPE_THETA, "mrope_section": MROPE_SECTION, "mrope_interleaved": True}
    text = {
        "model_type": "qwen3_vl_text",
        "vocab_size": vocab_size,
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "rope_parameters": rope,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": token_ids["<|im_end|>"],
        "pad_token_id": token_ids["<|endoftext|>"],
    }
    vision = {
        "model_type": "qwen3_vl_vision",
        "depth": 5,
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 480,
        "num_heads": 5,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "out_hidden_size": TEXT_WIDTH,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [1, 3],
    }
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token_ids["<|image_pad|>"],
        video_token_id=token_ids["<|video_pad|>"],
        vision_start_token_id=token_ids["<|vision_start|>"],
        vision_end_token_id=token_ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def build_mini_model(config: Qwen3VLConfig) -> Qwen3VLForConditionalGeneration:
    """A model with fresh weights, float32 on the CPU."""
    return Qwen3VLForConditionalGeneration(config).float()


def save_mini_model(model: Qwen3VLForConditionalGeneration, folder: Path) -> None:
    """config.json and model.safetensors, readable by transformers and by mlx-vlm."""
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    text = config["text_config"]
    text["rope_theta"] = ROPE_THETA  # mlx-vlm reads the older spelling of both
    text["rope_scaling"] = {"type": "default", "mrope_section": MROPE_SECTION, "mrope_interleaved": True}
    config["vision_config"]["model_type"] = "qwen3_vl"  # the name on the hub, which mlx-vlm insists on
    path.write_text(json.dumps(config, indent=2) + "\n")
