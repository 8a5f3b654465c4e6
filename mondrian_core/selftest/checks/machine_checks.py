"""The machine, and the base as it is loaded."""

from __future__ import annotations

import os
import platform
from typing import Any

import mlx.core as mx
import numpy as np
import psutil
from mlx.utils import tree_flatten

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.selftest.checks.context import CheckOutcome, relative_difference
from mondrian_core.selftest.steps import StepCause
from mondrian_core.selftest.tolerances import allowed_difference

_SIZE = 512


def check_machine() -> CheckOutcome:
    """Facts of the machine, and a product of matrices on each stream."""
    gpu = bool(mx.is_available(mx.gpu))
    facts: dict[str, Any] = {
        "system": platform.system(),
        "machine": platform.machine(),
        "macos": platform.mac_ver()[0] or None,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": gpu,
        "cpu_name": _device_name(mx.cpu),
        "gpu_name": _device_name(mx.gpu) if gpu else None,
        "metal": bool(mx.metal.is_available()),
    }
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((_SIZE, _SIZE), dtype=np.float32) for _ in range(2))
    expected = float(np.linalg.norm(first.astype(np.float64) @ second))
    for stream, device in {"CPU": mx.cpu, **({"GPU": mx.gpu} if gpu else {})}.items():
        product = np.array(mx.matmul(mx.array(first), mx.array(second), stream=device), dtype=np.float64)
        apart = relative_difference(expected, float(np.linalg.norm(product)))
        if not apart <= allowed_difference("float32", stream, layers=1, width=_SIZE):
            sentence = f"a product of matrices on the {stream} is wrong by {apart:.2g}"
            return CheckOutcome(sentence, facts, StepCause.WRONG_RESULT)
    name = facts["gpu_name"] or facts["cpu_name"]
    where = f"{name}, {facts['memory_bytes'] / 1e9:.0f} GB, {facts['cpus']} CPUs"
    return CheckOutcome(f"{where}; MLX multiplies correctly on the {'GPU and the CPU' if gpu else 'CPU'}", facts)


def _device_name(device: Any) -> str:
    """The name that MLX gives, such as "Apple M3 Max"."""
    return str(mx.device_info(device).get("device_name", "unknown"))


def check_load(base: BaseVLM, seconds: float) -> CheckOutcome:
    """Facts of the loaded base.

    Args:
        base: the base.
        seconds: how long it took to load.
    """
    arrays = [array for _, array in tree_flatten(base.model.parameters())]
    size, shape = sum(array.nbytes for array in arrays), base.language_model.args
    packed = base.configuration.get("quantization") or base.configuration.get("quantization_config") or {}
    figures = {
        "fingerprint": base.fingerprint,
        "family": base.family.name,
        "layers": shape.num_hidden_layers,
        "width": shape.hidden_size,
        "vocabulary": shape.vocab_size,
        "bits": packed.get("bits"),
        "weights_bytes": size,
        "seconds": seconds,
    }
    bits = f", {packed['bits']} bits" if packed.get("bits") else ""
    return CheckOutcome(f"{base.family.name}, {shape.num_hidden_layers} layers{bits}, {size / 1e9:.2f} GB", figures)
