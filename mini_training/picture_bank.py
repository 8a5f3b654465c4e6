"""A bank of rendered pictures at the model's resolution, drawn once and trained on many times.

`DIR/<aspect>.npy` holds (n, H, W, 3) uint8 pictures, `DIR/<aspect>.json` nothing but the scenes they came from, so
that labels can be computed again when the attributes change. The bank is a temporary folder outside the repository.
"""

from __future__ import annotations

import dataclasses
import io
import json
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mondrian_core.mini.renderer import render_scene
from mondrian_core.mini.scene import ASPECTS, Scene, sample_scene

SceneRenderer = Callable[[Scene], Image.Image]
FACTOR = 32  # patch 16 x merge 2
MIN_PIXELS, MAX_PIXELS = 128 * 128, 65536


def model_input_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) at which the processor shows a picture to the model (Qwen's smart_resize)."""
    w, h = round(width / FACTOR) * FACTOR, round(height / FACTOR) * FACTOR
    if w * h > MAX_PIXELS:
        shrink = (width * height / MAX_PIXELS) ** 0.5
        return (
            max(FACTOR, int(width / shrink / FACTOR) * FACTOR),
            max(FACTOR, int(height / shrink / FACTOR) * FACTOR),
        )
    if w * h < MIN_PIXELS:
        grow = (MIN_PIXELS / (width * height)) ** 0.5
        return -int(-width * grow // FACTOR) * FACTOR, -int(-height * grow // FACTOR) * FACTOR
    return w, h


def degrade_picture(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """What real files went through: JPEG at some quality, another pixel count. Scores stay."""
    if rng.random() < 0.5:
        scale = float(rng.uniform(0.85, 1.6))
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC
        )
    if rng.random() < 0.6:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(70, 96)))
        picture = Image.open(buffer).convert("RGB")
    return picture


def out_of_domain_picture(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A picture that isn't a landscape at all: noise, a gradient, blobs or bars. It teaches calm before the unknown."""
    width, height = size
    coarse = rng.integers(1, 24, 2)
    pattern = rng.random((int(coarse[0]), int(coarse[1]), 3)) ** rng.uniform(0.3, 3)
    if rng.random() < 0.5:
        pattern = np.repeat(pattern.mean(2, keepdims=True), 3, 2)
    picture = Image.fromarray((pattern * 255).astype(np.uint8))
    method = Image.Resampling.BICUBIC if rng.random() < 0.7 else Image.Resampling.NEAREST
    flat = np.asarray(picture.resize((width, height), method), np.float32)
    pixels = flat + rng.standard_normal((height, width, 1)) * rng.uniform(0, 50)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _draw(task: tuple[int, float, SceneRenderer]) -> tuple[Scene, bool, NDArray[np.uint8]]:
    seed, strange_share, render = task
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    size = model_input_size(*ASPECTS[scene.aspect])
    strange = bool(rng.random() < strange_share)
    picture = out_of_domain_picture(ASPECTS[scene.aspect], rng) if strange else degrade_picture(render(scene), rng)
    return scene, strange, np.asarray(picture.resize(size, Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class PictureShard:
    """Pictures of one aspect: (n, H, W, 3) uint8, their scenes, and which of them are strangers."""

    aspect: str
    pictures: NDArray[np.uint8]
    scenes: list[Scene]
    strange: NDArray[np.bool_]


def fill_picture_bank(
    folder: Path,
    count: int,
    seed: int,
    *,
    strange_share: float = 0.0,
    workers: int = 2,
    render: SceneRenderer = render_scene,
) -> None:
    """Draw pictures into a folder; one that is already filled is left alone.

    Args:
        folder: where the pictures go.
        count: how many.
        seed: picture i comes from seed * 10**7 + i.
        strange_share: share (0-1) of pictures that show no landscape.
        workers: processes that draw.
        render: draws one scene; a function of a module, so that processes can share it.
    """
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in ASPECTS}
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in ASPECTS}
    tasks = [(seed * 10**7 + i, strange_share, render) for i in range(count)]
    with multiprocessing.Pool(workers) as pool:
        for i, (scene, strange, pixels) in enumerate(pool.imap(_draw, tasks, chunksize=64)):
            pictures[scene.aspect].append(pixels)
            records[scene.aspect].append({**dataclasses.asdict(scene), "strange": strange})
            if (i + 1) % 4000 == 0:
                print(f"bank {folder.name}: {i + 1}/{count}", flush=True)
    for name in ASPECTS:
        stem = name.replace(":", "x")
        np.save(folder / f"{stem}.npy", np.stack(pictures[name]))
        (folder / f"{stem}.json").write_text(json.dumps(records[name]))
    (folder / "done").write_text("")


def load_picture_shards(folder: Path) -> Iterator[PictureShard]:
    """The shards of a bank, pictures memory-mapped."""
    for name in ASPECTS:
        stem = name.replace(":", "x")
        records = json.loads((folder / f"{stem}.json").read_text())
        strange = np.array([record.pop("strange") for record in records])
        pixels = np.load(folder / f"{stem}.npy", mmap_mode="r")
        yield PictureShard(name, pixels, [Scene(**record) for record in records], strange)
