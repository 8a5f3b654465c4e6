"""The critique that belongs to a variant of a photograph: mirrored words, moved boxes, and no advice that is untrue.

A variant is only made when every comment allows it (`plan_variants`). Advice is optional in an answer: what a variant
would make untrue is left out of its row instead, and its place carries no loss. A list stays whole or is left out,
because the end of a list with an item missing would teach an untrue end. So does a recommendation with its boxes: one
whose box was cut away would teach that it points at nothing.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import assert_never

from mondrian_core.critique_regions import cropped_region, mirrored_region, rotated_region
from mondrian_core.data.augmentation.image_variants import (
    Crop,
    Exposure,
    ImageVariant,
    Mirror,
    Rotate,
    advice_objection,
    inscribed_crop,
)
from mondrian_core.rubric import Assessment, Critique, Region

_SWAPS = {
    "left": "right",
    "leftmost": "rightmost",
    "leftward": "rightward",
    "leftwards": "rightwards",
    "lefthand": "righthand",
    "clockwise": "counterclockwise",
    "counterclockwise": "clockwise",
    "anticlockwise": "clockwise",
    "counter-clockwise": "clockwise",
    "anti-clockwise": "clockwise",
}
_SWAPS |= {right: left for left, right in _SWAPS.items() if left.startswith("left")}
_DIRECTION = re.compile(
    r"\b(" + "|".join(sorted(map(re.escape, _SWAPS), key=len, reverse=True)) + r")\b", re.IGNORECASE
)
# "right" and "left" that don't name a side: "just right", "the right moment", "left out", "nothing is left".
_RIGHT_MEANING_CORRECT = re.compile(
    r"\b(?:(?:just|exactly|quite|all|feels?|looks?|seems?|gets?|got|not) right"
    r"(?!\s+(?:side|of|hand|edge|third|corner))|"
    r"right (?:moment|time|away|now|amount|place|through|into|at|choice|balance|down|up|exposure)|"
    r"(?:is|are|was|were|has|have|nothing|little|much|what(?:'s)?|been) left(?!\s+(?:of|side|hand|third|edge))|"
    r"left (?:out|over|behind|alone|unresolved|wanting|to (?:the )?(?:viewer|imagination)|with|"
    r"in (?:shadow|darkness)))\b",
    re.IGNORECASE,
)


def mirrored_text(text: str) -> str:
    """The comment for the mirrored photograph: left and right (and clockwise) swapped, case kept."""
    fixed = [match.span() for match in _RIGHT_MEANING_CORRECT.finditer(text)]

    def swap(match: re.Match[str]) -> str:
        if any(start <= match.start() < end for start, end in fixed):
            return match.group()
        return _cased_like(match.group(), _SWAPS[match.group().lower()])

    return _DIRECTION.sub(swap, text)


def _cased_like(model: str, word: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word


def variant_critique(variant: ImageVariant, critique: Critique, size: tuple[int, int]) -> Critique:
    """The critique that belongs to a variant of a photograph.

    Args:
        variant: what is done to the picture.
        critique: of the photograph itself.
        size: width and height of the photograph in pixels.
    """
    return replace(
        critique,
        assessments={name: _assessment(variant, each, size) for name, each in critique.assessments.items()},
        strengths=_advice_texts(variant, critique.strengths),
        priority_improvements=_advice_texts(variant, critique.priority_improvements),
    )


def _assessment(variant: ImageVariant, assessment: Assessment, size: tuple[int, int]) -> Assessment:
    advice = _advice_texts(variant, (assessment.recommendation,) if assessment.recommendation else ())
    comment = mirrored_text(assessment.comment) if _is_flipped(variant) else assessment.comment
    regions = variant_regions(variant, assessment.regions, size)
    if not advice or len(regions) < len(assessment.regions):
        return Assessment(assessment.score, comment)
    return Assessment(assessment.score, comment, advice[0], regions)


def _advice_texts(variant: ImageVariant, texts: tuple[str, ...]) -> tuple[str, ...]:
    if any(advice_objection(type(operation), text) for operation in variant.operations for text in texts):
        return ()
    return tuple(map(mirrored_text, texts)) if _is_flipped(variant) else texts


def _is_flipped(variant: ImageVariant) -> bool:
    return sum(isinstance(operation, Mirror) for operation in variant.operations) % 2 == 1


def variant_regions(variant: ImageVariant, regions: tuple[Region, ...], size: tuple[int, int]) -> tuple[Region, ...]:
    """Where the boxes are in a variant; none when one of them is mostly cut away.

    Args:
        variant: what is done to the picture.
        regions: boxes in the photograph.
        size: its width and height in pixels.
    """
    for operation in variant.operations:
        match operation:
            case Mirror():
                moved: list[Region | None] = [mirrored_region(region) for region in regions]
            case Exposure():
                moved = list(regions)
            case Crop():
                moved = [cropped_region(region, operation.region) for region in regions]
            case Rotate(degrees):
                kept = inscribed_crop(size, degrees).region
                moved = [cropped_region(rotated_region(region, size, degrees), kept) for region in regions]
            case _:
                assert_never(operation)
        regions = tuple(region for region in moved if region is not None)
        if len(regions) < len(moved):
            return ()
    return regions
