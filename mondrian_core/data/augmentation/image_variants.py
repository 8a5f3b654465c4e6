"""Image augmentation: variants of training photographs, planned as data from a seed and applied separately.

Each operation names the dimensions whose score still holds for its result; the other dimensions leave the loss. The
choice follows research on label-preserving augmentation (docs/decisions/0022): a mirror image keeps every score when
left and right swap in the text, which requires English comments; +-0.2 stop in linear light makes lighting, color and
emotion uncertain; a crop makes composition, isolation, balance and emotion uncertain, below 97 % also focus and depth.
Rotation is used only when the recipe asks for it, because 5 degrees amount to a 20 % crop and a tilt.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, assert_never

import numpy as np
from PIL import Image

from mondrian_core.data.augmentation.english_detection import is_english, shows_another_language
from mondrian_core.images import inscribed_share, is_too_narrow
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS

MIN_CROP_SHARE = 0.97
MAX_NEW_CLIPPING = 0.005
_LOW, _HIGH = 3, 250


@dataclass(frozen=True)
class Mirror:
    """The mirror image; left and right are swapped in the text."""

    @property
    def kept_dimensions(self) -> tuple[str, ...]:
        """Dimensions whose score still holds."""
        return DIMENSIONS


@dataclass(frozen=True)
class Exposure:
    """More or less light, in stops, multiplied in linear light."""

    stops: float

    @property
    def kept_dimensions(self) -> tuple[str, ...]:
        """Dimensions whose score still holds."""
        return _without("lighting", "color_harmony", "emotional_impact")


@dataclass(frozen=True)
class Crop:
    """A part of the photograph: share of both sides that is kept (0-1), and its position (0 left or top .. 1)."""

    share: float
    x: float
    y: float

    @property
    def region(self) -> tuple[float, float, float, float]:
        """The part that is kept, as fractions of the photograph (left, top, right, bottom)."""
        left, top = (1 - self.share) * self.x, (1 - self.share) * self.y
        return left, top, left + self.share, top + self.share

    @property
    def kept_dimensions(self) -> tuple[str, ...]:
        """Dimensions whose score still holds."""
        if self.share < MIN_CROP_SHARE:
            return ("lighting", "color_harmony")
        return _without("composition", "subject_isolation", "visual_balance", "emotional_impact")


@dataclass(frozen=True)
class Rotate:
    """The photograph rotated (degrees, anticlockwise) and cropped to the largest inscribed rectangle of its shape."""

    degrees: float

    @property
    def kept_dimensions(self) -> tuple[str, ...]:
        """Dimensions whose score still holds; a tilt affects balance and composition."""
        return (
            ("lighting", "color_harmony", "subject_isolation")
            if abs(self.degrees) <= 1
            else Crop(0.9, 0, 0).kept_dimensions
        )


ImageOperation = Mirror | Exposure | Crop | Rotate


def _without(*names: str) -> tuple[str, ...]:
    return tuple(name for name in DIMENSIONS if name not in names)


@dataclass(frozen=True)
class ImageVariant:
    """Operations in the order they are applied; without any, the photograph itself."""

    operations: tuple[ImageOperation, ...] = ()

    @property
    def kept_dimensions(self) -> tuple[str, ...]:
        """Dimensions whose score holds after every operation, in the order of `DIMENSIONS`."""
        return tuple(name for name in DIMENSIONS if all(name in each.kept_dimensions for each in self.operations))

    @property
    def name(self) -> str:
        """A short name such as "mirror+exposure-0.20"; "original" without operations."""
        return "+".join(_name(operation) for operation in self.operations) or "original"

    def as_dict(self) -> list[dict[str, Any]]:
        """Plain values for the manifest."""
        return [{"operation": type(each).__name__.lower(), **asdict(each)} for each in self.operations]


ORIGINAL = ImageVariant()


def _name(operation: ImageOperation) -> str:
    match operation:
        case Mirror():
            return "mirror"
        case Exposure(stops):
            return f"exposure{stops:+.2f}"
        case Crop(share):
            return f"crop{share:.3f}"
        case Rotate(degrees):
            return f"rotate{degrees:+.2f}"
        case _:
            assert_never(operation)


# Mentions that an operation would make untrue. "light" alone does not mention exposure.
_MENTION_PATTERNS: Mapping[type, re.Pattern[str]] = {
    Mirror: re.compile(
        r"\b(text|sign(s|age)?|letters?|lettering|writing|inscriptions?|words?|numbers?|numerals?|logos?|clocks?|"
        r"maps?|flags?|brand|caption|el capitan|half dome|tetons?|moonrise|north|south|east|west)\b",
        re.IGNORECASE,
    ),
    Exposure: re.compile(
        r"\b(under|over)-?\s?expos\w*|\bexpos(ure|ed|ing)\b|\bhighlights?\b|\bshadows?\b|\bzones?\b|\bblown\b|\bclipp\w+|"
        r"\bburn(s|t|ed)? out\b|\btoo (bright|dark)\b|\bstops?\b|\bblacks?\b|\bwhites?\b|\bwash\w* out\b",
        re.IGNORECASE,
    ),
    Crop: re.compile(
        r"\b(edges?|corners?|borders?|margins?|headroom|negative space|fram(e|es|ed|ing)|crop\w*|cut off|bisects?)\b",
        re.IGNORECASE,
    ),
    Rotate: re.compile(
        r"\b(horizons?|skyline|level\w*|tilt\w*|lean\w*|straight\w*|verticals?|upright|diagonals?|slop\w+|plumb|"
        r"edges?|corners?|borders?|margins?|headroom|fram(e|es|ed|ing)|crop\w*|cut off)\b",
        re.IGNORECASE,
    ),
}


# What advice says besides: what to do about light, or where to stand for another frame.
_ADVICE_PATTERNS: Mapping[type, re.Pattern[str]] = {
    Exposure: re.compile(
        r"\b((bright|dark|light)en\w*|(bright|dark|light)er|dodg(e|es|ed|ing)|burn(s|ing)?|exposes?)\b", re.IGNORECASE
    ),
    Crop: re.compile(
        r"\b(closer|tighter|wider|zoom\w*|trim\w*|step(s|ped|ping)? (back|in|forward)|"
        r"more (room|space|sky|foreground))\b",
        re.IGNORECASE,
    ),
}


def advice_objection(operation: type, text: str) -> str | None:
    """Why an operation would make a recommendation, strength or priority untrue; None when it would not."""
    patterns = [table[operation] for table in (_MENTION_PATTERNS, _ADVICE_PATTERNS) if operation in table]
    if any(pattern.search(text) for pattern in patterns):
        return "it mentions what that changes"
    if operation is Mirror and shows_another_language(text):
        return "it is not English"
    return None


def is_operation_allowed(operation: ImageOperation, comments: Mapping[str, str]) -> bool:
    """False when a comment mentions what the operation changes, or can't be changed with the picture."""
    return operation_objection(type(operation), comments) is None


def operation_objection(operation: type, comments: Mapping[str, str]) -> str | None:
    """Why the comments forbid an operation; None when they don't.

    Left and right are swapped in English words only, so a mirror image needs recognizably English comments.
    """
    if any(_MENTION_PATTERNS[operation].search(comment) for comment in comments.values()):
        return "a comment mentions what that changes"
    if operation is Mirror and not is_english(comments.values()):
        return "not every comment is recognizably English"
    return None


def forbidden_operations(comments: Mapping[str, str], recipe: DataRecipe) -> dict[str, str]:
    """The operations that the recipe asks for and these comments forbid, such as "mirror", and why."""
    wanted = {
        Mirror: recipe.flips,
        Exposure: recipe.exposure_stops > 0,
        Crop: recipe.least_crop < 1,
        Rotate: recipe.rotation_degrees > 0,
    }
    found = {kind.__name__.lower(): operation_objection(kind, comments) for kind in _MENTION_PATTERNS if wanted[kind]}
    return {name: why for name, why in found.items() if why}


def plan_variants(photo_id: str, comments: Mapping[str, str], recipe: DataRecipe) -> tuple[ImageVariant, ...]:
    """The variants to make of one training photograph: the original and up to `recipe.variants` others, all different.

    The same photograph, comments and recipe give the same plan, whatever else is in the dataset. An operation that a
    comment forbids is left out, so some photographs have fewer variants.
    """
    rng = np.random.default_rng(augmentation_seed(f"variants {photo_id}", recipe.seed))
    offered = [
        variant
        for variant in _variants_by_preference(recipe, rng)
        if all(is_operation_allowed(operation, comments) for operation in variant.operations)
    ]
    return (ORIGINAL, *offered[: recipe.variants])


def _variants_by_preference(recipe: DataRecipe, rng: np.random.Generator) -> Sequence[ImageVariant]:
    """Variants in order of preference: the mirror image first, because it keeps every score."""
    crops = recipe.least_crop, max(recipe.least_crop, 0.995)
    stops = recipe.exposure_stops * (1 if rng.random() < 0.5 else -1)
    crop = Crop(round(float(rng.uniform(*crops)), 4), *(round(float(value), 3) for value in rng.beta(3, 3, 2)))
    second = Crop(round(float(rng.uniform(*crops)), 4), *(round(float(value), 3) for value in rng.beta(3, 3, 2)))
    flip = (Mirror(),) if recipe.flips else ()
    offers = [ImageVariant(flip)] if flip else []
    if stops:
        offers += [ImageVariant((Exposure(stops),)), ImageVariant((*flip, Exposure(-stops)))]
    offers += [ImageVariant((crop,)), ImageVariant((*flip, second))] if recipe.least_crop < 1 else []
    if stops:
        offers += [ImageVariant((Exposure(-stops),)), ImageVariant((*flip, Exposure(stops)))]
    if recipe.rotation_degrees:
        turn = round(float(rng.uniform(0.4, 1.0)) * recipe.rotation_degrees * (1 if rng.random() < 0.5 else -1), 2)
        offers[1:1] = [ImageVariant((Rotate(turn),))]
    return list(dict.fromkeys(offers))


def augmentation_seed(purpose: str, seed: int) -> int:
    """A separate seed for each purpose and photograph, derived from the recipe's seed."""
    return int.from_bytes(hashlib.sha256(f"mondrian {seed} {purpose}".encode()).digest()[:8], "big")


# --- applying to pixels -----------------------------------------------------------------------------------------------


def apply_variant(variant: ImageVariant, image: Image.Image) -> Image.Image | None:
    """The variant of an 8-bit RGB photograph.

    None when an exposure would clip more than 0.5 % of additional pixels, or when the result would be too narrow.
    """
    for operation in variant.operations:
        match operation:
            case Mirror():
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            case Exposure(stops):
                lighter = image.point(_exposure_table(stops) * 3)
                if _clipped(lighter) - _clipped(image) > MAX_NEW_CLIPPING:
                    return None
                image = lighter
            case Crop():
                image = image.crop(_box(operation, image.size))
            case Rotate(degrees):
                turned = image.rotate(degrees, Image.Resampling.BICUBIC)
                image = turned.crop(_box(inscribed_crop(image.size, degrees), image.size, math.floor))
            case _:
                assert_never(operation)
    return None if is_too_narrow(image.size) else image


def _exposure_table(stops: float) -> list[int]:
    """256 entries: sRGB value -> sRGB value after multiplying the linear light (IEC 61966-2-1)."""
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    brighter = np.clip(linear * 2.0**stops, 0, 1)
    back = np.where(brighter <= 0.0031308, brighter * 12.92, 1.055 * brighter ** (1 / 2.4) - 0.055)
    return [int(value) for value in np.floor(np.clip(back, 0, 1) * 255 + 0.5)]


def _clipped(image: Image.Image) -> float:
    """Share of pixels near black or white (0-1)."""
    counts = np.asarray(image.convert("L").histogram())
    return float((counts[: _LOW + 1].sum() + counts[_HIGH:].sum()) / max(1, counts.sum()))


def inscribed_crop(size: tuple[int, int], degrees: float) -> Crop:
    """The part of a rotated picture that is kept."""
    return Crop(inscribed_share(size, degrees), 0.5, 0.5)


def _box(crop: Crop, size: tuple[int, int], whole: Callable[[float], int] = round) -> tuple[int, int, int, int]:
    width, height = (max(1, whole(side * crop.share)) for side in size)
    left, top = round((size[0] - width) * crop.x), round((size[1] - height) * crop.y)
    return left, top, left + width, top + height
