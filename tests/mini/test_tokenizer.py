"""The tokenizer that ships with mini: digits alone, nothing lost, answers short, Qwen's template."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer

from mondrian_core.mini import mini_weights_path
from mondrian_core.mini.scene import sample_scene
from mondrian_core.mini.scene_critic import ANSEL, write_scene_critique
from mondrian_core.rubric import AnswerForm, canonical_answer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(mini_weights_path() / "tokenizer.json"))


def test_each_digit_is_one_token(tokenizer: Tokenizer) -> None:
    for text in ('{"score": 10, "comment": "in 1902"}', '"overall_grade": "8.1"', "123 4567"):
        pieces = tokenizer.encode(text).tokens
        assert all(len(piece) == 1 for piece in pieces if any(c.isdigit() for c in piece)), pieces


@pytest.mark.parametrize(
    "text", ["Ansel’s “Zone” — 5°", "naïve façade\n\n\tx", "日本 🏔", '{"a": [1, 2]}', " two  spaces "]
)
def test_tokenizer_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize(("form", "most"), [(AnswerForm.COMMENTS, 200), (AnswerForm.ADVICE, 360)])
def test_critique_has_few_tokens(tokenizer: Tokenizer, form: AnswerForm, most: int) -> None:
    rng = np.random.default_rng(0)
    critiques = [write_scene_critique(sample_scene(rng), ANSEL, rng) for _ in range(50)]
    assert max(len(tokenizer.encode(canonical_answer(critique, form)).ids) for critique in critiques) < most


def test_special_tokens_are_single(tokenizer: Tokenizer) -> None:
    for token in ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|endoftext|>"):
        assert len(tokenizer.encode(token).ids) == 1
