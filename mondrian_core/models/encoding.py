"""From messages and a photograph to what the language model reads.

Shapes: `B` batch, `T` tokens, `D` width, `N` image tokens, `L` layers that get DeepStack features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from mondrian_core.errors import BadInput
from mondrian_core.models.base import Base

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, eq=False)
class Prompt:
    """Everything before the answer, computed once: the vision tower is frozen, so this holds for every epoch and arm.

    Attributes:
        ids: token ids, T of them; the image token stands N times.
        embeddings: (1, T, D) with the photograph's features in their places.
        image_index: (N,) int32, positions of the image tokens.
        deepstack: L arrays (N, D) that the first L layers add at the image tokens; empty where there are none.
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

    def load(self) -> Prompt:
        """The prompt itself: its arrays are in memory already (see `features.StoredPrompt`)."""
        return self


def encode(base: Base, messages: list[dict[str, Any]], image: Image.Image | None) -> Prompt:
    """Tokens, vision features (with DeepStack) and positions of the messages before the answer.

    An assistant message at the end is left out; `answer_ids` gives its tokens.
    """
    return features_of(base, *inputs_of(base, messages, image))


def inputs_of(base: Base, messages: list[dict[str, Any]],
              image: Image.Image | None) -> tuple[np.ndarray, dict[str, mx.array]]:  # fmt: skip
    """What the processor makes of a prompt: token ids (1, T), and the photograph's patches with their grid."""
    inputs = _processed(base, messages, image)
    ids = np.array(inputs["input_ids"]).reshape(1, -1)
    return ids, {str(key): mx.array(inputs[key]) for key in ("pixel_values", "image_grid_thw") if key in inputs}


def prompt_tokens(base: Base, messages: list[dict[str, Any]], image: Image.Image | None) -> int:
    """Tokens before the answer, the photograph's included, without running the vision tower."""
    return int(np.array(_processed(base, messages, image)["input_ids"]).size)


def prompt_counts(base: Base, messages: list[dict[str, Any]], image: Image.Image | None) -> tuple[int, int]:
    """Tokens before the answer as (instructions, photograph), without running the vision tower."""
    ids = np.array(_processed(base, messages, image)["input_ids"]).reshape(-1)
    photograph = int((ids == image_token(base)).sum())
    return ids.size - photograph, photograph


def _processed(base: Base, messages: list[dict[str, Any]], image: Image.Image | None) -> dict[str, Any]:
    asked = [message for message in messages if message["role"] != "assistant"]
    text = base.processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    if image is None:
        return {"input_ids": np.array([base.tokenizer.encode(text, add_special_tokens=False)])}
    return dict(base.processor(text=[text], images=[image.convert("RGB")]))


def features_of(base: Base, ids: np.ndarray, picture: dict[str, mx.array]) -> Prompt:
    """The prompt of `inputs_of`, through the vision tower."""
    tokens = mx.array(ids.astype(np.int32))
    pixels, grid = picture.get("pixel_values"), picture.get("image_grid_thw")
    found = base.model.get_input_embeddings(tokens, pixels, image_grid_thw=grid)
    positions, delta = found.position_ids, found.rope_deltas
    if positions is None or delta is None:
        positions, delta = base.language_model.get_rope_index(tokens, image_grid_thw=grid)
    length = ids.shape[1]
    if positions.ndim == 2:
        positions = mx.broadcast_to(positions[None], (3, *positions.shape))
    index = np.flatnonzero(ids[0] == image_token(base)) if pixels is not None else np.zeros(0, int)
    layers = getattr(found, "deepstack_visual_embeds", None)
    deepstack = tuple(layers[i] for i in range(len(layers))) if layers is not None and len(index) else ()
    prompt = Prompt(
        tuple(int(token) for token in ids[0]),
        found.inputs_embeds,
        mx.array(index.astype(np.int32)),
        deepstack,
        positions.astype(mx.int32),
        length + int(np.array(delta).reshape(-1)[0]),
    )
    mx.eval(prompt.embeddings, prompt.positions, prompt.image_index, *prompt.deepstack)
    return prompt


def image_token(base: Base) -> int:
    """Id of the token that stands for a patch of the photograph."""
    config = base.model.config
    identity = getattr(config, "image_token_id", None)
    return int(identity if identity is not None else config.image_token_index)


def answer_ids(base: Base, messages: list[dict[str, Any]], answer: str) -> list[int]:
    """Tokens of the answer and of the end token that the chat template puts behind it.

    The answer is tokenized on its own, because generation too begins on a token boundary after the prompt.
    """
    return [*base.tokenizer.encode(answer, add_special_tokens=False), end_token(base, messages)]


def end_token(base: Base, messages: list[dict[str, Any]]) -> int:
    """The token that closes an assistant's turn in this model's chat template.

    Raises:
        BadInput: when the template closes a turn with no known end token; a model trained so would never stop.
    """
    if "end_token" not in base.kept:
        mark = "Mondrian's answer"
        turn = {"role": "assistant", "content": [{"type": "text", "text": mark}]}
        asked = [message for message in messages if message["role"] != "assistant"]
        text = base.processor.apply_chat_template([*asked, turn], tokenize=False)
        after = base.tokenizer.encode(text.rpartition(mark)[2], add_special_tokens=False)
        known = [token for token in after[:1] if token in base.end_tokens]
        if not known:
            raise BadInput(
                f"The chat template of {base.name} closes an answer with no known end token.",
                "Use a checkpoint whose generation_config.json names the template's end token.",
            )
        base.kept["end_token"] = known[0]
    return int(base.kept["end_token"])
