"""The Prefect server of a workspace for its clients: address, identity and password.

`deployments` starts the server, or joins one that another machine runs; this module has the files in
`WORKSPACE/.prefect`.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from mondrian_core.errors import BadInput, PrefectUnavailable
from mondrian_core.files import read_json, sync_folder, write_json
from mondrian_core.settings import Settings

IDENTITY_PATH = "/mondrian"  # next to /api: the server's workspace, without a password
USER = "mondrian"
SECRET_BYTES = 32
BUSY_PAUSES = (0.5, 1.0, 2.0)  # seconds
REPEATABLE = ("GET", "PATCH")  # a request without an answer is sent again only where a repetition changes nothing


class PatientTransport(httpx.HTTPTransport):
    """Asks again while the server is too busy: it says so when its database is locked, or doesn't answer in time."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for pause in BUSY_PAUSES:
            try:
                answer = super().handle_request(request)
            except httpx.ReadTimeout:
                if request.method not in REPEATABLE:
                    raise
            else:
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return answer
                answer.close()
            time.sleep(pause)
        return super().handle_request(request)


@dataclass(frozen=True)
class PrefectServerIdentity:
    """Identity of a server: `Settings.workspace_id` and the process number."""

    workspace: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class JoinRecord:
    """The shared server that a workspace has joined.

    Attributes:
        api_url: its API.
        server: `workspace` of its identity; "" for a server that `mondrian up` didn't start.
        machine: the name of this machine there.
        roles: of this machine.
    """

    api_url: str
    server: str
    machine: str
    roles: tuple[str, ...]

    @property
    def url(self) -> str:
        """Address of the server, without /api."""
        return self.api_url.removesuffix("/api")


def join_record_path(settings: Settings) -> Path:
    """The file that `mondrian join` writes; without it the workspace has a server of its own."""
    return prefect_home(settings) / "join.json"


def read_join_record(settings: Settings) -> JoinRecord | None:
    """The shared server that this workspace has joined; None when it has a server of its own.

    Raises:
        BadInput: the file was damaged. Taking it for absent would start a second server.
    """
    path = join_record_path(settings)
    try:
        values = read_json(path)
        return JoinRecord(
            api_url=str(values["api_url"]),
            server=str(values.get("server") or ""),
            machine=str(values["machine"]),
            roles=tuple(map(str, values["roles"])),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} can't be read: {error}.", "Remove it, and run `mondrian join` again.") from error


def write_join_record(settings: Settings, record: JoinRecord, auth: str) -> None:
    """Store the shared server and its password; the record comes last, so an interrupted join has not happened."""
    _write_private(auth_string_path(settings), f"{auth}\n")
    write_json(join_record_path(settings), asdict(record))


def remove_join_record(settings: Settings) -> None:
    """Forget the shared server and its password."""
    join_record_path(settings).unlink(missing_ok=True)
    auth_string_path(settings).unlink(missing_ok=True)


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
    """API address of the server that was joined, or else started last; it may have stopped."""
    joined = read_join_record(settings)
    if joined is not None:
        return joined.api_url
    try:
        return str(read_json(prefect_record_path(settings))["api_url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_server_of(settings: Settings, ui: str) -> bool:
    """True when the server at an address (without /api) is the one that has this workspace's password."""
    joined, found = read_join_record(settings), fetch_server_identity(ui)
    if joined is not None:
        return joined.url == ui and joined.server == (found.workspace if found else "")
    return found is not None and found.workspace == settings.workspace_id


def fetch_server_identity(ui: str) -> PrefectServerIdentity | None:
    """Identity of the server at an address (without /api); None when it is not one of Mondrian's."""
    with (
        suppress(httpx.HTTPError, ValueError, KeyError, TypeError),
        # plain HTTP on this machine: without verify=False each of many polls would load all certificates (20 ms)
        httpx.Client(timeout=5.0, trust_env=False, verify=ui.startswith("https:")) as web,
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
    if api is None or auth is None or not is_server_of(settings, api.removesuffix("/api")):
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
