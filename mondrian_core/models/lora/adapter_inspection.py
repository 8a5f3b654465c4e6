"""Inspect an adapter against its base without running the model: keys, shapes, finite values, size of its effect.

Only the weights that are needed are read, and they are computed with on the CPU, so a version can be inspected during a
training run and while a service answers.

`python -m mondrian_core.models.lora.adapter_inspection FOLDER FINGERPRINT NAME...` prints the inspection as JSON, for
callers that want neither MLX nor a crash of it in their own process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from mondrian_core.errors import BadAdapter, BaseModelUnavailable
from mondrian_core.models.base_identity import load_base_identity
from mondrian_core.models.base_model import BaseVLM, local_base_path
from mondrian_core.models.lora import lora_adapter
from mondrian_core.models.lora.adapter_validation import adaptable_linear_layers, validate_adapter_folder
from mondrian_core.models.lora.dora import adapted_row_norms, matmul_without_bias, squared_row_norms

# A twentieth of bfloat16's rounding (2**-9). An adapter that was trained for more than a step is above it; one whose
# scale was misread by a factor of a hundred is below.
MIN_RELATIVE_CHANGE = 1e-4
_LAYERS = 12  # layers whose change is measured
_INPUTS = 16


@dataclass(frozen=True)
class AdapterInspection:
    """Result of an inspection.

    Attributes:
        base: name of the base that the adapter was compared with; None if it isn't on this machine, and then nothing
            else is known.
        problems: why the adapter can't be used on that base; () if nothing is wrong.
        change: size of its effect on the output of its layers for random inputs: the median over layers of
            ||change|| / ||x W||, where a LoRA's change is x A B scale; None with problems.
    """

    base: str | None
    problems: tuple[str, ...] = ()
    change: float | None = None


def inspect_adapter(folder: Path, trained_on: str | None, names: Iterable[str | None]) -> AdapterInspection:
    """Compare an adapter with the first of some bases that is on this machine and has the right fingerprint.

    Args:
        folder: the adapter's folder.
        trained_on: fingerprint of its base; None: unknown, so it can't be compared with any.
        names: bases to try, in this order; None is skipped.
    """
    for name in dict.fromkeys(names):
        path = local_base_path(name) if name and trained_on else None
        if name and path is not None and not load_base_identity(path).differences({"fingerprint": trained_on}):
            return _inspect_against(_load_lazily(name, path, str(trained_on)), folder)
    return AdapterInspection(None)


def _load_lazily(name: str, folder: Path, digest: str) -> BaseVLM:
    """The base with weights that are read when they are used. It has no processor, so it can't answer."""
    from mlx_vlm.utils import load_model

    try:
        return BaseVLM(
            name=name,
            path=folder,
            fingerprint=digest,
            model=load_model(folder, lazy=True),
            processor=None,
            tokenizer=None,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BaseModelUnavailable(f"The base model {name} can't be read: {error}.", "Download it again.") from error


def _inspect_against(base: BaseVLM, folder: Path) -> AdapterInspection:
    with mx.stream(mx.cpu):
        problems = validate_adapter_folder(base, folder)
        if problems:
            return AdapterInspection(base.name, problems)
        change = relative_output_change(base, lora_adapter.load_lora_adapter(folder))
    if change < MIN_RELATIVE_CHANGE:
        problem = f"it changes its layers by {change:.1e} of their output, which is as good as nothing"
        return AdapterInspection(base.name, (problem,), change)
    return AdapterInspection(base.name, (), change)


def relative_output_change(base: BaseVLM, adapter: lora_adapter.LoraAdapter) -> float:
    """Median of ||x (W' - W)|| / ||x W|| over up to twelve evenly chosen layers, for normal x from a fixed seed."""
    layers, names = adaptable_linear_layers(base), adapter.modules
    if not names:
        raise BadAdapter("It holds no LoRA weights.", "Train it again.")
    chosen = [names[round(k * (len(names) - 1) / max(1, _LAYERS - 1))] for k in range(_LAYERS)]
    with mx.stream(mx.cpu):
        changes = sorted(_change(layers[name], adapter, name) for name in dict.fromkeys(chosen))
    return changes[len(changes) // 2]


def _change(layer: nn.Module, adapter: lora_adapter.LoraAdapter, name: str) -> float:
    down, up = adapter.lora_a[name].astype(mx.float32), adapter.lora_b[name].astype(mx.float32)
    x = mx.random.normal((_INPUTS, down.shape[0]), key=mx.random.key(0))
    plain = matmul_without_bias(layer, x).astype(mx.float32)
    ours = adapter.scale * (x @ down @ up)
    if adapter.dora:
        norms = adapted_row_norms(layer, squared_row_norms(layer), down, up, adapter.scale)
        ours = adapter.magnitude[name].astype(mx.float32) / norms * (plain + ours) - plain
    return float(mx.linalg.norm(ours) / mx.maximum(mx.linalg.norm(plain), 1e-12))


def main(arguments: list[str] | None = None) -> int:
    """Inspect an adapter and print the result as JSON."""
    folder, trained_on, *names = sys.argv[1:] if arguments is None else arguments
    sys.stdout.write(json.dumps(asdict(inspect_adapter(Path(folder), trained_on, names))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
