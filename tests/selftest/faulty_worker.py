"""A worker of the self-test with planted faults: `python faulty_worker.py FAULTS STREAM BASE FOLDER`.

FAULTS is JSON: faults by stream. A fault of the stream "GPU" makes the machine report one, which computes on the CPU.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mondrian_core.models  # noqa: F401  (its fast BLAS must be there before mlx)

# isort: split
import mlx.core as mx
from mlx.utils import tree_map

from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.family import QWEN3_VL
from mondrian_core.models.lora import adapter_switch
from mondrian_core.selftest import worker
from mondrian_core.selftest.checks import decoding_checks
from mondrian_core.selftest.checks.context import CheckContext, CheckOutcome
from mondrian_core.training import training_loop

WRONG_TOKEN = 7  # not one of the published logits
METAL_WATCHDOG = "[METAL] Command buffer execution failed: (kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"
METAL_MALLOC = "[metal::malloc] Attempting to allocate 99999999999 bytes in /Users/somebody/mlx for sam@example.org"


class FaultyWorker(worker.SelfTestWorker):
    """Computes every stream on the CPU; one logit of the base may be wrong."""

    faults: tuple[str, ...] = ()
    second_stream = False

    def _use_stream(self) -> None:
        mx.set_default_device(mx.cpu)

    def _loaded(self, until: float) -> CheckContext:
        context = super()._loaded(until)
        if "wrong logit" in self.faults:
            make_one_logit_wrong(context.base)
        return context

    def _outcome(self, step: str, until: float) -> CheckOutcome:
        outcome = super()._outcome(step, until)
        if step == "machine" and self.second_stream:
            return replace(outcome, figures={**outcome.figures, "gpu": True, "gpu_name": "a second CPU stream"})
        return outcome


def make_one_logit_wrong(base: BaseVLM) -> None:
    family = QWEN3_VL

    def wrong(language_model: Any, hidden: mx.array) -> mx.array:
        return family.logits(language_model, hidden).at[..., WRONG_TOKEN].add(1.0)

    vars(base)["family"] = replace(family, logits=wrong)


def _abort(context: CheckContext) -> CheckOutcome:
    os.abort()


def _watchdog(context: CheckContext) -> CheckOutcome:
    print(METAL_WATCHDOG, file=sys.stderr, flush=True)
    os.abort()


def _hang(context: CheckContext) -> CheckOutcome:
    threading.Event().wait()
    raise AssertionError


def _killed(context: CheckContext) -> CheckOutcome:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _no_memory(context: CheckContext) -> CheckOutcome:
    raise RuntimeError(METAL_MALLOC)


def _drafts_change_text() -> None:
    plain = vars(decoding_checks)["generate"]

    def generate(*arguments: Any, precedents: Any = None, **options: Any) -> Any:
        answer = plain(*arguments, precedents=precedents, **options)
        if precedents is None:
            return answer
        other = (answer.tokens[5] + 1, *answer.tokens[6:])
        return replace(answer, tokens=(*answer.tokens[:5], *other))

    vars(decoding_checks)["generate"] = generate


def _resume_differs() -> None:
    plain = vars(training_loop)["load_checkpoint"]

    def load_checkpoint(folder: Path) -> Any:
        """Without the optimizer's moments."""
        found = plain(folder)
        return found and (found[0], found[1], tree_map(mx.zeros_like, found[2]), found[3])

    vars(training_loop)["load_checkpoint"] = load_checkpoint


def _adapter_left() -> None:
    plain = adapter_switch._set_delta

    def set_delta(layer: Any, delta: Any) -> None:
        if delta is not None:
            plain(layer, delta)

    vars(adapter_switch)["_set_delta"] = set_delta


PATCHES: dict[str, Callable[[], None]] = {
    "drafts change text": _drafts_change_text,
    "resume differs": _resume_differs,
    "adapter left": _adapter_left,
}
CHECKS: dict[str, Callable[[CheckContext], CheckOutcome]] = {
    "abort": _abort,
    "watchdog": _watchdog,
    "hang": _hang,
    "killed": _killed,
    "no memory": _no_memory,
}


def main() -> None:
    planted = json.loads(sys.argv[1])
    stream, base, folder = sys.argv[2:]
    faults = planted.get(stream, {})
    for name in faults.get("patches", ()):
        if name in PATCHES:
            PATCHES[name]()
    worker.CHECKS = {**worker.CHECKS, **{step: CHECKS[name] for step, name in faults.get("checks", {}).items()}}
    FaultyWorker.faults = tuple(faults.get("patches", ()))
    FaultyWorker.second_stream = "GPU" in planted
    worker.serve_requests(lambda output: FaultyWorker(stream, base, Path(folder), output))


if __name__ == "__main__":
    main()
