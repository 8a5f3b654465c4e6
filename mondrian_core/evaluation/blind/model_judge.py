"""Another model as the judge of two critiques: it gets the photograph and both texts and answers A or B."""

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

_MAX_TOKENS = 4


def make_model_judge(base: BaseVLM, name: str, judged_fingerprint: str | None) -> JudgeFunction:
    """A judge function that asks `base` with greedy decoding.

    Raises:
        BadInput: `base` wrote the critiques; a model prefers its own.
    """
    from mondrian_core.models.inference.generation import generate

    if base.fingerprint == judged_fingerprint:
        raise BadInput(f"{name} wrote these critiques and would prefer its own.", "Use another model with --judge.")

    def ask(picture: str, first: str, second: str) -> str:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as opened:
            image = opened.convert("RGB")
        answer = generate(base, preference_judge_messages(first, second), image, max_tokens=_MAX_TOKENS).text
        return parse_judge_letter(answer)

    return ask


def parse_judge_letter(answer: str) -> str:
    """The preferred critique: "first" for an answer that begins with A, "second" for B, else ""."""
    plain = answer.strip(" \n\t*\"'(").upper()
    return {"A": "first", "B": "second"}.get(plain[:1], "") if not plain[1:2].isalnum() else ""
