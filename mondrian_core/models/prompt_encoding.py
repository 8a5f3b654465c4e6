"""Encode messages, photographs and answers for the language model.

Control tokens (`<|im_end|>`, `<|image_pad|>`) come from the chat template only. If a person's text spells one (an
advisor's prompt, a comment, camera data), it is encoded as plain characters: the text is tokenized in pieces, cut
inside each such word. Training, evaluation and the service all use this module.

Shapes: `T` tokens, `D` width, `N` image tokens, `L` layers with DeepStack features, `A` answer tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from mondrian_core.errors import BadInput
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import DecoderInputs

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, eq=False, kw_only=True)
class EncodedPrompt:
    """Everything before the answer. The vision tower is frozen, so it is computed once for all epochs and adapters.

    Attributes:
        ids: T token ids, N of them the image token.
        embeddings: (1, T, D) with the photograph's features at its tokens.
        image_index: (N,) int32, positions of the image tokens.
        deepstack: L arrays (N, D) that the first L layers add at the image tokens; () if there are none.
        positions: (3, 1, T) int32, multimodal rotary positions (time, height, width).
        next_position: the position of the first token of the answer, equal on all three axes.
    """

    ids: tuple[int, ...]
    embeddings: mx.array
    image_index: mx.array
    deepstack: tuple[mx.array, ...]
    positions: mx.array
    next_position: int

    @property
    def image_tokens(self) -> int:
        """Number of tokens that the photograph takes."""
        return int(self.image_index.shape[0])

    @property
    def decoder_inputs(self) -> DecoderInputs:
        """The prompt as the language model reads it."""
        return DecoderInputs(self.embeddings, self.positions, self.image_index, self.deepstack)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(array.nbytes for array in (self.embeddings, self.image_index, self.positions, *self.deepstack))

    def load(self) -> EncodedPrompt:
        """The prompt itself, because its arrays are in memory (`CachedPrompt.load` reads them from a file)."""
        return self


def encode_prompt(base: BaseVLM, messages: list[dict[str, Any]], image: Image.Image | None) -> EncodedPrompt:
    """Tokens, vision features (with DeepStack) and positions of the messages before the answer.

    An assistant message at the end is left out; `encode_answer` encodes it.
    """
    return run_vision_tower(base, *processor_inputs(base, messages, image))


def processor_inputs(
    base: BaseVLM, messages: list[dict[str, Any]], image: Image.Image | None
) -> tuple[np.ndarray, dict[str, mx.array]]:
    """The processor's output for a prompt: token ids (1, T), and the photograph's arrays by name (patches, grid)."""
    inputs = _processed(base, messages, image)
    ids = np.array(inputs["input_ids"]).reshape(1, -1)
    return ids, {str(key): mx.array(inputs[key]) for key in base.family.processor_arrays if key in inputs}


def count_prompt_tokens(base: BaseVLM, messages: list[dict[str, Any]], image: Image.Image | None) -> int:
    """Number of tokens before the answer, including the photograph's, without running the vision tower."""
    return int(np.array(_processed(base, messages, image)["input_ids"]).size)


def count_text_and_image_tokens(
    base: BaseVLM, messages: list[dict[str, Any]], image: Image.Image | None
) -> tuple[int, int]:
    """Number of tokens before the answer as (text, photograph), without running the vision tower."""
    ids = np.array(_processed(base, messages, image)["input_ids"]).reshape(-1)
    photograph = int((ids == image_token_id(base)).sum())
    return ids.size - photograph, photograph


def _processed(base: BaseVLM, messages: list[dict[str, Any]], image: Image.Image | None) -> dict[str, Any]:
    asked = [message for message in messages if message["role"] != "assistant"]
    mark = _unused_character(asked)
    guarded = [_with_text(message, lambda text: mark.join(_plain_pieces(base, text))) for message in asked]
    text = base.processor.apply_chat_template(guarded, add_generation_prompt=True, tokenize=False)
    ids = [token for piece in text.split(mark) for token in _encoded(base, piece)]
    if image is None:
        return {"input_ids": np.array([ids])}
    # the processor gets the photograph alone, because it would also replace text that looks like its placeholder
    place = image_token_id(base)
    inputs = dict(base.processor(text=[base.tokenizer.convert_ids_to_tokens(place)], images=[image.convert("RGB")]))
    count = int((np.array(inputs["input_ids"]) == place).sum())
    if ids.count(place) != 1:
        raise ValueError(f"the chat template has {ids.count(place)} image tokens for one photograph")
    at = ids.index(place)
    return {**inputs, "input_ids": np.array([[*ids[:at], *[place] * count, *ids[at + 1 :]]])}


def _with_text(message: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The message with its texts changed; adjacent texts are joined first, because the template joins them too."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": change(content)}
    parts: list[dict[str, Any]] = []
    for is_text, group in groupby(content, key=lambda part: "text" in part):
        run = list(group)
        parts += [{**run[0], "text": change("".join(part["text"] for part in run))}] if is_text else run
    return {**message, "content": parts}


def _unused_character(messages: list[dict[str, Any]]) -> str:
    """A character of the private use area that no message contains."""
    text = json.dumps(messages, ensure_ascii=False, default=str)
    return next(character for character in map(chr, range(0xE000, 0xF900)) if character not in text)


def tokenize_plain_text(base: BaseVLM, text: str) -> list[int]:
    """Tokens of a text by people or the model; none is a control token, whatever the text spells."""
    return [token for piece in _plain_pieces(base, text) for token in _encoded(base, piece)]


def _plain_pieces(base: BaseVLM, text: str) -> list[str]:
    """The text, cut after the first character of everything that the tokenizer would read as an added token.

    A lone surrogate has no bytes to tokenize and is replaced by U+FFFD.
    """
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "added_tokens" not in base.cache:
        added = sorted(token for token in base.tokenizer.get_added_vocab() if len(token) > 1)
        base.cache["added_tokens"] = re.compile(f"(?={'|'.join(map(re.escape, added))})") if added else None
    found = base.cache["added_tokens"].finditer(text) if base.cache["added_tokens"] else ()
    cuts = [0, *(match.start() + 1 for match in found), len(text)]
    return [text[start:end] for start, end in pairwise(cuts)]


def _encoded(base: BaseVLM, text: str) -> list[int]:
    return list(base.tokenizer.encode(text, add_special_tokens=False))


def run_vision_tower(base: BaseVLM, ids: np.ndarray, picture: dict[str, mx.array]) -> EncodedPrompt:
    """The prompt of `processor_inputs`, encoded by the vision tower.

    Args:
        base: the frozen base.
        ids: (1, T) token ids.
        picture: the photograph's arrays as the processor returned them; {} without a photograph.
    """
    embedded = base.family.embed(base.model, mx.array(ids.astype(np.int32)), picture)
    index = np.flatnonzero(ids[0] == image_token_id(base)) if picture else np.zeros(0, int)
    prompt = EncodedPrompt(
        ids=tuple(int(token) for token in ids[0]),
        embeddings=embedded.embeddings,
        image_index=mx.array(index.astype(np.int32)),
        deepstack=embedded.deepstack,
        positions=embedded.positions,
        next_position=embedded.next_position,
    )
    mx.eval(prompt.embeddings, prompt.positions, prompt.image_index, *prompt.deepstack)
    return prompt


def image_token_id(base: BaseVLM) -> int:
    """Id of the token that stands for a patch of the photograph."""
    return base.family.image_token_id(base.model.config)


@dataclass(frozen=True)
class EncodedAnswer:
    """The tokens of an answer, and which characters of its text each one holds.

    Attributes:
        ids: A token ids, the end token last.
        offsets: (start, end) character offsets of every token but the end token. Tokens that share a character, as the
            bytes of an emoji do, all have its offsets.
    """

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]

    def tokens_at(self, span: tuple[int, int]) -> slice:
        """The tokens that hold characters of a span."""
        inside = [i for i, (start, end) in enumerate(self.offsets) if start < span[1] and end > span[0]]
        return slice(inside[0], inside[-1] + 1) if inside else slice(0, 0)


def encode_answer(base: BaseVLM, messages: list[dict[str, Any]], answer: str) -> EncodedAnswer:
    """Tokens of the answer and the end token that the chat template puts after it.

    The answer is tokenized on its own, because generation also starts on a token boundary after the prompt.
    """
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    start = 0
    for piece in _plain_pieces(base, answer):
        encoded = base.tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)
        ids += encoded["input_ids"]
        offsets += [(start + first, start + last) for first, last in encoded["offset_mapping"]]
        start += len(piece)
    return EncodedAnswer((*ids, end_of_turn_token_id(base, messages)), tuple(offsets))


def answer_token_ids(base: BaseVLM, messages: list[dict[str, Any]], answer: str) -> list[int]:
    """The tokens of `encode_answer`, where their places in the text don't matter."""
    return [*tokenize_plain_text(base, answer), end_of_turn_token_id(base, messages)]


def end_of_turn_token_id(base: BaseVLM, messages: list[dict[str, Any]]) -> int:
    """The token that ends an assistant's turn in the base's chat template.

    Raises:
        BadInput: the template ends a turn with no known end token; a model trained with it would never stop.
    """
    if "end_token" not in base.cache:
        marker = "Mondrian's answer"
        turn = {"role": "assistant", "content": [{"type": "text", "text": marker}]}
        asked = [message for message in messages if message["role"] != "assistant"]
        text = base.processor.apply_chat_template([*asked, turn], tokenize=False)
        after = _encoded(base, text.rpartition(marker)[2])
        known = [token for token in after[:1] if token in base.end_tokens]
        if not known:
            raise BadInput(
                f"The chat template of {base.name} ends an answer with no known end token.",
                "Use a checkpoint whose generation_config.json names the template's end token.",
            )
        base.cache["end_token"] = known[0]
    return int(base.cache["end_token"])
