"""Loops are noticed within a few lines, and no good answer is taken for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.inference.generation_loop import GenerationLoop, TokenSampler
from mondrian_core.models.inference.loop_detection import FEWEST_TOKENS, LoopDetector
from mondrian_core.models.inference.ngram_draft import NgramDrafter
from mondrian_core.models.inference.speculation import SpeculativeGenerationLoop
from mondrian_core.models.prompt_encoding import tokenize_plain_text
from mondrian_core.rubric import (
    DIMENSIONS,
    canonical_answer,
    critique_json_schema,
    make_critique,
)
from mondrian_core.store import Store
from tests.models.inference.test_json_grammar import COMMENTS, answer_of

pytestmark = pytest.mark.mini


@pytest.fixture(scope="module", params=["mini", "qwen3_vl"])
def reader(request: pytest.FixtureRequest, skeleton: Callable[..., Path]) -> BaseVLM:
    """mini, and a base with the vocabulary of Qwen3-VL; both without weights."""
    return load_base("mini" if request.param == "mini" else str(skeleton(bits=4)), weights=False)


def stopped_at(base: BaseVLM, text: str) -> int | None:
    """Number of tokens after which the text is taken for a loop; None: never."""
    detector = LoopDetector(base)
    return next((k for k, token in enumerate(tokenize_plain_text(base, text), 1) if detector.add(token)), None)


def an_answer(comments: Sequence[str]) -> str:
    """A canonical answer with these comments, the last one in the dimensions that remain."""
    texts = [*comments, *[comments[-1]] * len(DIMENSIONS)][: len(DIMENSIONS)]
    return canonical_answer(make_critique(dict.fromkeys(DIMENSIONS, 8), dict(zip(DIMENSIONS, texts, strict=True))))


LOOPS = {
    "a word": "very " * 300,
    "a phrase": "I would I would have " * 80,
    "a sentence": "The light falls from the left and models the rocks below the ridge. " * 30,
    "signs": "=" * 20_000,
    "line ends": "\n" * 20_000,
    "counting": "".join(f"Photo {number}: good light. " for number in range(10, 99)),
    "an object": '{"score": 7, "comment": "Calm."}, ' * 60,
    "chinese": "光线柔和而有层次。" * 60,
    "half an emoji": "🌅👨‍👩‍👧" * 60,
}
WORDS = ("light", "line", "form", "shadow", "tone", "weight", "calm", "depth")
GOOD = {
    "scores only": an_answer(["Good."]),
    "dots": an_answer(["..."]),
    "a list": an_answer(["1. Wait for the light. 2. Step to the left. 3. Open the shadows. 4. Lower the horizon."]),
    "twice": an_answer(["The light falls from the left and models the rocks below the ridge."] * 8) * 2,
    "refrain": an_answer([f"No clouds, no wind, no people, no {word}." for word in "abcdefgh"]),
    "long": an_answer(["".join(f"The {word} falls to the left, and the rocks keep their {word}. " for word in WORDS)]),
    "rule": f"Here is my critique:\n{'-' * 40}\n{an_answer(['Calm.'])}",
}


@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_noticed(reader: BaseVLM, name: str) -> None:
    opening = '{"dimensional_analysis": {"composition": {"score": 7, "comment": "The ridge. '
    found = stopped_at(reader, opening + LOOPS[name])
    before = len(tokenize_plain_text(reader, opening))
    assert found is not None and before + FEWEST_TOKENS < found <= before + 120


@pytest.mark.parametrize("name", [*GOOD, *COMMENTS])
def test_good_answers_are_no_loops(reader: BaseVLM, name: str) -> None:
    assert stopped_at(reader, GOOD.get(name) or answer_of(COMMENTS[name])) is None


def test_critiques_by_people_are_no_loops(reader: BaseVLM, real_workspace_copy: Path) -> None:
    texts = [
        " ".join(profile.comments.get(name) or "" for name in DIMENSIONS)
        for profile in Store(real_workspace_copy / "mondrian.db").profiles()
    ]
    assert len(texts) > 10
    assert [text for text in texts if stopped_at(reader, text) is not None] == []
    assert stopped_at(reader, " ".join(texts)) is None


class ScriptedDecoder:
    """A decoder whose model writes a text, and after its end begins with it again."""

    builds_ahead = False

    def __init__(self, script: Sequence[int], vocabulary: int) -> None:
        self._script, self._vocabulary, self._place = script, vocabulary, 0

    def start(self, _: object = None) -> mx.array:
        self._place = 0
        return self._logits()

    def step(self, token: mx.array) -> mx.array:
        return self.extend([int(token.item())])

    def extend(self, tokens: Sequence[int]) -> mx.array:
        self._place += len(tokens)
        return self._logits()

    def read(self, tokens: Sequence[int]) -> mx.array:
        return mx.stack([self.extend([token]) for token in tokens])

    def undo(self, count: int) -> None:
        self._place -= count

    def probe(self, index: int, token: int) -> mx.array:
        raise AssertionError("no score was written")

    def _logits(self) -> mx.array:
        return mx.zeros(self._vocabulary).at[self._script[self._place % len(self._script)]].add(50.0)


@pytest.mark.parametrize("drafts", [False, True])
def test_a_loop_ends_the_answer(base: BaseVLM, drafts: bool) -> None:
    script = tokenize_plain_text(base, "The light is soft. ")
    vocabulary = base.language_model.args.vocab_size
    sampler = TokenSampler(base, vocabulary, 0.0, 0, False, None)
    decoder, precedents = ScriptedDecoder(script, vocabulary), NgramDrafter()
    for _ in range(3 if drafts else 0):
        precedents.learn_answer(script * 30)
    if drafts:
        answer: Any = SpeculativeGenerationLoop(base, decoder, sampler, 2048, None, precedents)
    else:
        answer = GenerationLoop(base, decoder, sampler, 2048, None)
    answer.run(decoder.start())
    assert answer.looping and answer.tokens == (script * 30)[: len(answer.tokens)]
    assert len(answer.tokens) == stopped_at(base, "The light is soft. " * 30)
    assert len(answer.tokens) < 120
    assert (answer.accepted > 0) == drafts


def test_exact_lengths_and_callers_schemas_may_repeat(base: BaseVLM) -> None:
    vocabulary = base.language_model.args.vocab_size
    schema = {"type": "object", "properties": {"grid": {"type": "array", "items": {"const": 0}}}}
    assert TokenSampler(base, vocabulary, 0.0, 0, True, None).may_repeat
    assert TokenSampler(base, vocabulary, 0.0, 0, False, schema).may_repeat
    assert not TokenSampler(base, vocabulary, 0.0, 0, False, critique_json_schema()).may_repeat
    decoder = ScriptedDecoder([7], vocabulary)
    answer = GenerationLoop(base, decoder, TokenSampler(base, vocabulary, 0.0, 0, True, None), 400, None)
    answer.run(decoder.start())
    assert (len(answer.tokens), answer.looping) == (400, False)
