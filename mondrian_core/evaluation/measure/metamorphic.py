"""Metamorphic relations: what must hold between a photograph and an edited copy, without labels.

A blurred copy isn't sharper, a tilted one isn't better balanced, a dark one isn't better lit, and an invisible edit
changes nothing (Chen et al., "Metamorphic testing", ACM Comput. Surv. 51, 2018).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.images import jpeg_bytes
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.statistics import intervals

# Points by which a degraded copy may score higher: the text before a score differs, so scores vary a little.
ALLOWED_SCORE_RISE = 0.25
INVISIBLE_EDIT_TOLERANCE = 0.5  # points by which an invisible edit may move a score: users notice more than that
# Blur radius as a share of the width, rotation, exposure and JPEG quality of the edits.
BLUR, DEGREES, STOPS, QUALITY = 0.02, 6.0, -2.0, 95


@dataclass(frozen=True)
class MetamorphicRelation:
    """An edit and the dimensions whose scores must not rise by it; with `invariant` they must not change either way."""

    statement: str
    edit: Callable[[Image.Image], Image.Image]
    dimensions: tuple[str, ...]
    invariant: bool = False

    def violated(self, before: Mapping[str, float], after: Mapping[str, float]) -> bool | None:
        """True when the scores (0-10) before and after the edit violate it; None where scores are missing."""
        if not all(name in before and name in after for name in self.dimensions):
            return None
        moves = [after[name] - before[name] for name in self.dimensions]
        return (
            any(abs(move) > INVISIBLE_EDIT_TOLERANCE for move in moves)
            if self.invariant
            else any(move > ALLOWED_SCORE_RISE for move in moves)
        )


def blurred(image: Image.Image) -> Image.Image:
    """Gaussian blur with a radius of 2 % of the width."""
    return image.convert("RGB").filter(ImageFilter.GaussianBlur(BLUR * image.width))


def tilted(image: Image.Image) -> Image.Image:
    """Rotated by 6 degrees and cropped to the largest upright rectangle of the same shape, without black corners."""
    turned = image.convert("RGB").rotate(DEGREES, Image.Resampling.BICUBIC)
    cosine, sine = math.cos(math.radians(DEGREES)), math.sin(math.radians(DEGREES))
    width, height = image.size
    share = min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))
    across, down = max(1, int(width * share)), max(1, int(height * share))
    left, top = (width - across) // 2, (height - down) // 2
    return turned.crop((left, top, left + across, top + down))


def darkened(image: Image.Image) -> Image.Image:
    """Two stops darker, computed in linear light (sRGB, IEC 61966-2-1)."""
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4) * 2.0**STOPS
    back = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return image.convert("RGB").point([int(value) for value in np.round(back * 255)] * 3)


def recompressed(image: Image.Image) -> Image.Image:
    """Saved as JPEG at quality 95 and opened again, which is invisible."""
    with Image.open(io.BytesIO(jpeg_bytes(image.convert("RGB"), QUALITY))) as opened:
        return opened.convert("RGB")


METAMORPHIC_RELATIONS: Mapping[str, MetamorphicRelation] = {
    "blurred": MetamorphicRelation("a blurred copy isn't sharper", blurred, ("focus_sharpness",)),
    "tilted": MetamorphicRelation("a tilted copy isn't better balanced", tilted, ("visual_balance",)),
    "dark": MetamorphicRelation("a copy two stops darker isn't better lit", darkened, ("lighting",)),
    "invisible": MetamorphicRelation("an invisible edit changes nothing", recompressed, DIMENSIONS, invariant=True),
}


@dataclass(frozen=True)
class EditedCopyOutcome:
    """The answer to an edited copy of a photograph; `edit` is a key of `METAMORPHIC_RELATIONS`."""

    edit: str
    outcome: EvaluationOutcome


def metamorphic_violations(
    outcomes: Sequence[EvaluationOutcome], edited: Sequence[EditedCopyOutcome], arm: str
) -> dict[str, dict[str, Any]]:
    """By edit how often an arm's answers violate its relation: "broken" of "n" photographs, "rate" and "interval".

    The interval is the exact two-sided 95 % one (two one-sided 97.5 % bounds); None without photographs. "moved" is
    the mean change of the relation's scores in points, and the mean absolute change where they must not change.

    Args:
        outcomes: answers to the unedited photographs, of all arms.
        edited: answers to the edited copies, of all arms.
        arm: whose answers are counted.
    """
    before = {outcome.photograph: outcome.best_scores for outcome in outcomes if outcome.arm == arm}
    after = {
        (each.edit, each.outcome.photograph): each.outcome.best_scores for each in edited if each.outcome.arm == arm
    }
    violations: dict[str, dict[str, Any]] = {}
    for name, relation in METAMORPHIC_RELATIONS.items():
        pairs = [(before.get(photograph, {}), scores) for (edit, photograph), scores in after.items() if edit == name]
        broken = [verdict for first, second in pairs if (verdict := relation.violated(first, second)) is not None]
        moves = [
            second[k] - first[k] for first, second in pairs for k in relation.dimensions if k in first and k in second
        ]
        moves = [abs(move) for move in moves] if relation.invariant else moves
        count, n = sum(broken), len(broken)
        violations[name] = {
            "says": relation.statement,
            "broken": count,
            "n": n,
            "rate": count / n if n else None,
            "interval": (
                intervals.clopper_pearson_lower(count, n, 0.975),
                intervals.clopper_pearson_upper(count, n, 0.975),
            )
            if n
            else None,
            "moved": float(np.mean(moves)) if moves else None,
        }
    return violations
