"""What `mondrian dataset --preview` shows: one row exactly as the model sees it, learned tokens highlighted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from mondrian_core.data.dataset.builder import load_dataset_version
from mondrian_core.data.dataset.preview import ANSWER, PHOTOGRAPH, PROMPT, RowPreview, preview_row
from mondrian_core.data.dataset.token_budget import check_row_lengths
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.errors import BadInput
from mondrian_core.models.base_model import load_base
from mondrian_core.models.prompt_encoding import EncodedAnswer
from mondrian_core.stages import StageContext
from mondrian_core.training.training_examples import token_weights

_STYLES = {PROMPT: "dim", PHOTOGRAPH: "magenta"}


def load_row_preview(context: StageContext, dataset: Path, number: int) -> RowPreview:
    """Row `number` (from 1) of the training split.

    Raises:
        BadInput: when there is no such row, or it is longer than the recipe allows.
    """
    rows = load_dataset_version(dataset).rows("train")
    if not 1 <= number <= len(rows):
        raise BadInput(f"There is no row {number}; the training split has {len(rows)}.", "Choose another number.")

    def weigh(row: DatasetRow, answer: EncodedAnswer) -> Any:
        return token_weights(row, answer, context.recipe.train.score_weight)

    shown = preview_row(load_base(context.base_model), rows[number - 1], weigh)
    check_row_lengths([(f"row {number}", shown.length)], context.recipe.train.max_tokens)
    return shown


def print_row_preview(console: Console, shown: RowPreview) -> None:
    """The row's text: prompt dim, learned tokens green, those that count more than others bold, those left out red."""
    usual = _usual_weight(shown)
    text = Text()
    for piece in shown.spans:
        text.append(piece.text, _STYLES.get(piece.kind) or _answer_style(piece.weight, usual))
    console.print(text)
    counts = ", ".join(f"{shown.count(kind)} {kind}" for kind in (PROMPT, PHOTOGRAPH, ANSWER))
    console.print(f"{shown.total} tokens: {counts}. Photograph {shown.photo_id[:12]}.")
    console.print(Text("learned", "green"), Text("counts more", "bold green"), Text("not learned", "red"), sep="   ")


def _usual_weight(shown: RowPreview) -> float:
    answers = [piece for piece in shown.spans if piece.kind == ANSWER and piece.weight > 0]
    return min((piece.weight for piece in answers), default=0.0)


def _answer_style(weight: float, usual: float) -> str:
    if weight <= 0:
        return "red"
    return "bold green" if weight > usual else "green"
