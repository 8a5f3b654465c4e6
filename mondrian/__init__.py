"""The `mondrian` command, and the one package that a wheel installs.

In the repository, `mondrian_core`, `tasks`, `flows` and `deployments` are top-level packages. In a wheel they are inside
this package, so that they cannot collide with the `tasks` or `flows` of somebody who uses Prefect in the same
environment. `main` makes them importable for its own process and for the processes that it starts, and for no other.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

DEPLOYMENT_COMMANDS = ("up", "down", "demo")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 the answer is no, 2 bad input, 3 broken, 130 interrupted."""
    make_packages_importable()
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in DEPLOYMENT_COMMANDS:
        return int(import_module(f"deployments.{given[0]}").main(given[1:]))
    from mondrian_core.cli import main as run_command

    return run_command(given)


def make_packages_importable() -> None:
    """Put the packages of a wheel first on the import path of this process and of its children.

    In the repository they are importable already, and nothing changes.
    """
    folder = Path(__file__).resolve().parent
    if not (folder / "mondrian_core").is_dir():
        return
    _put_first(sys.path, str(folder))
    inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    _put_first(inherited, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(inherited)


def _put_first(folders: list[str], folder: str) -> None:
    folders[:] = [folder, *(other for other in folders if other != folder)]
