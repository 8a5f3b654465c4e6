"""The Prefect server of a workspace for its clients: address, identity and password.

`deployments` starts the server; this module only reads the files in `WORKSPACE/.prefect`.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from mondrian_core.errors import PrefectUnavailable
from mondrian_core.files import read_json, sync_folder
from mondrian_core.settings import Settings

IDENTITY_PATH = "/mondrian"  # next to /api: the server's workspace, without a password
USER = "mondrian"
SECRET_BYTES = 32


@dataclass(frozen=True)
class PrefectServerIdentity:
    """Identity of a server: `Settings.workspace_id` and the process number."""

    workspace: str
    pid: int


def prefect_home(settings: Settings) -> Path:
    """`WORKSPACE/.prefect`: database, results, leases, logs and the password of this Prefect."""
    return settings.root / ".prefect"


def prefect_record_path(settings: Settings) -> Path:
    """The file that says which processes were started here, and at which address."""
    return prefect_home(settings) / "up.json"


def auth_string_path(settings: Settings) -> Path:
    """The file with the password, as Prefect's UI, PREFECT_API_AUTH_STRING and HTTP basic authentication want it."""
    return prefect_home(settings) / "auth-string"


def create_prefect_home(settings: Settings) -> Path:
    """The home, which nobody but its owner may look into."""
    home = prefect_home(settings)
    home.mkdir(mode=0o700, exist_ok=True)
    home.chmod(0o700)
    return home


def ensure_prefect_password(settings: Settings) -> None:
    """Have a password in the home; one that is there already stays. The caller sees to it that only one does this."""
    path = auth_string_path(settings)
    if read_auth_string(settings) is None:
        _write_private(path, f"{USER}:{secrets.token_urlsafe(SECRET_BYTES)}\n")
    path.chmod(0o600)


def read_auth_string(settings: Settings) -> str | None:
    """`user:password` of this workspace's server; None before it was first started."""
    try:
        return auth_string_path(settings).read_text(encoding="ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None


def recorded_api_url(settings: Settings) -> str | None:
    """API address of the server that was started last; it may have stopped."""
    try:
        return str(read_json(prefect_record_path(settings))["api_url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fetch_server_identity(ui: str) -> PrefectServerIdentity | None:
    """Identity of the server at an address (without /api); None when it is not one of Mondrian's."""
    with (
        suppress(httpx.HTTPError, ValueError, KeyError, TypeError),
        # plain HTTP on this machine: without verify=False each of many polls would load all certificates (20 ms)
        httpx.Client(timeout=5.0, trust_env=False, verify=False) as web,
    ):
        answer = web.get(f"{ui}{IDENTITY_PATH}")
        if answer.status_code == 200:
            identity = answer.json()
            return PrefectServerIdentity(str(identity["workspace"]), int(identity["pid"]))
    return None


def prefect_client_environment(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Prefect's own commands reach the server of this workspace.

    Raises:
        PrefectUnavailable: no server runs. The password is never sent to a server of another workspace.
    """
    api, auth = recorded_api_url(settings), read_auth_string(settings)
    found = fetch_server_identity(api.removesuffix("/api")) if api else None
    if api is None or auth is None or found is None or found.workspace != settings.workspace_id:
        raise PrefectUnavailable(f"No Prefect server runs for {settings.root}.", "Start it with `mondrian up`.")
    kept = {name: value for name, value in inherited.items() if not name.startswith("PREFECT_")}
    return {**kept, **prefect_client_variables(settings, api, auth, inherited)}


def prefect_client_variables(settings: Settings, api: str, auth: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """Variables for a client: address, password, no proxy, and the workspace's Prefect home."""
    no_proxy = {
        name: _joined(inherited.get(name), "localhost", httpx.URL(api).host) for name in ("NO_PROXY", "no_proxy")
    }
    return {
        "PREFECT_HOME": str(prefect_home(settings)),
        "PREFECT_API_URL": api,
        "PREFECT_API_AUTH_STRING": auth,
        **no_proxy,
    }


def _joined(present: str | None, *names: str) -> str:
    return ",".join(dict.fromkeys([*(present.split(",") if present else []), *names]))


def _write_private(path: Path, text: str) -> None:
    """Replace a file atomically, at no time readable for other users."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # made with 0600
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
        sync_folder(path.parent)
    finally:
        Path(name).unlink(missing_ok=True)
