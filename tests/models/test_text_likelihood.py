"""The likelihood of an answer's comments equals that of plain teacher forcing, and depends on the photograph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mondrian_core.prompts import AdvisorPrompt, critique_messages
from mondrian_core.rubric import DIMENSIONS, Assessment, Critique, canonical_answer, make_critique, text_spans

pytestmark = pytest.mark.mini


def answers() -> list[str]:
    """Two critiques of different length."""
    scores = dict.fromkeys(DIMENSIONS, 6)
    return [
        canonical_answer(make_critique(scores, dict.fromkeys(DIMENSIONS, comment)))
        for comment in ("Edges are soft.", "Side light shapes the land; I could print this straight.")
    ]


def test_comment_spans_hold_comments_and_recommendations() -> None:
    said = {name: Assessment(5, f'A "quoted" {name}.', "Wait: for light\n.") for name in DIMENSIONS}
    answer = canonical_answer(Critique(said, "5.0"))
    texts = [answer[start:end] for start, end in text_spans(answer)]
    assert len(texts) == 2 * len(DIMENSIONS)
    assert texts[:2] == ['A \\"quoted\\" composition.', "Wait: for light\\n."]


def test_likelihood_equals_teacher_forcing_in_one_pass(base: Any) -> None:
    import mlx.core as mx
    from PIL import Image

    from mondrian_core.models.forward_pass import hidden_states
    from mondrian_core.models.kl import log_probabilities, teacher_forced_inputs
    from mondrian_core.models.prompt_encoding import encode_answer, encode_prompt
    from mondrian_core.models.text_likelihood import text_likelihoods

    messages = critique_messages(AdvisorPrompt("ansel", "Ansel Adams"))
    pixels = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    prompt = encode_prompt(base, messages, Image.fromarray(pixels))
    encoded = [encode_answer(base, messages, text) for text in answers()]
    found = text_likelihoods(base, prompt, answers(), encoded)
    for text, tokens, likelihood in zip(answers(), encoded, found, strict=True):
        states = hidden_states(base, teacher_forced_inputs(base, prompt, list(tokens.ids)))[0, len(prompt.ids) - 1 :]
        logs = np.array(log_probabilities(base, states).astype(mx.float32))
        spans = text_spans(text)
        places = [
            place
            for place, (start, end) in enumerate(tokens.offsets)
            if any(start < last and end > first for first, last in spans)
        ]
        assert likelihood.tokens == len(places)
        assert likelihood.nats == pytest.approx(sum(logs[place, tokens.ids[place]] for place in places), rel=1e-3)
