"""Speed and memory: decoding with and without an adapter, a training step, the longest single evaluation."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import psutil

from mondrian_core.images import LONG_SIDE
from mondrian_core.models.inference.generation import generate, prepare_prompt
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.prompt_encoding import EncodedPrompt
from mondrian_core.selftest.checks.adapter_checks import write_random_adapter
from mondrian_core.selftest.checks.context import CheckContext, CheckOutcome
from mondrian_core.selftest.checks.question import SMALL_SIDE, question, rows_to_train
from mondrian_core.selftest.checks.training_checks import (
    BACKWARD_PASSES,
    attached_random_lora,
    encoded_row,
    training_step,
)
from mondrian_core.selftest.steps import BUSY_SHARE, StepCause
from mondrian_core.statistics.bootstrap import median_interval

DECODED_TOKENS, PAIRS = 32, 5
_LEAST_PAIRS, _DRAWS = 1, 1000
# The gate on latency allows 1.10 and measures more pairs; here the lower bound of five must be beyond this.
OVERHEAD_LIMIT = 1.3
# macOS was seen to end processes whose work kept the GPU for about five seconds while the display was on.
WATCHDOG_SECONDS = 2.0


@dataclass(frozen=True)
class _Decoding:
    """Seconds of the prefill; seconds and processor seconds per decoded token."""

    prefill: float
    token: float
    token_cpu: float


def check_speed(context: CheckContext) -> CheckOutcome:
    """Figures of this stream; only an adapter's overhead and the longest evaluation are judged here.

    While other programs use more than `BUSY_SHARE` of the processors, an overhead is not judged: even processor time
    grows when caches and waiting threads are shared.
    """
    context.require_time(
        "measuring", forward_tokens=2 * BACKWARD_PASSES * 400, decoded_tokens=2 * (_LEAST_PAIRS + 1) * DECODED_TOKENS
    )
    load = _OtherLoad()
    figures: dict[str, Any] = {**_decoding_figures(context), **_training_figures(context), "other_load": load.share()}
    longest = max(figures["prefill_seconds"], figures["training_step_seconds"])
    figures["longest_evaluation_seconds"] = longest
    sentence = (
        f"{figures['decode_tokens_per_second']:.0f} tokens/s, training step {figures['training_step_seconds']:.2f} s "
        f"for {figures['training_step_tokens']} tokens, peak {figures['peak_memory_bytes'] / 1e9:.2f} GB, "
        f"adapter x{figures['adapter_overhead']:.2f}"
    )
    if context.stream == "GPU" and longest > WATCHDOG_SECONDS:
        sentence = f"the longest evaluation takes {longest:.1f} s, at risk above {WATCHDOG_SECONDS:.0f} s; {sentence}"
        return CheckOutcome(sentence, figures, StepCause.WATCHDOG_RISK)
    if figures["adapter_overhead_low"] > OVERHEAD_LIMIT and figures["other_load"] <= BUSY_SHARE:
        sentence = f"an adapter makes decoding {figures['adapter_overhead']:.2f} times as slow; {sentence}"
        return CheckOutcome(sentence, figures, StepCause.SLOW)
    return CheckOutcome(sentence, figures)


class _OtherLoad:
    """How much of this machine's processors other programs use from now on."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), _busy_seconds(), time.process_time()

    def share(self) -> float:
        """Their share (0-1) of all processors, since the beginning."""
        others = _busy_seconds() - self._busy - (time.process_time() - self._own)
        return min(1.0, max(0.0, others / ((time.monotonic() - self._began) * (psutil.cpu_count() or 1))))


def _busy_seconds() -> float:
    """Processor seconds that all programs used since the machine started, and those that a host took away."""
    times = psutil.cpu_times()
    names = ("user", "nice", "system", "irq", "softirq", "steal")  # guests are part of user and nice
    return sum(float(getattr(times, name, 0.0)) for name in names)


def _decoding_figures(context: CheckContext) -> dict[str, Any]:
    messages, image = question(_affordable_side(context, 1))
    prompt = prepare_prompt(context.base, messages, image)
    adapter = write_random_adapter(context, context.folder / "whole-adapter")
    plain: list[_Decoding] = []
    adapted: list[_Decoding] = []
    decoding_until = time.monotonic() + context.seconds_left / 2
    clock = "token" if context.stream == "GPU" else "token_cpu"
    for number in range(PAIRS + 1):  # the first pair prepares kernels
        context.report(f"decoding, pair {number + 1} of {PAIRS + 1}")
        sides: list[tuple[Path | None, list[_Decoding]]] = [(None, plain), (adapter, adapted)]
        for folder, found in sides if number % 2 else reversed(sides):
            found.append(_decode(context, prompt, folder))
        if number >= _LEAST_PAIRS and time.monotonic() > decoding_until:
            break
    plain, adapted = plain[1:], adapted[1:]
    ratios = [getattr(two, clock) / getattr(one, clock) for one, two in zip(plain, adapted, strict=True)]
    return {
        "decode_tokens_per_second": 1 / statistics.median(each.token for each in plain),
        "decode_cpu_seconds_per_token": statistics.median(each.token_cpu for each in plain),
        "prefill_tokens": len(prompt.ids),
        "prefill_seconds": statistics.median(each.prefill for each in plain),
        "adapter_overhead": statistics.median(ratios),
        "adapter_overhead_low": median_interval(np.array(ratios), seed=0, draws=_DRAWS)[0],
        "pairs": len(ratios),
    }


def _decode(context: CheckContext, prompt: EncodedPrompt, adapter: Path | None) -> _Decoding:
    lora_layers.get_adapter_switch(context.base).use(adapter)
    try:
        clock = [time.process_time()]  # then processor time at each piece of text, the first one after the prefill
        answer = generate(
            context.base,
            [],
            None,
            max_tokens=DECODED_TOKENS,
            exact_tokens=DECODED_TOKENS,
            prepared=prompt,
            on_token=lambda _: clock.append(time.process_time()),
        )
        cpu = time.process_time() - clock[min(1, len(clock) - 1)]
    finally:
        lora_layers.get_adapter_switch(context.base).use(None)
    steps = DECODED_TOKENS - 1
    return _Decoding(answer.prefill_seconds, answer.decode_seconds / steps, cpu / steps)


def _training_figures(context: CheckContext) -> dict[str, Any]:
    row = rows_to_train(1, _affordable_side(context, BACKWARD_PASSES))[0]
    example = encoded_row(context, row)
    context.report(f"training step, {example.length} tokens")
    compiled = context.stream == "GPU"
    with attached_random_lora(context):
        began = time.process_time()
        step = training_step(context, example, compiled=compiled, runs=2)
        cpu = (time.process_time() - began) / 2
    return {
        "training_step_tokens": example.length,
        "training_step_seconds": step.seconds,
        "training_step_cpu_seconds": cpu,
        "peak_memory_bytes": step.peak_bytes,
        "active_memory_bytes": int(mx.get_active_memory()),
    }


def _affordable_side(context: CheckContext, passes: int) -> int:
    """Long side of the photograph: as datasets store them if there is time for it, else small."""
    tokens = 2000 * passes * (2 * (PAIRS + 1) if passes == 1 else 2)
    affordable = tokens * (context.token_seconds or 0.0) < context.seconds_left / 2
    return LONG_SIDE if affordable else SMALL_SIDE
