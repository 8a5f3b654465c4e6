"""The shortest row that a training learns from."""

from __future__ import annotations

from typing import Any

from PIL import Image

from mondrian_core.dataset_types import DatasetRow

# A packed output layer of 151,936 rows is slow on a CPU: a whole answer of 150 tokens takes 16 seconds a step.
SHORT_ANSWER = '{"composition": {"score": 7}}'
PADDED_TO = 4  # tokens


def short_row(image: Image.Image, messages: list[dict[str, Any]], answer: str = SHORT_ANSWER) -> DatasetRow:
    """A row with one score; the messages don't have the answer yet."""
    return DatasetRow(
        photo_id=f"{image.width}x{image.height}",
        image=image,
        messages=[*messages, {"role": "assistant", "content": [{"type": "text", "text": answer}]}],
        answer=answer,
        scores={"composition": 7.0},
        loss_dimensions=("composition",),
        weight=1.0,
    )
