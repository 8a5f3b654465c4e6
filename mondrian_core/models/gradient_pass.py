"""The language model's forward pass for a gradient: less is kept, and the last layer works at the answer alone.

A layer is cut into segments, each of which ends in products with frozen weights:

    query, key, value = projections(norm(hidden))
    hidden = hidden + output projection(attention(query, key, value))
    gate, up = projections(norm(hidden))
    hidden = hidden + down projection(silu(gate) * up)

The backward pass computes a segment again from its inputs. The gradient of a product doesn't need its result, so no
frozen weight is multiplied twice, only norms, rotation, attention, activations, casts and LoRA's first products run
again (selective recomputation: Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models",
2022). What is kept per token and layer is in `kept_numbers`; attention probabilities, quadratic in the tokens, are not.

mlx-vlm's own modules run inside: `_Given` hands them projections that are already computed.

Shapes: `B` batch, `T` tokens, `A` places, `D` width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import DecoderInputs

# A narrow layer spends about half of its time on what a segment computes again, a wide one a few per cent
# (docs/experiments/training-profile.md), and only a wide one needs the memory.
SEGMENTS_FROM_WIDTH = 1024


def has_segmented_layers(base: BaseVLM) -> bool:
    """Whether the backward pass of this base computes segments again; a training with dropout never does."""
    return base.hidden_size >= SEGMENTS_FROM_WIDTH


def kept_numbers(base: BaseVLM) -> int:
    """Numbers that a segmented layer keeps per token for the gradient: inputs of segments, in the base's data type."""
    shape = base.language_model.args
    head = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    projections = (shape.num_attention_heads + 2 * shape.num_key_value_heads) * head
    return int(2 * shape.hidden_size + projections + 2 * shape.intermediate_size)


def states_at(
    base: BaseVLM,
    inputs: DecoderInputs,
    places: mx.array,
    *,
    mask: mx.array | str | None = "causal",
    checkpointing: bool = False,
    seed: int | None = None,
) -> mx.array:
    """Hidden states after the final norm at the given places of all rows, (A, D).

    Args:
        base: the base with attached layers.
        inputs: embeddings and positions.
        places: (A,) int32 indices into the B x T tokens, row after row.
        mask: "causal", or what mlx-vlm's attention accepts.
        checkpointing: keep only each layer's input for the gradient and compute the rest again; a step then takes about
            a third longer and a fraction of the memory.
        seed: seed of the dropout, if there is any. With checkpointing it is set while the graph is built, so it can't
            be traced.
    """
    decoder, family = base.language_model.model, base.family
    rotary = (mask, inputs.positions, family.rotation(base.language_model, inputs.embeddings, inputs.positions))
    segmented = seed is None and has_segmented_layers(base)
    hidden, last = inputs.embeddings, len(decoder.layers) - 1
    for number, layer in enumerate(decoder.layers):
        whole = number < last or last < len(inputs.deepstack) or (checkpointing and seed is not None)
        if not whole:
            hidden = _run_in_segments(layer, hidden, rotary, recomputed=segmented or checkpointing, places=places)
        elif checkpointing:
            recomputed = mx.checkpoint(_layer_function(base, layer, rotary, None if seed is None else seed + number))
            hidden = recomputed(layer.trainable_parameters(), hidden)
        elif segmented:
            hidden = _run_in_segments(layer, hidden, rotary, recomputed=True)
        else:
            hidden = family.run_layer(layer, hidden, mask, None, *rotary[1:])
        if number < len(inputs.deepstack):
            hidden = hidden.at[:, inputs.image_index].add(inputs.deepstack[number].astype(hidden.dtype))
    return decoder.norm(hidden if hidden.ndim == 2 else _rows(hidden)[places])


_Rotary = tuple[Any, mx.array, Any]  # mask, positions, and what the family's `rotation` returned


def _layer_function(base: BaseVLM, layer: Any, rotary: _Rotary, seed: int | None) -> Callable[..., mx.array]:
    """A layer as a function of its trainable arrays; with a seed it draws the same dropout each time it is computed."""
    mask, positions, rotation = rotary

    def run(parameters: Any, hidden: mx.array) -> mx.array:
        if seed is not None:
            mx.random.seed(seed)
        layer.update(parameters)
        return base.family.run_layer(layer, hidden, mask, None, positions, rotation)

    return run


def _run_in_segments(
    layer: Any, hidden: mx.array, rotary: _Rotary, *, recomputed: bool, places: mx.array | None = None
) -> mx.array:
    """What the layer computes: (B, T, D) to (B, T, D), or to (A, D) at the places, where alone its MLP then runs.

    Args:
        layer: a decoder layer of mlx-vlm.
        hidden: its input.
        rotary: mask, positions and rotation.
        recomputed: the backward pass computes the segments again.
        places: as in `states_at`; None: all.
    """
    attention, mlp = layer.self_attn, layer.mlp
    mask, positions, rotation = rotary

    def project(hidden: mx.array) -> tuple[mx.array, ...]:
        normed = layer.input_layernorm(hidden)
        return attention.q_proj(normed), attention.k_proj(normed), attention.v_proj(normed)

    def attend(hidden: mx.array, query: mx.array, key: mx.array, value: mx.array) -> mx.array:
        given = _Given(attention, q_proj=query, k_proj=key, v_proj=value)
        return hidden + given(hidden, mask, None, positions, rotation)

    def widen(hidden: mx.array) -> tuple[mx.array, ...]:
        normed = layer.post_attention_layernorm(hidden)
        return mlp.gate_proj(normed), mlp.up_proj(normed)

    def narrow(hidden: mx.array, gate: mx.array, up: mx.array) -> mx.array:
        return hidden + _Given(mlp, gate_proj=gate, up_proj=up)(hidden)

    run = _recomputed if recomputed else lambda segment, *_: segment
    projected = run(project, attention.q_proj, attention.k_proj, attention.v_proj)(hidden)
    hidden = run(attend, attention.o_proj)(hidden, *projected)
    if places is not None:
        hidden = _rows(hidden)[places]
    widened = run(widen, mlp.gate_proj, mlp.up_proj)(hidden)
    changed: mx.array = run(narrow, mlp.down_proj)(hidden, *widened)
    return changed


def _rows(hidden: mx.array) -> mx.array:
    """(B, T, D) to (B x T, D)."""
    return hidden.reshape(-1, hidden.shape[-1])


class _Given:
    """A module of mlx-vlm in which some linear layers return what they are given here."""

    def __init__(self, module: Any, **outputs: mx.array) -> None:
        self._module, self._outputs = module, outputs

    def __getattr__(self, name: str) -> Any:
        if name in self._outputs:
            return lambda _: self._outputs[name]
        return getattr(self._module, name)

    def __call__(self, *arguments: Any) -> mx.array:
        changed: mx.array = type(self._module).__call__(self, *arguments)
        return changed


def _recomputed(segment: Callable[..., Any], *linear: Any) -> Callable[..., Any]:
    """The segment, computed again by the backward pass; arrays of its linear layers are arguments, not constants."""

    def run(parameters: list[Any], *inputs: mx.array) -> Any:
        for module, own in zip(linear, parameters, strict=True):
            module.update(own)
        return segment(*inputs)

    checkpointed = mx.checkpoint(run)
    return lambda *inputs: checkpointed([module.trainable_parameters() for module in linear], *inputs)
