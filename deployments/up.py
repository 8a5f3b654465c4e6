"""`mondrian up`: start Prefect's server, a worker, the deployments and the service, and leave them running."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import OnMessage, bring_up
from deployments.prefect_instance import DEFAULT_PORT, PrefectInstance, set_prefect_home
from mondrian_core import service_units
from mondrian_core.cli.options import CommandOptions, WholeNumber, settings_from_options
from mondrian_core.cli.terminal_output import print_result, show_progress
from mondrian_core.errors import Broken
from mondrian_core.models.base_download import fetch_base
from mondrian_core.prefect_server import auth_string_path, read_join_record
from mondrian_core.settings import Settings

SERVICE_PORT = 5100
SCHEDULED, SERVE = "retrain/scheduled", "serve/local"
EXIT_INTERRUPTED = 130


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PrefectServerOptions(CommandOptions):
    """Options of a command that starts Prefect's server."""

    port: Annotated[WholeNumber | None, Parameter(help="port of the Prefect server (default: 4200, or a free one)")] = (
        None
    )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class UpOptions(PrefectServerOptions):
    """Options of `mondrian up`."""

    service_port: Annotated[WholeNumber, Parameter(show_default=True, help="port of the service")] = SERVICE_PORT
    no_service: Annotated[bool, Parameter(help="start Prefect only; load no base model")] = False


def up_command(*, options: UpOptions = UpOptions()) -> int:
    """Start Prefect's server, a worker, the deployments and the service, and leave them running."""
    settings = settings_from_options(options)
    set_prefect_home(settings)
    if not options.no_service and "serving" in settings.roles:
        with show_progress(options.json) as listen:
            fetch_base(settings.base, listen)
    progress = progress_printer(as_json=options.json)
    with_units = start_installed_units(settings, progress)
    try:
        running = bring_up(
            settings, port=options.port or settings.prefect_port, usual_port=DEFAULT_PORT, on_message=progress
        )
        joined = read_join_record(settings)
        _warn_without_upcoming_runs(running.place)
        address, warning = "", ""
        if "service" in with_units:
            address = "started and kept running by its service unit (mondrian doctor)"
        elif not options.no_service and "serving" in running.place.settings.roles:
            address, warning = start_machine_service(
                running.place, joined.machine if joined else None, port=options.service_port, on_message=progress
            )
    except KeyboardInterrupt:
        print("Interrupted. Everything that this command started has been stopped.", file=sys.stderr)
        return EXIT_INTERRUPTED
    print_result(
        options.json,
        _summary_record(running.place, address, warning),
        lambda _: print(_summary(running.place, address or "(no service)", warning)),
    )
    return 0


def start_installed_units(settings: Settings, on_message: OnMessage) -> tuple[str, ...]:
    """Start the units of `mondrian install-service`, if there are any; gives the parts that they keep running."""
    found = service_units.installed_here(settings)
    if found is None:
        return ()
    supervisor, installed = found
    try:
        service_units.start_units(supervisor, installed)
    except Broken as error:
        on_message(f"The services at login could not be started: {error.problem}")
        return ()
    on_message(f"{supervisor.name} keeps running: {', '.join(installed.parts)}")
    return installed.parts


def progress_printer(*, as_json: bool) -> Callable[[str], None]:
    """A function that prints one line of progress: on standard error when the result is JSON."""
    return lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True)


def _summary(place: PrefectInstance, service: str, warning: str) -> str:
    """Addresses, and lines to copy into a terminal. The password is printed on a terminal only, never into a log."""
    password, root = auth_string_path(place.settings), place.settings.root
    shown = place.auth if sys.stdout.isatty() else f"the line in {password}"
    workspace = "" if root == Path.cwd() / "workspace" else f" --workspace {shlex.quote(str(root))}"
    lines = [
        "",
        f"Prefect UI:  {place.ui}",
        f"  password:  {shown}",
        f"service:     {service}",
        *([f"  warning: {warning}"] if warning else []),
        f"workspace:   {root}",
        f"logs:        {place.home}",
        *_join_lines(place),
        "",
        f"Run now:     mondrian prefect{workspace} deployment run '{SCHEDULED}'",
        f"Stop:        mondrian down{workspace}",
        "To use `prefect` or another client in this terminal:",
        f"  export PREFECT_API_URL={place.api}",
        f'  export PREFECT_API_AUTH_STRING="$(cat {shlex.quote(str(password))})"',
    ]
    return "\n".join(lines)


def _join_lines(place: PrefectInstance) -> list[str]:
    """How another machine joins, where the server accepts others."""
    host = place.settings.prefect_host
    if place.shared_url or not host:
        return []
    return [
        f"Join here:   mondrian join http://{host}:{place.port} --auth-file FILE",
        f"             on another machine; FILE is a copy of {auth_string_path(place.settings)}",
    ]


def _summary_record(place: PrefectInstance, service: str, warning: str) -> dict[str, str | None]:
    return {
        "prefect_ui": place.ui,
        "prefect_api": place.api,
        "password_file": str(auth_string_path(place.settings)),
        "service": service or None,
        "warning": warning or None,
        "workspace": str(place.settings.root),
        "logs": str(place.home),
    }


def start_machine_service(
    place: PrefectInstance, machine: str | None = None, *, port: int = SERVICE_PORT, on_message: OnMessage
) -> tuple[str, str]:
    """Start the service of this machine with a run; return its address and a warning, which may be empty.

    Args:
        place: the server.
        machine: name of a machine that has joined the server; None: `serve/local`, on the server's own machine.
        port: of the service.
        on_message: called with each line of progress.

    Raises:
        Broken: the service did not start. Prefect keeps running, and the run in its UI has the reason.
    """
    from tasks.service import WARNED  # imports Prefect, so only after set_prefect_home

    on_message("starting the service")
    parameters = {"port": port, "base_model": place.settings.base}
    run = run_watcher.start_deployment_run(place, f"serve/{machine}" if machine else SERVE, parameters)
    status = run_watcher.follow_flow_run(place, run, lambda _: None)
    if status.state not in ("Completed", WARNED):
        raise Broken(
            f"Prefect runs at {place.ui}, but the service did not start: {status.message or status.state}",
            "Fix the cause and run `mondrian up` again, or stop Prefect with `mondrian down`.",
        )
    on_message(status.message)
    return f"http://127.0.0.1:{port}", status.message if status.state == WARNED else ""


def _warn_without_upcoming_runs(place: PrefectInstance) -> None:
    """Warn when an active schedule creates no runs; Prefect itself does not report that."""
    if prefect_setup.count_upcoming_runs(place, SCHEDULED) == 0:
        print(
            f"Warning: {SCHEDULED} has an active schedule but no upcoming runs.\n"
            "Check that the installed fastapi and sqlalchemy versions are those of requirements.lock.",
            file=sys.stderr,
        )
