"""The tokenizer of the second generation: the first one's, with the pieces and words of advice."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from tokenizers import Tokenizer

from mini_training.mini2.answer_forms import sample_answer_example
from mini_training.prompt_sampling import CLAUSES, NAMES
from mini_training.tokenizer_training import SCAFFOLD, VOCABULARY, train_mini_tokenizer
from mondrian_core.mini.scene import sample_scene

VOCABULARY_SIZE = 3072
# pieces of advice that follow a text, with and without its full stop, or a box
_AFTER_TEXT = (
    '", "recommendation": "',
    '", "regions": [[',
    '"}}, "strengths": ["',
    '"}}, "priority_improvements": ["',
    '"], "priority_improvements": ["',
    '"], "overall_grade": "',
    '", "',
)
_AFTER_BOX = (
    ']]}, "',
    ']]}}, "overall_grade": "',
    ']]}}, "strengths": ["',
    ']]}}, "priority_improvements": ["',
)


def advice_scaffold() -> str:
    """A pattern of the pieces that stay whole; the first alternative that matches is taken, so the longest is first."""
    pieces = [*_AFTER_TEXT, *("." + piece for piece in _AFTER_TEXT), *_AFTER_BOX]
    escaped = [re.sub(r"([.\[\]{}])", r"\\\1", piece) for piece in pieces]
    ordered = sorted([*escaped, *SCAFFOLD.split("|")], key=len, reverse=True)
    return "|".join([*ordered, r"(?<=\d), (?=\d)"])


def advice_corpus(seed: int, count: int = 2500) -> Iterator[str]:
    """Prompts and answers of every form, and photographic English."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        example = sample_answer_example(sample_scene(rng), rng)
        yield example.answer
        if rng.random() < 0.25:
            for message in example.messages:
                yield message["role"] + "\n" + "".join(part.get("text", "") for part in message["content"])
    for _ in range(6):
        yield VOCABULARY
        yield " " + VOCABULARY.title()
        yield " ".join((*CLAUSES, *NAMES))


def train_advice_tokenizer(seed: int) -> Tokenizer:
    """A byte-level BPE of at most `VOCABULARY_SIZE` tokens with Qwen's special tokens."""
    return train_mini_tokenizer(seed, VOCABULARY_SIZE, corpus=advice_corpus(seed), scaffold=advice_scaffold())
