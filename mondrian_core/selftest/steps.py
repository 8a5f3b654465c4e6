"""The steps of the self-test, and the result of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SelfTestStep:
    """A step that runs in a worker.

    Attributes:
        name: its name in the report.
        title: its name for people.
        checks: what it checks, for the page.
        limit: seconds after which it counts as hanging.
        reference: True if a second stream needs it too for a large base, to compare the results.
    """

    name: str
    title: str
    checks: str
    limit: float
    reference: bool = False


MACHINE = SelfTestStep(
    name="machine",
    title="machine",
    checks="MLX starts, and multiplies matrices on each stream",
    limit=60,
)
STEPS = (
    SelfTestStep(
        name="load",
        title="load",
        checks="the base loads; its size in memory, its data type",
        limit=90,
        reference=True,
    ),
    SelfTestStep(
        name="logits",
        title="logits",
        checks="all logits are finite; compiled steps, a growing cache and a batch give those of one whole pass",
        limit=90,
        reference=True,
    ),
    SelfTestStep(
        name="training_step",
        title="training step",
        checks="loss and gradient norm of one row: the compiled step, the eager step and the step with gradient "
        "checkpointing agree",
        limit=90,
        reference=True,
    ),
    SelfTestStep(
        name="resume",
        title="resume",
        checks="an interrupted training that continues ends with the adapter of an uninterrupted one, bit for bit",
        limit=90,
    ),
    SelfTestStep(
        name="drafts",
        title="drafts",
        checks="decoding with drafts writes the same text as without",
        limit=90,
    ),
    SelfTestStep(
        name="adapter_swap",
        title="adapter swap",
        checks="an adapter gives the logits of merged weights; without it the base's logits are as before, bit for bit",
        limit=90,
    ),
    SelfTestStep(
        name="speed",
        title="speed",
        checks="tokens per second, time of a training step, peak memory, overhead of an adapter, longest evaluation",
        limit=120,
    ),
    SelfTestStep(
        name="constrained",
        title="constrained",
        checks="a constrained answer ends by itself and is a valid critique",
        limit=60,
    ),
)
STEPS_BY_NAME = {step.name: step for step in (MACHINE, *STEPS)}


BUSY_SHARE = 0.25  # of the processors, used by other programs, from which a speed isn't judged


class StepStatus(StrEnum):
    """How a step ended."""

    OK = "ok"
    OFF = "off"
    SKIPPED = "skipped"


class StepCause(StrEnum):
    """Why a step is off."""

    WRONG_RESULT = "wrong result"
    SLOW = "slow"
    WATCHDOG_RISK = "watchdog risk"
    WATCHDOG = "stopped by the GPU watchdog"
    OUT_OF_MEMORY = "out of memory"
    TIME_LIMIT = "time limit"
    ABORTED = "aborted"
    CRASHED = "crashed"
    ERROR = "error"


ADVICE = {
    StepCause.WRONG_RESULT: "Don't trust trainings and critiques of this stream. Update macOS and the packages of the "
    "lock file, run `mondrian selftest` again, and attach the report to a bug report.",
    StepCause.SLOW: "Close other programs, connect the charger, and run `mondrian selftest` again.",
    StepCause.WATCHDOG_RISK: "macOS may end a training whose evaluations take this long while the display is on: let "
    "the display sleep, train on smaller photographs, or choose a smaller base. A training that was ended continues "
    "with `mondrian train --resume`.",
    StepCause.WATCHDOG: "macOS ended the process because one evaluation kept the GPU too long: let the display sleep, "
    "use smaller photographs, or choose a smaller base.",
    StepCause.OUT_OF_MEMORY: "Close other programs, or choose a smaller base; `mondrian train --dry-run` says what a "
    "training needs.",
    StepCause.TIME_LIMIT: "It hangs or is very slow: run `mondrian selftest` again on an idle machine; if it happens "
    "again, attach the report to a bug report.",
    StepCause.ABORTED: "MLX ended the process. Update macOS and the packages of the lock file; attach the report to a "
    "bug report.",
    StepCause.CRASHED: "The process crashed. Install the packages of the lock file again (`make test`), and attach the "
    "report to a bug report.",
    StepCause.ERROR: "Attach the report to a bug report.",
}


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step found.

    Attributes:
        base: label of the base: "mini" or "configured"; "" for the machine.
        stream: "GPU", "CPU", "GPU and CPU", or "published".
        step: name of the step.
        status: how it ended.
        finding: one sentence with numbers, without names and paths.
        cause: why it is off; None unless it is.
        detail: words of an error, which may contain paths; the report removes them.
        places: modules and lines of an error, innermost last.
        seconds: how long it took.
        figures: measured values by name.
    """

    base: str
    stream: str
    step: str
    status: StepStatus
    finding: str
    cause: StepCause | None = None
    detail: str = ""
    places: tuple[str, ...] = ()
    seconds: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def advice(self) -> str:
        """What to do next; "" unless it is off."""
        return ADVICE[self.cause] if self.cause else ""

    @property
    def title(self) -> str:
        """Name for people."""
        return STEPS_BY_NAME[self.step].title
