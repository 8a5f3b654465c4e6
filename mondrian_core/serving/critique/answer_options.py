"""What a program may ask of an answer, with its mode: the version, the sampling, the length, and a form of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from mondrian_core.photograph_model import Question

DETAILS_KEY = "answer_options"  # of a job's details, so that a restarted service answers alike


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """Options of one answer.

    Attributes:
        version: the adapter that answers, without any fallback; None: whichever version is active, with fallback.
        temperature: 0 is greedy.
        seed: of the sampling.
        max_tokens: the answer is cut there; None: the usual limit, at which an answer counts as failed.
        schema: JSON schema of the answer; None: a critique.
        instruction: the caller's words, for an answer with a schema.
        crops: also look for a crop that the model scores higher; not for an answer with a schema.
    """

    version: str | None = None
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int | None = None
    schema: Mapping[str, Any] | None = None
    instruction: str = ""
    crops: bool = False

    def apply(self, question: Question) -> Question:
        """The question with these options; a temperature or seed that it has for a second try stays."""
        if question.temperature <= 0:
            question = replace(question, temperature=self.temperature)
        question = replace(question, seed=question.seed + self.seed)
        return question if self.max_tokens is None else replace(question, max_tokens=self.max_tokens)

    def as_details(self) -> dict[str, Any]:
        """The options that differ from the defaults, as plain values."""
        default = AnswerOptions()
        return {name: value for name, value in asdict(self).items() if value != getattr(default, name)}


def answer_options_from_details(details: Mapping[str, Any]) -> AnswerOptions:
    """The options in a job's details; the defaults where there are none."""
    known = {field.name for field in fields(AnswerOptions)}
    stored = details.get(DETAILS_KEY) or {}
    return AnswerOptions(**{name: value for name, value in stored.items() if name in known})
