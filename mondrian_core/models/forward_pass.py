"""The language model as a pure function of arrays, which `mx.compile` can trace.

mlx-vlm's own forward pass of Qwen3-VL finds the image positions with numpy in every call, which can't be traced. Its
layers are used unchanged; only the loop over them is written here (mlx_vlm/models/qwen3_vl/language.py,
Qwen3VLModel.__call__). What differs between families comes from `BaseVLM.family`.

Shapes: `B` batch, `T` tokens, `D` width, `N` image tokens, `L` layers with DeepStack features, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mondrian_core.models.base_model import BaseVLM


@dataclass(frozen=True, eq=False)
class DecoderInputs:
    """What the language model's layers read.

    Attributes:
        embeddings: (B, T, D).
        positions: (3, B, T) int32 rotary positions.
        image_index: (N,) int32 places of the image tokens, the same in every row of the batch; None: no photograph.
        deepstack: L arrays (N, D) that the first L layers add at the image tokens.
    """

    embeddings: mx.array
    positions: mx.array
    image_index: mx.array | None = None
    deepstack: Sequence[mx.array] = ()


def hidden_states(
    base: BaseVLM,
    inputs: DecoderInputs,
    *,
    mask: mx.array | str | None = "causal",
    caches: Sequence[Any] | None = None,
) -> mx.array:
    """Hidden states after the final norm, (B, T, D).

    Args:
        base: the base, with whatever adapter is attached or in use.
        inputs: embeddings and positions.
        mask: "causal", or what mlx-vlm's attention accepts.
        caches: one key-value cache per layer.
    """
    decoder, family = base.language_model.model, base.family
    rotation = family.rotation(base.language_model, inputs.embeddings, inputs.positions)
    hidden = inputs.embeddings
    for number, layer in enumerate(decoder.layers):
        cache = caches[number] if caches else None
        hidden = family.run_layer(layer, hidden, mask, cache, inputs.positions, rotation)
        if number < len(inputs.deepstack):
            hidden = hidden.at[:, inputs.image_index].add(inputs.deepstack[number].astype(hidden.dtype))
    return decoder.norm(hidden)


def lm_head_logits(base: BaseVLM, hidden: mx.array) -> mx.array:
    """Logits (..., V) of hidden states (..., D)."""
    return base.family.logits(base.language_model, hidden)
