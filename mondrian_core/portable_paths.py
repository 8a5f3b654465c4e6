"""Portable paths: relative to the workspace or the registry, without folder names that identify people.

Files that only this machine reads again (summaries, contexts) store relative paths and make them absolute when read.
Texts for people and other machines (manifests, reports, pages, messages) pass through `without_absolute_paths`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

T = TypeVar("T")

_LOADED_FROM = ("_name_or_path", "name_or_path", "base_model_name_or_path")
REDACTED_PREFIX = ".../"  # replaces the folders of an absolute path
_HUB_SNAPSHOT = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/[^/]+/?$")
# An absolute path of any system in a text: at least two parts, not inside a URL or another path.
# _PART is one part of it; in Markdown a character may be escaped by a backslash.
_PART = r"(?:[^\s/\\'\"`|<>*?:;,()\[\]{}]|\\[^\w\s\\/]|\\_)+"
_ABSOLUTE = re.compile(
    rf"(?<![\w./:~\\-])(?:file://)?(?:/(?:{_PART}/)+{_PART}/?|[A-Za-z]:[\\/]+(?:{_PART}[\\/]+)*{_PART}|"
    rf"\\\\+{_PART}(?:\\+{_PART})+|~{_PART}/(?:{_PART}/?)+)"
)
_PICTURE = re.compile(r"(data:[\w/+.-]+;base64,[A-Za-z0-9+/=]*)")
_BASE64 = re.compile(r"[A-Za-z0-9+/=]{200,}")


def known_path_roots(workspace: Path, adapters: Path) -> dict[Path, str]:
    """Roots for `without_absolute_paths`: the workspace, the registry, and the user's home."""
    return {workspace: "", adapters: "adapters/", **home_path_root()}


def home_path_root() -> dict[Path, str]:
    """The user's home as a root for `without_absolute_paths`; {} without a home."""
    try:
        return {Path.home(): "~/"}
    except RuntimeError:
        return {}


def portable_path(path: Path | str, root: Path) -> str:
    """A path below `root`, relative to it with "/" ("." for the root); any other path unchanged."""
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return str(path)


def absolute_from_portable(text: str, root: Path) -> str:
    """The absolute path of a `portable_path`; an absolute one, as older versions stored, unchanged."""
    return str(root / text)


def relative_path_via_parents(path: str, root: Path) -> str:
    """A path relative to `root` with "..", unless that would name a home or a disk; else unchanged."""
    common = Path(os.path.commonpath([path, root]))
    reveals = any(home.is_relative_to(common) and home != common for home in home_path_root())
    return path if reveals or len(common.parts) < 2 else os.path.relpath(path, root)


def abbreviate_home(text: str) -> str:
    """A path in the user's home with "~"; any other text unchanged."""
    for home in home_path_root():
        if text.startswith(f"{home}/"):
            return f"~/{text.removeprefix(f'{home}/')}"
    return text


def base_model_name(name: str) -> str:
    """A base model's name without folders: a hub id and `mini` unchanged, a local folder's last part."""
    if found := _HUB_SNAPSHOT.search(name):
        return f"{found[1]}/{found[2]}"
    local = name.startswith(("/", "~", ".", "\\")) or ":" in name or "\\" in name or Path(name).is_dir()
    return _last_part(name) or name if local else name


def with_base_model_names(values: T) -> T:
    """A model's or tokenizer's configuration, with the folder it was loaded from replaced by its name."""
    if not isinstance(values, dict):
        return values
    return {
        key: base_model_name(value) if key in _LOADED_FROM and isinstance(value, str) else value
        for key, value in values.items()
    }  # type: ignore[return-value]


def redacted_path(text: str, roots: Iterable[Path] = ()) -> str:
    """A text that is one path: relative to one of `roots`, unchanged when relative, else only its last name."""
    for root in roots:
        if Path(text).is_relative_to(root):
            return portable_path(text, root)
    absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).anchor or text.startswith("~")
    return REDACTED_PREFIX + _last_part(text) if absolute and _last_part(text) else text


def without_absolute_paths(value: T, roots: Mapping[Path, str]) -> T:
    """Plain values (texts, lists, mappings) without absolute paths.

    Args:
        value: the values.
        roots: prefix that replaces each known folder: "" for the workspace gives `runs/x`, "adapters/" gives
            `adapters/ansel`. Of other absolute paths only the last name remains: `.../name`.
    """
    if isinstance(value, str):
        return _without(value, roots)  # type: ignore[return-value]
    if isinstance(value, Mapping):
        return {key: without_absolute_paths(each, roots) for key, each in value.items()}  # type: ignore[return-value]
    if isinstance(value, list | tuple):
        return type(value)(without_absolute_paths(each, roots) for each in value)
    return value


def _without(text: str, roots: Mapping[Path, str]) -> str:
    if _BASE64.fullmatch(text):
        return text
    pieces = _PICTURE.split(text)
    return "".join(piece if place % 2 else _without_any(piece, roots) for place, piece in enumerate(pieces))


def _without_any(text: str, roots: Mapping[Path, str]) -> str:
    if "/" not in text and "\\" not in text and all(root.is_absolute() for root in roots):
        return text  # most texts; what follows takes longer than writing them
    spelled = {str(place): stands for root, stands in roots.items() for place in (root, root.resolve())}
    for root in sorted(spelled, key=len, reverse=True):
        if root.strip("/"):
            spelling = "".join(re.escape(sign) if sign.isalnum() else rf"\\?{re.escape(sign)}" for sign in root)
            pattern = rf"(?<![\w./-]){spelling}(?:/|(?![\w-]|\.\w))"
            text = re.sub(pattern, lambda found: _root_replacement(found.group(), spelled), text)
    return _ABSOLUTE.sub(lambda found: REDACTED_PREFIX + _last_part(found.group()), text)


def _root_replacement(found: str, spelled: Mapping[str, str]) -> str:
    """The replacement of a root with the slash after it, or of the root alone."""
    root = found.rstrip("/")
    stands = spelled.get(root) or spelled.get(re.sub(r"\\([\W_])", r"\1", root), "")
    return stands if found.endswith("/") else stands.rstrip("/") or "."


def _last_part(path: str) -> str:
    windows = re.match(r"[A-Za-z]:[\\/]|\\\\", path)
    between = r"[/\\]+(?=\w)|\\{2,}" if windows else r"/+|\\+(?=[^\W_])"
    return next((part for part in reversed(re.split(between, path)) if part and part != "."), "")
