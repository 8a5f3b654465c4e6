"""All prompts. Training, evaluation and serving build their messages here.

The instructions precede the photograph, so the prefix of one advisor's prompt is constant and can be cached. No prompt
contains a literal "<image>": Qwen's chat template inserts the image, and the marker would remain as text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mondrian_core.rubric import DIMENSIONS, AnswerForm

CRITIQUE_INSTRUCTION = (
    "Critique the photograph. Answer with one JSON object and nothing else: for each of "
    + ", ".join(DIMENSIONS)
    + " a whole score from 0 to 10 and a comment, then the overall grade with one decimal. Form: "
    '{"dimensional_analysis": {"composition": {"score": 7, "comment": "..."}, ...}, "overall_grade": "7.0"}'
)

ADVICE_INSTRUCTION = (
    "Critique the photograph and advise its maker. Answer with one JSON object and nothing else: for each of "
    + ", ".join(DIMENSIONS)
    + " a whole score from 0 to 10, a comment and a recommendation (what to do next time or in post), with regions "
    "[left, top, right, bottom] from 0 to 1000 where a place is meant; then strengths, at most three "
    "priority_improvements, and the overall grade with one decimal. Form: "
    '{"dimensional_analysis": {"composition": {"score": 7, "comment": "...", "recommendation": "..."}, ...}, '
    '"strengths": ["..."], "priority_improvements": ["..."], "overall_grade": "7.0"}'
)
_INSTRUCTIONS = {AnswerForm.COMMENTS: CRITIQUE_INSTRUCTION, AnswerForm.ADVICE: ADVICE_INSTRUCTION}


@dataclass(frozen=True)
class AdvisorPrompt:
    """An advisor as the prompt needs it: columns of the table `advisors`, and the form in which the answer is asked."""

    advisor: str
    name: str
    bio: str = ""
    prompt: str | None = None
    form: AnswerForm = field(default=AnswerForm.COMMENTS, kw_only=True)

    @property
    def instruction(self) -> str:
        """The request for a critique in the advisor prompt's form."""
        return _INSTRUCTIONS[self.form]

    @property
    def system_message(self) -> str:
        """The system message: the advisor's own prompt, or one made from name and biography."""
        if self.prompt and self.prompt.strip():
            return self.prompt.strip()
        return f"You are {self.name}. {self.bio}".strip()


ChatMessage = dict[str, Any]


def critique_messages(advisor_prompt: AdvisorPrompt) -> list[ChatMessage]:
    """System and user message that ask for one critique; the photograph comes last."""
    return [
        {"role": "system", "content": [{"type": "text", "text": advisor_prompt.system_message}]},
        {"role": "user", "content": [{"type": "text", "text": advisor_prompt.instruction}, {"type": "image"}]},
    ]


@dataclass(frozen=True)
class PortfolioNeighbour:
    """A similar photograph of the portfolio: name, scores (0-10) by dimension, and some of its comments."""

    name: str
    scores: Mapping[str, float]
    comments: Mapping[str, str]


@dataclass(frozen=True)
class PortfolioComparison:
    """Context of the second rag pass: first-pass scores, neighbours, and score statistics of the portfolio.

    Attributes:
        scores: scores of the first pass, 0-10, by dimension.
        neighbours: the most similar photographs of the portfolio.
        spreads: (mean, lowest, highest) score of the portfolio by dimension.
        size: number of photographs in the portfolio.
    """

    scores: Mapping[str, float]
    neighbours: tuple[PortfolioNeighbour, ...]
    spreads: Mapping[str, tuple[float, float, float]]
    size: int


def comparison_messages(advisor_prompt: AdvisorPrompt, comparison: PortfolioComparison) -> list[ChatMessage]:
    """Messages that ask for a critique in comparison with the advisor's own photographs; the photograph comes last.

    The instruction comes first, so the prompt shares a prefix with `critique_messages`.
    """
    messages = critique_messages(advisor_prompt)
    messages[1]["content"].insert(1, {"type": "text", "text": _comparison_text(comparison)})
    return messages


def own_form_messages(advisor_prompt: AdvisorPrompt, schema: Mapping[str, Any], instruction: str) -> list[ChatMessage]:
    """Messages that ask the advisor for an answer in a caller's form; the photograph comes last.

    Args:
        advisor_prompt: the advisor.
        schema: JSON schema of the answer, which decoding enforces.
        instruction: the caller's words; "" asks for what the schema's names say.
    """
    asked = instruction.strip() or "Critique the photograph."
    text = f"{asked} Answer with one JSON object and nothing else. It follows this JSON schema: {json.dumps(schema)}"
    return [
        {"role": "system", "content": [{"type": "text", "text": advisor_prompt.system_message}]},
        {"role": "user", "content": [{"type": "text", "text": text}, {"type": "image"}]},
    ]


def _comparison_text(comparison: PortfolioComparison) -> str:
    lines = ["", "At first sight the scores were: " + _scores_text(comparison.scores) + "."]
    lines += [f"Compare with these photographs of your own (of {comparison.size}):"]
    for neighbour in comparison.neighbours:
        lines.append(f"- {neighbour.name}: {_scores_text(neighbour.scores)}.")
        lines += [f"  On {name}: {comment}" for name, comment in neighbour.comments.items()]
    spreads = (f"{name} {mean:.1f} ({low:g}-{high:g})" for name, (mean, low, high) in comparison.spreads.items())
    lines += ["Your photographs score on average (lowest-highest): " + ", ".join(spreads) + "."]
    return "\n".join([*lines, "Weigh the photograph against them, then answer in the form above."])


def _scores_text(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {scores[name]:g}" for name in DIMENSIONS)


def preference_judge_messages(first: str, second: str) -> list[ChatMessage]:
    """A user message that asks a judge which of two critiques fits the photograph better; the photograph comes last."""
    text = (
        "Two critiques of the photograph follow. Which one says more truly what is in the photograph and what would "
        f"help its maker? Length doesn't count.\n\nCritique A:\n{first}\n\nCritique B:\n{second}\n\n"
        "Answer with one letter and nothing else: A or B."
    )
    return [{"role": "user", "content": [{"type": "text", "text": text}, {"type": "image"}]}]


def training_messages(advisor_prompt: AdvisorPrompt, answer: str) -> list[ChatMessage]:
    """The same messages followed by the answer to learn (canonical spelling)."""
    return [*critique_messages(advisor_prompt), {"role": "assistant", "content": [{"type": "text", "text": answer}]}]


def prompt_digest(advisor_prompt: AdvisorPrompt) -> str:
    """SHA-256 of the messages: an adapter records the prompt it was trained with."""
    return hashlib.sha256(json.dumps(critique_messages(advisor_prompt), sort_keys=True).encode()).hexdigest()
