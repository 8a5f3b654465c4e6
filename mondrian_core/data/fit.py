"""Does every row fit? Nothing is ever cut, so a row that is too long stops the build with its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mondrian_core.errors import BadInput

NAMED = 3


@dataclass(frozen=True)
class Length:
    """Tokens of a row: instructions, photograph, answer with its end token."""

    prompt: int
    photograph: int
    answer: int

    @property
    def total(self) -> int:
        """All tokens of the row."""
        return self.prompt + self.photograph + self.answer

    @property
    def read(self) -> int:
        """Tokens that the model reads: the last one is only predicted. This is what `max_tokens` limits."""
        return self.total - 1

    def __str__(self) -> str:
        parts = f"{self.prompt} of instructions, {self.photograph} of the photograph, {self.answer} of the answer"
        return f"{self.total} tokens ({parts})"


Measure = Callable[[list[dict[str, Any]], Image.Image, str], Length]


@dataclass(frozen=True)
class Fit:
    """How rows are measured, and how many tokens the recipe allows."""

    measure: Measure
    limit: int


def check_fit(lengths: Iterable[tuple[str, Length]], limit: int) -> None:
    """Make sure that every row fits; `lengths` are (name of the row, its length).

    Raises:
        BadInput: with the numbers of the longest rows.
    """
    too_long = sorted((pair for pair in lengths if pair[1].read > limit), key=lambda pair: -pair[1].total)
    if not too_long:
        return
    rows = "1 row doesn't fit" if len(too_long) == 1 else f"{len(too_long)} rows don't fit"
    named = "; ".join(f"{name} has {length}" for name, length in too_long[:NAMED])
    raise BadInput(
        f"{rows} into the {limit} tokens that the recipe allows: {named}.",
        "Shorten the critique, use smaller photographs, or raise max_tokens in the recipe's [train].",
    )
