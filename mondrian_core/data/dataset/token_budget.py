"""Length limits of dataset rows. Nothing is ever truncated: a row that is too long is left out and reported.

There are two limits: the tokens that training reads at once (`max_tokens` of the recipe), and the length of an answer
(`rubric.MAX_ANSWER_TOKENS`, `rubric.MAX_COMMENT_CHARACTERS`). Answers longer than that would be truncated in
validation, in evaluation and in the service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mondrian_core.errors import BadInput
from mondrian_core.rubric import MAX_ANSWER_TOKENS
from mondrian_core.training_target import overlong_comments

MAX_ROWS_NAMED = 3


@dataclass(frozen=True)
class RowLength:
    """Token counts of a row: instructions, photograph, answer with its end token."""

    prompt: int
    photograph: int
    answer: int

    @property
    def total(self) -> int:
        """All tokens of the row."""
        return self.prompt + self.photograph + self.answer

    @property
    def input_tokens(self) -> int:
        """Tokens that the model reads, which `max_tokens` limits; the last token is only predicted."""
        return self.total - 1

    def __str__(self) -> str:
        parts = f"{self.prompt} of instructions, {self.photograph} of the photograph, {self.answer} of the answer"
        return f"{self.total} tokens ({parts})"


RowMeasurer = Callable[[list[dict[str, Any]], Image.Image, str], RowLength]


@dataclass(frozen=True)
class TokenBudget:
    """How a row's tokens are counted, and how many the recipe allows."""

    measure: RowMeasurer
    limit: int

    def problem(self, messages: list[dict[str, Any]], image: Image.Image, answer: str) -> str:
        """Why a row is too long; empty when it fits."""
        length = self.measure(messages, image, answer)
        if length.answer > MAX_ANSWER_TOKENS:
            return f"the answer has {length.answer:,} tokens of at most {MAX_ANSWER_TOKENS:,}"
        if length.input_tokens > self.limit:
            return f"the row has {length}; the recipe allows {self.limit:,}"
        return ""


@dataclass(frozen=True)
class OverlongRecord:
    """A record that is left out, and why."""

    record: str
    detail: str


def comment_length_problem(comments: Mapping[str, str]) -> str:
    """Why comments are too long for any answer; empty when they fit."""
    over = overlong_comments(comments)
    return f"a comment is too long: {over}" if over else ""


def overlong_summary(left_out: Sequence[OverlongRecord]) -> str:
    """A sentence about the records that were left out, naming the first ones."""
    named = "; ".join(f"{each.record}: {each.detail}" for each in left_out[:MAX_ROWS_NAMED])
    more = f"; and {len(left_out) - MAX_ROWS_NAMED} more" if len(left_out) > MAX_ROWS_NAMED else ""
    critiques = "1 critique is" if len(left_out) == 1 else f"{len(left_out)} critiques are"
    return f"{critiques} left out as too long ({named}{more})."


def check_row_lengths(lengths: Iterable[tuple[str, RowLength]], limit: int) -> None:
    """Make sure that every row fits; `lengths` are pairs of row name and length.

    Raises:
        BadInput: with the token counts of the longest rows.
    """
    too_long = sorted((pair for pair in lengths if pair[1].input_tokens > limit), key=lambda pair: -pair[1].total)
    if not too_long:
        return
    rows = "1 row doesn't fit" if len(too_long) == 1 else f"{len(too_long)} rows don't fit"
    named = "; ".join(f"{name} has {length}" for name, length in too_long[:MAX_ROWS_NAMED])
    raise BadInput(
        f"{rows} into the {limit} tokens that the recipe allows: {named}.",
        "Shorten the critique, use smaller photographs, or raise max_tokens in the recipe's [train].",
    )
