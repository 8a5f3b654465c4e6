"""Count the tokens of a row without reading the model's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.prompt_encoding import answer_token_ids, count_text_and_image_tokens

if TYPE_CHECKING:
    from PIL import Image

TokenCounter = Callable[[list[dict[str, Any]], "Image.Image", str], tuple[int, int, int]]


def make_token_counter(name: str) -> TokenCounter:
    """As `token_counter_of`, for the base of this name.

    Raises:
        BaseModelUnavailable: there is no such base.
    """
    return token_counter_of(load_base(name, weights=False))


def token_counter_of(base: BaseVLM) -> TokenCounter:
    """A function of (messages, photograph, answer) to the number of tokens of text, photograph and answer.

    The answer's count includes the end token. In a family whose image tokens follow the photograph's size, each size is
    processed once. The base needs no weights.
    """
    known: dict[tuple[str, tuple[int, int]], tuple[int, int]] = {}

    def count(messages: list[dict[str, Any]], image: Image.Image, answer: str) -> tuple[int, int, int]:
        asked = [message for message in messages if message["role"] != "assistant"]
        if not base.family.image_tokens_follow_size:
            return *count_text_and_image_tokens(base, asked, image), len(answer_token_ids(base, messages, answer))
        key = repr(asked), image.size
        if key not in known:
            known[key] = count_text_and_image_tokens(base, asked, image)
        return *known[key], len(answer_token_ids(base, messages, answer))

    return count
