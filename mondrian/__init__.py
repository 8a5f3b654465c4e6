"""The `mondrian` command, and the one package that a wheel installs.

In the repository, `mondrian_core`, `tasks`, `flows` and `deployments` are top-level packages. In a wheel they are
inside this package, so that they cannot collide with the `tasks` or `flows` of somebody who uses Prefect in the same
environment. `main` makes them importable for its own process and for the processes that it starts, and for no other.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status (0 done, 1 the answer is no, 2 bad input, 3 broken, 130 interrupted)."""
    make_packages_importable()
    given = sys.argv[1:] if arguments is None else arguments
    command = deployment_command(given[0]) if given else None
    if command is not None:
        return command([_with_dashes(word) for word in given[1:]])
    from mondrian_core.cli import main as run_command

    return run_command(given)


def deployment_command(name: str) -> Callable[[list[str]], int] | None:
    """The commands that need `deployments`, which `mondrian_core` must not import; None for every other name."""
    match name:
        case "up":
            from deployments.up import main as command
        case "down":
            from deployments.down import main as command
        case "demo":
            from deployments.demo import main as command
        case _:
            return None
    return command


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


def _with_dashes(word: str) -> str:
    """`--service_port` as `--service-port`; both spellings are accepted."""
    return re.sub(r"^--\w[\w-]*", lambda option: option[0].replace("_", "-"), word)
