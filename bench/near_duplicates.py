"""`python -m bench.near_duplicates`: how many edited copies the near-duplicate search finds, and how often it errs.

Found: rendered photographs (and those of --folder) are cropped, framed and turned, reduced to 60 % and saved as JPEG
with quality 60. An edit is found when the copy and its original are near-duplicates, by the perceptual hash alone and
by the whole search. False: pairs among different rendered photographs; among them are scenes of the same settings whose
details were drawn again. Time: fingerprints, and the search over pictures of noise with the spectrum of photographs.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mondrian_core.errors import BadPhotograph
from mondrian_core.image_alignment import comparison_thumbnail
from mondrian_core.images import PHOTOGRAPH_SUFFIXES, downscale_to_fit, jpeg_bytes, open_photograph
from mondrian_core.mini.renderer import render_scene
from mondrian_core.mini.scene import sample_scene
from mondrian_core.near_duplicates import (
    PhotographFingerprint,
    near_duplicate_pairs,
    near_duplicates_of,
    photograph_fingerprint,
)

ImageEdit = Callable[[Image.Image], Image.Image]
EDITED, DIFFERENT, REDRAWN, SEARCHED = 60, 500, 60, 5000
BORDER_COLORS = ("black", "white", "#804020")


@dataclass(frozen=True)
class DetectionRate:
    """Edited copies of one kind: how many there are, and how many are found by hashes alone and by the whole search."""

    edit: str
    copies: int
    by_hash: int
    found: int


@dataclass(frozen=True)
class FalsePairs:
    """Pairs among different photographs: how many there are, and how many are taken for near-duplicates."""

    photographs: int
    pairs: int
    by_hash: int
    found: int


def _crop(image: Image.Image, share: float, across: float, down: float) -> Image.Image:
    """`share` of each side; `across` and `down` 0 (left, top) to 1."""
    width, height = round(image.width * share), round(image.height * share)
    left, top = round((image.width - width) * across), round((image.height - height) * down)
    return image.crop((left, top, left + width, top + height))


def _framed(image: Image.Image, share: float, color: str) -> Image.Image:
    """With a border of `share` of the short side."""
    width = round(min(image.size) * share)
    canvas = Image.new("RGB", (image.width + 2 * width, image.height + 2 * width), color)
    canvas.paste(image, (width, width))
    return canvas


def _turned(image: Image.Image, degrees: float) -> Image.Image:
    """Turned, without the empty corners."""
    angle = abs(math.radians(degrees))
    long, short = max(image.size), min(image.size)
    share = short / (long * math.sin(angle) + short * math.cos(angle))
    return _crop(image.rotate(degrees, Image.Resampling.BICUBIC), share, 0.5, 0.5)


def near_duplicate_edits() -> dict[str, list[ImageEdit]]:
    """Kind of edit -> its variants."""
    corners = [(across, down) for across in (0.0, 1.0) for down in (0.0, 1.0)]
    crops: list[ImageEdit] = [partial(_crop, share=0.9, across=across, down=down) for across, down in corners]
    narrow = [partial(_crop, share=0.95, across=across, down=down) for across, down in corners]
    turns: list[ImageEdit] = [partial(_turned, degrees=degrees) for degrees in (-5, 5)]
    frame = partial(_framed, share=0.06, color="white")
    black: list[ImageEdit] = [partial(_turned_inside, degrees=degrees) for degrees in (-5, 5)]
    frames: list[ImageEdit] = [
        partial(_framed, share=share, color=color) for share in (0.02, 0.05, 0.1, 0.2) for color in BORDER_COLORS
    ]
    return {
        "crop of 90 % in a corner": crops,
        "crop of 80 % in a corner": [partial(_crop, share=0.8, across=across, down=down) for across, down in corners],
        "added border, 2 % to 20 % wide": frames,
        "turned by 5 degrees, cropped": turns,
        "turned by 5 degrees, black corners": black,
        "turned by 5 degrees, larger, white corners": [partial(_turned_larger, degrees=degrees) for degrees in (-5, 5)],
        "turned by 8 degrees, cropped": [partial(_turned, degrees=degrees) for degrees in (-8, 8)],
        "mirrored, crop of 90 % in a corner": [_then(ImageOps.mirror, crop) for crop in crops],
        "crop of 90 %, then a border of 6 %": [_then(crop, frame) for crop in crops],
        "turned by 5 degrees, then a crop of 95 %": [_then(turn, crop) for turn in turns for crop in narrow],
    }


def _turned_inside(image: Image.Image, degrees: float) -> Image.Image:
    return image.rotate(degrees, Image.Resampling.BICUBIC)


def _turned_larger(image: Image.Image, degrees: float) -> Image.Image:
    return image.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="white")


def _then(first: ImageEdit, second: ImageEdit) -> ImageEdit:
    return lambda image: second(first(image))


def reduced_and_recompressed(image: Image.Image, factor: float = 0.6, quality: int = 60) -> Image.Image:
    """Reduced by `factor` and saved as JPEG of `quality`."""
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    return Image.open(io.BytesIO(jpeg_bytes(small, quality))).convert("RGB")


def _hash_only(fingerprint: PhotographFingerprint) -> PhotographFingerprint:
    return replace(fingerprint, thumbnail=None)


def detection_rates(photographs: Sequence[Image.Image]) -> list[DetectionRate]:
    """How many edited copies of these photographs are found, by kind of edit.

    Each copy is compared with its own original only; the variants of an edit take turns over the photographs.
    """
    originals = [photograph_fingerprint("original", image) for image in photographs]
    rates = []
    for name, edits in near_duplicate_edits().items():
        found = by_hash = 0
        for number, (image, original) in enumerate(zip(photographs, originals, strict=True)):
            copy = photograph_fingerprint("copy", reduced_and_recompressed(edits[number % len(edits)](image)))
            by_hash += bool(near_duplicates_of([_hash_only(original)], [_hash_only(copy)]))
            found += bool(near_duplicates_of([original], [copy]))
        rates.append(DetectionRate(name, len(photographs), by_hash, found))
    return rates


def false_pairs(photographs: Iterable[Image.Image]) -> FalsePairs:
    """Near-duplicates among photographs that are all different."""
    prints = [photograph_fingerprint(str(number), image) for number, image in enumerate(photographs)]
    count = len(prints)
    by_hash = {(pair.first, pair.second) for pair in near_duplicate_pairs([_hash_only(each) for each in prints])}
    found = {(pair.first, pair.second) for pair in near_duplicate_pairs(prints)}
    return FalsePairs(count, count * (count - 1) // 2, len(by_hash), len(found))


def search_seconds(count: int, seed: int = 0) -> dict[str, float]:
    """Processor seconds: one fingerprint, the search of all pairs among `count` pictures, and of one in `count`."""
    rng = np.random.default_rng(seed)
    fields = np.fft.fftfreq(64)
    decay = 1 / np.maximum(np.hypot(fields[:, None], fields[None]), 1 / 64)
    thumbnails = []
    for _ in range(count):
        spectrum = decay * np.exp(2j * np.pi * rng.random((64, 64)))
        noise = np.fft.ifft2(spectrum).real
        levels = np.clip((noise - noise.mean()) / noise.std() * 50 + 128, 0, 255).astype(np.uint8)
        thumbnails.append(comparison_thumbnail(Image.fromarray(levels)))
    prints = [PhotographFingerprint(str(number), None, None, each) for number, each in enumerate(thumbnails)]
    picture = Image.fromarray(rng.integers(0, 256, (1024, 683, 3), dtype=np.uint8))
    seconds = {}
    for name, work in {
        "fingerprint of a photograph of 1,024 pixels": lambda: photograph_fingerprint("x", picture),
        f"one photograph among {count:,}": lambda: near_duplicates_of(prints[1:], prints[:1]),
        f"all pairs of {count:,}": lambda: list(near_duplicate_pairs(prints)),
    }.items():
        before = time.process_time()
        work()
        seconds[name] = time.process_time() - before
    return seconds


def _photographs_of(folder: Path) -> list[Image.Image]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PHOTOGRAPH_SUFFIXES:
            try:
                found.append(downscale_to_fit(open_photograph(path).image))
            except BadPhotograph:
                continue
    return found


def _rows(title: str, rates: Sequence[DetectionRate]) -> list[str]:
    return [
        f"| {title}: {rate.edit} | {rate.by_hash} of {rate.copies} ({rate.by_hash / rate.copies:.0%}) "
        f"| {rate.found} of {rate.copies} ({rate.found / rate.copies:.0%}) |"
        for rate in rates
    ]


def near_duplicates_markdown(edited: int, different: int, searched: int, folder: Path | None = None) -> str:
    """All tables as Markdown.

    Args:
        edited: rendered photographs to edit; 0 leaves this table out.
        different: rendered photographs for false pairs; 0 leaves them out.
        searched: pictures for the time of a search; 0 leaves it out.
        folder: more photographs to edit, and to compare with each other.
    """
    rng = np.random.default_rng(7)
    scenes = [sample_scene(rng) for _ in range(different)]
    rendered = [render_scene(scene) for scene in scenes]
    own = _photographs_of(folder) if folder else []
    redrawn = [render_scene(replace(scene, seed=scene.seed + 1)) for scene in scenes[:REDRAWN]]
    lines: list[str] = []
    if edited or own:
        lines += ["| near-duplicates found | by hash | by hash and alignment |", "|---|---|---|"]
        lines += _rows("rendered", detection_rates(rendered[:edited])) if edited else []
        lines += _rows("own", detection_rates(own)) if own else []
    sets = {
        f"{len(rendered)} rendered": rendered,
        f"{len(own)} of a folder": own,
        f"{len(redrawn)} rendered, and the same scenes with other details": [*rendered[:REDRAWN], *redrawn],
    }
    results = {name: false_pairs(pictures) for name, pictures in sets.items() if pictures}
    if results:
        lines += [
            "",
            "| different photographs | pairs | false by hash | false by hash and alignment |",
            "|---|---|---|---|",
        ]
        lines += [f"| {name} | {each.pairs:,} | {each.by_hash} | {each.found} |" for name, each in results.items()]
    if searched:
        lines += ["", "| near-duplicate search | seconds of processor time |", "|---|---|"]
        lines += [f"| {name} | {seconds:.3g} |" for name, seconds in search_seconds(searched).items()]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="bench.near_duplicates", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edited", type=int, default=EDITED, help=f"photographs to edit (default {EDITED})")
    parser.add_argument("--different", type=int, default=DIFFERENT, help=f"for false pairs (default {DIFFERENT})")
    parser.add_argument("--searched", type=int, default=SEARCHED, help=f"pictures to search (default {SEARCHED:,})")
    parser.add_argument("--folder", type=Path, help="more photographs, of your own")
    options = parser.parse_args(arguments)
    if options.different < options.edited:
        parser.error("--different must be at least --edited")
    print(near_duplicates_markdown(options.edited, options.different, options.searched, options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
