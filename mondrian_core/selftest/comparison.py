"""Compare the results of two streams of one machine, and those of mini with published ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mondrian_core.selftest.steps import StepCause, StepResult, StepStatus
from mondrian_core.selftest.tolerances import LARGEST_TO_RMS, allowed_difference

LOGITS, TRAINING = "logits", "training_step"
BOTH_STREAMS, PUBLISHED = "GPU and CPU", "published"
SLOWER = 3.0  # a device of the same name that is this many times slower than published is off


def compare_streams(gpu: StepResult, cpu: StepResult, folders: tuple[Path, Path], logits_file: str) -> StepResult:
    """The results of one step on both streams.

    Args:
        gpu: result of the GPU stream.
        cpu: result of the CPU stream, which computes in float32.
        folders: folders with the arrays of both.
        logits_file: name of the array of logits (A, V).
    """
    allowed = max(float(each.figures["allowed_difference"]) for each in (gpu, cpu))
    if gpu.step == TRAINING:
        return _numbers(BOTH_STREAMS, gpu, cpu.figures, ("loss", "gradient_norm"), allowed)
    first, second = (np.load(folder / logits_file).astype(np.float64) for folder in folders)
    return _logits(BOTH_STREAMS, gpu, second, first, allowed)


def compare_with_published(found: StepResult, published: Mapping[str, Any], layers: int, width: int) -> StepResult:
    """The result of one step of mini compared with the published one, which a CPU computed in float32.

    Args:
        found: logits or training step.
        published: their published figures.
        layers: layers of the language model.
        width: largest number of terms of a product.
    """
    backward = found.step == TRAINING
    allowed = allowed_difference("float32", found.stream, layers=layers, width=width, backward=backward)
    if backward:
        return _numbers(PUBLISHED, found, published, ("loss", "gradient_norm"), allowed)
    expected = np.array(published["sampled_logits"])
    return _logits(PUBLISHED, found, expected, np.array(found.figures["sampled_logits"]), allowed, published["spread"])


def _logits(
    against: str,
    found: StepResult,
    expected: np.ndarray,
    values: np.ndarray,
    allowed: float,
    spread: float | None = None,
) -> StepResult:
    scale = spread or float(expected.std()) or 1.0
    apart = (values - expected) / scale
    rms, largest = float(np.sqrt(np.mean(apart**2))), float(np.abs(apart).max())
    fine = rms <= allowed and largest <= LARGEST_TO_RMS * allowed
    what = "the CPU's" if against == BOTH_STREAMS else "the published ones"
    finding = f"logits differ from {what} by {rms:.1g} of the spread (largest {largest:.1g}), allowed {allowed:.1g}"
    return _result(against, found, fine, finding, {"rms": rms, "largest": largest, "allowed_difference": allowed})


def _numbers(
    against: str, found: StepResult, expected: Mapping[str, Any], names: tuple[str, ...], allowed: float
) -> StepResult:
    apart = {name: abs(found.figures[name] - expected[name]) / max(abs(expected[name]), 1e-12) for name in names}
    worst = max(apart, key=lambda name: apart[name])
    fine = all(value <= allowed for value in apart.values())
    what = "the CPU's" if against == BOTH_STREAMS else "the published one"
    finding = (
        f"{worst.replace('_', ' ')} {found.figures[worst]:.5g} differs from {what} ({expected[worst]:.5g}) by "
        f"{apart[worst]:.1g}, allowed {allowed:.1g}"
    )
    figures = {f"difference of {name}": value for name, value in apart.items()}
    return _result(against, found, fine, finding, {**figures, "allowed_difference": allowed})


def compare_speed(found: StepResult, published: Mapping[str, Any]) -> StepResult:
    """The speed of one stream compared with that of a device of the same name; processor time on a CPU."""
    clock = ("decode_cpu_seconds_per_token", "training_step_cpu_seconds")
    if found.stream == "GPU":
        clock = ("decode_seconds_per_token", "training_step_seconds")
    values = _with_decode_seconds(found.figures), _with_decode_seconds(published)
    ratios = {name: values[0][name] / values[1][name] for name in clock}
    worst = max(ratios.values())
    finding = f"{worst:.2f} times the published time of this device, allowed {SLOWER:.0f}"
    return _result(PUBLISHED, found, worst <= SLOWER, finding, {"times": worst}, StepCause.SLOW)


def _with_decode_seconds(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {**figures, "decode_seconds_per_token": 1 / figures["decode_tokens_per_second"]}


def _result(
    against: str,
    found: StepResult,
    fine: bool,
    finding: str,
    figures: Mapping[str, Any],
    cause: StepCause = StepCause.WRONG_RESULT,
) -> StepResult:
    stream = against if against == BOTH_STREAMS else f"{found.stream} and {against}"
    return StepResult(
        base=found.base,
        stream=stream,
        step=found.step,
        status=StepStatus.OK if fine else StepStatus.OFF,
        finding=finding,
        cause=None if fine else cause,
        figures=figures,
    )
