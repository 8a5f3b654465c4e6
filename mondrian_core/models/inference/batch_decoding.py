"""Decode several rows at once: one pass reads the weights once and advances every row.

The keys and values of all rows share one buffer per layer, and every pass writes at the same place of it. Attention
doesn't depend on the order of keys, since their positions are rotated into them. So rows of different lengths need no
padding between prompt and answer: the owner of each place says which tokens see it. Padding has no owner.

    decoder = BatchDecoder(base, groups=2)
    row = decoder.open(prompt)           # its own prompt; row.logits are those of the first token
    branch = decoder.branch(row)         # continues from the row's last token; sees the row's tokens and its own
    decoder.feed(row, [token, ...])      # tokens to read; rows may get different numbers of tokens
    for row, logits in decoder.run_pass():  # rows whose tokens were all read
        ...

Branches share the keys and values of the row they come from, without a copy, and don't see one another: a prompt with
common tokens is read once, and its continuations are decoded as one batch. Each row has its own answer, so a grammar, a
sampler and a limit belong to the caller (`batch_generation`).

A row's logits equal those of `decoding` up to rounding, because the matrix products have other shapes.

Shapes: `G` groups (a row with its branches), `N` tokens of a group in a pass, `K` rows of a group that end in a pass,
`C` places of the buffer, `H` key-value heads, `E` width of a head, `T` tokens, `V` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import DecoderInputs, hidden_states, lm_head_logits
from mondrian_core.models.inference.decoding import CACHE_BLOCK_TOKENS, FixedSizeCache, prefill
from mondrian_core.models.lora.adapter_switch import existing_adapter_switch
from mondrian_core.models.prompt_encoding import EncodedPrompt

PASS_SIZES = (1, 2, 4, 8, 16, 32, 64)  # tokens of a group in a pass; fewer are padded, more take several passes
_FURTHER_TOKEN_COST = 0.05  # of a pass, in passes of one token
_TRUNK, _NOBODY = 0, -1  # owners of a place, besides the numbers of branches from 1


@dataclass(eq=False)
class DecodingRow:
    """A row of a batch, made by `BatchDecoder.open` or `branch`.

    Attributes:
        logits: (V,) after everything that it has read.
    """

    logits: mx.array
    _group: _Group
    _lane: int
    _next_position: int
    _before: int  # the last place that it sees before its own tokens
    _places: list[int] = field(default_factory=list)  # of its tokens in the buffer
    _pending: list[int] = field(default_factory=list)


@dataclass(eq=False)
class _Group:
    """A prompt with its rows; `index` is its row of the buffers."""

    index: int
    rows: list[DecodingRow] = field(default_factory=list)
    branches: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class _Pass:
    """What the tokens of a pass are; arrays (G, N) of int32, and `ends` (G, K).

    A token sees the places up to its `limit` that belong to its `lane` or to the row that this one comes from.
    """

    tokens: np.ndarray
    lanes: np.ndarray
    positions: np.ndarray
    limits: np.ndarray
    ends: np.ndarray

    @classmethod
    def padding(cls, groups: int, tokens: int, ends: int) -> _Pass:
        """A pass of padding alone: each token sees itself."""
        zeros = [np.zeros((groups, tokens), np.int32) for _ in range(3)]
        limits = np.full((groups, tokens), -1, np.int32)
        return cls(
            tokens=zeros[0],
            lanes=zeros[1],
            positions=zeros[2],
            limits=limits,
            ends=np.zeros((groups, ends), np.int32),
        )

    def visible(self, owners: np.ndarray, cursor: int) -> np.ndarray:
        """The mask (G, 1, N, C): which places a token sees. Each sees itself, so that no row of the mask is empty."""
        places, own = np.arange(owners.shape[1]), cursor + np.arange(self.tokens.shape[1])
        owner = owners[:, None]
        readable = ((owner == self.lanes[..., None]) | (owner == _TRUNK)) & (places <= self.limits[..., None])
        return np.asarray((readable | (places == own[:, None]))[:, None])


class BatchDecoder:
    """Rows that are decoded together with the adapter in use; it must not change while rows are open."""

    def __init__(self, base: BaseVLM, groups: int) -> None:
        """`groups` is the number of prompts that are open at once; more may be opened, at the cost of a copy."""
        self._base = base
        self._keys: list[mx.array] = []
        self._values: list[mx.array] = []
        self._groups: list[_Group | None] = [None] * groups
        self._owners = np.full((groups, 0), _NOBODY, np.int32)
        self._cursor = 0
        self._mounted = existing_adapter_switch(base)
        self._changes = self._mounted.deltas if self._mounted else []
        self._step = _batch_step(base)
        self.passes = 0

    def open(self, prompt: EncodedPrompt) -> DecodingRow:
        """Read a prompt as a new row."""
        logits, caches = prefill(self._base, prompt)
        return self._place(prompt, logits, [cache.state for cache in caches])

    def branch(self, row: DecodingRow) -> DecodingRow:
        """A new row that continues from the last token of `row`, which must have read all its tokens and gets no more.

        Raises:
            ValueError: the row is a branch itself, or has tokens to read.
        """
        if row._lane != _TRUNK or row._pending:
            raise ValueError("a branch starts from a row with its own prompt that has read all its tokens")
        group = row._group
        group.branches += 1
        before = row._places[-1] if row._places else row._before
        group.rows.append(DecodingRow(row.logits, group, group.branches, row._next_position, before))
        return group.rows[-1]

    def feed(self, row: DecodingRow, tokens: Sequence[int]) -> None:
        """Append tokens, at least one, to those that the next passes read."""
        row._pending.extend(tokens)

    def close(self, row: DecodingRow) -> None:
        """Forget a row, and its branches; their places are used again."""
        group = row._group
        if row._lane == _TRUNK:
            self._groups[group.index] = None
            self._owners[group.index] = _NOBODY
            group.rows.clear()
        else:
            self._owners[group.index][self._owners[group.index] == row._lane] = _NOBODY
            group.rows.remove(row)

    def run_pass(self) -> list[tuple[DecodingRow, mx.array]]:
        """Read tokens of every row that has some; the rows that then have none left, with their logits (V,)."""
        self._drop_free_groups()
        parts = self._parts()
        if not parts:
            return []
        size = _size(max(sum(len(part) for _, part in rows) for rows in parts.values()))
        self._make_room(size)
        ending = [[row for row, part in rows if len(part) == len(row._pending)] for rows in parts.values()]
        plan = _Pass.padding(len(self._groups), size, _size(max(1, *map(len, ending))))
        for (index, rows), ends in zip(parts.items(), ending, strict=True):
            self._fill(plan, index, rows, ends)
        found, self._keys, self._values = self._run(plan, self._keys, self._values, self._owners)
        self._cursor += size
        self.passes += 1
        done = []
        for index, ends in zip(parts, ending, strict=True):
            for number, row in enumerate(ends):
                row.logits = found[index, number]
                done.append((row, row.logits))
        return done

    def probe(self, row: DecodingRow, tokens: Sequence[tuple[int, int]]) -> list[mx.array]:
        """Logits (V,) as if a token were the row's token `index`, for each (index, token); the row doesn't change."""
        size = _size(len(tokens))
        self._make_room(size)
        plan = _Pass.padding(1, size, size)
        start = row._next_position - len(row._places)
        for number, (index, token) in enumerate(tokens):
            plan.tokens[0, number], plan.lanes[0, number] = token, row._lane
            plan.positions[0, number] = start + index
            plan.limits[0, number] = row._places[index - 1] if index else row._before
            plan.ends[0, number] = number
        own = slice(row._group.index, row._group.index + 1)
        keys, values = [each[own] for each in self._keys], [each[own] for each in self._values]
        found, _, _ = self._run(plan, keys, values, self._owners[own])
        return [found[0, number] for number in range(len(tokens))]

    def _parts(self) -> dict[int, list[tuple[DecodingRow, list[int]]]]:
        """By group, the rows that read something in the next pass, with what they read."""
        waiting = {
            group.index: rows
            for group in self._groups
            if group is not None and (rows := [row for row in group.rows if row._pending])
        }
        if not waiting:
            return {}
        fewest = max(len(rows) for rows in waiting.values())
        counts = [sum(len(row._pending) for row in rows) for rows in waiting.values()]
        size = _best_size(counts, fewest, len(self._groups))
        return {index: _shares(rows, size) for index, rows in waiting.items()}

    def _fill(
        self, plan: _Pass, index: int, rows: list[tuple[DecodingRow, list[int]]], ends: list[DecodingRow]
    ) -> None:
        """Write a group's tokens into the plan, and take them from its rows."""
        place = 0
        for row, part in rows:
            count = len(part)
            own = slice(place, place + count)
            places = list(range(self._cursor + place, self._cursor + place + count))
            plan.tokens[index, own], plan.lanes[index, own], plan.limits[index, own] = part, row._lane, places
            plan.positions[index, own] = range(row._next_position, row._next_position + count)
            self._owners[index, places[0] : places[-1] + 1] = row._lane
            row._places += places
            row._next_position += count
            del row._pending[:count]
            place += count
            if row in ends:
                plan.ends[index, ends.index(row)] = place - 1

    def _run(
        self, plan: _Pass, keys: list[mx.array], values: list[mx.array], owners: np.ndarray
    ) -> tuple[mx.array, list[mx.array], list[mx.array]]:
        """(logits (G, K, V), keys, values)."""
        arrays = [mx.array(each) for each in (plan.tokens, plan.positions, plan.ends)]
        mask = mx.array(plan.visible(owners, self._cursor))
        cursor = mx.array([self._cursor], dtype=mx.int32)
        result: tuple[mx.array, list[mx.array], list[mx.array]] = self._step(
            (*arrays, mask, cursor), keys, values, self._changes
        )
        return result

    def _place(self, prompt: EncodedPrompt, logits: mx.array, states: list[tuple[mx.array, mx.array]]) -> DecodingRow:
        length = len(prompt.ids)
        if None not in self._groups:
            self._resize_groups([*range(len(self._groups))], len(self._groups) + 1)
        index = self._groups.index(None)
        if not self._keys:
            self._allocate(states, length)
        self._make_room(max(0, length - self._cursor))
        self._cursor = max(self._cursor, length)
        start = mx.array([index, 0], dtype=mx.int32)
        pairs = list(zip(self._keys, self._values, states, strict=True))
        self._keys = [mx.slice_update(keys, new[..., :length, :], start, axes=(0, 2)) for keys, _, (new, _) in pairs]
        self._values = [
            mx.slice_update(values, new[..., :length, :], start, axes=(0, 2)) for _, values, (_, new) in pairs
        ]
        self._owners[index] = _NOBODY
        self._owners[index, :length] = _TRUNK
        group = _Group(index)
        self._groups[index] = group
        group.rows.append(DecodingRow(logits, group, _TRUNK, prompt.next_position, length - 1))
        return group.rows[0]

    def _allocate(self, states: list[tuple[mx.array, mx.array]], length: int) -> None:
        groups, capacity = len(self._groups), _whole_blocks(length)
        buffers = [
            [mx.zeros((groups, state.shape[1], capacity, state.shape[3]), state.dtype) for state in pair]
            for pair in states
        ]
        self._keys, self._values = [keys for keys, _ in buffers], [values for _, values in buffers]
        self._owners = np.full((groups, capacity), _NOBODY, np.int32)

    def _make_room(self, count: int) -> None:
        """Have `count` free places after the cursor: by closing the gaps if that frees a block, else by growing."""
        capacity = self._owners.shape[1]
        if self._cursor + count <= capacity:
            return
        live = int((self._owners != _NOBODY).sum(axis=1).max(initial=0))
        if _whole_blocks(live + count) < _whole_blocks(self._cursor + count):
            self._close_gaps(live)
        self._set_capacity(_whole_blocks(self._cursor + count))

    def _close_gaps(self, live: int) -> None:
        """Move the places with an owner to the front, at most `live` in each group; they keep their order."""
        order = np.zeros((len(self._groups), live), np.int32)
        owners = np.full((len(self._groups), live), _NOBODY, np.int32)
        for group in self._groups:
            if group is None:
                continue
            kept = np.flatnonzero(self._owners[group.index] != _NOBODY)
            order[group.index, : len(kept)] = kept
            owners[group.index, : len(kept)] = self._owners[group.index, kept]
            for row in group.rows:
                row._places = np.searchsorted(kept, row._places).tolist()
                row._before = int(np.searchsorted(kept, row._before))
        index = mx.array(order)[:, None, :, None]
        self._keys = [mx.take_along_axis(keys, index, axis=2) for keys in self._keys]
        self._values = [mx.take_along_axis(values, index, axis=2) for values in self._values]
        self._owners, self._cursor = owners, live

    def _set_capacity(self, capacity: int) -> None:
        more = capacity - self._owners.shape[1]
        if more > 0:
            widths = [(0, 0), (0, 0), (0, more), (0, 0)]
            self._keys = [mx.pad(keys, widths) for keys in self._keys]
            self._values = [mx.pad(values, widths) for values in self._values]
            self._owners = np.pad(self._owners, ((0, 0), (0, more)), constant_values=_NOBODY)

    def _drop_free_groups(self) -> None:
        """Compute nothing for closed groups as soon as they are half of all."""
        live = [group.index for group in self._groups if group is not None]
        if live and 2 * len(live) <= len(self._groups):
            self._resize_groups(live, len(live))

    def _resize_groups(self, kept: list[int], count: int) -> None:
        index, more = mx.array(kept), count - len(kept)
        widths = [(0, more), (0, 0), (0, 0), (0, 0)]
        self._keys = [mx.pad(keys[index], widths) for keys in self._keys]
        self._values = [mx.pad(values[index], widths) for values in self._values]
        self._owners = np.pad(self._owners[kept], ((0, more), (0, 0)), constant_values=_NOBODY)
        self._groups = [self._groups[number] for number in kept] + [None] * more
        for number, group in enumerate(self._groups):
            if group is not None:
                group.index = number


def _shares(rows: list[DecodingRow], size: int) -> list[tuple[DecodingRow, list[int]]]:
    """What each of a group's rows reads in a pass of `size` tokens: one at least, more from the first ones on."""
    left = size - len(rows)
    shares = []
    for row in rows:
        more = min(left, len(row._pending) - 1)
        left -= more
        shares.append((row, row._pending[: 1 + more]))
    return shares


def _best_size(counts: list[int], fewest: int, groups: int) -> int:
    """The tokens of a group in the next pass: the most tokens read for the cost, padding included.

    Args:
        counts: tokens that wait, by group.
        fewest: the size must be at least this, so that every row reads one.
        groups: groups of the buffers.
    """

    def gain(size: int) -> float:
        return sum(min(count, size) for count in counts) / (1 + _FURTHER_TOKEN_COST * (groups * size - 1))

    return max((size for size in (*PASS_SIZES, _size(fewest)) if size >= fewest), key=gain)


def _size(tokens: int) -> int:
    """The smallest size of a pass for these tokens."""
    return next((size for size in PASS_SIZES if size >= tokens), -(-tokens // PASS_SIZES[-1]) * PASS_SIZES[-1])


def _whole_blocks(places: int) -> int:
    return -(-places // CACHE_BLOCK_TOKENS) * CACHE_BLOCK_TOKENS


def _batch_step(base: BaseVLM) -> Any:
    """The pass for the modules that are adapted now; compiled unless mlx-vlm's rotary kernel is compiled already."""
    mounted = existing_adapter_switch(base)
    key = ("batch", mounted.compile_key if mounted else ())
    steps: dict[Any, Any] = base.cache.setdefault("steps", {})
    if key in steps:
        return steps[key]

    def step(plan: tuple[mx.array, ...], keys: list[mx.array], values: list[mx.array], changes: list[Any]) -> Any:
        tokens, positions, ends, mask, cursor = plan
        slots = [FixedSizeCache(k, v, cursor) for k, v in zip(keys, values, strict=True)]
        embeddings = base.language_model.model.embed_tokens(tokens)
        inputs = DecoderInputs(embeddings, mx.broadcast_to(positions, (3, *positions.shape)))
        with mounted.substituting(changes) if mounted else nullcontext():
            hidden = hidden_states(base, inputs, mask=mask, caches=slots)
        last = mx.take_along_axis(hidden, ends[..., None], axis=1)
        return lm_head_logits(base, last), [slot.keys for slot in slots], [slot.values for slot in slots]

    steps[key] = step if base.family.has_fused_rotary(base.language_model) else mx.compile(step)
    return steps[key]
