"""One token after another: prefill once, then steps on a key-value cache.

On the CPU a step of a small model is mostly overhead, so it is compiled: the cache is a buffer of fixed size with a
mask over what isn't written yet, and grows by blocks. On Metal, where mlx-vlm's rotary kernel is compiled already, the
step runs on the library's growing cache. Both go through the same layers.
Shapes: `T` tokens, `V` vocabulary, `H` key-value heads, `E` width of a head, `C` capacity of the buffer.
"""

from __future__ import annotations

from typing import Any, Protocol

import mlx.core as mx

from mondrian_core.models.base import Base
from mondrian_core.models.encoding import Prompt
from mondrian_core.models.forward import hidden_states, logits
from mondrian_core.models.mounted import mounted_on

BLOCK = 256  # tokens by which the buffer grows; each size is compiled once


class Decoder(Protocol):
    """What generation needs of either decoder."""

    def start(self, prompt: Prompt) -> mx.array:
        """Read the prompt; logits (V,) of the first token of the answer."""

    def step(self, token: mx.array) -> mx.array:
        """Append a token (a scalar array); logits (V,) of the one after it."""

    def probe(self, index: int, token: int) -> mx.array:
        """Logits (V,) after `token` had been the answer's token `index`; what was decoded stays as it is."""


def make_decoder(base: Base) -> Decoder:
    """The decoder that suits the device."""
    fused = base.language_model.model.layers[0].self_attn.rotary_emb.fused_apply
    return EagerDecoder(base) if fused else CompiledDecoder(base)


def prefill(base: Base, prompt: Prompt) -> tuple[mx.array, list[Any]]:
    """Logits (V,) after the prompt and the filled caches."""
    from mlx_vlm.models.cache import make_prompt_cache

    caches = make_prompt_cache(base.language_model)
    hidden = hidden_states(base.language_model, prompt.embeddings, prompt.positions, prompt.image_index,
                           prompt.deepstack, caches=caches)  # fmt: skip
    return logits(base.language_model, hidden[:, -1])[0], caches


class EagerDecoder:
    """Steps on the library's key-value cache."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._caches: list[Any] = []
        self._start = self._length = self._steps = 0

    def start(self, prompt: Prompt) -> mx.array:
        """See Decoder."""
        self._start, self._length, self._steps = prompt.next_position, len(prompt.ids), 0
        first, self._caches = prefill(self._base, prompt)
        return first

    def step(self, token: mx.array) -> mx.array:
        """See Decoder."""
        found = self._forward(token, self._start + self._steps, self._caches)
        self._steps += 1
        return found

    def probe(self, index: int, token: int) -> mx.array:
        """See Decoder."""
        from mlx_vlm.models.cache import make_prompt_cache

        shorter = make_prompt_cache(self._base.language_model)
        kept = self._length + index
        for new, old in zip(shorter, self._caches, strict=True):
            keys, values = old.state
            new.update_and_fetch(keys[:, :, :kept], values[:, :, :kept])
        return self._forward(mx.array(token, dtype=mx.int32), self._start + index, shorter)

    def _forward(self, token: mx.array, position: int, caches: list[Any]) -> mx.array:
        model = self._base.language_model
        embedding = model.model.embed_tokens(token.reshape(1, 1))
        positions = mx.full((3, 1, 1), position, dtype=mx.int32)
        hidden = hidden_states(model, embedding, positions, mx.zeros(0, dtype=mx.int32), (), mask=None, caches=caches)
        return logits(model, hidden[:, -1])[0]


class _Slot:
    """A key-value cache of fixed size: writes one token at an offset that is an array, so that it can be traced."""

    def __init__(self, keys: mx.array, values: mx.array, offset: mx.array) -> None:
        self.keys, self.values, self.offset = keys, values, offset

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """The whole buffers (1, H, C, E) with the new token in its place."""
        self.keys = mx.slice_update(self.keys, keys, self.offset, axes=(2,))
        self.values = mx.slice_update(self.values, values, self.offset, axes=(2,))
        return self.keys, self.values


class CompiledDecoder:
    """Steps on buffers of fixed size, compiled once per size and set of adapted modules."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._keys: list[mx.array] = []
        self._values: list[mx.array] = []
        self._start = self._length = self._steps = self._capacity = 0
        self._mounted = mounted_on(base)
        self._changes = self._mounted.changes if self._mounted else []
        self._step = _compiled_step(base)

    def start(self, prompt: Prompt) -> mx.array:
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
        if self._length + self._steps >= self._capacity:
            self._grow()
        found, self._keys, self._values = self._run(token, self._steps)
        self._steps += 1
        return found

    def probe(self, index: int, token: int) -> mx.array:
        """See Decoder."""
        return self._run(mx.array(token, dtype=mx.int32), index)[0]

    def _run(self, token: mx.array, steps: int) -> tuple[mx.array, list[mx.array], list[mx.array]]:
        place = mx.array([self._length + steps, self._start + steps], dtype=mx.int32)
        return self._step(token, place, self._keys, self._values, self._changes)

    def _grow(self) -> None:
        target = (self._capacity // BLOCK + 1) * BLOCK
        widths = [(0, 0), (0, 0), (0, target - self._capacity), (0, 0)]
        self._keys = [mx.pad(keys, widths) for keys in self._keys]
        self._values = [mx.pad(values, widths) for values in self._values]
        self._capacity = target


def _compiled_step(base: Base) -> Any:
    """The compiled step for the modules that are adapted now; adapters of the same modules share it."""
    mounted = mounted_on(base)
    key = mounted.kind if mounted else ()
    steps: dict[Any, Any] = base.kept.setdefault("steps", {})
    if key in steps:
        return steps[key]
    model = base.language_model

    def step(token: mx.array, place: mx.array, keys: list[mx.array], values: list[mx.array], changes: list[Any]) -> Any:
        slots = [_Slot(k, v, place[:1]) for k, v in zip(keys, values, strict=True)]
        mask = (mx.arange(keys[0].shape[2]) <= place[0])[None, None, None]
        positions = mx.broadcast_to(place[1], (3, 1, 1))
        embedding = model.model.embed_tokens(token.reshape(1, 1))
        none = mx.zeros(0, dtype=mx.int32)
        if mounted is None:
            hidden = hidden_states(model, embedding, positions, none, (), mask=mask, caches=slots)
        else:
            with mounted.traced(changes):
                hidden = hidden_states(model, embedding, positions, none, (), mask=mask, caches=slots)
        return logits(model, hidden[:, -1])[0], [slot.keys for slot in slots], [slot.values for slot in slots]

    steps[key] = mx.compile(step)
    return steps[key]
