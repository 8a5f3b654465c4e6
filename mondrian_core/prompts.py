"""Every prompt text of the product. Training, evaluation and serving all get their messages here.

The instructions stand before the photograph, so that everything up to the photograph is the same for one advisor and
can be computed once. No text holds a literal "<image>": Qwen's chat template places the image itself, and a left-over
marker would stay in the prompt as text.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from mondrian_core.rubric import DIMENSIONS

INSTRUCTION = (
    "Critique the photograph. Answer with one JSON object and nothing else: for each of "
    + ", ".join(DIMENSIONS)
    + " a whole score from 0 to 10 and a comment, then the overall grade with one decimal. Form: "
    '{"dimensional_analysis": {"composition": {"score": 7, "comment": "..."}, ...}, "overall_grade": "7.0"}'
)


@dataclass(frozen=True)
class Voice:
    """Whose eye is asked for: the columns of `advisors` that the prompt needs."""

    advisor: str
    name: str
    bio: str = ""
    prompt: str | None = None

    @property
    def system(self) -> str:
        """The system message: the advisor's own prompt, or one made from name and biography."""
        if self.prompt and self.prompt.strip():
            return self.prompt.strip()
        return f"You are {self.name}. {self.bio}".strip()


Message = dict[str, Any]


def critique_messages(voice: Voice) -> list[Message]:
    """System and user message that ask for one critique; the photograph comes last."""
    return [
        {"role": "system", "content": [{"type": "text", "text": voice.system}]},
        {"role": "user", "content": [{"type": "text", "text": INSTRUCTION}, {"type": "image"}]},
    ]


def training_messages(voice: Voice, answer: str) -> list[Message]:
    """The same messages followed by the answer that is to be learned (canonical spelling)."""
    return [*critique_messages(voice), {"role": "assistant", "content": [{"type": "text", "text": answer}]}]


def prompt_digest(voice: Voice) -> str:
    """SHA-256 of the messages: an adapter records the prompt it was trained with."""
    return hashlib.sha256(json.dumps(critique_messages(voice), sort_keys=True).encode()).hexdigest()
