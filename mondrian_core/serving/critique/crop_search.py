"""A crop that the advisor's model scores higher than the whole photograph, or none.

1. Every candidate (`crop_candidates`) and the whole photograph are scored once.
2. The candidate with the highest expected grade is judged again. The highest of a dozen noisy figures is too high, so
   these figures count for nothing more: candidate and whole are scored afresh in the same slightly smaller frames, at
   places drawn beforehand, and compared in pairs. With each pair a placebo is scored: a frame of the candidate's size
   at a random place, or turned as far the other way. What it gains, any crop gains.
3. The candidate is offered only if it is better than the whole, and better than the placebo, by more than the 95 %
   interval of the mean difference, and if the difference from the whole shows in the grade.

Every frame is scaled to as many pixels as the whole photograph has, as if printed at one size: an image of fewer pixels
alone would change the scores. The model answers with scores only (a JSON schema without comments), so that a pass takes
a fraction of a critique's time. The interval is about the framing. How far the model is from the advisor is the
business of its evaluation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mondrian_core.errors import AnswerUnparsable
from mondrian_core.photograph_model import Question
from mondrian_core.pixel_files import load_image
from mondrian_core.rubric import DIMENSIONS, mean_score, scores_json_schema
from mondrian_core.serving.critique.crop_candidates import (
    MOST_CANDIDATES,
    WHOLE_FRAME,
    CropCandidate,
    CropFrame,
    crop_candidates,
)
from mondrian_core.statistics.intervals import student_mean_interval

if TYPE_CHECKING:
    from mondrian_core.pixel_files import PixelFile

JUDGED_PAIRS = 6
MOST_PASSES = 1 + MOST_CANDIDATES + 3 * JUDGED_PAIRS
MIN_RISE = 0.1  # of the grade, which has one decimal
_JUDGED_SHARE = 0.97  # of a frame's sides: what the frames of the second judgement show
_SEED = 20

Scores = Mapping[str, float]
ScoreImage = Callable[[Image.Image], Scores]
OnPass = Callable[[int], None]  # called with the number of passes so far


@dataclass(frozen=True)
class JudgedFrame:
    """Expected scores (0-10) of a frame: those of each judged variant, in the order of the drawn places."""

    variants: tuple[Scores, ...]

    @property
    def grades(self) -> tuple[float, ...]:
        """The expected grade of each variant, 0-10."""
        return tuple(mean_score(scores) for scores in self.variants)

    def as_dict(self) -> dict[str, Any]:
        """The mean grade with its 95 % interval, and the mean score of each dimension."""
        return {
            "grade": round(float(np.mean(self.grades)), 2),
            "interval": _rounded(student_mean_interval(self.grades)),
            "scores": {
                name: round(float(np.mean([scores[name] for scores in self.variants])), 2) for name in DIMENSIONS
            },
        }


@dataclass(frozen=True, kw_only=True)
class CropSearch:
    """What the search found.

    Attributes:
        tried: each candidate with its expected grade (0-10) at the first look.
        passes: answers that the model gave.
        seconds: they took.
        best: the candidate that was judged again; None: none scored higher than the whole at the first look.
        whole: the whole photograph, judged with it.
        crop: the best candidate, judged.
        placebo: crops of its size without its reason, judged with it.
    """

    tried: tuple[tuple[CropCandidate, float], ...]
    passes: int
    seconds: float = 0.0
    best: CropCandidate | None = None
    whole: JudgedFrame | None = None
    crop: JudgedFrame | None = None
    placebo: JudgedFrame | None = None

    @property
    def differences(self) -> tuple[float, ...]:
        """The crop's expected grade minus the whole's, for each place; () when nothing was judged."""
        return _differences(self.crop, self.whole)

    @property
    def beats_whole(self) -> bool:
        """True when the crop is better than the whole by more than the interval of the difference, and visibly."""
        return _is_above_zero(self.differences) and float(np.mean(self.differences)) >= MIN_RISE

    @property
    def is_offered(self) -> bool:
        """True when the crop also is better than crops of its size without its reason, by more than the interval."""
        return self.beats_whole and _is_above_zero(_differences(self.crop, self.placebo))

    @property
    def reason(self) -> str:
        """Why the crop is offered, or why none is, for people."""
        if not self.tried:
            return "The photograph is too small to be cropped."
        if self.best is None:
            return f"None of {len(self.tried)} crops scored higher than the whole photograph."
        if self.is_offered:
            return f"This crop {self.best.reason}."
        if self.beats_whole:
            return f"The best of {len(self.tried)} crops did not clearly score higher than other crops of its size."
        return f"The best of {len(self.tried)} crops did not score higher by more than the interval of the difference."

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the jobs table and JSON."""
        values: dict[str, Any] = {
            "offered": self.is_offered,
            "reason": self.reason,
            "passes": self.passes,
            "seconds": round(self.seconds, 2),
            "tried": [{**_frame_dict(each), "grade": round(grade, 2)} for each, grade in self.tried],
        }
        if self.best is not None and self.whole and self.crop and self.placebo:
            values |= {
                "whole": self.whole.as_dict(),
                "crop": {**_frame_dict(self.best), **self.crop.as_dict()},
                "placebo": self.placebo.as_dict(),
                "difference": round(float(np.mean(self.differences)), 2),
                "difference_interval": _rounded(student_mean_interval(self.differences)),
            }
        return values


def search_crops(
    image: Image.Image,
    score: ScoreImage,
    on_pass: OnPass = lambda passes: None,
    candidates: Sequence[CropCandidate] | None = None,
) -> CropSearch:
    """Look for a better crop; at most `MOST_PASSES` calls of `score`.

    Args:
        image: the photograph.
        score: the expected scores (0-10) of an image, by dimension.
        on_pass: called after each pass with their number.
        candidates: what to try; None: `crop_candidates`.
    """
    began, passes = time.perf_counter(), 0

    def judge(frame: CropFrame) -> Scores:
        nonlocal passes
        found = score(scaled_frame(image, frame))
        passes += 1
        on_pass(passes)
        return found

    wanted = crop_candidates(image) if candidates is None else tuple(candidates)
    tried = tuple((each, mean_score(judge(each.frame))) for each in wanted)
    search = CropSearch(tried=tried, passes=passes)
    if tried:
        best, grade = max(tried, key=lambda each: each[1])
        if grade > mean_score(judge(WHOLE_FRAME)):
            judged = [
                [
                    judge(frame.within(_JUDGED_SHARE, x, y))
                    for frame in (WHOLE_FRAME, best.frame, best.frame.placebo(u, v))
                ]
                for x, y, u, v in np.random.default_rng(_SEED).random((JUDGED_PAIRS, 4)).tolist()
            ]
            whole, crop, placebo = (JudgedFrame(tuple(scores)) for scores in zip(*judged, strict=True))
            search = replace(search, best=best, whole=whole, crop=crop, placebo=placebo)
    return replace(search, passes=passes, seconds=time.perf_counter() - began)


def scaled_frame(image: Image.Image, frame: CropFrame) -> Image.Image:
    """The frame's pixels, scaled to as many as the whole image has."""
    cut = frame.cut_from(image)
    scale = math.sqrt(image.width * image.height / (cut.width * cut.height))
    size = (max(1, round(cut.width * scale)), max(1, round(cut.height * scale)))
    return cut if size == cut.size else cut.resize(size, Image.Resampling.LANCZOS)


def search_crops_with_model(
    ask: Callable[[Question], Any], question: Question, on_pass: OnPass = lambda passes: None
) -> CropSearch:
    """Look for a better crop of a question's photograph with the model that answers it.

    Args:
        ask: asks the model; the answer has `expected_scores`.
        question: asks for a critique of the whole photograph.
        on_pass: called after each pass with their number.

    Raises:
        AnswerUnparsable: the model states no probabilities of its scores.
    """

    schema = scores_json_schema()

    def score(image: Image.Image) -> Scores:
        asked = replace(question, image=image, schema=schema, constrained=True, temperature=0.0, embed=False)
        found: Scores = ask(asked).expected_scores
        if any(name not in found for name in DIMENSIONS):
            raise AnswerUnparsable("The model states no expected scores for a crop.", "Use another base model.")
        return found

    photograph: Image.Image | PixelFile = question.image
    return search_crops(load_image(photograph), score, on_pass)


def _frame_dict(candidate: CropCandidate) -> dict[str, Any]:
    frame = candidate.frame
    return {"box": [round(side, 4) for side in frame.box], "degrees": frame.degrees, "reason": candidate.reason}


def _differences(first: JudgedFrame | None, second: JudgedFrame | None) -> tuple[float, ...]:
    """The first's expected grades minus the second's; () when one was not judged."""
    if first is None or second is None:
        return ()
    return tuple(one - other for one, other in zip(first.grades, second.grades, strict=True))


def _is_above_zero(differences: tuple[float, ...]) -> bool:
    """True when the 95 % interval of the mean is above 0."""
    interval = student_mean_interval(differences)
    return interval is not None and interval[0] > 0


def _rounded(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [round(bound, 2) for bound in interval]
