"""The photograph that a row of a file names: by path, by file name with or without suffix, or by hash."""

from __future__ import annotations

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from mondrian_core.critique_files.records import RowProblem
from mondrian_core.events import EventListener, StageProgressed, ignore_events
from mondrian_core.files import file_sha256
from mondrian_core.images import PHOTOGRAPH_SUFFIXES
from mondrian_core.photograph_paths import PathResolution, SourceTree, path_parts
from mondrian_core.store import Store

MAX_SUGGESTED = 3
MAX_SEARCHES = 50  # rows whose names are compared with all names; the others are only counted
_HASHED_TABLES = ("photographs", "embeddings")


def known_hashes(store: Store) -> dict[str, str]:
    """SHA-256 by path of the photographs whose hash the database has."""
    found: dict[str, str] = {}
    for table in _HASHED_TABLES:
        if store.has_table(table):
            rows = store.select(f"SELECT image_path, sha256 FROM {table}")
            found |= {path: sha256 for path, sha256 in rows if path and sha256}
    return found


class PhotographLookup:
    """Finds photographs of one workspace. A file is hashed at most once, and only when a row makes that necessary."""

    def __init__(self, workspace: Path, hashes: Mapping[str, str], listen: EventListener = ignore_events) -> None:
        self._tree = SourceTree(workspace)
        self._workspace, self._listen = workspace, listen
        self._hashes = dict(hashes)
        self._found: dict[str, str | RowProblem] = {}
        self._photographs = [path for path in self._tree.files if _is_photograph(path)]
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in self._photographs:
            self._by_stem[_folded(PurePosixPath(path).stem)].append(path)
        self._by_hash: dict[str, str] | None = None
        self._searches = 0

    def __len__(self) -> int:
        return len(self._photographs)

    @property
    def roots(self) -> tuple[Path, ...]:
        """The workspace's folder, as given and with links resolved."""
        return self._tree.workspace_roots

    def find(self, text: str, sha256: str) -> str:
        """The photograph's path below the workspace, with "/".

        Args:
            text: path or name; "" when only the hash names it.
            sha256: of its bytes; "" when unknown.

        Raises:
            RowProblem: there is none, there are several, or the file of that name has other contents.
        """
        if not text:
            return self._with_hash(sha256, "")
        try:
            path = self.by_path(text)
        except RowProblem:
            if sha256 and (same := self._all_hashes().get(sha256)):
                return same
            raise
        return path if not sha256 or self.hash(path) == sha256 else self._with_hash(sha256, path)

    def by_path(self, text: str) -> str:
        """The photograph that a path or a name leads to.

        Raises:
            RowProblem: as `find`.
        """
        if text not in self._found:
            try:
                self._found[text] = self._resolved(text)
            except RowProblem as problem:
                self._found[text] = problem
        found = self._found[text]
        if isinstance(found, RowProblem):
            raise found.with_traceback(None)
        return found

    def hash(self, path: str) -> str:
        """SHA-256 of a photograph that `find` returned; "" when the file can't be read."""
        if path not in self._hashes:
            try:
                self._hashes[path] = file_sha256(self._workspace / path)
            except OSError:
                self._hashes[path] = ""
        return self._hashes[path]

    def _resolved(self, text: str) -> str:
        name = PurePosixPath(path_parts(text)[-1]).name if path_parts(text) else ""
        resolved = self._tree.resolve(text)
        if resolved.path is not None:
            if _is_photograph(resolved.path):
                return resolved.path
            raise RowProblem(f"'{_shown(text)}' is not named like a photograph")
        if resolved.how is PathResolution.OUTSIDE:
            raise RowProblem(f"the path '{_shown(text)}' leads out of the workspace")
        if resolved.how is PathResolution.BROKEN_LINK:
            raise RowProblem(f"the path '{_shown(text)}' goes through a broken link")
        candidates = self._tree.named(name) if resolved.how is PathResolution.AMBIGUOUS else self._stems(name)
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            more = f" and {len(candidates) - MAX_SUGGESTED} more" if len(candidates) > MAX_SUGGESTED else ""
            shown = ", ".join(candidates[:MAX_SUGGESTED])
            raise RowProblem(f"several photographs are called '{_shown(text)}': {shown}{more}; give the path")
        raise RowProblem(f"source/ has no photograph '{_shown(text)}'{self._nearest(name)}")

    def _stems(self, name: str) -> list[str]:
        if PurePosixPath(name).suffix.lower() in PHOTOGRAPH_SUFFIXES:
            return []
        return self._by_stem.get(_folded(name), [])

    def _nearest(self, name: str) -> str:
        self._searches += 1
        if self._searches > MAX_SEARCHES:
            return ""
        stem = _folded(PurePosixPath(name).stem)
        near = difflib.get_close_matches(stem, self._by_stem, MAX_SUGGESTED, 0.7)
        return f"; the nearest: {', '.join(self._by_stem[each][0] for each in near)}" if near else ""

    def _with_hash(self, sha256: str, path: str) -> str:
        if same := self._all_hashes().get(sha256):
            return same
        if path:
            raise RowProblem(f"{path} is not the photograph of that hash; empty the column sha256 to go by the path")
        raise RowProblem(f"no photograph in source/ has the hash {sha256[:16]}")

    def _all_hashes(self) -> dict[str, str]:
        if self._by_hash is None:
            found: dict[str, str] = {}
            for number, path in enumerate(self._photographs, 1):
                found.setdefault(self.hash(path), path)
                if number % 100 == 0 or number == len(self._photographs):
                    self._listen(StageProgressed("hash photographs", number, len(self._photographs)))
            found.pop("", None)
            self._by_hash = found
        return self._by_hash


def _is_photograph(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in PHOTOGRAPH_SUFFIXES


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _shown(text: str) -> str:
    return text if len(text) <= 120 else f"...{text[-117:]}"
