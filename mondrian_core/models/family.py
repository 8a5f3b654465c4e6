"""Families of base models: one `Family` value holds everything that differs between Qwen2-VL, Qwen2.5-VL and Qwen3-VL.

Encoding, the forward pass, decoding, adapter files and adapter validation read it from here, so a new family is one
more value in FAMILIES. mlx isn't imported here: the registry needs the module names without it.

Shapes: `T` tokens, `D` width, `N` image tokens, `V` vocabulary, `L` layers with DeepStack features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mlx.core as mx

_PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True, eq=False)
class PromptEmbeddings:
    """A prompt as the language model reads it.

    Attributes:
        embeddings: (1, T, D) with the photograph's features at its tokens.
        positions: (3, 1, T) rotary positions: time, height, width.
        next_position: position of the first token after the prompt, equal on all three axes.
        deepstack: L arrays (N, D) that the first L layers add at the image tokens; () in families without DeepStack.
    """

    embeddings: mx.array
    positions: mx.array
    next_position: int
    deepstack: tuple[mx.array, ...]


@dataclass(frozen=True, kw_only=True)
class Family:
    """What Mondrian needs to know of a family of vision-language models. No field has a default.

    Attributes:
        name: name for people, such as "Qwen3-VL".
        model_type: `model_type` in config.json.
        processor_arrays: keys of the processor's output that describe the photograph.
        image_tokens_follow_size: True if a photograph's number of tokens depends on its size alone, so that it is
            counted once for each size.
        image_token_id: the id of the token that stands for a patch of the photograph, from the model's configuration.
        end_tokens: the tokens that end an answer, from the tokenizer.
        embed: (model, token ids (1, T), the processor's arrays) to embeddings and positions, through the vision tower.
        has_fused_rotary: whether the language model's attention rotates queries and keys in one compiled kernel.
        rotation: (language model, embeddings, positions) to what every layer needs to rotate; None with a fused kernel.
        run_layer: (layer, hidden (B, T, D), mask, cache, positions, rotation) to hidden (B, T, D).
        logits: (language model, hidden (..., D)) to logits (..., V).
        language_model_prefix: prefix of the names of the language model's modules; only those carry adapters.
        unadapted_modules: last parts of names of linear layers that carry no adapter, such as the output layer.
        module_prefixes: (prefix in transformers and PEFT, prefix in mlx-vlm) of module names; the first pair that fits
            is used, so current spellings come before older ones.
    """

    name: str
    model_type: str
    processor_arrays: tuple[str, ...]
    image_tokens_follow_size: bool
    image_token_id: Callable[[Any], int]
    end_tokens: Callable[[Any], frozenset[int]]
    embed: Callable[[Any, mx.array, Mapping[str, mx.array]], PromptEmbeddings]
    has_fused_rotary: Callable[[Any], bool]
    rotation: Callable[[Any, mx.array, mx.array], Any]
    run_layer: Callable[[Any, mx.array, Any, Any, mx.array, Any], mx.array]
    logits: Callable[[Any, mx.array], mx.array]
    language_model_prefix: str
    unadapted_modules: tuple[str, ...]
    module_prefixes: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        empty = [field.name for field in fields(self) if getattr(self, field.name) in (None, "", ())]
        if empty:
            raise ValueError(f"the family {self.name!r} does not define {', '.join(empty)}")

    def mlx_module_name(self, module: str) -> str:
        """A module's name in mlx-vlm, from its name in transformers or PEFT."""
        name = module.removeprefix(_PEFT_PREFIX)
        for theirs, ours in self.module_prefixes:
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        return name

    def peft_module_name(self, module: str) -> str:
        """A module's name in PEFT, from its name in mlx-vlm."""
        for theirs, ours in self.module_prefixes:
            if module.startswith(ours):
                return _PEFT_PREFIX + theirs + module.removeprefix(ours)
        return _PEFT_PREFIX + module


def _embed_qwen(model: Any, tokens: mx.array, picture: Mapping[str, mx.array], *, deepstack: bool) -> PromptEmbeddings:
    """Embeddings and multimodal rotary positions; mlx-vlm computes the positions with the embeddings or on request."""
    import mlx.core as mx
    import numpy as np

    pixels, grid = picture.get("pixel_values"), picture.get("image_grid_thw")
    embedded = model.get_input_embeddings(tokens, pixels, image_grid_thw=grid)
    positions, delta = embedded.position_ids, embedded.rope_deltas
    if positions is None or delta is None:
        positions, delta = model.language_model.get_rope_index(tokens, image_grid_thw=grid)
    if positions.ndim == 2:  # text alone: the three axes are equal
        positions = mx.broadcast_to(positions[None], (3, *positions.shape))
    layers = embedded.deepstack_visual_embeds if deepstack and pixels is not None else None
    return PromptEmbeddings(
        embeddings=embedded.inputs_embeds,
        positions=positions.astype(mx.int32),
        next_position=int(tokens.shape[1]) + int(np.array(delta).reshape(-1)[0]),
        deepstack=() if layers is None else tuple(layers[i] for i in range(len(layers))),
    )


def _rotary(language_model: Any) -> Any:
    return language_model.model.layers[0].self_attn.rotary_emb


def _rotation(language_model: Any, embeddings: mx.array, positions: mx.array) -> Any:
    rotary = _rotary(language_model)
    return None if rotary.fused_apply else rotary(embeddings, positions)


def _run_layer(layer: Any, hidden: mx.array, mask: Any, cache: Any, positions: mx.array, rotation: Any) -> mx.array:
    changed: mx.array = layer(hidden, mask, cache, positions, rotation)
    return changed


def _logits(language_model: Any, hidden: mx.array) -> mx.array:
    """Small checkpoints use the embedding as output layer."""
    if language_model.args.tie_word_embeddings:
        logits: mx.array = language_model.model.embed_tokens.as_linear(hidden)
    else:
        logits = language_model.lm_head(hidden)
    return logits


QWEN2_VL = Family(
    name="Qwen2-VL",
    model_type="qwen2_vl",
    processor_arrays=("pixel_values", "image_grid_thw"),
    image_tokens_follow_size=True,
    image_token_id=lambda config: int(config.image_token_id),
    end_tokens=lambda tokenizer: frozenset(tokenizer.stopping_criteria.eos_token_ids),
    embed=partial(_embed_qwen, deepstack=False),
    has_fused_rotary=lambda language_model: bool(_rotary(language_model).fused_apply),
    rotation=_rotation,
    run_layer=_run_layer,
    logits=_logits,
    language_model_prefix="language_model.",
    unadapted_modules=("lm_head",),
    module_prefixes=(
        ("model.language_model.", "language_model.model."),
        ("model.visual.", "vision_tower."),
        # transformers before 2025
        ("visual.", "vision_tower."),
        ("model.layers.", "language_model.model.layers."),
    ),
)
QWEN2_5_VL = replace(QWEN2_VL, name="Qwen2.5-VL", model_type="qwen2_5_vl")
QWEN3_VL = replace(QWEN2_VL, name="Qwen3-VL", model_type="qwen3_vl", embed=partial(_embed_qwen, deepstack=True))
FAMILIES = (QWEN2_VL, QWEN2_5_VL, QWEN3_VL)


def find_family(model_type: Any) -> Family | None:
    """The family with this `model_type`; None if Mondrian supports none."""
    return next((family for family in FAMILIES if family.model_type == model_type), None)


def mlx_module_name(module: str) -> str:
    """As `Family.mlx_module_name`, for adapter files, which don't name their family: the first one whose names fit."""
    names = [family.mlx_module_name(module) for family in FAMILIES]
    plain = module.removeprefix(_PEFT_PREFIX)
    return next((name for name in names if name != plain), plain)
