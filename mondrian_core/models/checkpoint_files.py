"""Which files a base model's folder must have, and which of them are missing or damaged. No weights are read.

mlx-vlm and transformers replace some missing files by defaults silently: without tokenizer.json a tokenizer with
another vocabulary is built, without preprocessor_config.json another size of photographs is allowed. Such a base
answers, and answers nonsense.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mondrian_core.models.base_identity import CHAT_TEMPLATE_FILES

CONFIGURATION, WEIGHTS, WEIGHTS_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))  # one of these sets
TOKENIZER_CONFIGURATION = "tokenizer_config.json"
# The first one that has image settings is used; transformers 5 writes them into the second one.
IMAGE_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_CONSOLIDATED = "consolidated.safetensors"  # mlx-vlm ignores it
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_PARSED_UP_TO = 1 << 20  # bytes; of a larger JSON file only both ends are looked at
_MISSING = "is missing"


@dataclass(frozen=True)
class FileProblem:
    """A missing or damaged file of a base model.

    Attributes:
        name: the file's name.
        problem: what is wrong, as the rest of a sentence, such as "is missing".
    """

    name: str
    problem: str

    def __str__(self) -> str:
        return f"{self.name} {self.problem}"

    @property
    def is_pointer(self) -> bool:
        """True for a small text that Git LFS replaces by the file."""
        return "Git LFS" in self.problem


def find_file_problems(folder: Path) -> tuple[FileProblem, ...]:
    """What is missing or damaged in a base model's folder; () if nothing is.

    Lengths are compared with the headers of the weight files, so a file that was cut off is found. Bytes that changed
    inside a file of the right length are not: that needs a hash (`load_base_identity`).
    """
    found = [*_json_problems(folder), *_weight_problems(folder), *_tokenizer_problems(folder)]
    if not any(_has_image_settings(folder / name) for name in IMAGE_PROCESSOR_FILES):
        found.append(FileProblem(IMAGE_PROCESSOR_FILES[0], _MISSING))
    if not any(_has_chat_template(folder / name) for name in CHAT_TEMPLATE_FILES):
        found.append(FileProblem("chat_template.jinja", "is missing, and no other file has a chat template"))
    return tuple({problem.name: problem for problem in reversed(found)}.values())[::-1]


def problems_as_text(problems: tuple[FileProblem, ...], most: int = 6) -> str:
    """The problems as one clause, with at most `most` files named."""
    named = [str(problem) for problem in problems[:most]]
    if len(problems) > most:
        named.append(f"{len(problems) - most} more files are missing or damaged")
    return ", ".join(named[:-1]) + (" and " if len(named) > 1 else "") + named[-1]


def weight_files(folder: Path) -> list[Path]:
    """The files that mlx-vlm reads the weights from: those of the index that exist, otherwise all."""
    indexed = [folder / name for name in _indexed_shards(folder) if (folder / name).is_file()]
    return indexed or sorted(path for path in folder.glob("*.safetensors") if path.name != _CONSOLIDATED)


def file_length_problem(path: Path, expected: int) -> FileProblem | None:
    """The problem of a file whose length in bytes isn't the expected one."""
    if not path.is_file():
        return FileProblem(path.name, _MISSING)
    length = path.stat().st_size
    if length == expected:
        return None
    if (pointer := _pointer_problem(path)) is not None:
        return pointer
    what = "is cut off" if length < expected else "is too long"
    return FileProblem(path.name, f"{what} ({_size(length)} instead of {_size(expected)})")


def _indexed_shards(folder: Path) -> list[str]:
    index = _read_object(folder / WEIGHTS_INDEX)
    placed = index.get("weight_map") if index else None
    return sorted({str(name) for name in placed.values()}) if isinstance(placed, dict) else []


def _weight_problems(folder: Path) -> Iterator[FileProblem]:
    present = weight_files(folder)
    shards = _indexed_shards(folder)
    if not present:
        yield from (FileProblem(name, _MISSING) for name in shards or [WEIGHTS])
    elif any(path.name in shards for path in present):  # otherwise the index describes the checkpoint it was made from
        yield from (FileProblem(name, _MISSING) for name in shards if not (folder / name).is_file())
    else:
        yield from (FileProblem(name, _MISSING) for name in _absent_by_number(present))
    for path in present:
        if (problem := _damage(path)) is not None:
            yield problem


def _absent_by_number(present: list[Path]) -> list[str]:
    """Shards whose neighbors' names count them ("model-00001-of-00002.safetensors"), where no index names them."""
    names = {path.name for path in present}
    counted = {(found[1], int(found[3])) for name in names if (found := _SHARD.fullmatch(name))}
    every = [
        f"{stem}-{i:05d}-of-{count:05d}.safetensors" for stem, count in sorted(counted) for i in range(1, count + 1)
    ]
    return [name for name in every if name not in names]


def _damage(path: Path) -> FileProblem | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy"):  # checks the header and the length of the file
            return None
    except (SafetensorError, OSError) as error:
        if (pointer := _pointer_problem(path)) is not None:
            return pointer
        expected = _length_by_header(path)
        if expected is not None and (problem := file_length_problem(path, expected)) is not None:
            return problem
        return FileProblem(path.name, f"is damaged ({str(error).splitlines()[0]})")


def _length_by_header(path: Path) -> int | None:
    """Bytes that a safetensors file should have by its own header; None if that can't be read."""
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > path.stat().st_size:
            return None
        try:
            header = json.loads(stream.read(size))
            ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
            return 8 + size + max(ends, default=0)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            return None


def _json_problems(folder: Path) -> Iterator[FileProblem]:
    if not (folder / CONFIGURATION).is_file():
        yield FileProblem(CONFIGURATION, _MISSING)
    for path in sorted(folder.glob("*.json")):
        if (pointer := _pointer_problem(path)) is not None:
            yield pointer
        elif not _is_json_object(path):
            yield FileProblem(path.name, "is not valid JSON; it may be cut off" if path.stat().st_size else "is empty")


def _tokenizer_problems(folder: Path) -> Iterator[FileProblem]:
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZER_FILES):
        yield FileProblem(TOKENIZER_FILES[0][0], _MISSING)
    if not (folder / TOKENIZER_CONFIGURATION).is_file():
        yield FileProblem(TOKENIZER_CONFIGURATION, _MISSING)


def _has_image_settings(path: Path) -> bool:
    values = _read_object(path)
    if values is None:
        return path.is_file()  # its damage is another problem
    return path.name == IMAGE_PROCESSOR_FILES[0] or "image_processor" in values


def _has_chat_template(path: Path) -> bool:
    if path.suffix != ".json":
        return path.is_file() and path.stat().st_size > 0
    values = _read_object(path)
    return bool((values or {}).get("chat_template"))


def _read_object(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _is_json_object(path: Path) -> bool:
    if path.stat().st_size <= _PARSED_UP_TO:
        return _read_object(path) is not None
    with path.open("rb") as stream:
        begins = stream.read(64).lstrip()[:1]
        stream.seek(-64, 2)
        return begins == b"{" and stream.read().rstrip()[-1:] == b"}"


def _pointer_problem(path: Path) -> FileProblem | None:
    with path.open("rb") as stream:
        is_pointer = stream.read(len(_LFS_POINTER)) == _LFS_POINTER
    return FileProblem(path.name, "is only a pointer of Git LFS, not the file") if is_pointer else None


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count:,} bytes"
