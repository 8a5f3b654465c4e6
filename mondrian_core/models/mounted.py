"""Adapters on a base that answers: swapped in place, and really absent for the base arm.

The linear layers of the language model get a subclass with a place for what an adapter changes. Names and parameters of
the model stay as they were. With no adapter a layer runs exactly the base's operation.

Packed and 16-bit layers add the product (x A) B beside their own; adding it to such weights would destroy most of it.
float32 layers hold the sum W + A B instead, as long as a second copy of the weights is small: rounding is then below
that of the product, and the adapter costs no time. Both leave W alone.

A DoRA also multiplies each output by m / ||W + A B||, a vector that is computed once, when the adapter is read.
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
from mondrian_core.models.dora import computes_in, row_norms, squared_rows, without_bias
from mondrian_core.models.soundness import check, linear_layers

# (W + A B,) or (A, B), the scale already in B; of a DoRA (W',) or (A, B, factor less 1), the factor already in B
Change = tuple[mx.array, ...]
_COPY_BYTES = 256 << 20  # float32 weights up to this size are held twice rather than adapted at every token
_KEPT_ADAPTERS = 4  # base, champion, candidate and one more: swapping between them reads no file


class _Switched:
    """Gives what the linear layer gives, changed by an adapter when there is one."""

    change: Change | None = None

    def __call__(self, x: mx.array) -> mx.array:
        change = self.change
        if change is not None and len(change) == 1:
            return mx.addmm(self["bias"], x, change[0].T) if "bias" in self else x @ change[0].T  # type: ignore[operator, index]
        if change is not None and len(change) == 3:
            y = without_bias(self, x)
            y = mx.addmm(y + change[2] * y, x @ change[0], change[1])
            return y + self["bias"] if "bias" in self else y  # type: ignore[operator, index]
        y = super().__call__(x)  # type: ignore[misc]
        return y if change is None else mx.addmm(y, x @ change[0], change[1])


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
        self._cache: OrderedDict[tuple[Any, ...], dict[str, Change]] = OrderedDict()
        self._names: tuple[str, ...] = ()
        self._squares: dict[str, mx.array] = {}  # ||W_i||^2 of layers that a DoRA changed
        for layer in self._layers.values():
            layer.__class__ = _CLASSES.get(type(layer), type(layer))

    def use(self, folder: Path | None) -> None:
        """Answer with this adapter from now on; None: with the base alone.

        Raises:
            BadAdapter: when it isn't sound for this base; the one in use stays.
        """
        self._set({} if folder is None else self._read(Path(folder)))
        self.folder = folder

    @property
    def names(self) -> tuple[str, ...]:
        """Modules that the adapter in use changes."""
        return self._names

    @property
    def changes(self) -> list[Change]:
        """Arrays of the adapter in use, in the order of `names`."""
        return [self._layers[name].change for name in self._names]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What a compiled step depends on: which modules are changed, and in which of the ways."""
        return tuple((name, len(self._layers[name].change)) for name in self._names)

    @contextmanager
    def traced(self, changes: Sequence[Change]) -> Iterator[None]:
        """Let the layers use these arrays meanwhile: the arguments of a function that is being compiled."""
        held = self.changes
        self._assign(changes)
        try:
            yield
        finally:
            self._assign(held)

    def _assign(self, changes: Sequence[Change]) -> None:
        for name, change in zip(self._names, changes, strict=True):
            _put(self._layers[name], change)

    def _set(self, changes: dict[str, Change]) -> None:
        for name in self._names:
            _put(self._layers[name], None)
        for name, change in changes.items():
            _put(self._layers[name], change)
        self._names = tuple(changes)

    def _read(self, folder: Path) -> dict[str, Change]:
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

    def _prepared(self, adapter: adapter_files.Adapter) -> dict[str, Change]:
        """Cast to what the layers compute in, the scale folded into B; summed with W where that is right."""
        changed = [self._layers[name] for name in adapter.modules]
        small = sum(layer.weight.nbytes for layer in changed) <= _COPY_BYTES
        ready: dict[str, Change] = {}
        for name, layer in zip(adapter.modules, changed, strict=True):
            kind, plain = computes_in(layer), not isinstance(layer, nn.QuantizedLinear)
            down, up = adapter.down[name].astype(kind), adapter.scale * adapter.up[name]
            factor = self._factor(name, adapter) if adapter.dora else None
            if small and plain and kind == mx.float32:
                summed = layer.weight + (down @ up.astype(kind)).T
                ready[name] = (summed if factor is None else factor[:, None] * summed,)
            elif factor is None:
                ready[name] = (down, up.astype(kind))
            else:
                ready[name] = (down, (factor * up).astype(kind), (factor - 1.0).astype(kind))
        mx.eval(list(ready.values()))
        return ready

    def _factor(self, name: str, adapter: adapter_files.Adapter) -> mx.array:
        """m / ||W + s B A|| of a DoRA's module, (out,) in float32."""
        layer = self._layers[name]
        if name not in self._squares:
            self._squares[name] = squared_rows(layer)
        norms = row_norms(layer, self._squares[name], adapter.down[name], adapter.up[name], adapter.scale)
        return adapter.magnitude[name].astype(mx.float32) / norms


def mount(base: Base) -> Mounted:
    """Make the base ready for adapters, once; the same object for the same base."""
    if "mounted" not in base.kept:
        base.kept["mounted"] = Mounted(base)
    mounted: Mounted = base.kept["mounted"]
    return mounted


def mounted_on(base: Base) -> Mounted | None:
    """What `mount` made of this base, or None."""
    return base.kept.get("mounted")


def _put(layer: Any, change: Change | None) -> None:
    """Set past nn.Module, which would count the arrays among the model's parameters."""
    object.__setattr__(layer, "change", change)


def _identity(folder: Path) -> tuple[Any, ...]:
    """The folder with time and size of every file that is read: the scale stands in the configuration alone."""
    names = (adapter_files.CONFIGURATION, adapter_files.WEIGHTS, adapter_files.PEFT_WEIGHTS)
    facts = [path.stat() for name in names if (path := folder / name).is_file()]
    return str(folder.resolve()), *((each.st_mtime_ns, each.st_size) for each in facts)
