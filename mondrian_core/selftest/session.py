"""The whole self-test: machine, then each base on each stream, then the comparisons."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from mondrian_core.selftest import comparison, published
from mondrian_core.selftest.report import SelfTestReport
from mondrian_core.selftest.steps import MACHINE, STEPS, SelfTestStep, StepCause, StepResult, StepStatus
from mondrian_core.selftest.worker_process import WORKER_COMMAND, WorkerProcess
from mondrian_core.settings import MINI_BASE_MODEL

MINI, CONFIGURED = "mini", "configured"
GPU, CPU = "GPU", "CPU"
DEFAULT_MINUTES = 5
LOGITS_FILE = "logits.npy"
_LEAST_SECONDS = 5.0
_LOADS = 3.0  # times of a load that a step may take longer when its process has to load the base again


@dataclass(frozen=True, kw_only=True)
class SelfTestPlan:
    """What a self-test runs.

    Attributes:
        base: name of the configured base.
        base_folder: its folder on this machine; None if it isn't here, because nothing is downloaded.
        seconds: time for all steps together.
        steps: the steps of each base and stream.
        worker: command of a worker.
        entries: published figures.
    """

    base: str
    base_folder: str | None
    seconds: float = DEFAULT_MINUTES * 60.0
    steps: Sequence[SelfTestStep] = STEPS
    worker: Sequence[str] = WORKER_COMMAND
    entries: Sequence[Mapping[str, Any]] = field(default_factory=published.read_published)

    @property
    def bases(self) -> dict[str, str]:
        """Folder or name by label, of the bases that are on this machine."""
        configured = {} if self.base == MINI_BASE_MODEL or not self.base_folder else {CONFIGURED: self.base_folder}
        return {MINI: MINI_BASE_MODEL, **configured}

    def steps_of(self, label: str, *, first_stream: bool) -> Sequence[SelfTestStep]:
        """The steps of a base on a stream: a large base's second stream only gives results to compare with."""
        return [step for step in self.steps if label == MINI or first_stream or step.reference]


@dataclass(frozen=True)
class SelfTestListener:
    """Receives what happens.

    Attributes:
        on_run: (label of the base, stream) when its steps begin.
        on_progress: (title of the step, a few words on what happens now).
        on_result: each result.
    """

    on_run: Callable[[str, str], None] = lambda base, stream: None
    on_progress: Callable[[str, str], None] = lambda title, text: None
    on_result: Callable[[StepResult], None] = lambda result: None


SILENT = SelfTestListener()


def run_selftest(plan: SelfTestPlan, listen: SelfTestListener = SILENT) -> SelfTestReport:
    """Run every step in processes of its own; a step that crashes or hangs is a result, and the others still run.

    No process is left, however this ends.

    Args:
        plan: what to run.
        listen: receives progress and results.
    """
    with ExitStack() as stack:
        session = _Session(plan, listen, stack)
        results = []
        for result in session.results():
            listen.on_result(result)
            results.append(result)
        names = {label: plan.base if label == CONFIGURED else label for label in plan.bases}
        return SelfTestReport(results=results, bases=names, seconds=session.seconds)


class _Session:
    def __init__(self, plan: SelfTestPlan, listen: SelfTestListener, stack: ExitStack) -> None:
        self._plan, self._listen, self._stack = plan, listen, stack
        self._began = time.monotonic()
        self._done: dict[tuple[str, str, str], StepResult] = {}
        self._workers: dict[tuple[str, str], WorkerProcess] = {}

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def results(self) -> Iterator[StepResult]:
        """Run all steps."""
        self._listen.on_run("", "")
        machine = self._step(self._worker(MINI, CPU, MINI_BASE_MODEL, label=""), MACHINE)
        yield machine
        streams = (GPU, CPU) if machine.figures.get("gpu") else (CPU,)
        for label, folder in self._plan.bases.items():
            for stream in streams:
                self._listen.on_run(label, stream)
                steps = self._plan.steps_of(label, first_stream=stream == streams[0])
                yield from self._run(self._worker(label, stream, folder), steps, machine.figures)
            if len(streams) == 2:
                yield from self._between_streams(label)

    def _worker(self, base: str, stream: str, folder: str, *, label: str | None = None) -> WorkerProcess:
        worker = WorkerProcess(folder, base if label is None else label, stream, self._plan.worker)
        self._stack.callback(worker.close)
        self._workers[worker.label, stream] = worker
        return worker

    def _run(
        self, worker: WorkerProcess, steps: Sequence[SelfTestStep], machine: Mapping[str, Any]
    ) -> Iterator[StepResult]:
        loaded = True
        for step in steps:
            result = self._step(worker, step) if loaded else _skipped(worker, step, "the base did not load")
            if step.name == published.LOAD:
                loaded = result.status is StepStatus.OK
            self._done[worker.label, worker.stream, step.name] = result
            compared = self._published(result, machine)
            yield result
            if compared is not None:
                yield compared
        worker.end()

    def _step(self, worker: WorkerProcess, step: SelfTestStep) -> StepResult:
        left = self._plan.seconds - self.seconds
        if left < _LEAST_SECONDS:
            return _skipped(worker, step, f"no time is left of {self._plan.seconds / 60:.0f} minutes")
        self._listen.on_progress(step.title, "")
        limit = step.limit
        if not worker.running and (worker.label, worker.stream, published.LOAD) in self._done:
            limit += _LOADS * self._done[worker.label, worker.stream, published.LOAD].seconds
        result = worker.run(step.name, min(limit, left), lambda text: self._listen.on_progress(step.title, text))
        if result.cause is StepCause.TIME_LIMIT and (
            limit > left or (worker.label, worker.stream) == (CONFIGURED, CPU)
        ):
            reason = "the time was not enough" if limit > left else "this stream is too slow for this base"
            return _skipped(worker, step, f"no result after {result.seconds:.0f} s: {reason}", result.seconds)
        return result

    def _between_streams(self, label: str) -> Iterator[StepResult]:
        self._listen.on_run(label, comparison.BOTH_STREAMS)
        for name in (comparison.LOGITS, comparison.TRAINING):
            gpu, cpu = (self._done.get((label, stream, name)) for stream in (GPU, CPU))
            if gpu is None or cpu is None or not (gpu.figures and cpu.figures):
                continue
            folders = (self._workers[label, GPU].folder, self._workers[label, CPU].folder)
            yield comparison.compare_streams(gpu, cpu, folders, LOGITS_FILE)

    def _published(self, result: StepResult, machine: Mapping[str, Any]) -> StepResult | None:
        """The comparison with published figures; None where there are none."""
        loaded = self._done.get((result.base, result.stream, published.LOAD))
        if loaded is None or not result.figures or result.status is not StepStatus.OK:
            return None
        fingerprint = loaded.figures["fingerprint"]
        if result.step == published.SPEED:
            device = machine.get("gpu_name" if result.stream == GPU else "cpu_name") or ""
            speed = published.published_speed(self._plan.entries, fingerprint, result.stream, device)
            return comparison.compare_speed(result, speed) if speed else None
        entry = published.published_results(self._plan.entries, fingerprint)
        if entry is None or result.step not in (comparison.LOGITS, comparison.TRAINING) or result.base != MINI:
            return None
        layers, width = loaded.figures["layers"], loaded.figures["width"]
        return comparison.compare_with_published(result, entry[result.step], layers, width)


def _skipped(worker: WorkerProcess, step: SelfTestStep, why: str, seconds: float = 0.0) -> StepResult:
    return StepResult(
        base=worker.label,
        stream=worker.stream,
        step=step.name,
        status=StepStatus.SKIPPED,
        finding=why,
        seconds=seconds,
    )
