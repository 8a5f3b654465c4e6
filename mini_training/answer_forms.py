"""Examples to learn from: the product's own prompts in every form, each with the answer that it should get.

Some ask for comments, some for advice; some of both in comparison with an advisor's portfolio. The words are
those of the voice that the prompt names; the scores are a plain critic's, since a taste is what an adapter learns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mini_training.prompt_sampling import RANDOM_SCORE_SHARE, free_scores, sample_advisor_prompt
from mondrian_core.mini.scene import Scene, sample_scene
from mondrian_core.mini.scene_critic import GENERIC, VOICES, AdvisorTaste, compose_critique, score_scene
from mondrian_core.prompts import (
    AdvisorPrompt,
    ChatMessage,
    PortfolioComparison,
    PortfolioNeighbour,
    comparison_messages,
    critique_messages,
)
from mondrian_core.rubric import DIMENSIONS, AnswerForm
from mondrian_core.training_target import training_target

ADVICE_SHARE, COMPARISON_SHARE = 0.6, 0.15
OWN_PROMPT_SHARE = 0.6  # prompts with the name and the biography of a voice
OWN_WORDS_SHARE = 0.9  # of these: answers in the voice's own words, so that an adapter meets words the base can say
BORROWED_WORDS_SHARE = 0.25  # of the other prompts: answers in the words of some voice
NAME_STEMS = ("photo", "IMG", "DSC", "scan", "plate", "frame")


@dataclass(frozen=True)
class AnswerExample:
    """A prompt with its answer; `honest` is False where the scores aren't the scene's, so they carry no loss."""

    messages: list[ChatMessage]
    answer: str
    honest: bool


def sample_answer_example(scene: Scene, rng: np.random.Generator, *, compared: bool) -> AnswerExample:
    """One way of asking about a scene, and the answer in the product's canonical spelling.

    Args:
        scene: what is shown.
        rng: chooses prompt, form and phrasing.
        compared: ask in comparison with a portfolio.
    """
    prompt, taste = sample_voice(rng)
    advice = bool(rng.random() < ADVICE_SHARE)
    prompt = replace(prompt, form=AnswerForm.ADVICE if advice else AnswerForm.COMMENTS)
    scores, honest = score_scene(scene, GENERIC), True
    if rng.random() < RANDOM_SCORE_SHARE:
        scores, honest = free_scores(scores, rng), False
    answer = training_target(compose_critique(scene, scores, taste, rng), prompt.form)
    if compared:
        return AnswerExample(comparison_messages(prompt, sample_comparison(scores, taste, rng)), answer, honest)
    return AnswerExample(critique_messages(prompt), answer, honest)


def sample_voice(rng: np.random.Generator) -> tuple[AdvisorPrompt, AdvisorTaste]:
    """A prompt, and in whose words it is answered."""
    voices = list(VOICES.values())
    taste = voices[int(rng.integers(len(voices)))]
    if rng.random() < OWN_PROMPT_SHARE:
        own = rng.random() < OWN_WORDS_SHARE
        return AdvisorPrompt(taste.advisor, taste.name, taste.bio), taste if own else GENERIC
    return sample_advisor_prompt(rng), taste if rng.random() < BORROWED_WORDS_SHARE else GENERIC


def sample_comparison(scores: dict[str, int], taste: AdvisorTaste, rng: np.random.Generator) -> PortfolioComparison:
    """A comparison as `mondrian_core.retrieval` makes it: first-pass scores near the answer's, and other scenes.

    Args:
        scores: the scores of the answer, 1-9.
        taste: whose portfolio.
        rng: chooses the portfolio.
    """
    first = {name: float(np.clip(round(value + rng.normal(0, 0.8)), 1, 9)) for name, value in scores.items()}
    neighbours = []
    for _ in range(int(rng.integers(2, 4))):
        scene = sample_scene(rng)
        seen = score_scene(scene, taste)
        critique = compose_critique(scene, seen, taste, rng)
        gaps = sorted(DIMENSIONS, key=lambda name: first[name] - seen[name])[: int(rng.integers(0, 3))]
        name = f"{rng.choice(NAME_STEMS)}-{int(rng.integers(1, 400)):03d}"
        comments = {gap: critique.assessments[gap].comment for gap in gaps}
        neighbours.append(PortfolioNeighbour(name, dict(critique.scores), comments))
    spreads = {
        name: (float(rng.uniform(4, 8)), float(rng.integers(1, 4)), float(rng.integers(8, 10))) for name in DIMENSIONS
    }
    return PortfolioComparison(first, tuple(neighbours), spreads, int(rng.integers(8, 80)))
