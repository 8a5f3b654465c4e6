"""Draft tokens for speculative decoding from an n-gram table of the same model's earlier answers.

The table holds, for each context of 2 to 16 tokens, the token that followed last, as in prompt lookup decoding (Saxena
2023) and REST (He et al. 2023, arXiv 2311.08252), with a counter of how steadily it did, as in a branch predictor. The
share of right guesses is updated at every token, drafted or not, so a poor table is recognised without drafting. The
length of a draft follows from these shares and from the measured time of passes of each width.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

from mondrian_core.models.inference.decoding import PASS_WIDTHS

CONTEXT_SIZES = (16, 8, 5, 3, 2)  # tokens of a context; the longest known context gives the guess
MAX_ENTRIES = 1 << 17  # 14 MB; 37 answers of 700 tokens
_COUNTER_LEVELS = 4  # levels of the counter
_AVERAGING_RATE = 1 / 32  # weight of the newest observation in the running shares of right guesses
_MIN_PROBABILITY = 0.05  # a draft ends where the probability that all of it is right falls below this
_MIN_HIT_RATE = 0.1
_GUESSED_COST = 0.05  # cost of each further token of a pass, in passes of one token, until it is measured
_SAMPLES, _ENOUGH = 31, 3
# Passes of one token after which one measurement of a wider pass is forgotten: without drafts there are no new ones.
_FORGET_AFTER_PASSES = 16


class NgramDrafter:
    """The table of one model: a base with one adapter or none. Its size is limited; the oldest entries go first."""

    def __init__(self, entries: int = MAX_ENTRIES) -> None:
        """`entries` is the largest number of contexts in the table."""
        self._room = entries // 2
        self._young: dict[int, int] = {}  # hash of a context -> token x _COUNTER_LEVELS + counter
        self._old: dict[int, int] = {}
        # shares of right guesses by context size and counter; at first a steady continuation is trusted more
        self._trust = [
            _RunningShare(1 - 0.5 / (steady + 1)) for _ in CONTEXT_SIZES for steady in range(_COUNTER_LEVELS)
        ]
        self._hits = _RunningShare(0.0)
        self._tokens: list[int] = []
        self.costs = ForwardPassCosts()
        self.drafted = self.accepted = 0

    def __len__(self) -> int:
        """Number of contexts in the table."""
        return len(self._young) + len(self._old)

    @property
    def worth_drafting(self) -> bool:
        """True if the model's recent choices were guessed often enough for drafts to pay."""
        return self._hits.value >= _MIN_HIT_RATE

    def start_answer(self) -> None:
        """The next token is the first of an answer."""
        self._tokens = [-1] * CONTEXT_SIZES[-1]

    def observe(self, token: int, *, chosen: bool = True) -> None:
        """Learn a token of the answer; `chosen` is False if it was forced."""
        keys = _keys(self._tokens)
        guess = self._guess(keys)
        if guess is not None:
            self._trust[guess[1]].add(guess[0] == token)
        if chosen:
            self._hits.add(guess is not None and guess[0] == token)
        for key in keys:
            self._learn(key, token)
        self._tokens.append(token)

    def learn_answer(self, tokens: Sequence[int]) -> None:
        """Learn a whole answer that was generated elsewhere."""
        self.start_answer()
        for token in tokens:
            self.observe(token)

    def draft(self, known: int, room: int) -> list[int]:
        """Tokens to try in the pass that reads the last `known` ones; at most `room`, often none.

        The length maximises the expected number of tokens per cost; a pass gives one token more than are right.
        """
        if known >= PASS_WIDTHS[-1]:
            return []
        tokens, chances = self.likely_continuation(min(room, PASS_WIDTHS[-1] - known))
        best, most = 0, 1 / self.costs.cost(known)
        for width in PASS_WIDTHS:
            count = min(width - known, len(tokens))
            if count > best:
                gained = (1 + sum(chances[:count])) / self.costs.cost(known + count)
                best, most = (count, gained) if gained > most else (best, most)
        return tokens[:best]

    def likely_continuation(self, limit: int) -> tuple[list[int], list[float]]:
        """The likeliest continuation, and for each token the probability (0-1) that all tokens up to it are right."""
        tokens: list[int] = []
        chances: list[float] = []
        behind, chance = self._tokens[-CONTEXT_SIZES[0] :], 1.0
        while len(tokens) < limit:
            guess = self._guess(_keys(behind))
            chance *= self._trust[guess[1]].value if guess else 0.0
            if guess is None or chance < _MIN_PROBABILITY:
                break
            tokens.append(guess[0])
            chances.append(chance)
            behind.append(guess[0])
        return tokens, chances

    def record_verification(self, drafted: int, accepted: int) -> None:
        """Count drafted tokens, and those that were accepted."""
        self.drafted += drafted
        self.accepted += accepted

    def _guess(self, keys: list[int | None]) -> tuple[int, int] | None:
        """The token after the longest known context, and the index of its share of right guesses."""
        for place, key in enumerate(keys):
            found = None if key is None else self._young.get(key, self._old.get(key))
            if found is not None:
                return found // _COUNTER_LEVELS, place * _COUNTER_LEVELS + found % _COUNTER_LEVELS
        return None

    def _learn(self, key: int | None, token: int) -> None:
        if key is None:
            return
        found = self._young.get(key, self._old.get(key))
        value = token * _COUNTER_LEVELS
        if found is not None:
            steady = found % _COUNTER_LEVELS
            if found // _COUNTER_LEVELS == token:
                value += min(steady + 1, _COUNTER_LEVELS - 1)
            elif steady:
                value = found - 1
        self._young[key] = value
        if len(self._young) >= self._room:
            self._old, self._young = self._young, {}


def _keys(tokens: list[int]) -> list[int | None]:
    """A hash of the last tokens for each of CONTEXT_SIZES; None if there are fewer. A collision only spoils a guess."""
    length = len(tokens)
    return [hash(tuple(tokens[-size:])) if size <= length else None for size in CONTEXT_SIZES]


class _RunningShare:
    """A running share of right guesses: a plain mean at first, later an exponential average."""

    def __init__(self, value: float) -> None:
        self.value, self._seen = value, 1

    def add(self, right: bool) -> None:
        self._seen += 1
        self.value += max(_AVERAGING_RATE, 1 / self._seen) * (right - self.value)


class ForwardPassCosts:
    """The measured cost of a pass of several tokens, in passes of one token.

    Each further token costs the same, so that a width with few measurements can't stay wrong. Medians are used, because
    the first pass of a width compiles and other programs interrupt.
    """

    def __init__(self) -> None:
        self._singles: deque[float] = deque(maxlen=_SAMPLES)
        self._further: deque[float] = deque(maxlen=_SAMPLES)
        self._count, self._each = 0, _GUESSED_COST

    def record(self, tokens: int, seconds: float) -> None:
        """Record the time of a pass."""
        width = _width(tokens)
        if width == 1:
            self._singles.append(seconds)
            self._count += 1
            if self._count % _FORGET_AFTER_PASSES == 0:
                self._learn(_GUESSED_COST)
        elif width > 2 and tokens <= PASS_WIDTHS[-1] and self._singles:  # the cost of a second token is too noisy
            further = (seconds / statistics.median(self._singles) - 1) / (width - 1)
            self._learn(min(max(further, 0.0), 1.0))

    def cost(self, tokens: int) -> float:
        """Cost of a pass of 1 to PASS_WIDTHS[-1] tokens."""
        return 1 + self._each * (_width(tokens) - 1)

    def _learn(self, further: float) -> None:
        self._further.append(further)
        if len(self._further) >= _ENOUGH:
            self._each = statistics.median(self._further)


def _width(tokens: int) -> int:
    return next((width for width in PASS_WIDTHS if width >= tokens), PASS_WIDTHS[-1])
