"""What a check gets, and what it gives."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.selftest.steps import StepCause
from mondrian_core.selftest.tolerances import LARGEST_TO_RMS, allowed_difference


class SkipCheck(Exception):
    """The check can't be done here in the time that is left; the text says why."""


@dataclass(frozen=True)
class CheckOutcome:
    """What a check found: a sentence, figures, and the cause if something is off."""

    finding: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    cause: StepCause | None = None


@dataclass(eq=False, kw_only=True)
class CheckContext:
    """What a check gets.

    Attributes:
        base: the loaded base.
        stream: "GPU" or "CPU".
        folder: for files of this worker, and arrays that are compared with another stream's.
        report: receives a few words on what happens now.
        until: when the step must end, on `time.monotonic()`.
        token_seconds: seconds of a forward pass over many tokens, per token, once it is measured.
        decode_seconds: seconds of a step that decodes one token, once it is measured.
    """

    base: BaseVLM
    stream: str
    folder: Path
    report: Callable[[str], None]
    until: float
    token_seconds: float | None = None
    decode_seconds: float | None = None

    @property
    def seconds_left(self) -> float:
        """Seconds until the step must end."""
        return self.until - time.monotonic()

    def require_time(self, what: str, *, forward_tokens: float = 0, decoded_tokens: float = 0) -> None:
        """Skip the check if it would take longer than the time that is left.

        Args:
            what: what it computes, for the sentence.
            forward_tokens: tokens of its passes over many tokens.
            decoded_tokens: tokens that it decodes one by one.

        Raises:
            SkipCheck: it would.
        """
        expected = forward_tokens * (self.token_seconds or 0.0) + decoded_tokens * (self.decode_seconds or 0.0)
        if expected > self.seconds_left:
            raise SkipCheck(f"{what} would take about {expected / 60:.1f} minutes on this stream")

    def allowed(self, dtype: mx.Dtype, *, backward: bool = False) -> float:
        """Relative difference that rounding explains on this stream with hidden states of this data type."""
        shape = self.base.language_model.args
        width = max(shape.hidden_size, shape.intermediate_size)
        name = str(dtype).removeprefix("mlx.core.")
        return allowed_difference(name, self.stream, layers=shape.num_hidden_layers, width=width, backward=backward)


@dataclass(frozen=True)
class LogitDifference:
    """Difference of two arrays of logits (A, V), relative to the spread of the first."""

    rms: float
    largest: float

    def within(self, allowed: float) -> bool:
        """True if rounding explains it."""
        return self.rms <= allowed and self.largest <= LARGEST_TO_RMS * allowed  # False for NaN


def logit_difference(expected: Any, found: Any) -> LogitDifference:
    """How far `found` is from `expected`, (A, V) or (V,)."""
    first, second = (as_float64(array) for array in (expected, found))
    spread = float(first.std()) or 1.0
    apart = second - first
    return LogitDifference(math.sqrt(float(np.mean(apart * apart))) / spread, float(np.abs(apart).max()) / spread)


def relative_difference(expected: float, found: float) -> float:
    """|found - expected| / |expected|."""
    return abs(found - expected) / max(abs(expected), 1e-12)


def as_float64(array: Any) -> np.ndarray:
    """A numpy array in float64, also of bfloat16, which numpy doesn't know."""
    return np.array(array.astype(mx.float32) if isinstance(array, mx.array) else array, dtype=np.float64)
