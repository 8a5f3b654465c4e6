"""Expected scores from the model's distribution over digits, instead of the one digit that it chose.

The expected value over the score tokens is a better score than the chosen digit (arXiv 2503.03064; Q-Align). Qwen
splits numbers into digits, so P("10") is P("1") P("0" | "1"), and "1" has the rest of P("1").

Shapes: `V` vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.prompt_encoding import EncodedAnswer
from mondrian_core.rubric import DIMENSIONS, answer_spans

SCORE_KEY_PATTERN = re.compile(r'"score"\s*:\s*$')
SCORE_VALUE_PATTERN = re.compile(r'"(\w+)"\s*:\s*\{\s*"score"\s*:\s*(?=\d)')
_MIN_SHARE_OF_ONE = 1e-3  # below this share of "1" its being a ten can't change the expected value
_TAIL = 32


@dataclass(frozen=True)
class DigitTokens:
    """The ten tokens that a score may begin with; `prefix` is the text before the digit in these tokens."""

    prefix: str
    tokens: tuple[int, ...]


def digit_tokens(base: BaseVLM, prefix: str) -> DigitTokens | None:
    """Single tokens for prefix + "0" ... prefix + "9", or None if the tokenizer has none."""
    known: dict[str, DigitTokens | None] = base.cache.setdefault("digits", {})
    if prefix not in known:
        encoded = [base.tokenizer.encode(f"{prefix}{digit}", add_special_tokens=False) for digit in range(10)]
        single = all(len(tokens) == 1 for tokens in encoded)
        known[prefix] = DigitTokens(prefix, tuple(tokens[0] for tokens in encoded)) if single else None
    return known[prefix]


def decode_token_texts(base: BaseVLM, tokens: Sequence[int]) -> list[str]:
    """The text of each token on its own; part of a character becomes U+FFFD."""
    known: dict[int, str] = base.cache.setdefault("pieces", {})
    for token in tokens:
        if token not in known:
            known[token] = base.tokenizer.decode([token], skip_special_tokens=False)
    return [known[token] for token in tokens]


class ScoreLogitsRecorder:
    """Keeps the logits, before any mask, at the tokens where a score may begin, while an answer is decoded."""

    def __init__(self, base: BaseVLM) -> None:
        self._base = base
        self._tail = ""
        self._logits: dict[int, mx.array] = {}

    def record(self, index: int, token: int, following: mx.array | None) -> None:
        """Record token number `index` of the answer; `following` are the next one's logits (V,), None if unknown."""
        self._tail = (self._tail + decode_token_texts(self._base, [token])[0])[-_TAIL:]
        begins = SCORE_KEY_PATTERN.search(self._tail) is not None
        if following is not None and (begins or index in self._logits):
            self._logits[index + 1] = following

    def score_probabilities(
        self, tokens: Sequence[int], probe: Callable[[int, int], mx.array]
    ) -> dict[str, tuple[float, ...]]:
        """Probabilities of the scores 0 to 10 by dimension, for the dimensions that the answer scores.

        They are shares of the whole vocabulary: 1 - sum is the probability of tokens that begin no score.

        Args:
            tokens: the answer.
            probe: (index, token) to the logits (V,) after another token at `index`.
        """
        found = {}
        for name, index in locate_scores(self._base, tokens).items():
            if index.token_index in self._logits and (digits := digit_tokens(self._base, index.prefix)):
                found[name] = self._chances_at(index.token_index, tokens, digits, probe)
        return found

    def _chances_at(
        self, index: int, tokens: Sequence[int], digits: DigitTokens, probe: Callable[[int, int], mx.array]
    ) -> tuple[float, ...]:
        share = _softmax(self._logits[index])[list(digits.tokens)]
        ten = 0.0
        one = digits.tokens[1]
        if share[1] > _MIN_SHARE_OF_ONE * share.sum():
            chosen = tokens[index] == one and index + 1 in self._logits
            after = _softmax(self._logits[index + 1] if chosen else probe(index, one))
            plain = digit_tokens(self._base, "") or digits
            ten = float(share[1] * after[plain.tokens[0]])
            share[1] -= ten
        return (*(float(each) for each in share), ten)


def expected_score(chances: Sequence[float]) -> float:
    """Expected score (0-10) from the 11 probabilities of 0 to 10, which needn't sum to 1."""
    return sum(score * chance for score, chance in enumerate(chances)) / sum(chances)


@dataclass(frozen=True)
class ScorePosition:
    """Where a score begins: the index of its token in the answer, and the text before the digit in that token."""

    token_index: int
    prefix: str


def score_positions(base: BaseVLM, text: str, answer: EncodedAnswer) -> dict[str, ScorePosition]:
    """The token at which each dimension's score begins, in a canonical answer of which the text is known."""
    positions = {}
    for name, span in answer_spans(text).scores.items():
        index = answer.tokens_at(span).start
        piece = decode_token_texts(base, [answer.ids[index]])[0]
        held = answer.offsets[index][1] - span[0]  # characters of the score in this token
        positions[name] = ScorePosition(index, piece[: len(piece) - held])
    return positions


def locate_scores(base: BaseVLM, tokens: Sequence[int]) -> Mapping[str, ScorePosition]:
    """The token at which each dimension's score begins, in an answer that a model wrote; the first mention counts."""
    pieces = decode_token_texts(base, tokens)
    starts = np.cumsum([0, *(len(piece) for piece in pieces)])
    places: dict[str, ScorePosition] = {}
    for match in SCORE_VALUE_PATTERN.finditer("".join(pieces)):
        name, offset = match.group(1), match.end()
        if name in DIMENSIONS and name not in places:
            place = int(np.searchsorted(starts, offset, side="right")) - 1
            places[name] = ScorePosition(place, pieces[place][: offset - int(starts[place])])
    return places


def _softmax(logits: mx.array) -> np.ndarray:
    return np.array(mx.softmax(logits.astype(mx.float32), precise=True)).astype(np.float64)
