"""TCP ports of this machine: whether a port is free, and which process listens on it."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

import httpx
import psutil

from mondrian_core.errors import PortInUse
from mondrian_core.prefect_server import IDENTITY_PATH

LOCALHOST = "127.0.0.1"
PROBE_TIMEOUT_SECONDS = 2.0  # for a service to answer with its workspace
# below the ports that Linux (32768 to 60999) and macOS (49152 to 65535) give to outgoing connections: any program may
# hold one of those just when a stopped server wants its port back
FREE_PORT_RANGE = range(10_000, 32_768)
MAX_WORKSPACE_NAME_LENGTH = 100  # characters shown of a name that another process sent


def require_free_port(port: int, host: str = LOCALHOST) -> None:
    """Check that a server can listen on a port.

    Raises:
        PortInUse: another process listens there; the error names it.
    """
    if not is_port_free(port, host):
        raise PortInUse(port, port_owner(port, host))


def is_port_free(port: int, host: str = LOCALHOST) -> bool:
    """True when a server can listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def find_free_port(host: str = LOCALHOST) -> int:
    """A free port that no outgoing connection of this machine is given, so that a server gets it back after a restart.

    Raises:
        PortInUse: hundreds of ports were tried, and none is free on this host.
    """
    candidates = random.sample(FREE_PORT_RANGE, 500)
    for port in candidates:
        if is_port_free(port, host):
            return port
    raise PortInUse(candidates[-1], port_owner(candidates[-1], host))


def port_owner(port: int, host: str = LOCALHOST) -> str:
    """Describe who listens on a port: a Mondrian service or server with its workspace, else the process."""
    kinds = {"/health": "service", IDENTITY_PATH: "Prefect server"}  # both answer while they start, too
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
        body = answer.json()
    except ValueError:
        return None
    named = str(body.get("workspace") or "") if isinstance(body, dict) else ""
    return "".join(letter for letter in named[:MAX_WORKSPACE_NAME_LENGTH] if letter.isprintable()) or None


def _process_on(port: int) -> str | None:
    """The process that listens on a port; None when it belongs to another user.

    Process by process, because macOS lists the connections of the whole system only for root.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            sockets = process.net_connections("tcp")
            if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets):
                return f"process {process.pid} ({process.name() or 'unknown'})"
    return None
