"""The process that runs the steps of one base on one stream: `python -m ...selftest.worker STREAM BASE FOLDER`.

It reads requests as JSON lines from standard input, and writes progress and outcomes as JSON lines to what was standard
output; whatever libraries print goes to standard error. It ends when its input ends, and by itself when a step hangs.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import mondrian_core.models  # noqa: F401  (its fast BLAS must be there before mlx)

# isort: split
import mlx.core as mx

from mondrian_core.errors import MondrianError
from mondrian_core.models.base_model import load_base
from mondrian_core.selftest.checks.adapter_checks import check_adapter_swap
from mondrian_core.selftest.checks.context import CheckContext, CheckOutcome, SkipCheck
from mondrian_core.selftest.checks.decoding_checks import check_constrained, check_drafts
from mondrian_core.selftest.checks.logit_checks import check_logits
from mondrian_core.selftest.checks.machine_checks import check_load, check_machine
from mondrian_core.selftest.checks.speed_check import check_speed
from mondrian_core.selftest.checks.training_checks import check_resume, check_training_step

CHECKS: Mapping[str, Callable[[CheckContext], CheckOutcome]] = {
    "logits": check_logits,
    "training_step": check_training_step,
    "resume": check_resume,
    "drafts": check_drafts,
    "adapter_swap": check_adapter_swap,
    "constrained": check_constrained,
    "speed": check_speed,
}
_GRACE_SECONDS = 15.0  # after the limit the parent ends this process; it ends itself if the parent is gone
_PACKAGES = ("mondrian_core.", "mlx", "transformers", "numpy")


class SelfTestWorker:
    """Answers requests, one step at a time."""

    def __init__(self, stream: str, base: str, folder: Path, output: IO[str]) -> None:
        self._stream, self._name, self._folder, self._output = stream, base, folder, output
        self._context: CheckContext | None = None
        self._requests: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Answer until the input ends."""
        threading.Thread(target=self._listen, daemon=True).start()
        while (request := self._requests.get()) is not None:
            faulthandler.dump_traceback_later(request["seconds"] + _GRACE_SECONDS, exit=True)
            self._send(self._answer(request["step"], float(request["seconds"])))
            faulthandler.cancel_dump_traceback_later()

    def _listen(self) -> None:
        """Pass requests on; end the process, even in the middle of a step, when the parent is gone."""
        for line in sys.stdin:
            self._requests.put(json.loads(line))
        os._exit(0)

    def _answer(self, step: str, seconds: float) -> dict[str, Any]:
        try:
            return {"event": "outcome", **asdict(self._outcome(step, time.monotonic() + seconds))}
        except SkipCheck as reason:
            return {"event": "skipped", "finding": str(reason)}
        except MondrianError as error:
            return {"event": "error", "kind": type(error).__name__, "detail": error.problem, "places": []}
        except Exception as error:  # noqa: BLE001  (an error of a step is a finding)
            traceback.print_exc()
            return {
                "event": "error",
                "kind": type(error).__name__,
                "detail": str(error),
                "places": places_of(error),
            }

    def _outcome(self, step: str, until: float) -> CheckOutcome:
        if step == "machine":
            return check_machine()
        began = time.perf_counter()
        context = self._loaded(until)
        if step == "load":
            return check_load(context.base, time.perf_counter() - began)
        context.until = until
        return CHECKS[step](context)

    def _loaded(self, until: float) -> CheckContext:
        if self._context is None:
            self._report("loading")
            self._use_stream()
            self._context = CheckContext(
                base=load_base(self._name), stream=self._stream, folder=self._folder, report=self._report, until=until
            )
        return self._context

    def _use_stream(self) -> None:
        """Compute on this process's stream.

        mlx-vlm looks for Metal when it is imported, and then rotates with kernels that only a GPU runs. So on a Mac's
        CPU stream Metal is hidden from it.
        """
        if self._stream == "GPU":
            mx.set_default_device(mx.gpu)
            return
        if "mlx_vlm" in sys.modules:
            raise RuntimeError("mlx-vlm is imported before its stream is chosen")
        mx.metal.is_available = lambda: False
        mx.set_default_device(mx.cpu)

    def _report(self, text: str) -> None:
        self._send({"event": "progress", "text": text})

    def _send(self, message: dict[str, Any]) -> None:
        self._output.write(json.dumps(message) + "\n")
        self._output.flush()


def places_of(error: BaseException) -> list[str]:
    """Modules and lines of the error's frames in known packages, innermost last; no file names."""
    frames = [f"{frame.f_globals.get('__name__', '')}:{line}" for frame, line in traceback.walk_tb(error.__traceback__)]
    return [place for place in frames if place.startswith(_PACKAGES)][-8:]


def serve_requests(make_worker: Callable[[IO[str]], SelfTestWorker]) -> None:
    """Answer the parent's requests until the input ends.

    Args:
        make_worker: gets the stream for the outcomes; what libraries print to standard output goes to standard error.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    faulthandler.enable()
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    make_worker(output).run()


def main() -> None:
    """Run with the real checks."""
    stream, base, folder = sys.argv[1:]
    serve_requests(lambda output: SelfTestWorker(stream, base, Path(folder), output))


if __name__ == "__main__":
    main()
