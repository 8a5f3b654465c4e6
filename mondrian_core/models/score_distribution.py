"""Expected scores from the model's distribution over digits, instead of the one digit that it chose.

The expected value over the score tokens is a better score than the chosen digit (arXiv 2503.03064; Q-Align). Qwen
splits numbers into digits, so P("10") is P("1") P("0" | "1"), and "1" has the rest of P("1").

An untuned base often writes "8.5". Where a written score has a fraction, the fraction counts: the expected value is the
sum over the whole scores w of P(w) (w + P("." | w) E[fraction]). P("." | w) is that of the written score, and of each
likely other one (a probe); E[fraction] is the mean over the first decimal after the written point, plus the decimals
that were written after it. A whole score takes the same value as without this rule.

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
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, answer_spans

SCORE_KEY_PATTERN = re.compile(r'"score"\s*:\s*$')
SCORE_VALUE_PATTERN = re.compile(r'"(\w+)"\s*:\s*\{\s*"score"\s*:\s*(?=\d)')
_WRITTEN_NUMBER = re.compile(r"(?P<whole>\d+)(?:\.(?P<decimals>\d+))?")
_UNFINISHED_NUMBER = re.compile(r'"score"\s*:\s*\d+\.?$')
_MIN_SHARE_OF_ONE = 1e-3  # below this share of "1" its being a ten can't change the expected value
_MIN_SHARE_OF_FRACTION = 0.05  # a less likely whole score is taken to have a fraction as often as the written one
_TAIL = 32
_NUMBER_TOKENS = 12  # tokens in which the decimals of a score are looked for


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


@dataclass(frozen=True)
class ScoreDistribution:
    """The model's distribution of one score.

    Attributes:
        chances: probabilities of the whole scores 0 to 10, as shares of the whole vocabulary; 1 - sum is the
            probability of tokens that begin no score.
        fractions: expected fraction (0-1) after each whole score; () where a whole score was written.
    """

    chances: tuple[float, ...]
    fractions: tuple[float, ...] = ()

    @property
    def expected_score(self) -> float:
        """The expected score (0-10)."""
        fractions = self.fractions or (0.0,) * len(self.chances)
        values = zip(self.chances, fractions, strict=True)
        return sum((score + more) * chance for score, (chance, more) in enumerate(values)) / sum(self.chances)


Probe = Callable[[int, int], mx.array]  # (index, token) to the logits (V,) after another token at `index`


class ScoreLogitsRecorder:
    """Keeps the logits, before any mask, at the tokens of scores, while an answer is decoded."""

    def __init__(self, base: BaseVLM) -> None:
        self._base = base
        self._tail = ""
        self._logits: dict[int, mx.array] = {}

    def record(self, index: int, token: int, following: mx.array | None) -> None:
        """Record token number `index` of the answer; `following` are the next one's logits (V,), None if unknown."""
        self._tail = (self._tail + decode_token_texts(self._base, [token])[0])[-_TAIL:]
        if following is None:
            return
        if SCORE_KEY_PATTERN.search(self._tail) or _UNFINISHED_NUMBER.search(self._tail):
            self._logits[index + 1] = following

    def score_distributions(self, tokens: Sequence[int], probe: Probe) -> dict[str, ScoreDistribution]:
        """The distribution of each score, for the dimensions that the answer scores.

        Args:
            tokens: the answer.
            probe: gives the logits after tokens that weren't written.
        """
        found = {}
        for name, place in locate_scores(self._base, tokens).items():
            if place.token_index in self._logits and (digits := digit_tokens(self._base, place.prefix)):
                chances = self._chances_at(place.token_index, tokens, digits, probe)
                fractions = self._fractions_at(place, tokens, chances, probe)
                found[name] = ScoreDistribution(chances, fractions)
        return found

    def _fractions_at(
        self, place: ScorePosition, tokens: Sequence[int], chances: Sequence[float], probe: Probe
    ) -> tuple[float, ...]:
        """Expected fraction after each whole score; () where none was written."""
        pieces = decode_token_texts(self._base, tokens[place.token_index : place.token_index + _NUMBER_TOKENS])
        number = _WRITTEN_NUMBER.match("".join(pieces)[len(place.prefix) :])
        if number is None or not number["decimals"] or int(number["whole"]) > MAX_SCORE:
            return ()
        decimals, at = number["decimals"], place.token_index + len(number["whole"])
        if decode_token_texts(self._base, tokens[at : at + 1]) != ["."]:
            return ()
        point = tokens[at]
        mean = self._first_decimal(at + 1, int(decimals[0])) + float(f"0.0{decimals[1:]}")
        written = self._chance_of_point(self._logits.get(at), point, int(number["whole"]))
        digits, total = digit_tokens(self._base, place.prefix), sum(chances)
        assert digits is not None, "without digits there are no chances"
        fractions = []
        for whole in range(MAX_SCORE):
            known = whole == int(number["whole"]) or chances[whole] < _MIN_SHARE_OF_FRACTION * total
            after = None if known else probe(place.token_index, digits.tokens[whole])
            fractions.append(mean * (written if known else self._chance_of_point(after, point, whole)))
        return (*fractions, 0.0)  # nothing is above ten

    def _first_decimal(self, index: int, written: int) -> float:
        """The mean (0-0.9) of the first decimal, from the logits before it; the written one where they are missing."""
        digits = digit_tokens(self._base, "")
        if index not in self._logits or digits is None:
            return written / 10
        chances = _softmax(self._logits[index])[list(digits.tokens)]
        return float(chances @ np.arange(10) / chances.sum()) / 10

    def _chance_of_point(self, after: mx.array | None, point: int, whole: int) -> float:
        """P("." | a whole score) from the logits after it: after "1" it is that of a one which doesn't become ten."""
        if after is None:
            return 1.0
        chances = _softmax(after)
        digits = digit_tokens(self._base, "") if whole == 1 else None
        rest = 1 - chances[digits.tokens[0]] if digits else 1.0
        return float(chances[point] / max(rest, _MIN_SHARE_OF_ONE))

    def _chances_at(self, index: int, tokens: Sequence[int], digits: DigitTokens, probe: Probe) -> tuple[float, ...]:
        """Probabilities of the whole scores 0 to 10."""
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
