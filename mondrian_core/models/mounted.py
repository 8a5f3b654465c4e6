"""Adapters on a base that answers: unfused, swapped in place, and really absent for the base arm.

The linear layers of the language model get a subclass that adds the adapter's product when it holds one. Names and
parameters of the model stay as they were. With no adapter a layer runs exactly the base's operation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mondrian_core.errors import BadAdapter
from mondrian_core.models import adapter_files
from mondrian_core.models.base import Base
from mondrian_core.models.soundness import check, linear_layers

Pair = tuple[mx.array, mx.array]
_KEPT_ADAPTERS = 4  # base, champion, candidate and one more: swapping between them reads no file


class _Switched:
    """Adds x A B (scale already in B) to what the linear layer gives, when a pair is there."""

    pair: Pair | None = None

    def __call__(self, x: mx.array) -> mx.array:
        y = super().__call__(x)  # type: ignore[misc]
        if self.pair is None:
            return y
        return mx.addmm(y, x @ self.pair[0], self.pair[1])


class SwitchedLinear(_Switched, nn.Linear):
    """A linear layer with a place for an adapter."""


class SwitchedQuantizedLinear(_Switched, nn.QuantizedLinear):
    """A packed linear layer with a place for an adapter."""


_CLASSES: dict[type, type] = {nn.Linear: SwitchedLinear, nn.QuantizedLinear: SwitchedQuantizedLinear}


class Mounted:
    """Holds at most one adapter in use; make it with `mount`."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.folder: Path | None = None
        self._layers = linear_layers(base)
        self._cache: OrderedDict[tuple[str, int, int], dict[str, Pair]] = OrderedDict()
        self._names: tuple[str, ...] = ()
        for layer in self._layers.values():
            layer.__class__ = _CLASSES.get(type(layer), type(layer))

    def use(self, folder: Path | None) -> None:
        """Answer with this adapter from now on; None: with the base alone.

        Raises:
            BadAdapter: when it isn't sound for this base; the one in use stays.
        """
        pairs = {} if folder is None else self._read(Path(folder))
        self._set(pairs)
        self.folder = folder

    @property
    def names(self) -> tuple[str, ...]:
        """Modules that the adapter in use changes."""
        return self._names

    @property
    def pairs(self) -> list[Pair]:
        """Arrays of the adapter in use, in the order of `names`."""
        return [self._layers[name].pair for name in self._names]

    @contextmanager
    def traced(self, pairs: Sequence[Pair]) -> Iterator[None]:
        """Let the layers use these arrays meanwhile: the arguments of a function that is being compiled."""
        held = self.pairs
        self._assign(pairs)
        try:
            yield
        finally:
            self._assign(held)

    def _assign(self, pairs: Sequence[Pair]) -> None:
        for name, pair in zip(self._names, pairs, strict=True):
            _put(self._layers[name], pair)

    def _set(self, pairs: dict[str, Pair]) -> None:
        for name in self._names:
            _put(self._layers[name], None)
        for name, pair in pairs.items():
            _put(self._layers[name], pair)
        self._names = tuple(pairs)

    def _read(self, folder: Path) -> dict[str, Pair]:
        key = _identity(folder)
        if key not in self._cache:
            found = check(self.base, folder)
            if found:
                raise BadAdapter(
                    f"The adapter in {folder} can't be used: {'; '.join(found)}.",
                    "Train it on this base, or choose another version with `mondrian adapters list`.",
                )
            self._cache[key] = self._prepared(adapter_files.read(folder))
            while len(self._cache) > _KEPT_ADAPTERS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def _prepared(self, adapter: adapter_files.Adapter) -> dict[str, Pair]:
        """Cast to what the layers compute in and fold the scale into B."""
        ready = {}
        for name in adapter.modules:
            kind = _computes_in(self._layers[name])
            ready[name] = (adapter.down[name].astype(kind), (adapter.scale * adapter.up[name]).astype(kind))
        mx.eval(list(ready.values()))
        return ready


def mount(base: Base) -> Mounted:
    """Make the base ready for adapters, once; the same object for the same base."""
    if "mounted" not in base.kept:
        base.kept["mounted"] = Mounted(base)
    mounted: Mounted = base.kept["mounted"]
    return mounted


def mounted_on(base: Base) -> Mounted | None:
    """What `mount` made of this base, or None."""
    return base.kept.get("mounted")


def _put(layer: Any, pair: Pair | None) -> None:
    """Set past nn.Module, which would count the arrays among the model's parameters."""
    object.__setattr__(layer, "pair", pair)


def _computes_in(layer: nn.Module) -> mx.Dtype:
    return layer.scales.dtype if isinstance(layer, nn.QuantizedLinear) else layer.weight.dtype


def _identity(folder: Path) -> tuple[str, int, int]:
    for name in (adapter_files.WEIGHTS, adapter_files.PEFT_WEIGHTS):
        path = folder / name
        if path.is_file():
            facts = path.stat()
            return str(folder.resolve()), facts.st_mtime_ns, facts.st_size
    return str(folder), 0, 0
