"""What the vision tower is taught to measure, and batches of pictures with those measurements.

Legend: `B` pictures of one size, `N` merged image tokens of 32 x 32 pixels, `K` measurements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own convention
from numpy.typing import NDArray
from torch import Tensor

from mini_training.architecture import MERGE, PATCH
from mini_training.picture_bank import PictureShard, load_picture_shards
from mondrian_core.mini.layout import HALF_WIDTHS, RIVAL_KINDS, main_rival, picture_box, scene_layout
from mondrian_core.mini.scene import (
    ASPECTS,
    MAX_EV,
    MAX_LAYERS,
    MAX_RIVALS,
    MAX_TILT_DEG,
    SUBJECTS,
    Scene,
    sample_scene,
    scene_qualities,
)
from mondrian_core.rubric import Region

LOCAL_PIXEL_TARGETS = 7  # of a token's own pixels; then nearness of the subject and signed distance from the horizon
KINDS = tuple(HALF_WIDTHS)
LOCAL_TARGET_COUNT = LOCAL_PIXEL_TARGETS + 3 + len(KINDS)
MIRROR_TRANSFORM = np.array([[-1, 1, 1, -1], [1, 0, 0, 0]], np.float32)  # of `subject_target_place`: times, plus
MIRROR_ODD_MEASUREMENTS = ("subject_x", "tilt", "mass", "rival_x")  # change sign when the picture is mirrored
NEAR = 0.06  # spread of the nearness of a thing, share of the width
FAR_AWAY = 9.0  # a place outside of every picture, for things that aren't there


def scene_measurements(scene: Scene) -> dict[str, float]:
    """What the heads regress, each with about unit variance: one quality per dimension, then the facts behind them.

    NaN stands where a scene has no such thing (no rival).
    """
    quality = {name: (value - 0.5) / 0.28 for name, value in scene_qualities(scene).items()}
    facts = {
        "subject_x": (scene.subject_x - 0.5) * 4,
        "tilt": scene.tilt_deg / MAX_TILT_DEG * 1.7,
        "mass": scene.mass * 1.7,
        "ev": scene.ev / MAX_EV * 1.7,
        "tilt_size": abs(scene.tilt_deg) / MAX_TILT_DEG * 3 - 1.5,
        "mass_size": abs(scene.mass) * 3 - 1.5,
        "rivals": scene.rivals / MAX_RIVALS * 3 - 1.5,
        "layers": scene.layers / MAX_LAYERS * 3 - 1.5,
        "haze": scene.haze * 3 - 1.5,
        "path": scene.path * 2.5 - 1,
        "relief": scene.relief * 3 - 1.5,
        "drama": scene.drama * 3 - 1.5,
        "contrast": scene.contrast * 3 - 1.5,
        "subject_contrast": scene.subject_contrast * 3 - 1.5,
        "subject_bright": scene.subject_bright * 2 - 1,
        "horizon": (scene.horizon - 0.5) * 12,
        "mono": scene.mono * 2 - 1,
    }
    layout = scene_layout(scene)
    left, top, right, bottom = picture_box(scene, layout.subject)
    rival = main_rival(scene)
    near: Region = picture_box(scene, rival) if rival else (np.nan,) * 4
    boxes = {
        "subject_top": (top - 0.25) * 7,
        "subject_bottom": (bottom - 0.62) * 7,
        "subject_width": (right - left - 0.2) * 10,
        "rival_x": (near[0] + near[2] - 1) * 2,
        "rival_y": ((near[1] + near[3]) / 2 - 0.75) * 7,
        "rival_size": (near[3] - near[1] - 0.16) * 20,
    }
    kinds = {f"subject_is_{kind}": 2.0 * (scene.subject == kind) - 0.4 for kind in SUBJECTS}
    rivals = {f"rival_is_{kind}": 2.0 * (rival.kind == kind) - 0.4 if rival else np.nan for kind in RIVAL_KINDS}
    return {**quality, **facts, **boxes, **kinds, **rivals}


def measurement_names() -> list[str]:
    """Names of the K measurements, in their order."""
    return list(scene_measurements(sample_scene(np.random.default_rng(0))))


def local_patch_targets(pictures: NDArray[np.uint8], places: NDArray[np.float32]) -> Tensor:
    """What each merged token should know of its own 32 x 32 pixels: (B, N, 9), about unit spread.

    Log energy of detail at three scales, brightness, two colour differences, contrast, nearness of the subject, and
    signed distance from the horizon. Without it the tower is slow to find blur, subject and tilt.
    `places` holds (B, 4): subject x, subject y, horizon, tilt in radians.
    """
    x = torch.from_numpy(np.array(pictures)).float().permute(0, 3, 1, 2) / 255
    step = PATCH * MERGE
    grey = x.mean(1, keepdim=True)
    maps = []
    scaled = grey
    for _ in range(3):
        detail = (scaled - F.avg_pool2d(scaled, 3, 1, 1, count_include_pad=False)).abs()
        side = step * scaled.shape[-1] // grey.shape[-1]
        maps.append((F.avg_pool2d(detail, side) + 1e-3).log() * 0.8 + 3)
        scaled = F.avg_pool2d(scaled, 2)
    mean = F.avg_pool2d(x, step)
    spread = (F.avg_pool2d(grey**2, step) - F.avg_pool2d(grey, step) ** 2).clamp(min=0).sqrt()
    maps += [mean.mean(1, keepdim=True) * 4 - 1.6, (mean[:, :1] - mean[:, 1:2]) * 8, (mean[:, 2:] - mean[:, 1:2]) * 8]
    maps.append(spread * 10 - 1)
    height, width = mean.shape[2:]
    v, u = np.meshgrid((np.arange(height) + 0.5) / height - 0.5, (np.arange(width) + 0.5) / width - 0.5, indexing="ij")
    at, ratio = places[:, :, None, None], width / height
    turned_u = u * np.cos(at[:, 3]) + v / ratio * np.sin(at[:, 3]) + 0.5
    turned_v = (v / ratio * np.cos(at[:, 3]) - u * np.sin(at[:, 3])) * ratio + 0.5
    near = np.exp(-((turned_u - at[:, 0]) ** 2 + ((turned_v - at[:, 1]) / ratio) ** 2) / (2 * 0.06**2))
    below = np.clip((turned_v - at[:, 2]) * 6, -2, 2)
    placed = torch.from_numpy(np.stack([near * 4, below], 1).astype(np.float32))
    return torch.cat([*maps, placed], 1).flatten(2).transpose(1, 2)


def subject_target_place(scene: Scene) -> tuple[float, float, float, float]:
    """Subject x, middle of the subject, horizon (shares of the picture) and tilt (radians)."""
    width, height = ASPECTS[scene.aspect]
    middle = scene.horizon + 0.12 - scene.subject_size / 2 * min(width, height) / height
    return scene.subject_x, middle, scene.horizon, float(np.deg2rad(scene.tilt_deg))


def thing_places(scene: Scene) -> NDArray[np.float32]:
    """(1 + MAX_RIVALS, 3) of the subject and its rivals: centre of the box in fractions of the picture, kind."""
    layout = scene_layout(scene)
    places = np.full((1 + MAX_RIVALS, 3), FAR_AWAY, np.float32)
    for k, thing in enumerate((layout.subject, *layout.rivals)):
        left, top, right, bottom = picture_box(scene, thing)
        places[k] = (left + right) / 2, (top + bottom) / 2, KINDS.index(thing.kind)
    return places


def thing_nearness(grid: tuple[int, int], places: NDArray[np.float32]) -> Tensor:
    """(B, N, 1 + kinds) nearness (0-4) at each token: of any rival, then of a thing of each kind.

    Args:
        grid: rows and columns of tokens.
        places: (B, 1 + MAX_RIVALS, 3) of `thing_places`.
    """
    rows, columns = grid
    v, u = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    across = u[None, None] - places[:, :, 0, None, None]
    down = (v[None, None] - places[:, :, 1, None, None]) * rows / columns
    near = 4 * np.exp(-(across**2 + down**2) / (2 * NEAR**2))
    kinds = places[:, :, 2, None, None]
    channels = [near[:, 1:].max(1), *[(near * (kinds == k)).max(1) for k in range(len(KINDS))]]
    return torch.from_numpy(np.stack(channels, -1).astype(np.float32).reshape(len(places), -1, 1 + len(KINDS)))


class VisionTargets:
    """Measurements of every picture of some banks, and batches of pictures of one size."""

    def __init__(self, folders: Sequence[Path]) -> None:
        shards = [shard for folder in folders for shard in load_picture_shards(folder)]
        self.shards: list[PictureShard] = [shard for shard in shards if len(shard.scenes)]
        self.values = [
            np.array([list(scene_measurements(scene).values()) for scene in shard.scenes], np.float32)
            for shard in self.shards
        ]
        self.places = [
            np.array([subject_target_place(scene) for scene in shard.scenes], np.float32) for shard in self.shards
        ]
        self.things = [np.stack([thing_places(scene) for scene in shard.scenes]) for shard in self.shards]
        names = measurement_names()
        self.mirror = np.ones(len(names), np.float32)
        self.mirror[[names.index(name) for name in MIRROR_ODD_MEASUREMENTS]] = -1

    def batch(self, which: int, rows: NDArray[np.int64], *, flip: bool) -> tuple[NDArray[np.uint8], Tensor, Tensor]:
        """Pictures (B, H, W, 3), measurements (B, K) and local targets (B, N, LOCAL_TARGET_COUNT)."""
        pictures, values = self.shards[which].pictures[rows], self.values[which][rows]
        places, things = self.places[which][rows], self.things[which][rows]
        if flip:
            pictures, values = pictures[:, :, ::-1], values * self.mirror
            places = places * MIRROR_TRANSFORM[0] + MIRROR_TRANSFORM[1]
            things = things * np.array([-1, 1, 1], np.float32) + np.array([1, 0, 0], np.float32)
        grid = pictures.shape[1] // (PATCH * MERGE), pictures.shape[2] // (PATCH * MERGE)
        local = local_patch_targets(pictures, places)
        return pictures, torch.from_numpy(values), torch.cat([local, thing_nearness(grid, things)], 2)

    def stream(self, size: int, seed: int, skip: int = 0) -> Iterator[tuple[NDArray[np.uint8], Tensor, Tensor]]:
        """Pass after pass without end; sizes mixed from batch to batch, half of the batches mirrored. Skips `skip`."""
        turn = 0
        while True:
            rng = np.random.default_rng([seed, turn])
            for which, rows, flip in batch_plan(self.shards, size, rng):
                if skip:
                    skip -= 1
                    continue
                yield self.batch(which, rows, flip=flip)
            turn += 1


def batch_plan(
    shards: Sequence[PictureShard], size: int, rng: np.random.Generator
) -> list[tuple[int, NDArray[np.int64], bool]]:
    """One pass over the shards: (which shard, rows of one batch, whether it is mirrored) in random order."""
    plan = []
    for which, shard in enumerate(shards):
        order = rng.permutation(len(shard.scenes))
        for i in range(0, len(order) - size + 1, size):
            plan.append((which, np.sort(order[i : i + size]), bool(rng.random() < 0.5)))
    return [plan[at] for at in rng.permutation(len(plan))]
