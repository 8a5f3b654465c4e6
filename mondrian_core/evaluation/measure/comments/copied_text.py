"""How much of the comments is copied from the critiques of training: long runs of the same words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mondrian_core.evaluation.measure.comments.texts import WrittenAnswer, words_of
from mondrian_core.evaluation.measure.contamination import NGRAM_WORDS


@dataclass(frozen=True)
class CopiedText:
    """Shares (0-1) of the words that stand in a run of `NGRAM_WORDS` words or more of one text of training.

    Attributes:
        candidate: (N,) of the candidate's answers.
        advisor: (N,) of the advisor's own critiques of the same photographs: what recurs in the advisor's phrases.
    """

    candidate: NDArray[np.float64]
    advisor: NDArray[np.float64]


def copied_text(
    candidate: Mapping[str, WrittenAnswer],
    advisor: Mapping[str, WrittenAnswer],
    training: Sequence[WrittenAnswer],
) -> CopiedText | None:
    """The shares on photographs that both comment on; None without any, or without critiques of training.

    A critique of training about the photograph itself doesn't count: it is one of another fold's adapter.
    """
    names = [name for name in candidate if name in advisor]
    if not names or not training:
        return None
    runs = Counter(run for critique in training for run in _runs_of(critique.texts))
    own = {critique.photograph: critique for critique in training}
    rows = []
    for name in names:
        itself = _runs_of(own[name].texts) if name in own else frozenset()
        known = frozenset(
            run
            for answer in (candidate, advisor)
            for run in _runs_of(answer[name].texts)
            if runs[run] > (run in itself)
        )
        rows.append([_copied_share(answer[name].texts, known) for answer in (candidate, advisor)])
    table = np.array(rows, dtype=np.float64)
    return CopiedText(table[:, 0], table[:, 1])


def _runs_of(texts: Iterable[str]) -> frozenset[tuple[str, ...]]:
    return frozenset(run for text in texts for run in _runs(words_of(text)))


def _runs(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(words[k : k + NGRAM_WORDS]) for k in range(len(words) - NGRAM_WORDS + 1)]


def _copied_share(texts: Iterable[str], known: frozenset[tuple[str, ...]]) -> float:
    copied = total = 0
    for text in texts:
        words = words_of(text)
        inside = np.zeros(len(words), dtype=bool)
        for place, run in enumerate(_runs(words)):
            if run in known:
                inside[place : place + NGRAM_WORDS] = True
        copied, total = copied + int(inside.sum()), total + len(words)
    return copied / total if total else 0.0
