"""What the API and the model process say to each other: dataclasses, pickled over a socket pair.

They have a module of their own because a class of `__main__` can't be unpickled elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mondrian_core.photograph_model import Question
from mondrian_core.serving.engine.interface import Reply


@dataclass(frozen=True)
class AskRequest:
    """Answer a question."""

    number: int
    question: Question


@dataclass(frozen=True)
class CheckAdapterRequest:
    """Check an adapter against the base."""

    number: int
    folder: Path


@dataclass(frozen=True)
class CancelRequest:
    """Stop the generation of that number."""

    number: int


@dataclass(frozen=True)
class ReadyResponse:
    """The base is loaded."""

    fingerprint: str
    seconds: float


@dataclass(frozen=True)
class TokensResponse:
    """A sign of life: so many tokens so far."""

    number: int
    count: int


@dataclass(frozen=True)
class AnswerResponse:
    """The reply, or the problems of an adapter."""

    number: int
    value: Reply | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ErrorResponse:
    """An error of ours as plain values. `number` is 0 when the base can't be loaded.

    `kind` is the name of its class, or of the nearest one that both processes know; `more` its other attributes.
    """

    number: int
    kind: str
    problem: str
    next_step: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)


IpcRequest = AskRequest | CheckAdapterRequest | CancelRequest
IpcResponse = ReadyResponse | TokensResponse | AnswerResponse | ErrorResponse
