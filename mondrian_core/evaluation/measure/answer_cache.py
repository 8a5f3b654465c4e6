"""Cache of the answers of base and champion between evaluations; answers of the candidate are never cached.

The key covers everything the answer depends on: the base, the adapter, the software, and every field of the question.
So a hit is always right as long as decoding is greedy or seeded.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.errors import translate_foreign_errors
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.files import mark_as_used, read_json
from mondrian_core.photograph_model import Question
from mondrian_core.software_identity import software_digest

if TYPE_CHECKING:
    from PIL import Image

CACHE_FORMAT = 3  # raise it when the stored values change their meaning

_BY_CONTENTS = frozenset({"adapter", "image"})  # fields of a question that are keyed by a digest of their files


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 over size and RGB pixels, hexadecimal."""
    picture = image.convert("RGB")
    return hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()


def adapter_files_digest(folder: Path | None) -> str:
    """SHA-256 over the names and bytes of an adapter's weights and configuration; "base" for None."""
    if folder is None:
        return "base"
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.suffix == ".safetensors" or path.name == "adapter_config.json":
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def question_digest(question: Question, pixels: str) -> str:
    """SHA-256 over a question, hexadecimal: a field that is added to `Question` is part of it.

    Args:
        question: its adapter and image count by their contents, which the caller states, and not by their place.
        pixels: `pixel_digest` of the image.
    """
    asked = {each.name: getattr(question, each.name) for each in fields(question) if each.name not in _BY_CONTENTS}
    if question.temperature == 0:
        asked["seed"] = None  # a greedy answer doesn't depend on it
    text = json.dumps({**asked, "pixels": pixels}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """One JSON file per answer in `folder`; None disables the cache.

    Args:
        folder: of the files.
        base: fingerprint of the base model, which covers its chat template and processor.
        identity: more that answers depend on, such as the service's settings.
    """

    def __init__(self, folder: Path | None, base: str, **identity: Any) -> None:
        self._folder = folder
        self._identity = {**identity, "base": base, "software": software_digest(), "format": CACHE_FORMAT}

    def _path(self, adapter: str, question: str) -> Path | None:
        if self._folder is None:
            return None
        text = json.dumps({**self._identity, "adapter": adapter, "question": question}, sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"

    def get(self, adapter: str, question: str) -> EvaluationOutcome | None:
        """The cached outcome for an adapter's and a question's digest; None when there is none or it is damaged."""
        path = self._path(adapter, question)
        if path is None or not path.is_file():
            return None
        mark_as_used(path)
        try:
            return EvaluationOutcome.from_dict(read_json(path))
        except (ValueError, TypeError):
            return None

    def put(self, adapter: str, question: str, outcome: EvaluationOutcome) -> None:
        """Store an answer; an outcome that failed to run is not stored."""
        path = self._path(adapter, question)
        if path is None or not outcome.ran:
            return
        with translate_foreign_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(outcome.as_dict()), encoding="utf-8")
            temporary.replace(path)  # not flushed to disk: a lost answer is generated again
