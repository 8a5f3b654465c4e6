"""Events that stages emit. Listeners render them: a terminal bar, a JSON line, a Prefect log.

Core functions take `listen: EventListener = ignore_events` and never print.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StageStarted:
    """A stage started. `stage` is its name, such as "link" or "train"; `total` the number of units, if known."""

    stage: str
    total: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class StageProgressed:
    """`done` of `total` units of a stage are finished; `detail` is a short text for the user."""

    stage: str
    done: int
    total: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class StageFinished:
    """A stage finished. `summary` holds plain values for logs."""

    stage: str
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageNotice:
    """A message for the user that doesn't stop the stage."""

    stage: str
    message: str


@dataclass(frozen=True)
class StageLogLines:
    """Lines of a stage's log. With `replaces_previous` they are the whole log so far, not an addition to it."""

    stage: str
    lines: tuple[Mapping[str, Any], ...]
    replaces_previous: bool = False


@dataclass(frozen=True)
class CheckpointSaved:
    """A training saved a checkpoint in its run folder after `step` optimizer steps of a phase."""

    stage: str
    step: int


StageEvent = StageStarted | StageProgressed | StageFinished | StageNotice | StageLogLines | CheckpointSaved
EventListener = Callable[[StageEvent], None]


def ignore_events(event: StageEvent) -> None:
    """A listener that ignores every event."""


def chain_listeners(first: EventListener, second: EventListener) -> EventListener:
    """A listener that passes every event to `first`, then to `second`."""

    def listen(event: StageEvent) -> None:
        first(event)
        second(event)

    return listen
