"""The software that computes answers and features: package versions and Mondrian's own code.

A result on disk that is reused in place of a computation has this identity in its key, so that no figure of a report
comes from a release that is no longer installed.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
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
    "prefect",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
)
_UNRELATED = frozenset({"datasets", "prefect"})  # they don't take part in an answer


def package_versions() -> dict[str, str]:
    """Versions of the packages that determine a run's result; a package that isn't installed is omitted."""
    versions = {}
    for name in RECORDED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def software_digest() -> str:
    """SHA-256 over the versions of the packages that compute answers and over Mondrian's code, hexadecimal."""
    versions = {name: version for name, version in package_versions().items() if name not in _UNRELATED}
    return hashlib.sha256(json.dumps([versions, code_digest()], sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 over names and bytes of all modules of mondrian_core, hexadecimal."""
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
