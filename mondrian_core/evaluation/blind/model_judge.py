"""Another model as a judge of two critiques: it sees the photograph and both texts, and answers A or B."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from PIL import Image

from mondrian_core.errors import BadInput
from mondrian_core.prompts import preference_judge_messages

if TYPE_CHECKING:
    from mondrian_core.evaluation.blind.preference import JudgeFunction
    from mondrian_core.models.base_model import BaseVLM

_TOKENS = 4


def make_model_judge(base: BaseVLM, name: str, judged_fingerprint: str | None) -> JudgeFunction:
    """A judge that answers with `base`, greedily.

    Raises:
        BadInput: it is the model that wrote the critiques; a model prefers its own.
    """
    from mondrian_core.models.inference.generation import generate

    if base.fingerprint == judged_fingerprint:
        raise BadInput(
            f"{name} wrote these critiques itself and would prefer its own.", "Name another model with --judge."
        )

    def ask(picture: str, first: str, second: str) -> str:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as opened:
            image = opened.convert("RGB")
        said = generate(base, preference_judge_messages(first, second), image, max_tokens=_TOKENS).text
        return parse_judge_letter(said)

    return ask


def parse_judge_letter(answer: str) -> str:
    """ "first" for an answer that begins with A, "second" for B, else ""."""
    plain = answer.strip(" \n\t*\"'(").upper()
    return {"A": "first", "B": "second"}.get(plain[:1], "") if not plain[1:2].isalnum() else ""
