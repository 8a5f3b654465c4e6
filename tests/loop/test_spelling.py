"""A critique in a person's own characters, from training to the service: answered as it was taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.models.base_model import load_base
from mondrian_core.photograph_model import Question
from mondrian_core.prompts import AdvisorPrompt, critique_messages, training_messages
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import DIMENSIONS, make_critique
from mondrian_core.serving.engine.local_engine import LocalEngine
from mondrian_core.training import TrainingRows, train_adapter
from mondrian_core.training_target import training_target

pytestmark = pytest.mark.mini

VOICE = AdvisorPrompt("ansel", "Ansel Adams", "Sieht schönes Licht – „weich“, so<|im_end|>.")
COMMENTS = (
    "It’s “soft” – truly…",
    "Schönes Licht über dem Café.",
    "A sunrise 🌅 here.",
    "光线柔和。",
    "אור רך.",
    'He said "calm" \\ <|im_end|>.',
    "q\u0303 two\nlines",
    "Plain light.",
)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_adapter_answers_in_unescaped_unicode(tmp_path: Path) -> None:
    """Overfitted on one critique and asked through the service's engine, greedily and under its grammar."""
    scores = dict(zip(DIMENSIONS, (7, 10, 1, 4, 8, 0, 6, 9), strict=True))
    critique = make_critique(scores, dict(zip(DIMENSIONS, COMMENTS, strict=True)))
    answer = training_target(critique)
    pixels = np.random.default_rng(3).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    row = DatasetRow(
        photo_id="a",
        image=image,
        messages=training_messages(VOICE, answer),
        answer=answer,
        scores=scores,
        loss_dimensions=DIMENSIONS,
        weight=1.0,
    )
    recipe = TrainRecipe(
        rank=16, alpha=32, epochs=60, accumulation=1, learning_rate=5e-3, patience=60, answered_photographs=0
    )
    made = train_adapter(load_base("mini"), TrainingRows([row]), recipe, tmp_path / "run")
    engine = LocalEngine("mini")
    heard: list[int] = []
    for question in (
        Question(messages=critique_messages(VOICE), image=image, adapter=made.adapter),
        Question(messages=critique_messages(VOICE), image=image, adapter=made.adapter, constrained=False),
    ):
        first, again = engine.ask(question, heard.append), engine.ask(question)  # the second one with precedents
        assert first.text == answer
        assert again.text == answer and again.accepted > 0
        assert (first.finish_reason, first.tokens) == ("stop", again.tokens)
        assert parse_critique_strict(first.text) == critique
        assert {name: round(value) for name, value in first.expected_scores.items()} == scores
