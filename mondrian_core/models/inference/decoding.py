"""Decode token by token: prefill the prompt once, then take steps on a key-value cache.

On the CPU a step of a small model is mostly overhead, so it is compiled: the cache is a buffer of fixed size with a
mask over its unwritten part, and grows by blocks. On Metal, where mlx-vlm's rotary kernel is compiled already, the step
runs on mlx-vlm's growing cache. Both use the same layers.

Tokens that are known in advance are read in one pass (`extend`). The text before the photograph is the same for every
photograph of an advisor, so its keys and values are cached.

Shapes: `T` tokens, `V` vocabulary, `H` key-value heads, `E` width of a head, `C` capacity of the buffer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Protocol, cast

import mlx.core as mx

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import DecoderInputs, hidden_states, lm_head_logits
from mondrian_core.models.lora.adapter_switch import existing_adapter_switch
from mondrian_core.models.prompt_encoding import EncodedPrompt

CACHE_BLOCK_TOKENS = 256  # tokens by which the buffer grows; each size is compiled once
PASS_WIDTHS = (1, 2, 4, 8, 16)  # tokens of one compiled pass; fewer are padded, more take several passes
_SHORTEST_PREFIX = 16  # tokens; a shorter prefix isn't worth copying
_KEPT_PREFIXES = 8  # and one more for each adapter in memory, so that changing advisors computes none again


class Decoder(Protocol):
    """The interface of both decoders.

    Attributes:
        builds_ahead: True if building a pass takes so long that it is worth doing while the pass before it runs, with a
            token that isn't known yet.
    """

    builds_ahead: bool

    def start(self, prompt: EncodedPrompt) -> mx.array:
        """Read the prompt; logits (V,) of the first token of the answer."""

    def step(self, token: mx.array) -> mx.array:
        """Append a token (a scalar array); logits (V,) of the one after it."""

    def extend(self, tokens: Sequence[int]) -> mx.array:
        """Append one or more known tokens; logits (V,) of the one after the last."""

    def read(self, tokens: Sequence[int]) -> mx.array:
        """Append up to PASS_WIDTHS[-1] tokens in one pass; logits (T, V) of the one after each of them."""

    def undo(self, count: int) -> None:
        """Remove the last `count` tokens."""

    def probe(self, index: int, token: int) -> mx.array:
        """Logits (V,) as if `token` were the answer's token `index`; the decoded answer doesn't change."""


def make_decoder(base: BaseVLM) -> Decoder:
    """The decoder for this device."""
    return EagerDecoder(base) if base.family.has_fused_rotary(base.language_model) else CompiledDecoder(base)


def prefill(base: BaseVLM, prompt: EncodedPrompt) -> tuple[mx.array, list[Any]]:
    """(logits (V,) after the prompt, the filled caches)."""
    from mlx_vlm.models.cache import make_prompt_cache

    caches = make_prompt_cache(base.language_model)
    known = _cached_prefix(base, prompt)
    done = known[0][0].shape[2] if known else 0
    for cache, state in zip(caches, known, strict=False):
        cache.update_and_fetch(*state)
    rest = DecoderInputs(
        prompt.embeddings[:, done:], prompt.positions[:, :, done:], prompt.image_index - done, prompt.deepstack
    )
    hidden = hidden_states(base, rest, caches=caches)
    return lm_head_logits(base, hidden[:, -1])[0], caches


LayerKeysValues = tuple[mx.array, mx.array]  # keys and values of a layer, each (1, H, T, E)


def _cached_prefix(base: BaseVLM, prompt: EncodedPrompt) -> list[LayerKeysValues]:
    """Keys and values, by layer, of the tokens before the photograph with the adapter in use; [] for few tokens.

    Nothing is cached during a training, where the weights change at every step.
    """
    length = cast(int, prompt.image_index[0].item()) if prompt.image_tokens else 0
    if length < _SHORTEST_PREFIX or getattr(base.model, "_vlm_adapter_config", None) is not None:
        return []
    mounted = existing_adapter_switch(base)
    changes = mounted.deltas if mounted else []
    arrays = tuple(array for change in changes for array in change)
    # the arrays are kept with the result, so that no other adapter's arrays can get their ids
    kept: OrderedDict[Any, tuple[Any, list[LayerKeysValues]]] = base.cache.setdefault("prefixes", OrderedDict())
    key = (prompt.ids[:length], tuple(id(array) for array in arrays))
    if key not in kept:
        kept[key] = (arrays, _computed_prefix(base, prompt, length))
        while len(kept) > _KEPT_PREFIXES + (len(mounted.cache) if mounted else 0):
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key][1]


def _computed_prefix(base: BaseVLM, prompt: EncodedPrompt, length: int) -> list[LayerKeysValues]:
    from mlx_vlm.models.cache import make_prompt_cache

    caches = make_prompt_cache(base.language_model)
    hidden_states(base, DecoderInputs(prompt.embeddings[:, :length], prompt.positions[:, :, :length]), caches=caches)
    states = [(mx.contiguous(keys), mx.contiguous(values)) for keys, values in (cache.state for cache in caches)]
    mx.eval(states)
    return states


class EagerDecoder:
    """Steps on mlx-vlm's key-value cache."""

    builds_ahead = True

    def __init__(self, base: BaseVLM) -> None:
        self._base = base
        self._caches: list[Any] = []
        self._start = self._length = self._steps = 0

    def start(self, prompt: EncodedPrompt) -> mx.array:
        """See Decoder."""
        self._start, self._length, self._steps = prompt.next_position, len(prompt.ids), 0
        first, self._caches = prefill(self._base, prompt)
        return first

    def step(self, token: mx.array) -> mx.array:
        """See Decoder."""
        return self._append(token.reshape(1))

    def extend(self, tokens: Sequence[int]) -> mx.array:
        """See Decoder."""
        return self._append(mx.array(list(tokens), dtype=mx.int32))

    def read(self, tokens: Sequence[int]) -> mx.array:
        """See Decoder."""
        return self._append(mx.array(list(tokens), dtype=mx.int32), every=True)

    def undo(self, count: int) -> None:
        """See Decoder."""
        for cache in self._caches:
            cache.trim(count)
        self._steps -= count

    def _append(self, tokens: mx.array, *, every: bool = False) -> mx.array:
        found = self._forward(tokens, self._start + self._steps, self._caches, every=every)
        self._steps += tokens.shape[0]
        return found if every else found[0]

    def probe(self, index: int, token: int) -> mx.array:
        """See Decoder."""
        from mlx_vlm.models.cache import make_prompt_cache

        shorter = make_prompt_cache(self._base.language_model)
        kept = self._length + index
        for new, old in zip(shorter, self._caches, strict=True):
            keys, values = old.state
            new.update_and_fetch(keys[:, :, :kept], values[:, :, :kept])
        return self._forward(mx.array([token], dtype=mx.int32), self._start + index, shorter)[0]

    def _forward(self, tokens: mx.array, position: int, caches: list[Any], *, every: bool = False) -> mx.array:
        """Logits after the last token (1, V), or after each (T, V)."""
        count = tokens.shape[0]
        embedding = self._base.language_model.model.embed_tokens(tokens[None])
        positions = mx.broadcast_to(mx.arange(position, position + count, dtype=mx.int32), (3, 1, count))
        mask = "causal" if count > 1 else None
        hidden = hidden_states(self._base, DecoderInputs(embedding, positions), mask=mask, caches=caches)
        return lm_head_logits(self._base, hidden[0] if every else hidden[:, -1])


class FixedSizeCache:
    """A key-value cache of fixed size; the offset is an array, so that writing can be traced."""

    def __init__(self, keys: mx.array, values: mx.array, offset: mx.array) -> None:
        self.keys, self.values, self.offset = keys, values, offset

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """The whole buffers (1, H, C, E) after the new keys and values (1, H, T, E) are written."""
        self.keys = mx.slice_update(self.keys, keys, self.offset, axes=(2,))
        self.values = mx.slice_update(self.values, values, self.offset, axes=(2,))
        return self.keys, self.values


class CompiledDecoder:
    """Steps on buffers of fixed size, compiled once per size and set of adapted modules."""

    builds_ahead = False

    def __init__(self, base: BaseVLM) -> None:
        self._base = base
        self._keys: list[mx.array] = []
        self._values: list[mx.array] = []
        self._start = self._length = self._steps = self._capacity = 0
        self._mounted = existing_adapter_switch(base)
        self._changes = self._mounted.deltas if self._mounted else []
        self._step, self._every = _compiled_step(base), _compiled_step(base, every=True)

    def start(self, prompt: EncodedPrompt) -> mx.array:
        """See Decoder."""
        self._start, self._length, self._steps = prompt.next_position, len(prompt.ids), 0
        first, caches = prefill(self._base, prompt)
        states = [cache.state for cache in caches]
        self._keys, self._values = [keys for keys, _ in states], [values for _, values in states]
        self._capacity = self._length
        self._grow()
        return first

    def step(self, token: mx.array) -> mx.array:
        """See Decoder."""
        return self._append(token.reshape(1), 1)

    def extend(self, tokens: Sequence[int]) -> mx.array:
        """See Decoder. Padding is written after the tokens; the mask hides it until it is overwritten."""
        found = None
        for start in range(0, len(tokens), PASS_WIDTHS[-1]):
            part = tokens[start : start + PASS_WIDTHS[-1]]
            found = self._append(_padded(part), len(part))
        assert found is not None, "no tokens to append"
        return found

    def read(self, tokens: Sequence[int]) -> mx.array:
        """See Decoder."""
        return self._append(_padded(tokens), len(tokens), every=True)[: len(tokens)]

    def undo(self, count: int) -> None:
        """See Decoder. The tokens stay in the buffers, hidden by the mask."""
        self._steps -= count

    def _append(self, tokens: mx.array, count: int, *, every: bool = False) -> mx.array:
        """Append the first `count` of the tokens; the rest is padding."""
        while self._length + self._steps + tokens.shape[0] > self._capacity:
            self._grow()
        found, self._keys, self._values = self._run(tokens, count, self._steps, every=every)
        self._steps += count
        return found

    def probe(self, index: int, token: int) -> mx.array:
        """See Decoder."""
        return self._run(mx.array([token], dtype=mx.int32), 1, index)[0]

    def _run(
        self, tokens: mx.array, count: int, steps: int, *, every: bool = False
    ) -> tuple[mx.array, list[mx.array], list[mx.array]]:
        place = mx.array([self._length + steps, self._start + steps, count - 1], dtype=mx.int32)
        step = self._every if every else self._step
        return step(tokens, place, self._keys, self._values, self._changes)

    def _grow(self) -> None:
        target = (self._capacity // CACHE_BLOCK_TOKENS + 1) * CACHE_BLOCK_TOKENS
        widths = [(0, 0), (0, 0), (0, target - self._capacity), (0, 0)]
        self._keys = [mx.pad(keys, widths) for keys in self._keys]
        self._values = [mx.pad(values, widths) for values in self._values]
        self._capacity = target


def _padded(tokens: Sequence[int]) -> mx.array:
    """The tokens, padded with the last one to the next of PASS_WIDTHS."""
    width = next(width for width in PASS_WIDTHS if width >= len(tokens))
    return mx.array([*tokens, *[tokens[-1]] * (width - len(tokens))], dtype=mx.int32)


def _compiled_step(base: BaseVLM, *, every: bool = False) -> Any:
    """The compiled step for the modules that are adapted now; adapters of the same modules share it.

    It returns the logits (V,) after its last real token or, with `every`, (T, V) after each token.
    """
    mounted = existing_adapter_switch(base)
    key = (every, mounted.compile_key if mounted else ())
    steps: dict[Any, Any] = base.cache.setdefault("steps", {})
    if key in steps:
        return steps[key]

    def step(
        tokens: mx.array, place: mx.array, keys: list[mx.array], values: list[mx.array], changes: list[Any]
    ) -> Any:
        slots = [FixedSizeCache(k, v, place[:1]) for k, v in zip(keys, values, strict=True)]
        steps = mx.arange(tokens.shape[0])
        mask = (mx.arange(keys[0].shape[2])[None] <= place[0] + steps[:, None])[None, None]
        positions = mx.broadcast_to(place[1] + steps, (3, 1, tokens.shape[0]))
        inputs = DecoderInputs(base.language_model.model.embed_tokens(tokens[None]), positions)
        with mounted.substituting(changes) if mounted else nullcontext():
            hidden = hidden_states(base, inputs, mask=mask, caches=slots)
        last = hidden if every or tokens.shape[0] == 1 else mx.take(hidden, place[2:], axis=1)
        found = lm_head_logits(base, last[0])
        return found if every else found[0], [slot.keys for slot in slots], [slot.values for slot in slots]

    steps[key] = mx.compile(step)
    return steps[key]
