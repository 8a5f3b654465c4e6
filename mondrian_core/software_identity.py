"""The software that computes answers, features and adapters: package versions and Mondrian's own code.

A result on disk that is reused in place of a computation has this identity in its key, so that no figure of a report
comes from a release that is no longer installed. It is recorded with a result, and part of what makes a retraining new.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Collection
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

RECORDED_PACKAGES = (
    "datasets",
    "llguidance",
    "mlx",
    "mlx-cpu",
    "mlx-metal",
    "mlx-vlm",
    "numpy",
    "opencv-python",
    "pillow",
    "pillow-heif",
    "prefect",
    "safetensors",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
)
PACKAGE_ROOT = Path(__file__).resolve().parent
_NOT_ANSWERING = frozenset({"datasets", "prefect"})  # they don't take part in an answer
_NOT_TRAINING = frozenset({"prefect"})  # it has no effect on what a training learns
# Folders of the core that don't determine what a training learns. A folder that is missing here costs a retraining
# that nobody needed; one that is wrongly here would hide a change.
_FOLDERS_NOT_TRAINING = frozenset({"backup", "charts", "cli", "evaluation", "registry", "rollout", "serving"})


def package_versions() -> dict[str, str]:
    """Versions of the packages that determine a run's result; a package that isn't installed is omitted."""
    found = {name: installed_version(name) for name in RECORDED_PACKAGES}
    return {name: version for name, version in found.items() if version is not None}


@cache
def installed_version(name: str) -> str | None:
    """The version that this process began with, as a package is loaded once; None when it isn't installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def software_digest() -> str:
    """SHA-256 over the versions of the packages that compute answers and over Mondrian's code, hexadecimal."""
    versions = {name: version for name, version in package_versions().items() if name not in _NOT_ANSWERING}
    return hashlib.sha256(json.dumps([versions, code_digest()], sort_keys=True).encode()).hexdigest()


def training_packages() -> dict[str, str]:
    """Versions of the packages that determine what a training learns."""
    return {name: version for name, version in package_versions().items() if name not in _NOT_TRAINING}


def training_code_digest(root: Path = PACKAGE_ROOT) -> str:
    """SHA-256 over the modules that determine what a training learns, hexadecimal; the same in a checkout and a wheel.

    Args:
        root: the folder of the package `mondrian_core`.
    """
    return code_digest(root, _FOLDERS_NOT_TRAINING)


@lru_cache(maxsize=4)
def code_digest(root: Path = PACKAGE_ROOT, without: Collection[str] = frozenset()) -> str:
    """SHA-256 over names and bytes of the modules in `root`, hexadecimal, without the folders named in `without`."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] not in without:
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
