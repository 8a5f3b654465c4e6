"""What the core tells while it works. Listeners decide how it looks: terminal bar, JSON line, Prefect log.

Core functions take `listen: Listener = ignore` and never print.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StageStarted:
    """A stage begins. `stage` is a word such as "link" or "train"; `total` its number of units, if known."""

    stage: str
    total: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class StageProgressed:
    """`done` of `total` units of a stage are finished; `detail` is a short text for people."""

    stage: str
    done: int
    total: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class StageFinished:
    """A stage ended. `summary` holds plain values for people and logs."""

    stage: str
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageNotice:
    """Something the user should know that stops nothing."""

    stage: str
    message: str


@dataclass(frozen=True)
class StageLogLines:
    """Lines of a stage's log, as they were written; `anew`: the log consists of these, whatever was told before."""

    stage: str
    lines: tuple[Mapping[str, Any], ...]
    replaces_previous: bool = False


StageEvent = StageStarted | StageProgressed | StageFinished | StageNotice | StageLogLines
EventListener = Callable[[StageEvent], None]


def ignore_events(event: StageEvent) -> None:
    """The listener that hears nothing."""


def chain_listeners(first: EventListener, second: EventListener) -> EventListener:
    """A listener that hands every event on to two, in this order."""

    def listen(event: StageEvent) -> None:
        first(event)
        second(event)

    return listen
