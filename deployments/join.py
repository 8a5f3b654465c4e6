"""`mondrian join` and `mondrian leave`: this machine as one more worker of a Prefect server that another one runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import httpx
from cyclopts import Parameter
from rich.console import Console

from deployments import machines
from deployments.bootstrap import RunningPrefect, bring_up, joined_instance, recorded_processes, take_down
from deployments.machines import machine_name
from deployments.prefect_instance import set_prefect_home
from deployments.up import progress_printer, start_machine_service
from mondrian_core.cli.options import CommandOptions, settings_from_options
from mondrian_core.cli.terminal_output import print_result
from mondrian_core.errors import BadInput, NothingToDo, PrefectUnavailable
from mondrian_core.prefect_server import (
    JoinRecord,
    create_prefect_home,
    fetch_server_identity,
    read_auth_string,
    read_join_record,
    remove_join_record,
    write_join_record,
)
from mondrian_core.settings import ROLES, Settings

Role = Literal["control", "serving", "data", "accelerator"]
HOST_NAME = re.compile(r"[A-Za-z0-9._:-]+")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
CONNECT_SECONDS = 10.0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class JoinOptions(CommandOptions):
    """Options of `mondrian join`."""

    role: Annotated[
        tuple[Role, ...],
        Parameter(help="work that this machine takes; may be repeated (default: accelerator)"),
    ] = ("accelerator",)
    name: Annotated[str | None, Parameter(help="name of this machine (MONDRIAN_MACHINE; default: the host's)")] = None
    auth_file: Annotated[
        Path | None,
        Parameter(help="file with the server's password, `user:password` (or set PREFECT_API_AUTH_STRING)"),
    ] = None
    no_service: Annotated[bool, Parameter(help="with --role serving: don't start the service now")] = False


def join_command(
    server_url: Annotated[str, Parameter(help="address of the server, such as http://studio.local:4200")],
    *,
    options: JoinOptions = JoinOptions(),
) -> int:
    """Make this machine one more worker of a Prefect server that another machine runs."""
    settings = settings_from_options(options)
    set_prefect_home(settings)
    progress = progress_printer(as_json=options.json)
    record, auth = _checked_join(settings, server_url, options)
    if httpx.URL(record.url).scheme == "http" and httpx.URL(record.url).host not in LOOPBACK:
        progress(f"Warning: the password and all work travel unencrypted to {record.url}: use a VPN or an SSH tunnel.")
    joined = join_server(settings, record, auth, progress)
    service = ""
    if "serving" in record.roles and not options.no_service:
        service, _ = start_machine_service(joined.place, record.machine, on_message=progress)

    def draw(console: Console) -> None:
        console.print(f"'{record.machine}' works for {record.url}: {', '.join(record.roles)}.", markup=False)
        console.print("Stop: mondrian down. Start again: mondrian up. For good: mondrian leave.", markup=False)

    values = {
        "server": record.url,
        "machine": record.machine,
        "roles": list(record.roles),
        "workers": [process.name for process in joined.processes],
        "service": service or None,
    }
    print_result(options.json, values, draw)
    return 0


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LeaveOptions(CommandOptions):
    """Options of `mondrian leave`."""


def leave_command(*, options: LeaveOptions = LeaveOptions()) -> int:
    """Stop the workers of this machine and remove it from the shared server; exit status 1 when it joined none."""
    settings = settings_from_options(options)
    set_prefect_home(settings)
    from tasks.service import stop_service  # imports Prefect, so only after set_prefect_home

    joined = read_join_record(settings)
    if joined is None:
        raise NothingToDo(f"{settings.root} has not joined a server.", "`mondrian join SERVER_URL` does.")
    progress = progress_printer(as_json=options.json)
    stopped = take_down(settings, progress)
    if stop_service(settings):
        stopped.append("service")
    try:
        machines.remove_machine(joined_instance(settings, joined), joined.machine)
    except httpx.HTTPError as error:
        progress(f"{joined.url} does not answer ({type(error).__name__}); '{joined.machine}' stays in its list.")
    remove_join_record(settings)
    print_result(
        options.json,
        {"left": joined.url, "machine": joined.machine, "stopped": stopped},
        lambda console: console.print(f"'{joined.machine}' has left {joined.url}.", markup=False),
    )
    return 0


def join_server(settings: Settings, record: JoinRecord, auth: str, on_message: Callable[[str], None]) -> RunningPrefect:
    """Store the record and start this machine's workers; when they don't start, a first join leaves no record."""
    before, password = read_join_record(settings), read_auth_string(settings)
    settings.root.mkdir(parents=True, exist_ok=True)
    create_prefect_home(settings)
    write_join_record(settings, record, auth)
    try:
        return bring_up(settings, on_message=on_message)
    except BaseException:
        if before is None or password is None:
            remove_join_record(settings)
        else:
            write_join_record(settings, before, password)
        raise


def _checked_join(settings: Settings, server_url: str, options: JoinOptions) -> tuple[JoinRecord, str]:
    """What to record, once everything that can be wrong has been checked; nothing is changed here.

    Raises:
        BadInput: address, password, name, roles or workspace are not usable.
        PrefectUnavailable: the server doesn't answer, or runs another version of Prefect.
    """
    url = _server_address(server_url)
    before = read_join_record(settings)
    _require_free_workspace(settings, before, url)
    roles = tuple(role for role in ROLES if role in options.role)
    if {"data", "serving"} & set(roles) and not settings.database.is_file():
        raise BadInput(
            f"{settings.root} has no database, which the roles 'data' and 'serving' need.",
            "Create it with `mondrian init`, or join with `--role accelerator`.",
        )
    auth = _password(settings, options, keep=before is not None)
    identity = fetch_server_identity(url)
    require_usable_server(url, auth)
    name = machine_name(settings, options.name or (before.machine if before else None))
    record = JoinRecord(api_url=f"{url}/api", server=identity.workspace if identity else "", machine=name, roles=roles)
    _require_free_place(url, auth, record, rename=before is None or before.machine != name)
    return record, auth


def _server_address(given: str) -> str:
    """The address without /api and without a slash at its end.

    Raises:
        BadInput: it is not an http or https address, or has a password in it.
    """
    example = "Give an address such as http://studio.local:4200."
    try:
        url = httpx.URL(given if "://" in given else f"http://{given}")
    except httpx.InvalidURL:
        raise BadInput(f"'{given}' is not an address.", example) from None
    if url.userinfo:
        raise BadInput(
            "The address has a password in it, which other users of this machine can read.",
            "Put it into a file and use `--auth-file FILE`, or set PREFECT_API_AUTH_STRING.",
        )
    if url.scheme not in ("http", "https") or not HOST_NAME.fullmatch(url.host):
        raise BadInput(f"'{given}' is not the address of a server.", example)
    return str(url).rstrip("/").removesuffix("/api").rstrip("/")


def _require_free_workspace(settings: Settings, before: JoinRecord | None, url: str) -> None:
    if before is not None and before.url != url:
        raise BadInput(f"{settings.root} has joined {before.url} as '{before.machine}'.", "Run `mondrian leave` first.")
    running = [process for process in recorded_processes(settings) if process.alive]
    if before is None and running:
        raise BadInput(
            f"{settings.root} has a Prefect server of its own, which runs.",
            "Stop it with `mondrian down`, or join from another workspace (`--workspace`).",
        )


def _password(settings: Settings, options: JoinOptions, *, keep: bool) -> str:
    """The server's `user:password`: from the file, the environment, or an earlier join of this workspace."""
    if options.auth_file is not None:
        try:
            found = options.auth_file.expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(
                f"{options.auth_file} can't be read ({type(error).__name__}).",
                "Copy `auth-string` from WORKSPACE/.prefect of the server's machine.",
            ) from None
    else:
        found = settings.prefect_auth or (read_auth_string(settings) if keep else None) or ""
    user, colon, password = found.partition(":")
    if not (user and colon and password) or not found.isascii() or "\n" in found:
        raise BadInput(
            "The server's password is missing, or is not one line of the form `user:password`.",
            "Copy WORKSPACE/.prefect/auth-string of the server's machine and use `--auth-file FILE`, "
            "or set PREFECT_API_AUTH_STRING.",
        )
    return found


def require_usable_server(url: str, auth: str) -> None:
    """Require that a Prefect server of this version answers at an address and accepts the password.

    Raises:
        BadInput: it rejects the password.
        PrefectUnavailable: nothing answers, or something else, or another version.
    """
    import prefect

    user, _, password = auth.partition(":")
    try:
        with httpx.Client(base_url=f"{url}/api", timeout=CONNECT_SECONDS, trust_env=False) as web:
            health = web.get("/health")
            answer = web.get("/admin/version", auth=(user, password))
    except httpx.HTTPError as error:
        raise PrefectUnavailable(
            f"{url} doesn't answer ({type(error).__name__}).",
            "Check the address, and that the server's machine was started with MONDRIAN_PREFECT_HOST or is reached "
            "through a tunnel (docs/how-to/several-machines.md).",
        ) from None
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise BadInput(
            f"{url} rejects the password.",
            "Copy WORKSPACE/.prefect/auth-string from the server's machine again.",
        )
    version = answer.json() if health.status_code == answer.status_code == httpx.codes.OK else None
    if not isinstance(version, str):
        raise PrefectUnavailable(f"{url} is not a Prefect server.", "Give the address that `mondrian up` prints there.")
    if version != prefect.__version__:
        raise PrefectUnavailable(
            f"{url} runs Prefect {version}, this machine has {prefect.__version__}.",
            "Install the same version of Mondrian on both machines.",
        )


def _require_free_place(url: str, auth: str, record: JoinRecord, *, rename: bool) -> None:
    """Refuse the name of another machine, and a second data machine, before anything is changed on the server.

    Raises:
        BadInput: another machine has the name or the role.
    """
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(api=f"{url}/api", auth_string=auth, httpx_settings={"trust_env": False}) as client:
        known = machines.registered_machines(client)
    if rename and record.machine in {machine.name for machine in known}:
        raise BadInput(
            f"The server has a machine called '{record.machine}' already.",
            "Choose another name (`--name`), or run `mondrian leave` on that machine first.",
        )
    machines.require_one_data_machine(known, record.machine, record.roles)
