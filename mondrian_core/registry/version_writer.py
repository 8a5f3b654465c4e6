"""Taking files in as a new version: what may come in, copying it, and the manifest written last."""

from __future__ import annotations

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
from mondrian_core.registry.version import CONFIG, MANIFEST, MANIFEST_FORMAT, PEFT_WEIGHTS, WEIGHTS, is_safe_file_name

# What a version may hold. Formats that run code when they are read (pickle, and what wraps it) are not among them.
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
)  # tokens are no paths
READ_ONLY_MODE = 0o444

# Keys of a manifest that belong to the registry it was written in.
REGISTRY_SPECIFIC_KEYS = frozenset(
    {"advisor", "version", "created_at", "registered_as", "files", "format", "gate_report", "parent", "imported_from"}
)


def collect_version_files(folder: Path, attachments: Sequence[Path] = ()) -> dict[str, Path]:
    """By name in the version: the files to copy from an adapter's folder, and reports to lay beside them.

    Raises:
        BadAdapter: no safetensors weights or configuration, a pickle, two files of one name.
    """
    if not folder.is_dir():
        raise BadAdapter(f"{folder} is no folder with an adapter.", "Name the folder that holds adapters.safetensors.")
    found = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST}
    for name in found:
        if Path(name).suffix.lower() in PICKLE_SUFFIXES:
            raise BadAdapter(
                f"{folder / name} is a file that can run code when it is read.",
                "Convert the adapter to safetensors and remove that file; nothing else is taken in.",
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
            raise BadAdapter(f"{path} can't be laid beside the adapter.", "Give it another name or leave it out.")
        if path.is_file():
            found[path.name] = path
    return found


def write_version(folder: Path, files: Mapping[str, Path], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Fill a new folder: copies flushed to disk and read-only, then the manifest with their hashes.

    A version travels, so absolute paths in its texts, which name people, give way to names.

    Raises:
        OSError: what the disk says; the folder is then no version, for it has no manifest.
    """
    folder.mkdir(parents=True)
    roots = {folder.parent.parent: "adapters/", **home_path_root()}
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
    """Rewrite a text file that holds an absolute path; one that holds none keeps its bytes."""
    if path.suffix.lower() not in TEXT_SUFFIXES:
        return
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError:
        return
    lines = text.splitlines(keepends=True) if path.suffix.lower() == ".jsonl" else [text]
    told = "".join(_text_without_paths(line, path, roots) for line in lines)
    if told != text:
        path.chmod(0o644)
        path.write_text(told, encoding="utf-8")


def _text_without_paths(text: str, path: Path, roots: Mapping[Path, str]) -> str:
    suffix, of_tokenizer = path.suffix.lower(), path.name.lower().startswith(TOKENIZER_FILE_PREFIXES)
    if suffix in (".json", ".jsonl"):
        with suppress(ValueError):
            values = json.loads(text)
            told = with_base_model_names(values)
            told = told if of_tokenizer else without_absolute_paths(told, roots)
            indent = 2 if suffix == ".json" else None
            return text if told == values else json.dumps(told, indent=indent, ensure_ascii=False) + "\n"
    return text if of_tokenizer else without_absolute_paths(text, roots)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    path.chmod(READ_ONLY_MODE)


def manifest_problems(folder: Path) -> tuple[str, ...]:
    """Where a folder's files differ from the manifest that came with them; () also when none came."""
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
