"""What is on this machine of a base model from the hub. Nothing is downloaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from mondrian_core.files import file_sha256
from mondrian_core.models.checkpoint_files import FileProblem, file_length_problem, find_file_problems

HUB_FILE_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
IGNORED_HUB_FILES = ("*/*",)  # other formats of the same model
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubSnapshot:
    """A base model in the hub's cache.

    Attributes:
        folder: its snapshot; None if nothing of it is here.
        problems: files that are missing or damaged.
    """

    folder: Path | None
    problems: tuple[FileProblem, ...] = ()

    @property
    def complete(self) -> bool:
        """True if the base can be loaded."""
        return self.folder is not None and not self.problems

    @property
    def commit(self) -> str | None:
        """The commit that it belongs to, hexadecimal."""
        return self.folder.name if self.folder is not None else None


def find_hub_snapshot(name: str) -> HubSnapshot:
    """Look a base up in the hub's cache and check its files.

    `snapshot_download` with `local_files_only` checks only which files exist, and that only if it has listed the
    repository before; a cache that another program filled has no such list. So the files themselves are checked too.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                name,
                allow_patterns=list(HUB_FILE_PATTERNS),
                ignore_patterns=list(IGNORED_HUB_FILES),
                local_files_only=True,
            )
        )
    except IncompleteSnapshotError as error:
        folder = Path(error.snapshot_path)
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return HubSnapshot(None)
    return HubSnapshot(folder, _listed_file_problems(name, folder) or find_file_problems(folder))


def changed_hub_files(folder: Path) -> tuple[FileProblem, ...]:
    """Weights whose bytes aren't those that the hub sent; reads them all. () for a folder outside the hub's cache.

    The hub's cache links each large file to one that is named by its SHA-256.
    """
    links = [path for path in sorted(folder.glob("*.safetensors")) if path.is_symlink()]
    sent = {path: path.readlink().name for path in links}
    return tuple(
        FileProblem(path.name, "has other bytes than the hub sent")
        for path, digest in sent.items()
        if _SHA256.fullmatch(digest) and file_sha256(path) != digest
    )


def is_hub_file(name: str) -> bool:
    """True for a file of a repository that belongs to the base."""
    return any(fnmatch(name, pattern) for pattern in HUB_FILE_PATTERNS) and not any(
        fnmatch(name, pattern) for pattern in IGNORED_HUB_FILES
    )


def _listed_file_problems(name: str, folder: Path) -> tuple[FileProblem, ...]:
    """Files whose length differs from the hub's listing, where a download has stored one; the largest first."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        files = get_cached_repo_tree(name, revision=folder.name)
    except CachedRepoTreeNotFoundError:
        return ()
    wanted = sorted((each for each in files if is_hub_file(each.path)), key=lambda each: -each.size)
    problems = (file_length_problem(folder / each.path, each.size) for each in wanted)
    return tuple(problem for problem in problems if problem is not None)
