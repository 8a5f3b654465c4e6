"""The language model as pure functions of arrays, so that `mx.compile` can trace them.

mlx-vlm's own forward pass of Qwen3-VL finds the image positions with numpy in every call, which no tracer survives; its
layers are used unchanged, only the loop over them (mlx_vlm/models/qwen3_vl/language.py, Qwen3VLModel.__call__) is ours;
Qwen2-VL and Qwen2.5-VL have the same loop without DeepStack.
Shapes: `B` batch, `T` tokens, `D` width, `N` image tokens, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx


def hidden_states(
    language_model: Any,
    embeddings: mx.array,
    positions: mx.array,
    image_index: mx.array,
    deepstack: Sequence[mx.array],
    *,
    mask: mx.array | str | None = "causal",
    caches: Sequence[Any] | None = None,
) -> mx.array:
    """Hidden states after the final norm, (B, T, D).

    Args:
        language_model: mlx-vlm's.
        embeddings: (B, T, D).
        positions: (3, B, T) rotary positions.
        image_index: (N,) places of the image tokens, the same in every row of the batch.
        deepstack: arrays (N, D) added at the image tokens after the first layers.
        mask: "causal", or what the library's attention accepts.
        caches: one key-value cache a layer.
    """
    decoder = language_model.model
    rotary = decoder.layers[0].self_attn.rotary_emb
    rotation = None if rotary.fused_apply else rotary(embeddings, positions)
    hidden = embeddings
    for number, layer in enumerate(decoder.layers):
        hidden = layer(hidden, mask, caches[number] if caches else None, positions, rotation)
        if number < len(deepstack):
            hidden = hidden.at[:, image_index].add(deepstack[number].astype(hidden.dtype))
    return decoder.norm(hidden)


def logits(language_model: Any, hidden: mx.array) -> mx.array:
    """Logits (..., V) of hidden states (..., D)."""
    if language_model.args.tie_word_embeddings:
        return language_model.model.embed_tokens.as_linear(hidden)
    return language_model.lm_head(hidden)
