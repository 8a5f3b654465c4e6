"""TCP ports of this machine: whether one is free, and who listens on it when it isn't."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import httpx

from mondrian_core.errors import PortInUse
from mondrian_core.prefect_server import IDENTITY_PATH

LOCALHOST = "127.0.0.1"
PROBE_TIMEOUT_SECONDS = 2.0  # within which a service says whose it is
MAX_WORKSPACE_NAME_LENGTH = 100  # of a workspace, as somebody else tells it
TCP_LISTEN_STATE = "0A"  # a socket's state in /proc/net/tcp


def require_free_port(port: int, host: str = LOCALHOST) -> None:
    """Nothing, when a server could listen there.

    Raises:
        PortInUse: naming who listens there already.
    """
    if not is_port_free(port, host):
        raise PortInUse(port, port_owner(port, host))


def is_port_free(port: int, host: str = LOCALHOST) -> bool:
    """True when a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def find_free_port(host: str = LOCALHOST) -> int:
    """A port that the system chose."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def port_owner(port: int, host: str = LOCALHOST) -> str:
    """Who listens there, in words: a service or server of Mondrian with its workspace, else the process."""
    kinds = {"/health": "service", IDENTITY_PATH: "Prefect server"}  # a service that starts says whose it is too
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    with (
        suppress(httpx.HTTPError, httpx.InvalidURL),
        httpx.Client(timeout=PROBE_TIMEOUT_SECONDS, trust_env=False) as client,
    ):
        for path, kind in kinds.items():
            if workspace := _workspace_in(client.get(f"{address}{path}")):
                return f"the {kind} of workspace {workspace}"
    return _process_on(port) or "another process"


def _workspace_in(answer: httpx.Response) -> str | None:
    try:
        told = answer.json()
    except ValueError:
        return None
    named = str(told.get("workspace") or "") if isinstance(told, dict) else ""
    return "".join(letter for letter in named[:MAX_WORKSPACE_NAME_LENGTH] if letter.isprintable()) or None


def _process_on(port: int) -> str | None:
    if Path("/proc/net/tcp").exists():
        pid = _listener_in_proc(port)
        name = _read(f"/proc/{pid}/comm").strip() if pid else ""
    elif lsof := shutil.which("lsof"):
        command = [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
        fields = {line[:1]: line[1:] for line in told}
        pid, name = fields.get("p"), fields.get("c", "")
    else:
        return None
    return f"process {pid} ({name or 'unknown'})" if pid else None


def _listener_in_proc(port: int) -> str | None:
    """Number of the process with the listening socket; None where it is another user's."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in _read(f"/proc/net/{name}").splitlines()[1:]]
    wanted = {
        f"socket:[{line[9]}]"
        for line in lines
        if line[3] == TCP_LISTEN_STATE and int(line[1].rpartition(":")[2], 16) == port
    }
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            if any(str(entry.readlink()) in wanted for entry in folder.iterdir()):
                return folder.parent.name
    return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
