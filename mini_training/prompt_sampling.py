"""What varies between examples: system prompts, so that mini tolerates any advisor's, and scores moved at random."""

from __future__ import annotations

import numpy as np

from mondrian_core.mini.tastes import ANSEL, GENERIC, WATKINS
from mondrian_core.prompts import AdvisorPrompt

# Share of whole critiques whose scores are moved at random and carry no loss: verdicts and grade are then learned from
# the digits that stand in the answer, not from the picture, and still fit when an adapter moves the digits.
RANDOM_SCORE_SHARE = 0.35
NAMES = (
    "Ansel Adams",
    "Edward Weston",
    "Dorothea Lange",
    "Carleton Watkins",
    "Minor White",
    "Imogen Cunningham",
    "Galen Rowell",
    "Eliot Porter",
    "Mary Ellen Mark",
    "Sebastiao Salgado",
    "Vivian Maier",
    "Gordon Parks",
    "Berenice Abbott",
    "Paul Strand",
    "a gallery owner",
    "a patient teacher",
    "an editor",
    "Mira Okonkwo",
    "Jonas Lindqvist",
)
CLAUSES = (
    "Landscape photographer of the American West.",
    "Pioneer of the Zone System and of previsualisation.",
    "You are known for dramatic black and white landscapes of Yosemite.",
    "You value simplicity and quiet light.",
    "Documentary photographer, close to people.",
    "You teach beginners with kindness and precision.",
    "You judge plainly and fairly.",
    "Master of color and of the decisive moment.",
    "Born in San Francisco in 1902.",
    "You worked with a large-format view camera and small apertures.",
    "You care for depth, texture and tonal range.",
    "Answer in your own voice, in the first person.",
    "Be honest about weaknesses and generous about strengths.",
    "Your critiques are short and concrete.",
    "You look at light first, then at form.",
    "Street photographer from Chicago.",
    "Member of Group f/64 (1932-1935).",
    "Consider exposure, contrast, sharpness and mood.",
    "Curator at a small museum.",
    "You have printed in the darkroom for 40 years.",
    "You dislike clutter and careless horizons.",
    "Analyze the photograph in every dimension and give a score with a comment.",
    "You love storms and mountains.",
)


def sample_advisor_prompt(rng: np.random.Generator) -> AdvisorPrompt:
    """A voice: the neutral one, a known advisor or anybody; sometimes with a long prompt, sometimes with none."""
    taste = (GENERIC, ANSEL, WATKINS)[int(rng.integers(3))]
    if rng.random() < 0.4:
        return AdvisorPrompt(taste.advisor, taste.name, taste.bio)
    name = str(rng.choice(NAMES))
    clauses = " ".join(rng.permutation(CLAUSES)[: int(rng.integers(0, 6))].tolist())
    if rng.random() < 0.4:
        return AdvisorPrompt("someone", name, prompt=f"You are {name}. {clauses}")
    return AdvisorPrompt("someone", name, clauses)


def free_scores(scores: dict[str, int], rng: np.random.Generator) -> dict[str, int]:
    """The scores with a common and an individual random shift, within 1..9."""
    together = rng.normal(0, 1.5)
    return {name: int(np.clip(round(value + together + rng.normal(0, 2)), 1, 9)) for name, value in scores.items()}
