"""Memory of a base: the sizes of its arrays, and the peak of a service, from its configuration alone.

No weights are read: mlx makes the model's arrays when they are computed, so an unevaluated model has sizes and takes
no memory.

Shapes: `T` tokens, `D` width, `F` width of the MLP, `P` patches of a photograph.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.decoding import CACHE_BLOCK_TOKENS
from mondrian_core.settings import current_settings

_FLOAT32 = 4
_GROUP_SIZE = 64  # of packed weights, in checkpoints that name none
_VISION_ARRAYS = 36  # of the tower's width that it holds for each patch, besides its attention weights; measured
_LAYERS_WRITTEN = 3  # layers whose new key-value buffer is written while the old one is still held; measured
_PREFIX_COPIES = 2  # of the text before the photograph: the base's and one adapter's
_METAL_SHARES = ((36e9, 2 / 3), (float("inf"), 3 / 4))  # share of the memory up to this size (bytes)


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """The sizes of a base that its memory follows from.

    Attributes:
        layers: number of the language model's layers.
        width: D, numbers of a hidden state.
        mlp_width: F.
        heads: number of query heads.
        key_value_heads: number of key and value heads.
        head_dim: numbers of a head.
        head_norms: True if queries and keys are normalized (Qwen3-VL).
        vocabulary: number of tokens.
        deepstack: number of layers that get features of the photograph.
        vision_heads: heads of the vision tower.
        vision_width: numbers of a patch's hidden state in the vision tower.
        patches_per_token: patches of the photograph that become one token.
        item_bytes: bytes of a number that is computed with, 2 or 4.
        weight_bytes: bytes of all weights in memory.
    """

    layers: int
    width: int
    mlp_width: int
    heads: int
    key_value_heads: int
    head_dim: int
    head_norms: bool
    vocabulary: int
    deepstack: int
    vision_heads: int
    vision_width: int
    patches_per_token: int
    item_bytes: int
    weight_bytes: int

    @property
    def query_width(self) -> int:
        """Numbers of all query heads; more than D in some bases."""
        return self.heads * self.head_dim

    @property
    def key_value_width(self) -> int:
        """Numbers of all key heads, and of all value heads."""
        return self.key_value_heads * self.head_dim

    @property
    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each linear layer of a layer, by the last part of its name."""
        return {
            "q_proj": (self.width, self.query_width),
            "k_proj": (self.width, self.key_value_width),
            "v_proj": (self.width, self.key_value_width),
            "o_proj": (self.query_width, self.width),
            "gate_proj": (self.width, self.mlp_width),
            "up_proj": (self.width, self.mlp_width),
            "down_proj": (self.mlp_width, self.width),
        }

    def adapter_parameters(self, rank: int, modules: Sequence[str], *, dora: bool = False) -> int:
        """Number of parameters of an adapter; a name that fits some layers only counts for all of them."""
        chosen = [self.linear_layers[name] for name in adapted_kinds(self, modules)]
        return self.layers * sum(rank * (inputs + outputs) + dora * outputs for inputs, outputs in chosen)


def adapted_kinds(size: ModelSize, modules: Sequence[str]) -> list[str]:
    """The kinds of linear layers ("q_proj") that a recipe's target modules name."""
    named = {module.rpartition(".")[2] for module in modules}
    return [kind for kind in size.linear_layers if kind in named]


def loaded_model_size(base: BaseVLM) -> ModelSize:
    """The sizes of a base in memory; its weights may be unread."""
    arrays = [array for _, array in tree_flatten(base.language_model.model.embed_tokens.parameters())]
    stored = min((array.dtype.size for array in arrays if mx.issubdtype(array.dtype, mx.floating)), default=_FLOAT32)
    return _size_of(base.model, max(stored, device_item_bytes()))


def configured_model_size(configuration: Mapping[str, Any], item_bytes: int | None = None) -> ModelSize:
    """The sizes of a base with this config.json, without its weights.

    Args:
        configuration: contents of config.json.
        item_bytes: bytes of a number that is computed with; None: as on this machine's device.
    """
    from mlx_vlm.utils import get_model_and_args, skip_multimodal_module, update_module_configs

    values = copy.deepcopy(dict(configuration))
    library, _ = get_model_and_args(values)
    values.setdefault("text_config", {})
    shape = update_module_configs(library.ModelConfig.from_dict(values), library, values, ["text", "vision"])
    model = library.Model(shape)
    packed = configuration.get("quantization") or configuration.get("quantization_config")
    if packed:
        nn.quantize(
            model,
            group_size=int(packed.get("group_size", _GROUP_SIZE)),
            bits=int(packed["bits"]),
            class_predicate=lambda path, module: not skip_multimodal_module(path) and hasattr(module, "to_quantized"),
        )
    return _size_of(model, item_bytes or device_item_bytes())


def device_item_bytes() -> int:
    """Bytes of a number that is computed with: 4 on the CPU, where `load_base` casts to float32, otherwise 2."""
    return _FLOAT32 if mx.default_device() == mx.Device(mx.cpu) else 2


def _size_of(model: Any, item_bytes: int) -> ModelSize:
    shape, vision = model.language_model.args, model.config.vision_config
    floating = [array for _, array in tree_flatten(model.parameters()) if mx.issubdtype(array.dtype, mx.floating)]
    whole = sum(array.nbytes for _, array in tree_flatten(model.parameters()))
    return ModelSize(
        layers=int(shape.num_hidden_layers),
        width=int(shape.hidden_size),
        mlp_width=int(shape.intermediate_size),
        heads=int(shape.num_attention_heads),
        key_value_heads=int(shape.num_key_value_heads),
        head_dim=int(getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads),
        head_norms=hasattr(model.language_model.model.layers[0].self_attn, "q_norm"),
        vocabulary=int(shape.vocab_size),
        deepstack=len(getattr(vision, "deepstack_visual_indexes", None) or ()),
        vision_heads=int(vision.num_heads),
        vision_width=int(getattr(vision, "embed_dim", None) or vision.hidden_size),
        patches_per_token=int(vision.spatial_merge_size) ** 2,
        item_bytes=item_bytes,
        weight_bytes=whole + sum(array.size * item_bytes - array.nbytes for array in floating),
    )


def forward_bytes(size: ModelSize, tokens: int, context: int) -> int:
    """Bytes of what a forward pass without a gradient holds at a time, besides its input and its cache.

    Attention is not fused: on the CPU it never is, and where a kernel fuses it this counts too much.

    Args:
        size: sizes of the base.
        tokens: T, tokens that are read.
        context: tokens that they attend to.
    """
    per_token = 4 * size.width + 3 * size.query_width + 4 * size.key_value_width + 2 * size.mlp_width
    return tokens * (per_token + 2 * size.heads * context) * size.item_bytes


def vision_bytes(size: ModelSize, image_tokens: int) -> int:
    """Bytes that the vision tower holds for a photograph: attention weights of P x P for each head, and its layers."""
    patches = image_tokens * size.patches_per_token
    return patches * (size.vision_heads * patches + _VISION_ARRAYS * size.vision_width) * size.item_bytes


def cache_bytes(size: ModelSize, tokens: int) -> int:
    """Bytes of the keys and values of this many tokens."""
    return tokens * size.layers * 2 * size.key_value_width * size.item_bytes


@dataclass(frozen=True, kw_only=True)
class ServingLoad:
    """What a service answers.

    Attributes:
        text_tokens: tokens of the prompt without the photograph's.
        image_tokens: tokens of the photograph.
        answer_tokens: maximum length of the answer.
        adapter_bytes: bytes of the adapters in memory.
        answers_at_once: answers that are decoded at the same time.
    """

    text_tokens: int
    image_tokens: int
    answer_tokens: int
    adapter_bytes: int = 0
    answers_at_once: int = 1


@dataclass(frozen=True, kw_only=True)
class ServingMemory:
    """Bytes that answering takes. Vision tower and prefill are over when the answer's cache is full.

    Attributes:
        weights: the base.
        adapters: adapters that stay loaded.
        prefixes: keys and values of prompts' beginnings that are kept.
        photograph: the vision tower.
        prefill: the prompt's pass, with its cache.
        decoding: cache and logits of the answers.
    """

    weights: int
    adapters: int
    prefixes: int
    photograph: int
    prefill: int
    decoding: int

    @property
    def peak(self) -> int:
        """The most that is held at a time."""
        return self.weights + self.adapters + self.prefixes + max(self.photograph, self.prefill, self.decoding)


def predict_serving_memory(size: ModelSize, load: ServingLoad) -> ServingMemory:
    """Memory of a service at its peak. Drafts from earlier answers are lists of numbers and take megabytes at most."""
    prompt = load.text_tokens + load.image_tokens
    length = prompt + load.answer_tokens
    capacity = (length // CACHE_BLOCK_TOKENS + 1) * CACHE_BLOCK_TOKENS
    inputs = prompt * size.width * size.item_bytes + size.deepstack * load.image_tokens * size.width * size.item_bytes
    logits = size.vocabulary * (size.item_bytes + _FLOAT32)
    return ServingMemory(
        weights=size.weight_bytes,
        adapters=load.adapter_bytes,
        prefixes=_PREFIX_COPIES * cache_bytes(size, load.text_tokens),
        photograph=vision_bytes(size, load.image_tokens),
        prefill=inputs + cache_bytes(size, prompt) + forward_bytes(size, prompt, prompt),
        decoding=load.answers_at_once
        * (cache_bytes(size, capacity) * (size.layers + _LAYERS_WRITTEN) // size.layers + logits)
        + inputs,
    )


def usable_memory(machine_bytes: int) -> int:
    """Bytes of a machine's memory that MLX may use: about what macOS recommends as a GPU's working set.

    Two thirds up to 36 GB and three quarters above. The system and other programs need the rest, also where there is
    no such recommendation.
    """
    share = next(share for limit, share in _METAL_SHARES if machine_bytes <= limit)
    return int(machine_bytes * share)


def machine_memory() -> int:
    """Bytes that MLX may use here: MONDRIAN_MEMORY_GB, Metal's recommended working set, or `usable_memory`."""
    limit = current_settings().memory_gb
    if limit is not None:
        return int(limit * 1e9)
    if mx.metal.is_available():
        info: dict[str, Any] = mx.device_info()
        return int(info["max_recommended_working_set_size"])
    return usable_memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
