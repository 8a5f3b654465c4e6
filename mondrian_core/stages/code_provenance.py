"""The code and the packages that a result depends on: recorded with it, and part of what makes a retraining new."""

from __future__ import annotations

import hashlib
import subprocess
from functools import lru_cache
from pathlib import Path

from mondrian_core.software_identity import package_versions

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
PACKAGES_WITHOUT_EFFECT = frozenset({"prefect"})  # on what a training learns
# Folders of the core that don't determine what a training learns. A folder that is missing here costs a retraining
# that nobody needed; one that is wrongly here would hide a change.
FOLDERS_WITHOUT_EFFECT = frozenset({"backup", "charts", "cli", "evaluation", "registry", "rollout", "serving"})


def training_packages() -> dict[str, str]:
    """Versions of the packages that determine what a training learns."""
    return {name: version for name, version in package_versions().items() if name not in PACKAGES_WITHOUT_EFFECT}


@lru_cache(maxsize=1)
def training_code_digest(root: Path = PACKAGE_ROOT) -> str:
    """SHA-256 over the modules that determine what a training learns, hexadecimal; the same in a checkout and a wheel.

    Args:
        root: the folder of the package `mondrian_core`.
    """
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] not in FOLDERS_WITHOUT_EFFECT:
            digest.update(f"{name.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def code_commit() -> str | None:
    """The checkout's commit, with "-dirty" when tracked files differ; None outside a checkout."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        status = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("-dirty" if status.stdout.strip() else "")
