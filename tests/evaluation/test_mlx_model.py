"""The real model answers several questions as it answers each alone, and encodes a photograph once for all arms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mondrian_core.photograph_model import Question
from mondrian_core.prompts import AdvisorPrompt, critique_messages
from mondrian_core.recipes import TrainRecipe

pytestmark = pytest.mark.mini
PROMPT = AdvisorPrompt("ansel", "Ansel Adams")


def _photograph(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (96, 96 + 32 * seed, 3))
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("gain", [8.0, 1.0])
def test_questions_to_two_arms_are_answered_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float
) -> None:
    from mondrian_core.evaluation.measure.mlx_model import MlxModel
    from mondrian_core.models.base_model import load_base
    from mondrian_core.models.inference import batch_size, generation
    from mondrian_core.models.lora import lora_layers

    base = load_base("mini")
    lora_layers.attach_lora(base, TrainRecipe(), 0)
    weights = {
        name: value + 0.02 if "lora_b" in name else value
        for name, value in lora_layers.attached_parameters(base).items()
    }
    lora_layers.save_attached_adapter(base, tmp_path, weights)
    lora_layers.detach_lora(base)
    encoded: list[Any] = []
    encode = generation.prepare_prompt

    def count(*arguments: Any) -> Any:
        encoded.append(arguments)
        return encode(*arguments)

    monkeypatch.setattr(generation, "prepare_prompt", count)
    monkeypatch.setattr(batch_size, "_gain", lambda *_: gain)
    model = MlxModel(base, PROMPT)
    questions = [
        Question(
            messages=critique_messages(PROMPT),
            image=_photograph(seed),
            adapter=adapter,
            max_tokens=40,
            constrained=constrained,
        )
        for seed in range(2)
        for adapter in (None, tmp_path)
        for constrained in (False, True)
    ]
    answers = dict(model.ask_each(questions))
    assert len(encoded) == 2, "both arms and both forms of a photograph share its features"
    for number, question in enumerate(questions):
        alone, together = MlxModel(base, PROMPT).ask(question), answers[number]
        assert not isinstance(together, Exception)
        assert together.text == alone.text
        assert together.expected_scores == pytest.approx(alone.expected_scores, abs=1e-3)
    model.use(None)


def test_a_photograph_that_cannot_be_encoded_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from mondrian_core.evaluation.measure.mlx_model import MlxModel
    from mondrian_core.models.base_model import load_base
    from mondrian_core.models.inference import batch_size, generation

    encode = generation.prepare_prompt

    def fail_on_first(base: Any, messages: Any, image: Image.Image) -> Any:
        if image.width == 96:
            raise RuntimeError("no such photograph")
        return encode(base, messages, image)

    monkeypatch.setattr(generation, "prepare_prompt", fail_on_first)
    monkeypatch.setattr(batch_size, "_gain", lambda *_: 8.0)
    messages = critique_messages(PROMPT)
    questions = [Question(messages=messages, image=_photograph(seed), max_tokens=8) for seed in (1, 0, 2)]
    for asked in (questions, questions[1:]):
        answers = dict(MlxModel(load_base("mini"), PROMPT).ask_each(asked))
        failed = [number for number, answer in answers.items() if isinstance(answer, Exception)]
        assert len(answers) == len(asked)
        assert [asked[number].image.size for number in failed] == [(96, 96)]
