"""Compare the results of two streams of one machine, and those of mini with published ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mondrian_core.selftest.steps import BUSY_SHARE, StepCause, StepResult, StepStatus
from mondrian_core.selftest.tolerances import LARGEST_TO_RMS, allowed_difference

LOGITS, TRAINING = "logits", "training_step"
SHORT_TEXT, PHOTOGRAPH = "short text", "photograph"  # arrays next to the logits, which a slow stream reaches too
COMPARED_ARRAYS = (SHORT_TEXT, PHOTOGRAPH, LOGITS)
BOTH_STREAMS, PUBLISHED = "GPU and CPU", "published"
SLOWER = 3.0  # a device of the same name that is this many times slower than published is off


def array_file(folder: Path, name: str) -> Path:
    """Where a worker leaves an array of COMPARED_ARRAYS."""
    return folder / f"{name}.npy"


def compare_streams(gpu: StepResult, cpu: StepResult, folders: tuple[Path, Path]) -> StepResult | None:
    """The results of one step on both streams; None if there is nothing that both computed.

    Args:
        gpu: result of the GPU stream.
        cpu: result of the CPU stream, which computes in float32.
        folders: folders with the arrays of both.
    """
    allowed = max(float(each.figures["allowed_difference"]) for each in (gpu, cpu))
    if gpu.step == TRAINING:
        return _numbers(BOTH_STREAMS, gpu, cpu.figures, ("loss", "gradient_norm"), allowed)
    found = []
    for name in COMPARED_ARRAYS:
        paths = [array_file(folder, name) for folder in folders]
        if all(path.is_file() for path in paths):
            first, second = (np.load(path).astype(np.float64) for path in paths)
            found.append(_arrays(BOTH_STREAMS, gpu, name, (second, first), allowed))
    return max(found, key=lambda each: (each.status is StepStatus.OFF, each.figures["rms"]), default=None)


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
    values = np.array(found.figures["sampled_logits"])
    return _arrays(PUBLISHED, found, LOGITS, (expected, values), allowed, published["spread"])


def _arrays(
    against: str,
    found: StepResult,
    name: str,
    arrays: tuple[np.ndarray, np.ndarray],
    allowed: float,
    spread: float | None = None,
) -> StepResult:
    """The second of two arrays compared with the first, the expected one.

    Args:
        against: what the first one comes from.
        found: result of the step.
        name: what the arrays are, one of COMPARED_ARRAYS.
        arrays: the expected array and the one that was found.
        allowed: relative difference that rounding explains.
        spread: standard deviation of the whole array of which these are samples; None: that of the expected one.
    """
    expected, values = arrays
    scale = spread or float(expected.std()) or 1.0
    apart = (values - expected) / scale
    rms, largest = float(np.sqrt(np.mean(apart**2))), float(np.abs(apart).max())
    fine = rms <= allowed and largest <= LARGEST_TO_RMS * allowed
    what = "the CPU's" if against == BOTH_STREAMS else "the published ones"
    of_what = {LOGITS: "logits", SHORT_TEXT: "logits of a short text", PHOTOGRAPH: "embeddings of a photograph"}[name]
    finding = f"{of_what} differ from {what} by {rms:.1g} of the spread (largest {largest:.1g}), allowed {allowed:.1g}"
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
    """The speed of one stream compared with that of a device of the same name; processor time on a CPU.

    A slow result isn't judged when other programs used more than `BUSY_SHARE` of the processors meanwhile.
    """
    clock = ("decode_cpu_seconds_per_token", "training_step_cpu_seconds")
    if found.stream == "GPU":
        clock = ("decode_seconds_per_token", "training_step_seconds")
    values = _with_decode_seconds(found.figures), _with_decode_seconds(published)
    ratios = {name: values[0][name] / values[1][name] for name in clock}
    worst = max(ratios.values())
    finding = f"{worst:.2f} times the published time of this device, allowed {SLOWER:.0f}"
    result = _result(PUBLISHED, found, worst <= SLOWER, finding, {"times": worst}, StepCause.SLOW)
    others = found.figures.get("other_load", 0.0)
    if result.status is StepStatus.OK or others <= BUSY_SHARE:
        return result
    why = f"not judged: {finding}, but other programs used {others:.0%} of the processors"
    return replace(result, status=StepStatus.SKIPPED, finding=why, cause=None)


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
