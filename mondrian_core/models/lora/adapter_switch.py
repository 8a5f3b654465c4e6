"""Switch adapters on a base without reloading it; with none in use the base runs its original operations.

The linear layers of the language model get a subclass with a place for an adapter's arrays. Module names and parameters
don't change. W is never changed.

Packed and 16-bit layers add the product (x A) B to their output; adding A B to such weights would destroy most of it by
rounding. float32 layers hold the sum W + A B as long as a second copy of the weights is small: its rounding error is
then below the product's, and the adapter costs no time.

A DoRA also multiplies each output by m / ||W + A B||, a vector that is computed once, when the adapter is read.

Shapes: A (in, r), B (r, out), W (out, in).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mondrian_core.errors import BadAdapter
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_adapter
from mondrian_core.models.lora.adapter_cache import AdapterCache, AdapterDelta, AdapterDeltas
from mondrian_core.models.lora.adapter_validation import adaptable_linear_layers, validate_adapter_of_folder
from mondrian_core.models.lora.dora import adapted_row_norms, compute_dtype, matmul_without_bias, squared_row_norms

_COPY_BYTES = 256 << 20  # float32 weights up to this size are held twice rather than adapted at every token


class _SwitchableMixin:
    """A linear layer's output, (..., in) to (..., out), changed by an adapter if one is in use."""

    delta: AdapterDelta | None = None

    def __call__(self, x: mx.array) -> mx.array:
        delta = self.delta
        if delta is not None and len(delta) == 1:
            return mx.addmm(self["bias"], x, delta[0].T) if "bias" in self else x @ delta[0].T  # type: ignore[operator, index]
        if delta is not None and len(delta) == 3:
            y = matmul_without_bias(self, x)
            y = mx.addmm(y + delta[2] * y, x @ delta[0], delta[1])
            return y + self["bias"] if "bias" in self else y  # type: ignore[operator, index]
        y = super().__call__(x)  # type: ignore[misc]
        return y if delta is None else mx.addmm(y, x @ delta[0], delta[1])


class SwitchableLinear(_SwitchableMixin, nn.Linear):
    """A linear layer with a place for an adapter."""


class SwitchableQuantizedLinear(_SwitchableMixin, nn.QuantizedLinear):
    """A packed linear layer with a place for an adapter."""


_CLASSES: dict[type, type] = {nn.Linear: SwitchableLinear, nn.QuantizedLinear: SwitchableQuantizedLinear}


class AdapterSwitch:
    """Holds the adapter in use, at most one; made by `get_adapter_switch`."""

    def __init__(self, base: BaseVLM) -> None:
        self.base = base
        self.folder: Path | None = None
        self._layers = adaptable_linear_layers(base)
        self.cache = AdapterCache(self._drop_prefixes)
        self._key_in_use: tuple[Any, ...] | None = None
        self._names: tuple[str, ...] = ()
        self._squares: dict[str, mx.array] = {}  # ||W_i||^2 of layers that a DoRA changed
        for layer in self._layers.values():
            layer.__class__ = _CLASSES.get(type(layer), type(layer))

    def use(self, folder: Path | None) -> None:
        """Use this adapter from now on; None: the base alone.

        Raises:
            BadAdapter: it isn't valid for this base; the adapter in use doesn't change.
        """
        self._set({} if folder is None else self._read(Path(folder)))
        self.folder = folder
        self._key_in_use = None if folder is None else _files_key(Path(folder))

    def load(self, folder: Path) -> None:
        """Read this adapter into the cache, so that using it is a swap of pointers; the adapter in use stays.

        Raises:
            BadAdapter: it isn't valid for this base.
        """
        if self._key_in_use is not None:
            self.cache.get(self._key_in_use)  # it is not the one to evict
        self._read(Path(folder))

    @property
    def adapted_modules(self) -> tuple[str, ...]:
        """Modules that the adapter in use changes."""
        return self._names

    @property
    def deltas(self) -> list[AdapterDelta]:
        """Arrays of the adapter in use, in the order of `adapted_modules`."""
        return [self._layers[name].delta for name in self._names]

    @property
    def compile_key(self) -> tuple[Any, ...]:
        """What a compiled step depends on: the adapted modules, and the number of arrays of each."""
        return tuple((name, len(self._layers[name].delta)) for name in self._names)

    @contextmanager
    def substituting(self, deltas: Sequence[AdapterDelta]) -> Iterator[None]:
        """Let the layers use these arrays inside the block: the arguments of a function that is being compiled."""
        held = self.deltas
        self._assign(deltas)
        try:
            yield
        finally:
            self._assign(held)

    def _assign(self, deltas: Sequence[AdapterDelta]) -> None:
        for name, delta in zip(self._names, deltas, strict=True):
            _set_delta(self._layers[name], delta)

    def _set(self, deltas: AdapterDeltas) -> None:
        for name in self._names:
            _set_delta(self._layers[name], None)
        for name, delta in deltas.items():
            _set_delta(self._layers[name], delta)
        self._names = tuple(deltas)

    def _read(self, folder: Path) -> AdapterDeltas:
        key = _files_key(folder)
        found = self.cache.get(key)
        if found is None:
            found = self._deltas_of(self._valid_adapter(folder))
            self.cache.put(key, found)
        return found

    def _valid_adapter(self, folder: Path) -> lora_adapter.LoraAdapter:
        """The adapter, read once.

        Raises:
            BadAdapter: it isn't valid for this base.
        """
        try:
            adapter = lora_adapter.load_lora_adapter(folder)
        except BadAdapter as error:
            raise _unusable(folder, [error.problem]) from error
        problems = validate_adapter_of_folder(self.base, adapter, folder)
        if problems:
            raise _unusable(folder, problems)
        return adapter

    def _drop_prefixes(self, deltas: AdapterDeltas) -> None:
        """Forget the prompt prefixes that an evicted adapter computed: they hold its arrays in memory."""
        gone = {id(array) for delta in deltas.values() for array in delta}
        prefixes = self.base.cache.get("prefixes", {})
        for key in [key for key in prefixes if not gone.isdisjoint(key[1])]:
            del prefixes[key]

    def _deltas_of(self, adapter: lora_adapter.LoraAdapter) -> dict[str, AdapterDelta]:
        """The adapter's arrays in the layers' data type, with the scale in B; summed with W in small float32 bases."""
        changed = [self._layers[name] for name in adapter.modules]
        small = sum(layer.weight.nbytes for layer in changed) <= _COPY_BYTES
        ready: dict[str, AdapterDelta] = {}
        for name, layer in zip(adapter.modules, changed, strict=True):
            kind, plain = compute_dtype(layer), not isinstance(layer, nn.QuantizedLinear)
            down, up = adapter.lora_a[name].astype(kind), adapter.scale * adapter.lora_b[name]
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

    def _factor(self, name: str, adapter: lora_adapter.LoraAdapter) -> mx.array:
        """m / ||W + s B A|| of a DoRA's module, (out,) in float32."""
        layer = self._layers[name]
        if name not in self._squares:
            self._squares[name] = squared_row_norms(layer)
        norms = adapted_row_norms(layer, self._squares[name], adapter.lora_a[name], adapter.lora_b[name], adapter.scale)
        return adapter.magnitude[name].astype(mx.float32) / norms


def get_adapter_switch(base: BaseVLM) -> AdapterSwitch:
    """The base's adapter switch; it is made at the first call."""
    if "mounted" not in base.cache:
        base.cache["mounted"] = AdapterSwitch(base)
    mounted: AdapterSwitch = base.cache["mounted"]
    return mounted


def existing_adapter_switch(base: BaseVLM) -> AdapterSwitch | None:
    """The base's adapter switch, or None if none was made."""
    return base.cache.get("mounted")


def _unusable(folder: Path, problems: Sequence[str]) -> BadAdapter:
    return BadAdapter(
        f"The adapter in {folder} can't be used: {'; '.join(problems)}.",
        "Train it on this base, or choose another version with `mondrian adapters list`.",
    )


def _set_delta(layer: Any, delta: AdapterDelta | None) -> None:
    """Bypass nn.Module, which would count the arrays as parameters of the model."""
    object.__setattr__(layer, "delta", delta)


def _files_key(folder: Path) -> tuple[Any, ...]:
    """The folder, and time and size of each file that is read; the scale is in the configuration file only."""
    names = (lora_adapter.ADAPTER_CONFIG_FILE, lora_adapter.ADAPTER_WEIGHTS_FILE, lora_adapter.PEFT_WEIGHTS_FILE)
    facts = [path.stat() for name in names if (path := folder / name).is_file()]
    return str(folder.resolve()), *((each.st_mtime_ns, each.st_size) for each in facts)
