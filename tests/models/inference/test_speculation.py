"""Drafts change no answer: what holds is what the model writes anyway, what doesn't leaves no trace."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import hidden_states, lm_head_logits
from mondrian_core.models.inference import generation
from mondrian_core.models.inference.decoding import CACHE_BLOCK_TOKENS, CompiledDecoder, EagerDecoder
from mondrian_core.models.inference.generation import Generation, generate, prepare_prompt
from mondrian_core.models.inference.generation_loop import TokenSampler
from mondrian_core.models.inference.json_grammar import JsonGrammar
from mondrian_core.models.inference.ngram_draft import NgramDrafter
from mondrian_core.models.kl import teacher_forced_inputs
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.prompt_encoding import EncodedPrompt, answer_token_ids
from mondrian_core.rubric import critique_json_schema
from tests.models.conftest import photograph
from tests.models.oracle import Oracle

pytestmark = pytest.mark.mini
PHOTOGRAPHS = 5  # at which drafts from earlier answers are mostly right
ARMS = {"constrained": (True, False, 200), "free": (False, False, 80), "with adapter": (True, True, 48)}


class Asked:
    """Photographs, and what is answered about them without precedents."""

    def __init__(self, base: BaseVLM, messages: Any, adapter: Path) -> None:
        self._base, self._messages, self._adapter = base, messages, adapter
        self._prompts: dict[int, EncodedPrompt] = {}
        self._plain: dict[tuple[str, int], Generation] = {}

    def prompt(self, number: int) -> EncodedPrompt:
        if number not in self._prompts:
            self._prompts[number] = prepare_prompt(self._base, self._messages, self._image(number))
        return self._prompts[number]

    def _image(self, number: int) -> Image.Image:
        return photograph(100 + number, (96, 64))

    def answer(self, arm: str, number: int, **options: Any) -> Generation:
        constrained, adapted, limit = ARMS[arm]
        lora_layers.get_adapter_switch(self._base).use(self._adapter if adapted else None)
        told = {"max_tokens": limit, "constrained": constrained, "prepared": self.prompt(number), **options}
        return generate(self._base, self._messages, self._image(number), **told)

    def plain(self, arm: str, number: int) -> Generation:
        if (arm, number) not in self._plain:
            self._plain[arm, number] = self.answer(arm, number)
        return self._plain[arm, number]


@pytest.fixture(scope="module")
def asked(base: BaseVLM, messages: Any, adapter: Path) -> Asked:
    return Asked(base, messages, adapter)


def same(found: Generation, plain: Generation) -> None:
    assert found.tokens == plain.tokens
    assert (found.text, found.finish_reason) == (plain.text, plain.finish_reason)
    assert list(found.score_chances) == list(plain.score_chances)
    assert found.expected_scores == pytest.approx(plain.expected_scores, abs=1e-3)
    for name, chances in plain.score_chances.items():
        assert found.score_chances[name] == pytest.approx(chances, abs=1e-4)


@pytest.mark.parametrize("photographs", [PHOTOGRAPHS, pytest.param(10, marks=pytest.mark.soak)])
@pytest.mark.parametrize("arm", ARMS)
def test_speculative_decoding_matches_plain_decoding(arm: str, asked: Asked, photographs: int) -> None:
    """One memory that grows from nothing: cold at the first photograph, mostly right at the last."""
    memory = NgramDrafter()
    found = []
    for number in range(photographs):
        heard: list[str] = []
        found.append(asked.answer(arm, number, precedents=memory, on_token=heard.append))
        same(found[-1], asked.plain(arm, number))
        assert "".join(heard) == found[-1].text
    assert memory.accepted == sum(each.accepted for each in found) > 0
    assert memory.drafted == sum(each.drafted for each in found)
    if arm == "constrained":
        assert sum(each.passes for each in found) < 0.8 * sum(asked.plain(arm, n).passes for n in range(photographs))


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("right", [0, 3, 99])
def test_wrong_drafts_do_not_change_the_answer(arm: str, right: int, asked: Asked) -> None:
    """Right for so many tokens and wrong from there on, at every pass, past the end of the answer too."""
    plain = asked.plain(arm, 0)

    def expect(at: int, limit: int) -> list[int]:
        true = list(plain.tokens[at : at + right])
        return true + [7] * (limit - len(true))

    found = asked.answer(arm, 0, precedents=Oracle(expect))
    same(found, plain)
    if right < 99:
        assert found.drafted > found.accepted
    else:
        assert found.passes < 0.25 * len(plain.tokens)


def test_speculation_works_with_mlx_vlm_cache(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder of Metal, on this machine."""
    monkeypatch.setattr(generation, "make_decoder", EagerDecoder)
    plain = asked.plain("constrained", 0)
    oracle = Oracle(lambda at, limit: [*plain.tokens[at : at + 3], *[7] * (limit - 3)])
    same(asked.answer("constrained", 0, precedents=oracle), plain)


def test_drafts_ending_inside_forced_tokens_do_not_change_the_answer(asked: Asked) -> None:
    """Every pass drafts one or two tokens, so that some end inside what the grammar forces, right or wrong there."""
    plain = asked.plain("constrained", 1)
    for count, wrong in ((1, 0), (2, 0), (1, 1), (2, 1)):

        def expect(at: int, limit: int, count: int = count, wrong: int = wrong) -> list[int]:
            return [*plain.tokens[at : at + count], *[7] * wrong]

        same(asked.answer("constrained", 1, precedents=Oracle(expect)), plain)


@pytest.mark.parametrize("arm", ["constrained", "free"])
def test_drafted_end_token_does_not_end_the_answer(arm: str, base: BaseVLM, asked: Asked) -> None:
    plain, end = asked.answer(arm, 2, max_tokens=200), min(base.end_tokens)
    assert plain.finish_reason == "stop"
    oracle = Oracle(lambda at, limit: [*plain.tokens[at : at + 3], end, 7, 7])
    found = asked.answer(arm, 2, max_tokens=200, precedents=oracle)
    same(found, plain)
    assert found.drafted == found.accepted, "an end token is never tried: the pass before tells whether it comes"


@pytest.mark.parametrize("arm", ["constrained", "free"])
def test_limit_cuts_accepted_draft(arm: str, asked: Asked) -> None:
    plain = asked.plain(arm, 0)
    oracle = Oracle(lambda at, limit: list(plain.tokens[at:]))
    for limit in (1, 2, 3, 17, 40, len(plain.tokens)):
        found = asked.answer(arm, 0, precedents=oracle, max_tokens=limit)
        assert (found.tokens, found.finish_reason) == (plain.tokens[:limit], "length")
    if plain.finish_reason == "stop":
        same(asked.answer(arm, 0, precedents=oracle, max_tokens=len(plain.tokens) + 1), plain)


def test_unrelated_memory_costs_few_passes(asked: Asked) -> None:
    plain, rng = asked.plain("constrained", 3), random.Random(0)
    memory = NgramDrafter()
    for _ in range(20):
        memory.learn_answer(rng.sample(plain.tokens, len(plain.tokens)))
    found = asked.answer("constrained", 3, precedents=memory)
    same(found, plain)
    assert found.passes <= plain.passes


def test_speculation_is_disabled_for_sampling_and_exact_tokens(asked: Asked) -> None:
    memory = NgramDrafter()
    plain = asked.plain("constrained", 0)
    memory.learn_answer(plain.tokens)
    held = len(memory)
    for options in ({"exact_tokens": 8}, {"temperature": 0.7}):
        made = asked.answer("free", 0, precedents=memory, **{"max_tokens": 8, **options})
        assert (made.drafted, made.passes) == (0, asked.answer("free", 0, **{"max_tokens": 8, **options}).passes)
        assert made.tokens == asked.answer("free", 0, **{"max_tokens": 8, **options}).tokens
    assert (len(memory), memory.drafted) == (held, 0)


def test_memory_works_after_an_interrupted_answer(asked: Asked) -> None:
    memory = NgramDrafter()
    asked.answer("constrained", 0, precedents=memory)
    heard: list[str] = []

    def stop(text: str) -> None:
        heard.append(text)
        if len(heard) > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked.answer("constrained", 1, precedents=memory, on_token=stop)
    same(asked.answer("constrained", 1, precedents=memory), asked.plain("constrained", 1))


@pytest.mark.parametrize("make", [CompiledDecoder, EagerDecoder])
def test_rejected_draft_tokens_are_rolled_back(
    base: BaseVLM, messages: Any, answer: str, asked: Asked, make: Any
) -> None:
    """Right tokens with wrong ones behind, of every width, also over the edge where the compiled buffer grows."""
    prompt = asked.prompt(0)
    tokens = (answer_token_ids(base, messages, answer) * 3)[: CACHE_BLOCK_TOKENS - 20]
    assert len(prompt.ids) < CACHE_BLOCK_TOKENS < len(prompt.ids) + len(tokens)
    expected = _forced_pass(base, prompt, tokens)
    decoder = make(base)
    decoder.start(prompt)
    at, rng = 0, random.Random(1)
    while at < len(tokens):
        right = tokens[at : at + rng.randint(1, 9)]
        wrong = [rng.randrange(1000) for _ in range(rng.randint(0, 16 - len(right)))]
        found = np.array(decoder.read([*right, *wrong]))
        assert len(found) == len(right) + len(wrong)
        np.testing.assert_allclose(found[: len(right)], expected[at + 1 : at + 1 + len(right)], atol=2e-4)
        decoder.undo(len(wrong))
        at += len(right)
    np.testing.assert_allclose(np.array(decoder.probe(17, tokens[17])), expected[18], atol=2e-4)
    decoder.undo(30)
    np.testing.assert_allclose(np.array(decoder.extend(tokens[-30:])), expected[-1], atol=2e-4)
    decoder.undo(1)
    np.testing.assert_allclose(np.array(decoder.step(mx.array(tokens[-1]))), expected[-1], atol=2e-4)


def _forced_pass(base: BaseVLM, prompt: EncodedPrompt, tokens: list[int]) -> np.ndarray:
    """Logits (1 + T, V) before the first and after each of the tokens, in one pass."""
    hidden = hidden_states(base, teacher_forced_inputs(base, prompt, [*tokens, 0]))
    return np.array(lm_head_logits(base, hidden[0, len(prompt.ids) - 1 :]))


def test_allows_agrees_with_mask(base: BaseVLM, asked: Asked) -> None:
    """Every token of the vocabulary, at places all over an answer and where it may end."""
    plain = asked.plain("constrained", 0)
    vocabulary = base.language_model.args.vocab_size
    grammar, zeros = JsonGrammar(base, critique_json_schema(), vocabulary), mx.zeros(vocabulary)
    for place, token in enumerate([*plain.tokens, None]):
        if place % 12 == 0 or token is None:
            mask = np.isfinite(np.array(grammar.mask_logits(zeros)))
            assert [grammar.allows(each) for each in range(vocabulary)] == mask.tolist()
            assert 0 < mask.sum() < vocabulary
        if token is not None:
            grammar.consume(token)
    assert mask[sorted(base.end_tokens)].any(), "the last place is where the answer may end"


def test_masked_choice_matches_full_mask(base: BaseVLM) -> None:
    vocabulary = base.language_model.args.vocab_size
    choose = TokenSampler(base, vocabulary, 0.0, 0, False, critique_json_schema())
    for seed in range(20):
        scores = mx.random.normal((vocabulary,), key=mx.random.key(seed))
        likeliest = int(mx.argmax(scores).item())
        assert choose.greedy_token(scores, likeliest) == int(choose.sample(scores).item())
    free = TokenSampler(base, vocabulary, 0.0, 0, False, None)
    assert free.greedy_token(scores, likeliest) == likeliest
    assert free.greedy and not TokenSampler(base, vocabulary, 0.5, 0, False, None).greedy
    assert not TokenSampler(base, vocabulary, 0.0, 0, True, None).greedy
