"""The tower that training continues: the released one's tensors, in half the size."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from mini_training.mini2.train import CHECKPOINT
from mondrian_core.mini import mini_weights_path

LARGEST = 16 * 1024**2  # bytes


def header(file: Path) -> dict[str, dict]:
    with file.open("rb") as opened:
        found = json.loads(opened.read(struct.unpack("<Q", opened.read(8))[0]))
    found.pop("__metadata__", None)
    return found


def test_checkpoint_has_the_released_towers_tensors_in_bfloat16() -> None:
    released = {
        name: tensor["shape"]
        for name, tensor in header(mini_weights_path() / "model.safetensors").items()
        if name.startswith("model.visual.")
    }
    kept = header(CHECKPOINT)
    assert {name: tensor["shape"] for name, tensor in kept.items()} == released
    assert {tensor["dtype"] for tensor in kept.values()} == {"BF16"}
    assert sum(file.stat().st_size for file in CHECKPOINT.parent.iterdir()) <= LARGEST
