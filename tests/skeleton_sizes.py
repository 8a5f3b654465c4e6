"""The published sizes of the Qwen-VL families, and a tiny one of each.

Sources: config.json of Qwen/Qwen3-VL-{2,4,8}B-Instruct, Qwen2-VL-{2,7}B-Instruct and Qwen2.5-VL-{3,7}B-Instruct.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class VisionTower:
    """A vision tower: layers, width, heads, MLP width, and the layers that are special in its family.

    `special` are DeepStack's layers in Qwen3-VL and the ones with full attention in Qwen2.5-VL.
    """

    depth: int
    width: int
    heads: int
    mlp: int
    special: tuple[int, ...] = ()

    def cut(self, depth: int | None) -> VisionTower:
        """The first `depth` layers, with as many special ones as fit, spread as in the whole tower."""
        kept = depth or self.depth
        places = {max(0, round((place + 1) * kept / self.depth) - 1) for place in self.special}
        return VisionTower(depth=kept, width=self.width, heads=self.heads, mlp=self.mlp, special=tuple(sorted(places)))


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """A published size of the language model, with its vision tower; heads are 128 wide in all of them."""

    width: int
    layers: int
    heads: int
    key_value_heads: int
    mlp: int
    tower: VisionTower
    tied: bool = True
    vocabulary: int = 151936


_TINY: dict[str, Any] = {"width": 256, "layers": 4, "mlp": 512}
_TOWER2 = VisionTower(depth=32, width=1280, heads=16, mlp=5120)
_TOWER2_5 = VisionTower(depth=32, width=1280, heads=16, mlp=3420, special=(7, 15, 23, 31))
_TOWER3 = VisionTower(depth=24, width=1024, heads=16, mlp=4096, special=(5, 11, 17))
_TOWER3_8B = VisionTower(depth=27, width=1152, heads=16, mlp=4304, special=(8, 16, 24))
_UNTIED: dict[str, Any] = {"tied": False, "vocabulary": 152064}
SIZES = {
    ("qwen2_vl", "tiny"): ModelSize(
        **_TINY, heads=2, key_value_heads=1, tower=VisionTower(depth=4, width=160, heads=2, mlp=640)
    ),
    ("qwen2_vl", "2b"): ModelSize(width=1536, layers=28, heads=12, key_value_heads=2, mlp=8960, tower=_TOWER2),
    ("qwen2_vl", "7b"): ModelSize(
        width=3584, layers=28, heads=28, key_value_heads=4, mlp=18944, tower=_TOWER2, **_UNTIED
    ),
    ("qwen2_5_vl", "tiny"): ModelSize(
        **_TINY, heads=2, key_value_heads=1, tower=VisionTower(depth=4, width=160, heads=2, mlp=420, special=(1, 3))
    ),
    ("qwen2_5_vl", "3b"): ModelSize(width=2048, layers=36, heads=16, key_value_heads=2, mlp=11008, tower=_TOWER2_5),
    ("qwen2_5_vl", "7b"): ModelSize(
        width=3584, layers=28, heads=28, key_value_heads=4, mlp=18944, tower=_TOWER2_5, **_UNTIED
    ),
    ("qwen3_vl", "tiny"): ModelSize(
        **_TINY, heads=4, key_value_heads=2, tower=VisionTower(depth=6, width=128, heads=2, mlp=256, special=(1, 3, 5))
    ),
    ("qwen3_vl", "2b"): ModelSize(width=2048, layers=28, heads=16, key_value_heads=8, mlp=6144, tower=_TOWER3),
    ("qwen3_vl", "4b"): ModelSize(width=2560, layers=36, heads=32, key_value_heads=8, mlp=9728, tower=_TOWER3),
    ("qwen3_vl", "8b"): ModelSize(
        width=4096, layers=36, heads=32, key_value_heads=8, mlp=12288, tower=_TOWER3_8B, tied=False
    ),
}
