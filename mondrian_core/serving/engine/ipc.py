"""Messages between the API and the model process: dataclasses, pickled over a socket pair.

They have their own module because a class of `__main__` can't be unpickled in another process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mondrian_core.photograph_model import Question
from mondrian_core.serving.engine.interface import AdapterCacheUse, Reply


@dataclass(frozen=True)
class AskRequest:
    """Answer a question; its image is a `PixelFile`."""

    number: int
    question: Question


@dataclass(frozen=True)
class CheckAdapterRequest:
    """Validate an adapter on the base."""

    number: int
    folder: Path


@dataclass(frozen=True)
class LoadAdapterRequest:
    """Read an adapter into memory."""

    number: int
    folder: Path


@dataclass(frozen=True)
class CancelRequest:
    """Stop the generation with this number."""

    number: int


@dataclass(frozen=True)
class ReadyResponse:
    """The base is loaded."""

    fingerprint: str
    seconds: float


@dataclass(frozen=True)
class TokensResponse:
    """Progress, and a sign of life: the number of tokens so far."""

    number: int
    count: int


@dataclass(frozen=True)
class AnswerResponse:
    """The reply, the problems of an adapter, or the adapters in memory."""

    number: int
    value: Reply | tuple[str, ...] | AdapterCacheUse


@dataclass(frozen=True, kw_only=True)
class ErrorResponse:
    """A `MondrianError` as plain values. `number` is 0 when the base can't be loaded.

    `kind` is the name of its class, or of the nearest base class that both processes import.
    """

    number: int
    kind: str
    problem: str
    next_step: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)


IpcRequest = AskRequest | CheckAdapterRequest | LoadAdapterRequest | CancelRequest
IpcResponse = ReadyResponse | TokensResponse | AnswerResponse | ErrorResponse
