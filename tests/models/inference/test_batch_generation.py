"""Answers that are generated together equal those generated one by one: text, end, and score probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.batch_generation import AnswerOrder, generate_batch
from mondrian_core.models.inference.generation import Generation, generate
from mondrian_core.models.lora.adapter_switch import get_adapter_switch
from mondrian_core.models.prompt_encoding import EncodedPrompt, encode_prompt
from tests.models.conftest import photograph

pytestmark = pytest.mark.mini

SCORE_TOLERANCE = 1e-3  # of expected scores, 0-10: rounding of the logits in float32 is far below


@pytest.fixture(scope="module")
def prompts(base: BaseVLM, messages: Any) -> list[EncodedPrompt]:
    """Four prompts of different lengths."""
    return [encode_prompt(base, messages, photograph(seed, (96 + 32 * seed, 96))) for seed in range(4)]


def _together(base: BaseVLM, orders: list[AnswerOrder[int]], rows: int) -> dict[int, Generation | Exception]:
    waiting = iter(orders)
    return dict(generate_batch(base, lambda: next(waiting, None), rows))


def _alone(base: BaseVLM, messages: Any, order: AnswerOrder[int]) -> Generation:
    return generate(
        base,
        messages,
        None,
        prepared=order.prompt(),
        max_tokens=order.max_tokens,
        temperature=order.temperature,
        seed=order.seed,
        constrained=order.constrained,
        schema=order.schema,
    )


def _assert_equal(found: Generation | Exception, expected: Generation) -> None:
    assert isinstance(found, Generation)
    assert found.text == expected.text
    assert found.finish_reason == expected.finish_reason
    assert found.expected_scores == pytest.approx(expected.expected_scores, abs=SCORE_TOLERANCE)
    for name, chances in expected.score_chances.items():
        assert found.score_chances[name] == pytest.approx(chances, abs=SCORE_TOLERANCE)


def test_answers_of_every_kind_equal_those_one_by_one(
    base: BaseVLM, messages: Any, prompts: list[EncodedPrompt], adapter: Path
) -> None:
    """Six answers in three rows, so that rows are refilled: free, constrained, cut, sampled, under another schema."""
    own = {"type": "object", "properties": {"sharp": {"type": "boolean"}}, "required": ["sharp"]}
    orders = [
        AnswerOrder(key=0, prompt=prompts[0].load, max_tokens=220),
        AnswerOrder(key=1, prompt=prompts[1].load, max_tokens=220, constrained=True),
        AnswerOrder(key=2, prompt=prompts[2].load, max_tokens=25, constrained=True),
        AnswerOrder(key=3, prompt=prompts[3].load, max_tokens=60, constrained=True, temperature=0.7, seed=3),
        AnswerOrder(key=4, prompt=prompts[0].load, max_tokens=60, constrained=True, schema=own),
        AnswerOrder(key=5, prompt=prompts[2].load, max_tokens=220, constrained=True),
    ]
    found = _together(base, orders, rows=3)
    assert set(found) == set(range(6))
    for order in orders:
        _assert_equal(found[order.key], _alone(base, messages, order))
    get_adapter_switch(base).use(adapter)
    (order,) = orders[2:3]
    _assert_equal(_together(base, orders[2:4], rows=2)[2], _alone(base, messages, order))


def test_pieces_of_text_arrive_as_they_are_generated(base: BaseVLM, prompts: list[EncodedPrompt]) -> None:
    pieces: dict[int, list[str]] = {0: [], 1: []}
    orders = [
        AnswerOrder(key=key, prompt=prompts[key].load, max_tokens=30, constrained=True, on_token=pieces[key].append)
        for key in pieces
    ]
    found = _together(base, orders, rows=2)
    for key, own in pieces.items():
        answer = found[key]
        assert isinstance(answer, Generation)
        assert len(own) > 1
        assert "".join(own) == answer.text


def test_an_answer_that_fails_leaves_the_others_alone(
    base: BaseVLM, messages: Any, prompts: list[EncodedPrompt]
) -> None:
    def fail(_piece: str) -> None:
        raise OSError("nobody listens")

    orders = [
        AnswerOrder(key=0, prompt=prompts[0].load, max_tokens=40),
        AnswerOrder(key=1, prompt=prompts[1].load, max_tokens=40, on_token=fail),
        AnswerOrder(key=2, prompt=prompts[2].load, max_tokens=40, constrained=True, schema={"type": "no such type"}),
        AnswerOrder(key=3, prompt=prompts[3].load, max_tokens=40),
    ]
    found = _together(base, orders, rows=2)
    assert isinstance(found[1], OSError)
    assert isinstance(found[2], Exception)
    for order in (orders[0], orders[3]):
        _assert_equal(found[order.key], _alone(base, messages, order))
