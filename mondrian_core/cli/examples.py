"""What `mondrian dataset --preview` shows: one row exactly as the model sees it, learned tokens highlighted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from mondrian_core.data.dataset import load
from mondrian_core.data.fit import check_fit
from mondrian_core.data.preview import ANSWER, PHOTOGRAPH, PROMPT, Preview, preview
from mondrian_core.errors import BadInput
from mondrian_core.models.base import Base, load_base
from mondrian_core.rows import Row
from mondrian_core.stages import Context
from mondrian_core.training.examples import token_weights

_STYLES = {PROMPT: "dim", PHOTOGRAPH: "magenta"}


def preview_of(context: Context, dataset: Path, number: int) -> Preview:
    """Row `number` (from 1) of the training split.

    Raises:
        BadInput: when there is no such row, or it is longer than the recipe allows.
    """
    rows = load(dataset).rows("train")
    if not 1 <= number <= len(rows):
        raise BadInput(f"There is no row {number}; the training split has {len(rows)}.", "Choose another number.")

    def weigh(base: Base, row: Row, answer: Sequence[int]) -> Any:
        return token_weights(base, row, answer, context.recipe.train.score_weight)

    shown = preview(load_base(context.base_model), rows[number - 1], weigh)
    check_fit([(f"row {number}", shown.length)], context.recipe.train.max_tokens)
    return shown


def draw_preview(console: Console, shown: Preview) -> None:
    """The row's text: prompt dim, learned tokens green, those that count more than others bold, those left out red."""
    usual = _usual_weight(shown)
    text = Text()
    for piece in shown.pieces:
        text.append(piece.text, _STYLES.get(piece.kind) or _answer_style(piece.weight, usual))
    console.print(text)
    counts = ", ".join(f"{shown.count(kind)} {kind}" for kind in (PROMPT, PHOTOGRAPH, ANSWER))
    console.print(f"{shown.total} tokens: {counts}. Photograph {shown.lineage[:12]}.")
    console.print(Text("learned", "green"), Text("counts more", "bold green"), Text("not learned", "red"), sep="   ")


def _usual_weight(shown: Preview) -> float:
    answers = [piece for piece in shown.pieces if piece.kind == ANSWER and piece.weight > 0]
    return min((piece.weight for piece in answers), default=0.0)


def _answer_style(weight: float, usual: float) -> str:
    if weight <= 0:
        return "red"
    return "bold green" if weight > usual else "green"
