"""Where a machine's Prefect lives and with which settings it runs."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from mondrian_core.errors import PortInUse
from mondrian_core.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
POOL = "apple-silicon"
ACCELERATOR_LIMIT = "accelerator"
HOST = "127.0.0.1"
DEFAULT_PORT = 4200


@dataclass(frozen=True)
class Place:
    """Prefect's home below a workspace, and the address of its server."""

    settings: Settings
    port: int

    @property
    def home(self) -> Path:
        """Database, results, leases and logs of this Prefect."""
        return home_of(self.settings)

    @property
    def ui(self) -> str:
        """Address of the UI."""
        return f"http://{HOST}:{self.port}"

    @property
    def api(self) -> str:
        """Address of the API."""
        return f"{self.ui}/api"

    def environment(self) -> dict[str, str]:
        """Environment of the server, the worker and the runs; a user's own Prefect settings stay out of it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return {**kept, **self._prefect(), **self._mondrian()}

    def _prefect(self) -> dict[str, str]:
        return {
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            # nothing leaves the machine
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "DO_NOT_TRACK": "1",
            "NO_PROXY": _joined(os.environ.get("NO_PROXY"), "localhost", HOST),
            "no_proxy": _joined(os.environ.get("no_proxy"), "localhost", HOST),
            # leases in memory leak their slot when the server restarts
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # SQLite on one machine: a quarter of the time for many task runs
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "20",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            # a server that is away for minutes must not end the worker, nor lose the end of a run
            "PREFECT_CLIENT_MAX_RETRIES": "8",
            "PREFECT_CLI_PROMPT": "false",
        }

    def _mondrian(self) -> dict[str, str]:
        settings = self.settings
        return {
            "MONDRIAN_WORKSPACE": str(settings.root),
            "MONDRIAN_ADAPTERS": str(settings.adapters_root),
            "MONDRIAN_BASE_MODEL": settings.base,
            # the interpreter's own folder first, so that a worker finds `prefect` without an activated environment
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        }


def home_of(settings: Settings) -> Path:
    """`WORKSPACE/.prefect`."""
    return settings.root / ".prefect"


def use_home(settings: Settings) -> None:
    """Let Prefect, when this process imports it, keep to the workspace instead of the user's home folder."""
    os.environ.update(PREFECT_HOME=str(home_of(settings)), DO_NOT_TRACK="1")


def record_of(settings: Settings) -> Path:
    """The file that says which processes were started here; `mondrian doctor` reads the address from it."""
    return home_of(settings) / "up.json"


def choose_port(wanted: int | None, *, usual: int | None = DEFAULT_PORT) -> int:
    """The wanted port, else the usual one if it is free, else any free one of this machine.

    Raises:
        PortInUse: when the wanted port is taken.
    """
    if wanted is not None:
        if not _free(wanted):
            raise PortInUse(wanted)
        return wanted
    if usual is not None and _free(usual):
        return usual
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _joined(present: str | None, *names: str) -> str:
    return ",".join(dict.fromkeys([*(present.split(",") if present else []), *names]))
