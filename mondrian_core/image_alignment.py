"""Aligned comparison of photographs: finds crops, added borders and turned copies, which a perceptual hash misses.

Each photograph is reduced to a gray thumbnail of 48 x 48 pixels without its borders. A coarse search correlates every
thumbnail with windows of every other one (shifted, smaller, turned, mirrored). What resembles each other is aligned by
an affine map and compared again at full size. No model is loaded.

The alignment is the inverse compositional algorithm of Baker and Matthews, "Lucas-Kanade 20 Years On: A Unifying
Framework", IJCV 56 (2004), on pictures whose local contrast is normalized, so exposure and vignettes hardly matter.

Shapes: N and M photographs, P pairs, K windows, n the side of a picture in pixels. An affine map has shape (2, 3) and
takes coordinates in -1..1 of one picture to coordinates of another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

THUMBNAIL_SIDE = 48
ALIGNED_CORRELATION = 0.86  # of two aligned thumbnails, from which on they show the same picture (decision 0110)
MIRRORED_CORRELATION = 0.93  # the same if one is mirrored: simple landscapes resemble the mirror image of others
RESEMBLING_CORRELATION = 0.7  # below, two thumbnails of one framing contradict that they are copies
_WORKING_SIDE = 192  # pixels of the long side in which borders are searched
_PLAIN_LEVELS, _EDGE_LEVELS, _CORNER_LEVELS = 3, 24, 6  # gray levels (of 255) by which pixels of a border may differ
_EDGE_ROWS = 3  # in which a border blends into the picture
_MAX_BORDER, _MAX_CORNER = 0.3, 0.12  # of height or width, on each side; of the area, in each corner
_MIN_EXACT = 0.5  # share of a corner's pixels that have its gray exactly
_MAX_GAIN = 8.0
_BORDER_ROUNDS = 3  # a white mat inside a black line has two borders
_COARSE_SIDE, _ALIGN_SIDE = 16, 24
_COARSE_CORRELATION, _ALIGN_CORRELATION = 0.62, 0.78  # pairs below are not compared any further
_ITERATIONS = {_ALIGN_SIDE: 6, THUMBNAIL_SIDE: 6}
_CONTRAST_FLOOR = 4.0  # gray levels; keeps noise of flat areas from being amplified
_MIN_STRUCTURE = 1.5  # norm of a coarse picture below which there is nothing to compare (a blank picture)
_MIN_OVERLAP = 0.55
_SCALES, _STRETCH = (0.6, 1.6), 0.6  # plausible maps: linear scale; smallest ratio of the two singular values
_CHUNK_ROWS, _CHUNK_PAIRS = 32, 256


@dataclass(frozen=True)
class AlignedPair:
    """Positions of two photographs that resemble each other, and the correlation (-1 to 1) once aligned."""

    first: int
    second: int
    mirrored: bool
    correlation: float

    @property
    def is_same_picture(self) -> bool:
        """True when they resemble each other as much as copies do."""
        return self.correlation >= (MIRRORED_CORRELATION if self.mirrored else ALIGNED_CORRELATION)


def comparison_thumbnail(image: Image.Image) -> bytes:
    """The gray thumbnail that `aligned_pairs` compares: `THUMBNAIL_SIDE` squared bytes, row by row.

    Plain borders are cut off, and plain corners (as a turn leaves them) are filled with the nearest pixels.
    """
    gray = image.convert("L")
    factor = _WORKING_SIDE / max(gray.size)
    if factor < 1:
        size = (max(1, round(gray.width * factor)), max(1, round(gray.height * factor)))
        gray = gray.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    inner = Image.fromarray(_stretched(_without_borders(np.asarray(gray))))
    return inner.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS).tobytes()


def has_structure(thumbnail: bytes) -> bool:
    """False for a thumbnail that shows next to nothing, such as a blank or strongly blurred picture."""
    return bool(_coarse_windows(thumbnail)[0].any())


def aligned_pairs(
    first: Sequence[bytes],
    second: Sequence[bytes] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[AlignedPair]:
    """Pairs of a thumbnail of `first` and one of `second` that correlate at `RESEMBLING_CORRELATION` or more.

    `AlignedPair.is_same_picture` says which are copies. Without `second`, the pairs in `first`, the smaller
    position first. `on_progress` receives how many thumbnails of how many were compared with all others.

    Raises:
        ValueError: when a thumbnail has another size.
    """
    best: dict[tuple[int, int], AlignedPair] = {}
    total = len(first) + len(second or ())
    ours = _coarse_pictures(first)
    if second is None:
        found = _search(first, first, ours, lambda done: on_progress(done, total))
    else:
        back = _search(second, first, ours, lambda done: on_progress(len(first) + done, total))
        swapped = (replace(each, first=each.second, second=each.first) for each in back)
        theirs = _coarse_pictures(second)
        found = chain(_search(first, second, theirs, lambda done: on_progress(done, total)), swapped)
    for pair in found:
        if second is None:
            if pair.first == pair.second:
                continue
            pair = replace(pair, first=min(pair.first, pair.second), second=max(pair.first, pair.second))
        key = pair.first, pair.second
        if key not in best or best[key].correlation < pair.correlation:
            best[key] = pair
    return [best[key] for key in sorted(best)]


def _coarse_pictures(thumbnails: Sequence[bytes]) -> FloatArray:
    """The coarse picture of each thumbnail, without its windows, shape (256, N)."""
    pictures = np.empty((_COARSE_SIDE**2, len(thumbnails)), dtype=np.float32)
    for position, each in enumerate(thumbnails):
        pictures[:, position] = _coarse_windows(each)[0]
    return pictures


def _search(
    sources: Sequence[bytes], targets: Sequence[bytes], pictures: FloatArray, on_chunk: Callable[[int], None]
) -> Iterator[AlignedPair]:
    """Pairs of a source and a target that resembles one of its windows.

    Windows are held for a chunk of sources only: those of 5,000 thumbnails would take 120 MB.

    Args:
        sources: thumbnails.
        targets: thumbnails.
        pictures: `_coarse_pictures` of the targets.
        on_chunk: receives the number of sources that are done.
    """
    if not sources or not targets:
        return
    for start in range(0, len(sources), _CHUNK_ROWS):
        on_chunk(start)
        part = np.stack([_coarse_windows(each) for each in sources[start : start + _CHUNK_ROWS]]).astype(np.float32)
        likeness = (part.reshape(-1, part.shape[2]) @ pictures).reshape(len(part), -1, len(targets))
        window, value = likeness.argmax(axis=1), likeness.max(axis=1)
        rows, columns = (list(map(int, each)) for each in np.nonzero(value >= _COARSE_CORRELATION))
        for begin in range(0, len(rows), _CHUNK_PAIRS):
            row, column = rows[begin : begin + _CHUNK_PAIRS], columns[begin : begin + _CHUNK_PAIRS]
            one, other = [sources[start + k] for k in row], [targets[k] for k in column]
            values, mirrored = _align_pairs(one, other, _windows()[window[row, column]])
            for k in np.flatnonzero(values >= RESEMBLING_CORRELATION):
                yield AlignedPair(start + row[k], column[k], bool(mirrored[k]), float(values[k]))
    on_chunk(len(sources))


def _align_pairs(
    sources: Sequence[bytes], targets: Sequence[bytes], maps: NDArray[np.float64]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Correlation of each aligned pair, shape (P,), and whether its map mirrors; -1 where the first level fails."""
    values = np.full(len(sources), -1.0, dtype=np.float32)
    kept = np.arange(len(sources))
    for side in (_ALIGN_SIDE, THUMBNAIL_SIDE):
        picture = np.stack([_normalized(sources[int(k)], side) for k in kept])
        wanted = np.stack([_normalized(targets[int(k)], side) for k in kept])
        maps, reached = _align(picture, wanted, maps, _ITERATIONS[side])
        if side == THUMBNAIL_SIDE:
            values[kept] = np.where(_is_plausible(maps), reached, -1.0)
        else:
            good = reached >= _ALIGN_CORRELATION
            kept, maps = kept[good], maps[good]
        if not len(kept):
            break
    mirrored = np.zeros(len(sources), dtype=np.bool_)
    mirrored[kept] = np.linalg.det(maps[:, :, :2]) < 0
    return values, mirrored


def _align(
    picture: FloatArray, wanted: FloatArray, maps: NDArray[np.float64], iterations: int
) -> tuple[NDArray[np.float64], FloatArray]:
    """The maps (P, 2, 3) under which `picture` looks most like `wanted`, both (P, n, n), and the correlations (P,)."""
    pairs = len(wanted)
    target = wanted.reshape(pairs, -1)
    slopes = _steepest_descent(wanted)
    curvature = slopes.transpose(0, 2, 1) @ slopes
    damping = 1e-3 * np.trace(curvature, axis1=1, axis2=2)[:, None, None] / 6 + 1e-3
    step = np.linalg.inv(curvature + damping * np.eye(6, dtype=np.float32)) @ slopes.transpose(0, 2, 1)
    warped, inside = _warp(picture, maps)
    best, reached = maps, _overlap_correlation(target, warped, inside)
    for _ in range(iterations):
        change = (step @ ((warped - target) * inside)[..., None]).reshape(pairs, 2, 3)
        maps = _compose_inverse(maps, np.clip(change, -0.15, 0.15))
        warped, inside = _warp(picture, maps)
        value = _overlap_correlation(target, warped, inside)
        better = value > reached
        best = np.where(better[:, None, None], maps, best)
        reached = np.maximum(reached, value)
    return best, reached


def _steepest_descent(wanted: FloatArray) -> FloatArray:
    """Derivatives (P, n * n, 6) of a picture with respect to the six numbers of an affine map at the identity."""
    pairs, side, _ = wanted.shape
    down, right = (each.reshape(pairs, -1) for each in np.gradient(wanted, 2 / side, axis=(1, 2)))
    x, y = _grid(side)
    return np.stack([right * x, right * y, right, down * x, down * y, down], axis=2).astype(np.float32)


def _compose_inverse(maps: NDArray[np.float64], change: NDArray[np.float64]) -> NDArray[np.float64]:
    whole, inner = (np.zeros((len(maps), 3, 3)) for _ in range(2))
    whole[:, :2], inner[:, :2] = maps, change
    whole[:, 2, 2] = 1.0
    return np.asarray((whole @ np.linalg.inv(inner + np.eye(3)))[:, :2])


def _overlap_correlation(target: FloatArray, warped: FloatArray, inside: FloatArray) -> FloatArray:
    """Correlation (P,) over the pixels that both pictures have; -1 where these are too few."""
    count = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    one, other = ((each - (each * inside).sum(axis=1, keepdims=True) / count) * inside for each in (target, warped))
    value = (one * other).sum(axis=1) / np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1) + 1e-3)
    return np.asarray(np.where(inside.mean(axis=1) >= _MIN_OVERLAP, value, -1.0), dtype=np.float32)


def _is_plausible(maps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """False for maps that no crop, border or turn gives: they blow up a smooth spot until it resembles anything."""
    sizes = np.linalg.svd(maps[:, :, :2], compute_uv=False)
    scale = np.sqrt(sizes.prod(axis=1))
    return np.asarray((scale > _SCALES[0]) & (scale < _SCALES[1]) & (sizes[:, 1] > _STRETCH * sizes[:, 0]))


def _warp(picture: FloatArray, maps: NDArray[np.float64]) -> tuple[FloatArray, FloatArray]:
    """Pictures (P, n, n) seen through maps (P, 2, 3), bilinear: values (P, n * n), and 1 for pixels inside."""
    pairs, side, _ = picture.shape
    x, y = _grid(side)
    linear = maps.astype(np.float32)
    across, down = (
        (linear[:, axis, :1] * x + linear[:, axis, 1:2] * y + linear[:, axis, 2:] + 1) * np.float32(side / 2) - 0.5
        for axis in (0, 1)
    )
    inside = (across >= -0.5) & (across <= side - 0.5) & (down >= -0.5) & (down <= side - 0.5)
    across, down = (np.clip(each, 0, side - 1.001) for each in (across, down))
    left, top = across.astype(np.int32), down.astype(np.int32)
    right, low = across - left, down - top
    flat, start = picture.reshape(-1), top * side + left + np.arange(pairs, dtype=np.int32)[:, None] * (side * side)
    upper = flat[start] * (1 - right) + flat[start + 1] * right
    lower = flat[start + side] * (1 - right) + flat[start + side + 1] * right
    return upper * (1 - low) + lower * low, inside.astype(np.float32)


@cache
def _grid(side: int) -> tuple[FloatArray, FloatArray]:
    """Coordinates -1..1 of the pixels' centers, x and y, each of shape (side * side,)."""
    line: FloatArray = np.asarray((np.arange(side) + 0.5) / side * 2 - 1, dtype=np.float32)
    down, across = np.meshgrid(line, line, indexing="ij")
    return across.ravel(), down.ravel()


@cache
def _windows() -> NDArray[np.float64]:
    """The maps (K, 2, 3) of the coarse search: the whole picture first, then its windows, then all mirrored."""
    maps = []
    for mirror in (1, -1):
        placed = [(1.0, 0.0, 0.0, 0)]
        for scale in (0.92, 0.84):
            shifts = (scale - 1, 0.0, 1 - scale)
            placed += [(scale, across, down, 0) for across in shifts for down in shifts]
        placed += [(0.84, 0, 0, -7), (0.9, 0, 0, -4), (0.9, 0, 0, 4), (0.84, 0, 0, 7), (1, 0, 0, -5), (1, 0, 0, 5)]
        for scale, across, down, degrees in placed:
            cosine, sine = (scale * turn(math.radians(degrees)) for turn in (math.cos, math.sin))
            maps.append([[mirror * cosine, -sine, across], [mirror * sine, cosine, down]])
    return np.array(maps)


def _pixels(thumbnail: bytes) -> FloatArray:
    if len(thumbnail) != THUMBNAIL_SIDE**2:
        raise ValueError(f"a thumbnail has {THUMBNAIL_SIDE**2} bytes, not {len(thumbnail)}")
    return np.frombuffer(thumbnail, dtype=np.uint8).reshape(THUMBNAIL_SIDE, THUMBNAIL_SIDE).astype(np.float32)


@lru_cache(maxsize=2048)
def _coarse_windows(thumbnail: bytes) -> NDArray[np.float16]:
    """Every window of a thumbnail as a vector of length 1, shape (K, 256); zeros where it shows nothing."""
    soft = ndimage.gaussian_filter(_pixels(thumbnail), THUMBNAIL_SIDE / _COARSE_SIDE / 2, mode="nearest")
    maps, (x, y) = _windows(), _grid(_COARSE_SIDE)
    across, down = (maps[:, axis, :1] * x + maps[:, axis, 1:2] * y + maps[:, axis, 2:] for axis in (0, 1))
    places = [(each + 1) * THUMBNAIL_SIDE / 2 - 0.5 for each in (down, across)]
    seen = ndimage.map_coordinates(soft, places, order=1, mode="nearest")
    even = _even_contrast(seen.reshape(-1, _COARSE_SIDE, _COARSE_SIDE), 0.5).reshape(len(maps), -1)
    even -= even.mean(axis=1, keepdims=True)
    length = np.linalg.norm(even, axis=1, keepdims=True)
    return np.where(length > _MIN_STRUCTURE, even / np.maximum(length, 1e-6), 0).astype(np.float16)


@lru_cache(maxsize=4096)
def _normalized(thumbnail: bytes, side: int) -> FloatArray:
    """A thumbnail of (side, side) pixels with even local contrast."""
    pixels = _pixels(thumbnail)
    if side != THUMBNAIL_SIDE:
        factor = THUMBNAIL_SIDE // side
        pixels = pixels.reshape(side, factor, side, factor).mean(axis=(1, 3))
    return _even_contrast(pixels[None], 0.6)[0]


def _even_contrast(pictures: FloatArray, soften: float) -> FloatArray:
    """Pictures (N, n, n) minus their surroundings, divided by the local deviation; `soften` in pixels."""
    wide = pictures.shape[-1] / 8

    def blurred(values: FloatArray, pixels: float) -> FloatArray:
        return ndimage.gaussian_filter(values, (0, pixels, pixels), mode="nearest")

    detail = blurred(pictures, soften)
    detail = detail - blurred(detail, wide)
    return np.asarray(detail / (np.sqrt(blurred(detail * detail, wide)) + _CONTRAST_FLOOR), dtype=np.float32)


def _without_borders(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A gray picture (H, W) without plain borders; its plain corners repeat the nearest pixel of the picture."""
    for _ in range(_BORDER_ROUNDS):
        before = gray.shape
        for _ in range(2):
            gray = gray[_border_width(gray) : len(gray) - _border_width(gray[::-1])].T
        if gray.shape == before:
            break
    plain = _plain_corners(gray)
    if not plain.any() or plain.all():
        return gray
    nearest = ndimage.distance_transform_edt(plain, return_distances=False, return_indices=True)
    return np.asarray(gray[tuple(nearest)])


def _border_width(gray: NDArray[np.uint8]) -> int:
    """Rows at the start of a picture (H, W) that are of one gray, at most `_MAX_BORDER` of all, and their edge."""
    rows = gray[: int(len(gray) * _MAX_BORDER)]
    if not len(rows):
        return 0
    low, high = np.percentile(rows, (4, 96), axis=1)
    plain = int(np.argmax(np.append(high - low > _PLAIN_LEVELS, True)))
    edge = (high - low)[plain : plain + _EDGE_ROWS] <= _EDGE_LEVELS
    return plain + int(np.argmin(np.append(edge, False))) if plain else 0


def _plain_corners(gray: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels (H, W) a turn left empty: small areas of one gray in the corners, and their blurred edge.

    A turn gives all four corners the same gray, or at least leaves it exact; a dark part of the picture has grain.
    """
    ends = [(0, 0), (0, -1), (-1, 0), (-1, -1)]
    levels = [int(gray[end]) for end in ends]
    equal = max(levels) - min(levels) <= _CORNER_LEVELS
    plain = np.zeros(gray.shape, dtype=np.bool_)
    for end, level in zip(ends, levels, strict=True):
        areas, _ = ndimage.label(np.abs(gray.astype(np.int16) - level) <= _CORNER_LEVELS)
        area = areas == areas[end]
        if area.mean() <= _MAX_CORNER and (equal or np.mean(gray[area] == level) >= _MIN_EXACT):
            plain |= area
    return np.asarray(ndimage.binary_dilation(plain, iterations=2))


def _stretched(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A gray picture with its contrast stretched to all levels, at most `_MAX_GAIN` times."""
    low, high = np.percentile(gray, (1, 99))
    gain = min(_MAX_GAIN, 255 / max(1.0, high - low))
    return np.asarray(np.clip((gray - low) * gain, 0, 255).round(), dtype=np.uint8)
