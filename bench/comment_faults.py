"""Faults in comments: right scores with words that are wrong in one way, for training rows and for recorded answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mondrian_core.mini.scene import Scene
from mondrian_core.mini.scene_critic import ANSEL, WATKINS, compose_critique
from mondrian_core.mini.tastes import AdvisorTaste
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE

EMPTY_WORD = "Photograph."
Comments = dict[str, str]


@dataclass(frozen=True)
class ScoredScene:
    """A rendered photograph with the scores (0-10) that the faulty answer keeps."""

    scene: Scene
    scores: Mapping[str, int]

    def comments(self, taste: AdvisorTaste, rng: np.random.Generator, *, contradicting: bool = False) -> Comments:
        """True facts with verdicts for the scores, or for their opposite."""
        scores = {name: MAX_SCORE - score if contradicting else score for name, score in self.scores.items()}
        critique = compose_critique(self.scene, scores, taste, rng)
        return {name: assessment.comment for name, assessment in critique.assessments.items()}


def sound_comments(scenes: Sequence[ScoredScene], rng: np.random.Generator) -> list[Comments]:
    """What the advisor would write."""
    return [each.comments(ANSEL, rng) for each in scenes]


def gibberish(scenes: Sequence[ScoredScene], rng: np.random.Generator) -> list[Comments]:
    """As many words, of random letters."""

    def word(length: int) -> str:
        return "".join(chr(97 + letter) for letter in rng.integers(0, 26, max(2, length)))

    return [
        {name: " ".join(word(len(part)) for part in text.split()) + "." for name, text in comments.items()}
        for comments in sound_comments(scenes, rng)
    ]


def comments_of_other_photographs(scenes: Sequence[ScoredScene], rng: np.random.Generator) -> list[Comments]:
    """Each photograph gets the comments on the next one."""
    comments = sound_comments(scenes, rng)
    return [*comments[1:], comments[0]]


def empty_word(scenes: Sequence[ScoredScene], _: np.random.Generator) -> list[Comments]:
    """One word for everything."""
    return [dict.fromkeys(DIMENSIONS, EMPTY_WORD) for _ in scenes]


def another_voice(scenes: Sequence[ScoredScene], rng: np.random.Generator) -> list[Comments]:
    """True facts in the words of another advisor."""
    return [each.comments(WATKINS, rng) for each in scenes]


def contradicting(scenes: Sequence[ScoredScene], rng: np.random.Generator) -> list[Comments]:
    """True facts with verdicts for the opposite of the scores."""
    return [each.comments(ANSEL, rng, contradicting=True) for each in scenes]


COMMENT_FAULTS: Mapping[str, Callable[[Sequence[ScoredScene], np.random.Generator], list[Comments]]] = {
    "gibberish": gibberish,
    "comments of other photographs": comments_of_other_photographs,
    "an empty word": empty_word,
    "another advisor's voice": another_voice,
    "comments contradict scores": contradicting,
}
