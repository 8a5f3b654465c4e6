"""The `Engine` protocol: one question about a photograph, one reply.

`LocalEngine` (the model in this process) and `ModelProcess` (the model in another process) implement it, so strategies
do not know which one they use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mondrian_core.errors import Broken, NegativeOutcome
from mondrian_core.prompts import ChatMessage
from mondrian_core.rubric import MAX_ANSWER_TOKENS

if TYPE_CHECKING:
    from PIL import Image

    from mondrian_core.pixel_files import PixelFile

MAX_TOKENS = MAX_ANSWER_TOKENS

OnToken = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One generation.

    Attributes:
        image: in memory, or a file of its pixels when the model runs in another process.
        adapter: folder of an adapter; None: the base answers.
        temperature: 0 is greedy.
        constrained: only what the rubric's grammar allows can be generated.
        embed: return the photograph's embedding too.
        precedents: draft tokens from earlier answers (n-gram speculation). False makes times comparable between models.
    """

    messages: list[ChatMessage]
    image: Image.Image | PixelFile
    adapter: Path | None = None
    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    seed: int = 0
    constrained: bool = True
    embed: bool = False
    precedents: bool = True


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The generated text and its measurements.

    Attributes:
        tokens: generated tokens.
        prompt_tokens: tokens of the prompt, `image_tokens` of them the photograph's.
        switch_seconds: time to switch the adapter.
        expected_scores: probability-weighted score (0-10) by dimension.
        boot: identifies the process that answered.
        embedding: of the photograph, with norm 1; empty when it was not requested.
        drafted: tokens drafted from earlier answers; `accepted` of them were right.
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
    boot: str = ""
    embedding: tuple[float, ...] = ()
    drafted: int = 0
    accepted: int = 0

    @property
    def facts(self) -> dict[str, Any]:
        """The measurements as JSON values, for the jobs table."""
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


class Engine(Protocol):
    """Answers one question at a time."""

    def ask(self, question: Question, on_token: OnToken | None = None) -> Reply:
        """Generate; `on_token` is called with the number of tokens so far.

        Raises:
            ModelProcessDied: the process died or passed a deadline; asking again starts a new one.
            BadAdapter: the adapter doesn't fit the base.
            Canceled: the job was canceled.
        """

    def check(self, folder: Path) -> tuple[str, ...]:
        """Problems of an adapter on this base; () when there are none."""


class Canceled(NegativeOutcome):
    """The job was canceled while it was in progress."""

    def __init__(self) -> None:
        super().__init__("The job was canceled.", "Send the photograph again if you want its critique.")


class GenerationFailed(Broken):
    """The model raised an error; the process is still running."""
