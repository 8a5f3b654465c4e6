"""Copy an adapter's files into a new version: allowed file types, copies, and the manifest written last."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadAdapter
from mondrian_core.files import file_sha256, sync_folder
from mondrian_core.portable_paths import home_path_root, with_base_model_names, without_absolute_paths
from mondrian_core.registry.version import (
    CONFIG,
    MANIFEST,
    MANIFEST_FORMAT,
    PEFT_WEIGHTS,
    WEIGHTS,
    determines_answers,
    is_safe_file_name,
)

# Allowed in a version. Formats that can run code when they are read (pickle and its wrappers) are not.
ALLOWED_SUFFIXES = frozenset(
    {".safetensors", ".json", ".jsonl", ".html", ".md", ".txt", ".toml", ".csv", ".png", ".jpg"}
)
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npz", ".npy", ".joblib"})
TEXT_SUFFIXES = ALLOWED_SUFFIXES - {".safetensors", ".png", ".jpg"}
TOKENIZER_FILE_PREFIXES = (
    "tokenizer",
    "vocab",
    "merges",
    "added_tokens",
    "special_tokens",
    "chat_template",
)  # tokens that look like paths are not paths
READ_ONLY_MODE = 0o444

# Keys of a manifest that belong to the registry it was written in.
REGISTRY_SPECIFIC_KEYS = frozenset(
    {"advisor", "version", "created_at", "registered_as", "files", "format", "gate_report", "parent", "imported_from"}
)


def collect_version_files(folder: Path, attachments: Sequence[Path] = ()) -> dict[str, Path]:
    """The files of a new version by name: those of an adapter's folder, and reports to store with them.

    Raises:
        BadAdapter: no safetensors weights or configuration, a pickle, or two files with one name.
    """
    if not folder.is_dir():
        raise BadAdapter(f"{folder} is not an adapter's folder.", "Name the folder that holds adapters.safetensors.")
    found = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST}
    for name in found:
        if Path(name).suffix.lower() in PICKLE_SUFFIXES:
            raise BadAdapter(
                f"{folder / name} is a file that can run code when it is read.",
                "Convert the adapter to safetensors and remove that file; no other format is accepted.",
            )
    found = {
        name: path
        for name, path in found.items()
        if is_safe_file_name(name) and path.suffix.lower() in ALLOWED_SUFFIXES
    }
    if not {WEIGHTS, PEFT_WEIGHTS} & found.keys() or CONFIG not in found:
        raise BadAdapter(
            f"{folder} lacks {WEIGHTS} or {CONFIG}.",
            "Both are written by training; PEFT's adapter_model.safetensors does too.",
        )
    for path in attachments:
        if (
            not is_safe_file_name(path.name)
            or path.suffix.lower() not in ALLOWED_SUFFIXES
            or path.name in (MANIFEST, *found)
        ):
            raise BadAdapter(f"{path} can't be stored with the adapter.", "Give it another name or leave it out.")
        if path.is_file():
            found[path.name] = path
    return found


def stored_content(files: Mapping[str, Path], home: Path) -> frozenset[tuple[str, str]]:
    """What `AdapterVersion.content` will be once these files are stored as a version.

    Args:
        files: by name (`collect_version_files`).
        home: the advisor's folder in the registry.
    """
    roots = _roots(home)
    return frozenset((name, _stored_sha256(path, roots)) for name, path in files.items() if determines_answers(name))


def _stored_sha256(path: Path, roots: Mapping[Path, str]) -> str:
    rewritten = _rewritten_text(path, roots)
    return file_sha256(path) if rewritten is None else hashlib.sha256(rewritten.encode()).hexdigest()


def _roots(home: Path) -> dict[Path, str]:
    return {home.parent: "adapters/", **home_path_root()}


def write_version(folder: Path, files: Mapping[str, Path], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Write a new folder: read-only copies flushed to disk, then the manifest with their hashes; gives the manifest.

    Versions are shared, so absolute paths in text files, which name people, are replaced by placeholders.

    Raises:
        OSError: writing failed; the folder has no manifest and so is not a version.
    """
    folder.mkdir(parents=True)
    roots = _roots(folder.parent)
    facts = {}
    for name, source in files.items():
        target = folder / name
        shutil.copyfile(source, target)
        _remove_paths(target, roots)
        _flush(target)
        facts[name] = {"sha256": file_sha256(target), "bytes": target.stat().st_size}
    complete = {"format": MANIFEST_FORMAT, **without_absolute_paths(manifest, roots), "files": facts}
    target = folder / MANIFEST
    target.write_text(json.dumps(complete, indent=2, ensure_ascii=False) + "\n")
    _flush(target)
    sync_folder(folder)
    return complete


def _remove_paths(path: Path, roots: Mapping[Path, str]) -> None:
    """Rewrite a text file that contains an absolute path; any other file keeps its bytes."""
    rewritten = _rewritten_text(path, roots)
    if rewritten is not None:
        path.chmod(0o644)
        path.write_text(rewritten, encoding="utf-8")


def _rewritten_text(path: Path, roots: Mapping[Path, str]) -> str | None:
    """The text of a file without absolute paths; None for a file that keeps its bytes."""
    if path.suffix.lower() not in TEXT_SUFFIXES:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError:
        return None
    lines = text.splitlines(keepends=True) if path.suffix.lower() == ".jsonl" else [text]
    rewritten = "".join(_text_without_paths(line, path, roots) for line in lines)
    return rewritten if rewritten != text else None


def _text_without_paths(text: str, path: Path, roots: Mapping[Path, str]) -> str:
    suffix, of_tokenizer = path.suffix.lower(), path.name.lower().startswith(TOKENIZER_FILE_PREFIXES)
    if suffix in (".json", ".jsonl"):
        with suppress(ValueError):
            values = json.loads(text)
            cleaned = with_base_model_names(values)
            cleaned = cleaned if of_tokenizer else without_absolute_paths(cleaned, roots)
            indent = 2 if suffix == ".json" else None
            return text if cleaned == values else json.dumps(cleaned, indent=indent, ensure_ascii=False) + "\n"
    return text if of_tokenizer else without_absolute_paths(text, roots)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    path.chmod(READ_ONLY_MODE)


def manifest_problems(folder: Path) -> tuple[str, ...]:
    """Differences between a folder's files and the manifest in it; () also without a manifest."""
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError):
        return (f"{MANIFEST} can't be read",)
    found = []
    for name, facts in files.items():
        if not is_safe_file_name(name) or not (folder / name).is_file():
            found.append(f"{name} is missing")
        elif file_sha256(folder / name) != facts.get("sha256"):
            found.append(f"{name} doesn't match its SHA-256")
    return tuple(found)
