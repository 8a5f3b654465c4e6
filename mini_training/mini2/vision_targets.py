"""What the tower of the second generation is taught to measure: also what stands where.

Legend: `B` pictures of one size, `N` merged image tokens of 32 x 32 pixels, `K` measurements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mini_training import vision_targets as first_generation
from mini_training.architecture import MERGE, PATCH
from mini_training.mini2.layout import HALF_WIDTHS, RIVAL_KINDS, main_rival, picture_box, scene_layout
from mini_training.picture_bank import PictureShard, load_picture_shards
from mondrian_core.mini.scene import MAX_RIVALS, SUBJECTS, Scene, sample_scene
from mondrian_core.rubric import Region

KINDS = tuple(HALF_WIDTHS)
LOCAL_TARGET_COUNT = first_generation.LOCAL_TARGET_COUNT + 1 + len(KINDS)
MIRROR_ODD_MEASUREMENTS = (*first_generation.MIRROR_ODD_MEASUREMENTS, "rival_x")
NEAR = 0.06  # spread of the nearness of a thing, share of the width
FAR_AWAY = 9.0  # a place outside of every picture, for things that aren't there


def photo_measurements(scene: Scene) -> dict[str, float]:
    """What the heads regress, each with about unit variance; NaN where a scene has no such thing (no rival)."""
    layout = scene_layout(scene)
    left, top, right, bottom = picture_box(scene, layout.subject)
    rival = main_rival(scene)
    near: Region = picture_box(scene, rival) if rival else (np.nan,) * 4
    measured = {
        **first_generation.scene_measurements(scene),
        "subject_top": (top - 0.25) * 7,
        "subject_bottom": (bottom - 0.62) * 7,
        "subject_width": (right - left - 0.2) * 10,
        "rival_x": (near[0] + near[2] - 1) * 2,
        "rival_y": ((near[1] + near[3]) / 2 - 0.75) * 7,
        "rival_size": (near[3] - near[1] - 0.16) * 20,
    }
    kinds = {f"subject_is_{kind}": 2.0 * (scene.subject == kind) - 0.4 for kind in SUBJECTS}
    rivals = {f"rival_is_{kind}": 2.0 * (rival.kind == kind) - 0.4 if rival else np.nan for kind in RIVAL_KINDS}
    return {**measured, **kinds, **rivals}


def photo_measurement_names() -> list[str]:
    """Names of the K measurements, in their order."""
    return list(photo_measurements(sample_scene(np.random.default_rng(0))))


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


class PhotoTargets:
    """Measurements of every picture of some banks, and batches of pictures of one size."""

    def __init__(self, folders: Sequence[Path]) -> None:
        shards = [shard for folder in folders for shard in load_picture_shards(folder)]
        self.shards: list[PictureShard] = [shard for shard in shards if len(shard.scenes)]
        self.values = [
            np.array([list(photo_measurements(scene).values()) for scene in shard.scenes], np.float32)
            for shard in self.shards
        ]
        self.places = [
            np.array([first_generation.subject_target_place(scene) for scene in shard.scenes], np.float32)
            for shard in self.shards
        ]
        self.things = [np.stack([thing_places(scene) for scene in shard.scenes]) for shard in self.shards]
        names = photo_measurement_names()
        self.mirror = np.ones(len(names), np.float32)
        self.mirror[[names.index(name) for name in MIRROR_ODD_MEASUREMENTS]] = -1

    def batch(self, which: int, rows: NDArray[np.int64], *, flip: bool) -> tuple[NDArray[np.uint8], Tensor, Tensor]:
        """Pictures (B, H, W, 3), measurements (B, K) and local targets (B, N, LOCAL_TARGET_COUNT)."""
        pictures, values = self.shards[which].pictures[rows], self.values[which][rows]
        places, things = self.places[which][rows], self.things[which][rows]
        if flip:
            pictures, values = pictures[:, :, ::-1], values * self.mirror
            places = places * first_generation.MIRROR_TRANSFORM[0] + first_generation.MIRROR_TRANSFORM[1]
            things = things * np.array([-1, 1, 1], np.float32) + np.array([1, 0, 0], np.float32)
        grid = pictures.shape[1] // (PATCH * MERGE), pictures.shape[2] // (PATCH * MERGE)
        local = first_generation.local_patch_targets(pictures, places)
        return pictures, torch.from_numpy(values), torch.cat([local, thing_nearness(grid, things)], 2)

    def stream(self, size: int, seed: int, skip: int = 0) -> Iterator[tuple[NDArray[np.uint8], Tensor, Tensor]]:
        """Pass after pass without end; sizes mixed from batch to batch, half of the batches mirrored. Skips `skip`."""
        turn = 0
        while True:
            rng = np.random.default_rng([seed, turn])
            for which, rows, flip in first_generation.batch_plan(self.shards, size, rng):
                if skip:
                    skip -= 1
                    continue
                yield self.batch(which, rows, flip=flip)
            turn += 1
