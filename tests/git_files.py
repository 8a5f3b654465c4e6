"""The files of the project that are under version control."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def tracked_files() -> list[Path]:
    """Tracked files that exist, relative to the repository."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: tracked files are unknown")
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


def copy_tracked_files(folder: Path) -> Path:
    """Copy the current tracked files, without their history, to `folder`; returns it."""
    for file in tracked_files():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, folder / file)
    return folder
