"""Crops worth judging: the subject on a third, the horizon level, a distraction at an edge left out, a common shape.

Nothing here knows what a photograph is worth: it proposes a dozen frames, and `crop_search` lets the advisor's model
judge them. All fractions are of the photograph's width and height (0-1), from the top left corner.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageCms, ImageFilter

from mondrian_core.images import inscribed_share, is_too_narrow

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_CANDIDATES = 12
MIN_SIDE_SHARE = 0.6  # of the photograph's width and height that a crop keeps: less would be another photograph
_MIN_PIXELS = 32  # of a crop's side
_THIRDS = (1 / 3, 2 / 3)
_THIRD_SHARES = (0.85, 0.7)  # of both sides, for crops that put the subject on a third
_MOST_THIRDS = 3  # for each share
_EDGE_SHARE = 0.12  # of a side: the strip in which something distracts
_EDGE_SALIENCE = 0.6  # of the highest salience
_MIDDLE_WIDTH = 0.3  # twice the variance of the weight of the middle, in squared sides
_SALIENCE_SIDE, _TILT_SIDE = 64, 256  # pixels
_MIN_TILT, _MAX_TILT = 0.5, 8.0  # degrees; a lower one isn't seen, a higher one is meant
_TILT_RANGE, _TILT_STEP = 10.0, 0.25  # degrees
_MIN_GAIN = 1.3  # in sharpness over the photograph as it is, and over the median rotation
_MIN_SHARPNESS = 20.0  # squared levels of gray (0-255), summed over rows
_SAME_FRAME = 0.9  # intersection over union
_SHAPES = {"square": 1.0, "4:5": 0.8, "5:4": 1.25, "2:3": 2 / 3, "3:2": 1.5, "9:16": 9 / 16, "16:9": 16 / 9}


@dataclass(frozen=True)
class CropFrame:
    """A part of a photograph: rotated counterclockwise about its middle by `degrees`, then cropped.

    `left`, `top`, `right` and `bottom` are fractions (0-1) of width and height.
    """

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    degrees: float = 0.0

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom)."""
        return self.left, self.top, self.right, self.bottom

    def within(self, share: float, x: float, y: float) -> CropFrame:
        """The part of this frame with `share` (0-1) of its sides; (`x`, `y`) is where the rest is left out (0-1)."""
        width, height = self.right - self.left, self.bottom - self.top
        left, top = self.left + (1 - share) * x * width, self.top + (1 - share) * y * height
        return CropFrame(left, top, left + share * width, top + share * height, self.degrees)

    def placebo(self, x: float, y: float) -> CropFrame:
        """A frame of this size without this one's reason: at (`x`, `y`) of the room (0-1), or turned the other way."""
        if self.degrees:
            return CropFrame(*self.box, -self.degrees)
        width, height = self.right - self.left, self.bottom - self.top
        left, top = (1 - width) * x, (1 - height) * y
        return CropFrame(left, top, left + width, top + height)

    def cut_from(self, image: Image.Image) -> Image.Image:
        """The pixels of the frame."""
        if self.degrees:
            image = image.rotate(self.degrees, Image.Resampling.BICUBIC)
        (width, height), (left, top, right, bottom) = image.size, self.box
        # inside the frame, so that no pixel of an empty corner gets in
        edges = math.ceil(left * width - 1e-6), math.ceil(top * height - 1e-6)
        return image.crop((*edges, math.floor(right * width + 1e-6), math.floor(bottom * height + 1e-6)))

    def corners(self, size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
        """Its four corners on the photograph as it is, as fractions (0-1), from the top left clockwise.

        Args:
            size: width and height of the photograph, in any unit.
        """
        width, height = size
        turn = math.radians(self.degrees)
        placed = []
        for x, y in (
            (self.left, self.top),
            (self.right, self.top),
            (self.right, self.bottom),
            (self.left, self.bottom),
        ):
            across, down = (x - 0.5) * width, (y - 0.5) * height
            placed.append(
                (
                    0.5 + (across * math.cos(turn) - down * math.sin(turn)) / width,
                    0.5 + (across * math.sin(turn) + down * math.cos(turn)) / height,
                )
            )
        return tuple(placed)


WHOLE_FRAME = CropFrame()


@dataclass(frozen=True)
class CropCandidate:
    """A frame and the reason to try it, as the end of the sentence "This crop ..."."""

    frame: CropFrame
    reason: str


def crop_candidates(image: Image.Image) -> tuple[CropCandidate, ...]:
    """Up to `MOST_CANDIDATES` crops of a photograph; () where none is large enough."""
    salience = salience_map(image)
    chosen: list[CropCandidate] = []
    for candidate in _proposals(image, salience):
        frame = candidate.frame
        keeps = min(frame.right - frame.left, frame.bottom - frame.top) >= MIN_SIDE_SHARE
        size = (round((frame.right - frame.left) * image.width), round((frame.bottom - frame.top) * image.height))
        if not keeps or min(size) < _MIN_PIXELS or is_too_narrow(size):
            continue
        if all(_overlap(frame, other.frame) < _SAME_FRAME for other in chosen):
            chosen.append(candidate)
    return tuple(chosen[:MOST_CANDIDATES])


def _proposals(image: Image.Image, salience: NDArray[np.float64]) -> Iterator[CropCandidate]:
    """In order of how much a crop of the kind usually matters."""
    subject = subject_place(salience)
    tilt = horizon_tilt(image)
    if tilt is not None:
        share = inscribed_share(image.size, tilt)
        edge = (1 - share) / 2
        level = CropFrame(edge, edge, 1 - edge, 1 - edge, round(tilt, 2))
        yield CropCandidate(level, f"levels the horizon, which is tilted by {abs(tilt):.1f} degrees")
    yield from _without_edges(salience, subject)
    yield from _subject_on_thirds(subject)
    yield from _common_shapes(image.size, subject)


def _subject_on_thirds(subject: tuple[float, float]) -> Iterator[CropCandidate]:
    """Crops of the photograph's shape that have the subject where two thirds meet, the least moved first."""
    for share in _THIRD_SHARES:
        places = sorted(
            ((x, y) for x in _THIRDS for y in _THIRDS),
            key=lambda place: math.hypot(place[0] - subject[0], place[1] - subject[1]),
        )
        fitting = [
            (CropFrame(left, top, left + share, top + share), x, y)
            for x, y in places
            if 0 <= (left := subject[0] - share * x) <= 1 - share and 0 <= (top := subject[1] - share * y) <= 1 - share
        ]
        for frame, x, y in fitting[:_MOST_THIRDS]:
            across, down = "left" if x < 0.5 else "right", "upper" if y < 0.5 else "lower"
            yield CropCandidate(frame, f"puts what draws the eye on the {across}, {down} third")


def _without_edges(salience: NDArray[np.float64], subject: tuple[float, float]) -> Iterator[CropCandidate]:
    """Crops that leave out a strip at an edge where something draws the eye that isn't the subject."""
    height, width = salience.shape
    rows, columns = max(1, round(height * _EDGE_SHARE)), max(1, round(width * _EDGE_SHARE))
    share = 1 - _EDGE_SHARE
    strips = {
        "left": (salience[:, :columns], subject[0] < _EDGE_SHARE, 1.0, subject[1]),
        "right": (salience[:, -columns:], subject[0] > share, 0.0, subject[1]),
        "top": (salience[:rows], subject[1] < _EDGE_SHARE, subject[0], 1.0),
        "bottom": (salience[-rows:], subject[1] > share, subject[0], 0.0),
    }
    loud = {name: float(strip.max()) for name, (strip, holds_subject, _, _) in strips.items() if not holds_subject}
    for name in sorted(loud, key=loud.__getitem__, reverse=True):
        if loud[name] >= _EDGE_SALIENCE * float(salience.max()) > 0:
            _, _, x, y = strips[name]
            yield CropCandidate(WHOLE_FRAME.within(share, x, y), f"leaves out what distracts at the {name} edge")


def _common_shapes(size: tuple[int, int], subject: tuple[float, float]) -> Iterator[CropCandidate]:
    """The largest crops of common shapes around the subject, the least cropped first."""
    shape = size[0] / size[1]
    changes = sorted((abs(math.log(wanted / shape)), name, wanted) for name, wanted in _SHAPES.items())
    for _, name, wanted in changes:
        width, height = min(1.0, wanted / shape), min(1.0, shape / wanted)
        if min(width, height) > 0.95:
            continue  # it has this shape already
        left = min(max(subject[0] - width / 2, 0.0), 1 - width)
        top = min(max(subject[1] - height / 2, 0.0), 1 - height)
        what = "makes it square" if name == "square" else f"gives it the shape {name}"
        yield CropCandidate(CropFrame(left, top, left + width, top + height), what)


def salience_map(image: Image.Image) -> NDArray[np.float64]:
    """What draws the eye: how far each place's color is from the mean color, shape (H, W), 0 or more.

    Frequency-tuned salience in CIELAB (Achanta and others, CVPR 2009). H and W are in the photograph's proportion, the
    longer one 64.
    """
    small = image.convert("RGB").resize(_size_within(image.size, _SALIENCE_SIDE), Image.Resampling.BOX)
    smooth = small.filter(ImageFilter.GaussianBlur(1))
    lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    converted = ImageCms.applyTransform(smooth, lab)
    assert converted is not None, "it is None only in place"
    values = np.stack([np.asarray(converted.getchannel(0), np.float64) / 2.55, *_signed_channels(converted)], axis=-1)
    return np.asarray(np.linalg.norm(values - values.mean(axis=(0, 1)), axis=-1))


def _signed_channels(lab: Image.Image) -> list[NDArray[np.float64]]:
    """a and b, -128 to 127; Pillow keeps them as unsigned bytes of the same bits."""
    return [np.asarray(lab.getchannel(each)).view(np.int8).astype(np.float64) for each in (1, 2)]


def _size_within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size in proportion, with this longer side in pixels; a shorter one of less than 8 becomes 8."""
    scale = side / max(size)
    return max(8, round(size[0] * scale)), max(8, round(size[1] * scale))


def subject_place(salience: NDArray[np.float64]) -> tuple[float, float]:
    """(x, y) as fractions (0-1) of the most salient spot, where spots near the middle count more; (0.5, 0.5) for none.

    Viewers look at the middle first, and photographers place subjects there (Tatler, Journal of Vision 2007).
    """
    if salience.max() <= 0:
        return 0.5, 0.5
    down, across = ((np.arange(sides) + 0.5) / sides for sides in salience.shape)
    weighted = salience * np.exp(-(((across - 0.5) ** 2)[None, :] + ((down - 0.5) ** 2)[:, None]) / _MIDDLE_WIDTH)
    rows, columns = np.nonzero(weighted >= 0.9 * weighted.max())
    return float(across[columns].mean()), float(down[rows].mean())


def horizon_tilt(image: Image.Image) -> float | None:
    """Degrees of the counterclockwise rotation that levels the horizon; None when none is seen, or it is level.

    Where a horizon is level, rows are uniform and change at once from one to the next (the projection profile of
    document deskewing). The rotation with the sharpest change must stand out.
    """
    grey = image.convert("L").resize(_size_within(image.size, _TILT_SIDE), Image.Resampling.BOX)
    degrees = np.arange(-_TILT_RANGE, _TILT_RANGE + _TILT_STEP / 2, _TILT_STEP)
    share = inscribed_share(grey.size, _TILT_RANGE)
    frame = WHOLE_FRAME.within(share, 0.5, 0.5)
    sharpness = []
    for turn in degrees.tolist():
        cut = CropFrame(*frame.box, turn).cut_from(grey)
        rows = np.asarray(cut, np.float64).mean(axis=1)
        sharpness.append(float((np.diff(rows) ** 2).sum()))
    best = int(np.argmax(sharpness))
    level = sharpness[len(degrees) // 2]
    if sharpness[best] < _MIN_SHARPNESS or sharpness[best] < _MIN_GAIN * max(level, float(np.median(sharpness))):
        return None
    tilt = float(degrees[best])
    return tilt if _MIN_TILT <= abs(tilt) <= _MAX_TILT else None


def _overlap(first: CropFrame, second: CropFrame) -> float:
    """Intersection over union; 0 for frames of different rotation."""
    if first.degrees != second.degrees:
        return 0.0
    width = min(first.right, second.right) - max(first.left, second.left)
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((each.right - each.left) * (each.bottom - each.top) for each in (first, second))
    return shared / (areas - shared)
