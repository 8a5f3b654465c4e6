"""Cache of the answers of base and champion between evaluations; answers of the candidate are never cached.

The key covers everything the answer depends on, so a hit is always right as long as decoding is greedy or seeded.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.errors import translate_foreign_errors
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.files import read_json

if TYPE_CHECKING:
    from PIL import Image

CACHE_FORMAT = 2  # raise it when the same model may answer differently


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


class AnswerCache:
    """One JSON file per answer in `folder`; None disables the cache."""

    def __init__(self, folder: Path | None, **identity: Any) -> None:
        self._folder = folder
        self._identity = {**identity, "format": CACHE_FORMAT}

    def _path(self, adapter: str, photograph: str) -> Path | None:
        if self._folder is None:
            return None
        text = json.dumps({**self._identity, "adapter": adapter, "photograph": photograph}, sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"

    def get(self, adapter: str, photograph: str) -> EvaluationOutcome | None:
        """The cached outcome for an adapter's and a photograph's digest; None when there is none or it is damaged."""
        path = self._path(adapter, photograph)
        if path is None or not path.is_file():
            return None
        try:
            return EvaluationOutcome.from_dict(read_json(path))
        except (ValueError, TypeError):
            return None

    def put(self, adapter: str, photograph: str, outcome: EvaluationOutcome) -> None:
        """Store an answer; an outcome that failed to run is not stored."""
        path = self._path(adapter, photograph)
        if path is None or not outcome.ran:
            return
        with translate_foreign_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(outcome.as_dict()), encoding="utf-8")
            temporary.replace(path)  # not flushed to disk: a lost answer is generated again
