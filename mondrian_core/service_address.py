"""Where the service of a workspace answers, for links to its pages: written by the service, whoever starts it."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from mondrian_core.files import read_json, write_json
from mondrian_core.settings import Settings

SERVICE_FOLDER = Path("runs") / "service"
SERVICE_LOCK = SERVICE_FOLDER / ".lock"  # held while a service of this workspace runs
ADDRESS_FILE = SERVICE_FOLDER / "address.json"
DEFAULT_ADDRESS = "http://127.0.0.1:5100"
LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


def record_service_address(settings: Settings, host: str, port: int) -> None:
    """Write the address of the running service of this workspace, as a browser on this machine writes it."""
    shown = LOOPBACK_OF.get(host, f"[{host}]" if ":" in host else host)
    write_json(settings.root / ADDRESS_FILE, {"url": f"http://{shown}:{port}"})


def running_service_address(settings: Settings) -> str | None:
    """Address of the service that runs for this workspace on this machine; None when none does."""
    path = settings.root / SERVICE_LOCK
    if not path.is_file():
        return None
    try:
        with FileLock(path, timeout=0):
            return None
    except Timeout:
        return last_service_address(settings)


def last_service_address(settings: Settings) -> str:
    """Address where the service of this workspace answered last; the default one before it was first started."""
    try:
        return str(read_json(settings.root / ADDRESS_FILE)["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT_ADDRESS
