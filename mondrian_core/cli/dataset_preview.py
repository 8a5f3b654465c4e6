"""`mondrian dataset --preview`: one row exactly as the model sees it, with the trained tokens highlighted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from mondrian_core.data.dataset.preview import ANSWER, PHOTOGRAPH, PROMPT, RowPreview, preview_row
from mondrian_core.data.dataset.token_budget import check_row_lengths
from mondrian_core.data.dataset.version import load_dataset_version
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
        BadInput: the row doesn't exist, or is longer than the recipe allows.
    """
    rows = load_dataset_version(dataset).rows("train")
    if not 1 <= number <= len(rows):
        raise BadInput(f"There is no row {number}; the training split has {len(rows)}.", "Choose another number.")

    def weigh(row: DatasetRow, answer: EncodedAnswer) -> Any:
        return token_weights(row, answer, context.recipe.train.score_weight)

    preview = preview_row(load_base(context.base_model), rows[number - 1], weigh)
    check_row_lengths([(f"row {number}", preview.length)], context.recipe.train.max_tokens)
    return preview


def print_row_preview(console: Console, preview: RowPreview) -> None:
    """Print the row: prompt dim, trained tokens green (bold: higher loss weight), other answer tokens red."""
    usual = _usual_weight(preview)
    text = Text()
    for span in preview.spans:
        text.append(span.text, _STYLES.get(span.kind) or _answer_style(span.weight, usual))
    console.print(text)
    counts = ", ".join(f"{preview.count(kind)} {kind}" for kind in (PROMPT, PHOTOGRAPH, ANSWER))
    console.print(f"{preview.total} tokens: {counts}. Photograph {preview.photo_id[:12]}.")
    console.print(Text("trained", "green"), Text("higher weight", "bold green"), Text("not trained", "red"), sep="   ")


def _usual_weight(preview: RowPreview) -> float:
    answers = [span for span in preview.spans if span.kind == ANSWER and span.weight > 0]
    return min((span.weight for span in answers), default=0.0)


def _answer_style(weight: float, usual: float) -> str:
    if weight <= 0:
        return "red"
    return "bold green" if weight > usual else "green"
