"""What the API and the model process say to each other: dataclasses, pickled over a socket pair.

They have a module of their own because a class of `__main__` can't be unpickled elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mondrian_core.serving.engine import Question, Reply


@dataclass(frozen=True)
class Ask:
    """Answer a question."""

    number: int
    question: Question


@dataclass(frozen=True)
class Check:
    """Check an adapter against the base."""

    number: int
    folder: Path


@dataclass(frozen=True)
class Cancel:
    """Stop the generation of that number."""

    number: int


@dataclass(frozen=True)
class Ready:
    """The base is loaded."""

    fingerprint: str
    seconds: float


@dataclass(frozen=True)
class Tokens:
    """A sign of life: so many tokens so far."""

    number: int
    count: int


@dataclass(frozen=True)
class Answered:
    """The reply, or the problems of an adapter."""

    number: int
    value: Reply | tuple[str, ...]


@dataclass(frozen=True)
class Failed:
    """An error of ours as plain values; `kind` is the class name. `number` is 0 when the base can't be loaded."""

    number: int
    kind: str
    problem: str
    next_step: str = ""


Message = Ask | Check | Cancel
Word = Ready | Tokens | Answered | Failed
