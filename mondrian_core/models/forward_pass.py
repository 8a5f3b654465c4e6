"""The language model as pure functions of arrays, so that `mx.compile` can trace them.

mlx-vlm's own forward pass of Qwen3-VL finds the image positions with numpy in every call, which no tracer survives; its
layers are used unchanged, only the loop over them (mlx_vlm/models/qwen3_vl/language.py, Qwen3VLModel.__call__) is ours;
Qwen2-VL and Qwen2.5-VL have the same loop without DeepStack.
Shapes: `B` batch, `T` tokens, `D` width, `N` image tokens, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    checkpointing: bool = False,
    seed: int | None = None,
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
        checkpointing: keep only what goes from layer to layer for the gradient and compute the rest of a layer again;
            takes about a third more time and a fraction of the memory. Not with caches.
        seed: of the dropout when checkpointing; it is set while the graph is built, so it can't be traced.
    """
    decoder = language_model.model
    rotary = decoder.layers[0].self_attn.rotary_emb
    rotation = None if rotary.fused_apply else rotary(embeddings, positions)
    hidden = embeddings
    for number, layer in enumerate(decoder.layers):
        if checkpointing:
            own = None if seed is None else seed + number
            again = mx.checkpoint(_layer(layer, mask, positions, rotation, own))
            hidden = again(layer.trainable_parameters(), hidden)
        else:
            hidden = layer(hidden, mask, caches[number] if caches else None, positions, rotation)
        if number < len(deepstack):
            hidden = hidden.at[:, image_index].add(deepstack[number].astype(hidden.dtype))
    return decoder.norm(hidden)


def _layer(
    layer: Any, mask: mx.array | str | None, positions: mx.array, rotation: Any, seed: int | None
) -> Callable[..., mx.array]:
    """A layer as a function of its trainable arrays; with a seed it draws the same dropout when it runs again."""

    def run(parameters: Any, hidden: mx.array) -> mx.array:
        if seed is not None:
            mx.random.seed(seed)
        layer.update(parameters)
        found: mx.array = layer(hidden, mask, None, positions, rotation)
        return found

    return run


def lm_head_logits(language_model: Any, hidden: mx.array) -> mx.array:
    """Logits (..., V) of hidden states (..., D)."""
    if language_model.args.tie_word_embeddings:
        return language_model.model.embed_tokens.as_linear(hidden)
    return language_model.lm_head(hidden)
