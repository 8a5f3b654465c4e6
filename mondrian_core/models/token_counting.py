"""How many tokens a row has, without reading the model's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mondrian_core.models.base_model import load_base
from mondrian_core.models.prompt_encoding import answer_token_ids, count_text_and_image_tokens

if TYPE_CHECKING:
    from PIL import Image

TokenCounter = Callable[[list[dict[str, Any]], "Image.Image", str], tuple[int, int, int]]


def make_token_counter(name: str) -> TokenCounter:
    """A function of (messages, photograph, answer) that gives tokens of instructions, photograph, and answer.

    The answer's count has the end token in it. What a photograph takes depends on its size alone in every Qwen-VL, so
    each size is put through the processor once.

    Raises:
        BaseModelUnavailable: when there is no such base.
    """
    base = load_base(name, weights=False)
    known: dict[tuple[str, tuple[int, int]], tuple[int, int]] = {}

    def count(messages: list[dict[str, Any]], image: Image.Image, answer: str) -> tuple[int, int, int]:
        asked = [message for message in messages if message["role"] != "assistant"]
        key = repr(asked), image.size
        if key not in known:
            known[key] = count_text_and_image_tokens(base, asked, image)
        return *known[key], len(answer_token_ids(base, messages, answer))

    return count
