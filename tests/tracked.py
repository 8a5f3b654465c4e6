"""The files of the project: those under version control, whatever else a person keeps in the folder."""

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
        pytest.skip("not a git checkout: which files belong to the project can't be told")
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


def copy_tracked_files(folder: Path) -> Path:
    """Copy the tracked files as they are now, without their history, into `folder`; returns it."""
    for file in tracked_files():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, folder / file)
    return folder
