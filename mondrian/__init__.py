"""The `mondrian` command, and the one package that a wheel installs.

In the repository, `mondrian_core`, `tasks`, `flows` and `deployments` are top-level packages. In a wheel they are
inside this package, so that they cannot collide with the `tasks` or `flows` of somebody who uses Prefect in the same
environment. `main` makes them importable for its own process and for the processes that it starts, and for no other.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Commands that need `deployments`, which `mondrian_core` must not import. Their modules are imported when they run.
DEPLOYMENT_COMMANDS = {
    "This machine": {
        "up": ("deployments.up:up_command", "start Prefect's server, a worker and the service, and leave them running"),
        "down": ("deployments.down:down_command", "stop what `mondrian up` started"),
        "install-service": (
            "deployments.install_service:install_service_command",
            "start server, worker and service at login (launchd or systemd)",
        ),
        "uninstall-service": (
            "deployments.install_service:uninstall_service_command",
            "remove what `mondrian install-service` wrote",
        ),
        "foreground": (
            "deployments.foreground:foreground_command",
            "keep one part running in the foreground, for launchd, systemd or Docker",
        ),
        "join": ("deployments.join:join_command", "make this machine one more worker of another machine's server"),
        "leave": ("deployments.join:leave_command", "undo `mondrian join`"),
        "demo": ("deployments.demo:demo_command", "train, evaluate and try out an adapter, starting from nothing"),
    }
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status (0 done, 1 the answer is no, 2 bad input, 3 broken, 130 interrupted)."""
    make_packages_importable()
    from mondrian_core.cli import main as run_command

    return run_command(arguments, DEPLOYMENT_COMMANDS)


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
