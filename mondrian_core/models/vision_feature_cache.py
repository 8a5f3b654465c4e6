"""Cache of vision features on disk: the frozen vision tower's output, computed once and read when a step needs it.

With a large base the features of one photograph are tens of megabytes (N image tokens x D, four times with DeepStack),
so a few hundred rows don't fit into memory together with the model. A file is named after everything it depends on: the
base's fingerprint, the software, the tokens, and the processor's pixels. Data types are kept, so a step computes the
same bits as without the cache.

Shapes: `T` tokens, `N` image tokens, `D` width.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
import numpy as np

from mondrian_core.errors import MondrianError
from mondrian_core.files import replace_atomic
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.prompt_encoding import EncodedPrompt, processor_inputs, run_vision_tower
from mondrian_core.software_identity import software_digest

if TYPE_CHECKING:
    from PIL import Image

CACHE_LIMIT_BYTES = 8 << 30


@dataclass(frozen=True, eq=False)
class CachedPrompt:
    """A prompt whose arrays are stored in a file; `load` reads them.

    Attributes:
        base: the base that the features belong to.
        path: the file.
        ids: T token ids.
        image_tokens: N.
    """

    base: BaseVLM
    path: Path
    ids: tuple[int, ...]
    image_tokens: int

    def load(self) -> EncodedPrompt:
        """The prompt with its arrays.

        Raises:
            OSError, RuntimeError: the file was removed or damaged in the meantime.
        """
        return _read(self.base, self.path, self.ids)


class VisionFeatureCache:
    """A folder of cached prompts with a size limit; the least recently used files are removed first."""

    def __init__(self, folder: Path, limit_bytes: int = CACHE_LIMIT_BYTES) -> None:
        self.folder, self._limit = folder, limit_bytes
        self.computed = 0

    def encode(self, base: BaseVLM, messages: list[dict[str, Any]], image: Image.Image) -> EncodedPrompt | CachedPrompt:
        """As `encode_prompt`, from the file if there is one; in memory if the disk is full."""
        ids, picture = processor_inputs(base, messages, image)
        path = self.folder / f"{_key(base, ids, picture)}.safetensors"
        tokens = tuple(int(token) for token in ids[0])
        if (found := _read_if_valid(base, path, tokens)) is not None:
            path.touch()
            return CachedPrompt(base, path, tokens, found.image_tokens)
        self.computed += 1
        prompt = run_vision_tower(base, ids, picture)
        try:
            replace_atomic(path, lambda temporary: _write(temporary, prompt))
        except (MondrianError, OSError, RuntimeError):
            return prompt
        return CachedPrompt(base, path, tokens, prompt.image_tokens)

    def prune(self) -> None:
        """Remove the least recently used files until the folder is within its limit."""
        files = sorted(self.folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
        held = 0
        for path in files:
            held += path.stat().st_size
            if held > self._limit:
                path.unlink(missing_ok=True)


def _key(base: BaseVLM, ids: np.ndarray, picture: dict[str, mx.array]) -> str:
    digest = hashlib.sha256(f"2 {base.fingerprint} {software_digest()}".encode())
    digest.update(ids.astype("<i8").tobytes())
    for name in sorted(picture):
        array = np.array(picture[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def _write(path: Path, prompt: EncodedPrompt) -> None:
    arrays = {
        "positions": prompt.positions,
        "image_index": prompt.image_index,
        "features": prompt.embeddings[0][prompt.image_index],
        **{f"deepstack.{number}": layer for number, layer in enumerate(prompt.deepstack)},
    }
    mx.save_safetensors(str(path), arrays, metadata={"next_position": str(prompt.next_position)})


def _read_if_valid(base: BaseVLM, path: Path, ids: tuple[int, ...]) -> EncodedPrompt | None:
    """The prompt in the file; None if there is no file or it is damaged."""
    if not path.is_file():
        return None
    try:
        return _read(base, path, ids)
    except (OSError, RuntimeError, KeyError, ValueError):
        return None


def _read(base: BaseVLM, path: Path, ids: tuple[int, ...]) -> EncodedPrompt:
    arrays, metadata = cast(tuple[dict[str, mx.array], dict[str, str]], mx.load(str(path), return_metadata=True))
    index = arrays["image_index"]
    embeddings = base.language_model.model.embed_tokens(mx.array([ids], dtype=mx.int32))
    embeddings[:, index] = arrays["features"].astype(embeddings.dtype)
    deepstack = tuple(arrays[f"deepstack.{number}"] for number in range(len(arrays) - 3))
    mx.eval(embeddings, index, arrays["positions"], *deepstack)
    return EncodedPrompt(
        ids=ids,
        embeddings=embeddings,
        image_index=index,
        deepstack=deepstack,
        positions=arrays["positions"],
        next_position=int(metadata["next_position"]),
    )
