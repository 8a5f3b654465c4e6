"""What answers a question about a photograph: the model of this process, or the model process.

Both stand behind `Engine`, so strategies don't know which one they talk to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mondrian_core.errors import Broken, NegativeOutcome
from mondrian_core.photograph_model import OnToken, PhotographModel, Question


@dataclass(frozen=True)
class AdapterCacheUse:
    """How many adapters are in memory, their bytes, and the bytes that they may take."""

    adapters: int
    nbytes: int
    budget: int


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back.

    `tokens` were generated, `prompt_tokens` read (`image_tokens` of them the photograph's); times in seconds;
    `switch_seconds` is what changing the adapter took; `expected_scores` (0-10) by dimension, `score_deviations` the
    standard deviations of their distributions; `boot` names the process;
    `embedding` of the photograph has length 1, or is empty when it was not asked for; `drafted` tokens were tried
    because of earlier answers, and `accepted` of them were right; `adapter_cache` is None where no adapter was used.
    """

    text: str
    finish_reason: str
    tokens: int
    prompt_tokens: int = 0
    image_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    switch_seconds: float = 0.0
    expected_scores: Mapping[str, float] = field(default_factory=dict)
    score_deviations: Mapping[str, float] = field(default_factory=dict)
    boot: str = ""
    embedding: tuple[float, ...] = ()
    drafted: int = 0
    accepted: int = 0
    adapter_cache: AdapterCacheUse | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The measured values as plain values, for the jobs table."""
        return {
            "finish_reason": self.finish_reason,
            "tokens": self.tokens,
            "prompt_tokens": self.prompt_tokens,
            "image_tokens": self.image_tokens,
            "prefill_seconds": round(self.prefill_seconds, 4),
            "decode_seconds": round(self.decode_seconds, 4),
            "switch_seconds": round(self.switch_seconds, 4),
            "boot": self.boot,
            "drafted": self.drafted,
            "accepted": self.accepted,
        }


class Engine(PhotographModel, Protocol):
    """A photograph model behind the service: it also checks adapters, and a question can be canceled."""

    def ask(self, question: Question, on_token: OnToken | None = None) -> Reply:
        """Generate; `on_token` is called with the number of tokens so far.

        Raises:
            ModelProcessDied: the process died or passed a deadline; asking again starts a new one.
            BadAdapter: the adapter doesn't fit the base.
            Canceled: the job was canceled.
        """

    def check(self, folder: Path) -> tuple[str, ...]:
        """Problems of an adapter on this base; () is sound."""

    def load_adapter(self, folder: Path) -> AdapterCacheUse:
        """Read an adapter into memory before it is needed.

        Raises:
            ModelProcessDied, BadAdapter: as `ask`.
        """


class Canceled(NegativeOutcome):
    """The job was canceled while it was worked on."""

    def __init__(self) -> None:
        super().__init__("The job was canceled.", "Send the photograph again if you want its critique.")


class GenerationFailed(Broken):
    """The model raised an error; the process is still there."""
