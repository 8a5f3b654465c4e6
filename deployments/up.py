"""`mondrian up`: start Prefect's server, a worker, the deployments and the service, and leave them running."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import OnMessage, bring_up, ignore_message
from deployments.prefect_instance import DEFAULT_PORT, PrefectInstance, set_prefect_home
from mondrian_core.errors import Broken, MondrianError
from mondrian_core.prefect_server import auth_string_path
from mondrian_core.settings import Settings

SCHEDULED, SERVE = "retrain/scheduled", "serve/local"
EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = deployment_parser("up", __doc__ or "")
    add_server_options(parser)
    parser.add_argument("--service-port", type=int, default=5100, help="port of the service (default: %(default)s)")
    parser.add_argument("--no-service", action="store_true", help="start Prefect only; load no base model")
    options = parser.parse_args(arguments)
    settings = deployment_settings(options)
    set_prefect_home(settings)
    progress = progress_printer(options)
    try:
        running = bring_up(
            settings, port=options.port or settings.prefect_port, usual_port=DEFAULT_PORT, on_message=progress
        )
        _warn_without_upcoming_runs(running.place)
        address, warning = "", ""
        if not options.no_service:
            address, warning = _start_service(running.place, options.service_port, progress)
    except MondrianError as error:
        return report_error(error, options)
    except KeyboardInterrupt:
        print("Interrupted. Everything that this command started has been stopped.", file=sys.stderr)
        return EXIT_INTERRUPTED
    if options.json:
        print(json.dumps(_summary_record(running.place, address, warning)))
    else:
        print(_summary(running.place, address or "(no service)", warning))
    return 0


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
        "",
        f"Run now:     mondrian prefect{workspace} deployment run '{SCHEDULED}'",
        f"Stop:        mondrian down{workspace}",
        "To use `prefect` or another client in this terminal:",
        f"  export PREFECT_API_URL={place.api}",
        f'  export PREFECT_API_AUTH_STRING="$(cat {shlex.quote(str(password))})"',
    ]
    return "\n".join(lines)


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


def _start_service(place: PrefectInstance, port: int, on_message: OnMessage = ignore_message) -> tuple[str, str]:
    """Start the service with a run of `serve/local`; return its address and a warning, which may be empty.

    Raises:
        Broken: the service did not start. Prefect keeps running, and the run in its UI has the reason.
    """
    from tasks.service import WARNED  # imports Prefect, so only after set_prefect_home

    on_message("starting the service")
    parameters = {"port": port, "base_model": place.settings.base}
    run = run_watcher.start_deployment_run(place, SERVE, parameters)
    status = run_watcher.follow_flow_run(place, run, lambda _: None)
    if status.state not in ("Completed", WARNED):
        raise Broken(
            f"Prefect runs at {place.ui}, but the service did not start: {status.message or status.state}",
            "Fix the cause and run `mondrian up` again, or stop Prefect with `mondrian down`.",
        )
    on_message(status.message)
    return f"http://127.0.0.1:{port}", status.message if status.state == WARNED else ""


def deployment_parser(command: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that `up`, `down` and `demo` share."""
    parser = argparse.ArgumentParser(prog=f"mondrian {command}", description=description)
    parser.add_argument("--workspace", type=Path, help="default: MONDRIAN_WORKSPACE, else ./workspace")
    parser.add_argument("--json", action="store_true", help="print the result as JSON; progress goes to standard error")
    return parser


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for registry, base model and Prefect port."""
    parser.add_argument("--adapters", type=Path, help="default: MONDRIAN_ADAPTERS, else adapters next to the workspace")
    parser.add_argument("--base-model", help="default: MONDRIAN_BASE_MODEL, else the default of this platform")
    parser.add_argument("--port", type=int, help="port of the Prefect server (default: 4200, or a free one)")


def deployment_settings(options: argparse.Namespace) -> Settings:
    """Settings from the options, then the environment, then the defaults."""
    given = {name: getattr(options, name, None) for name in ("workspace", "adapters", "base_model")}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def progress_printer(options: argparse.Namespace) -> OnMessage:
    """A function that prints one line of progress: on standard error when the result is JSON."""
    stream = sys.stderr if options.json else sys.stdout
    return lambda line: print(line, file=stream, flush=True)


def report_error(error: MondrianError, options: argparse.Namespace) -> int:
    """Print an error as the other commands do; return its exit status."""
    if options.json:
        record = {"error": error.problem, "next_step": error.next_step, "exit_status": error.exit_status}
        print(json.dumps(record))
    else:
        print(error, file=sys.stderr)
    return error.exit_status


def _warn_without_upcoming_runs(place: PrefectInstance) -> None:
    """Warn when an active schedule creates no runs; Prefect itself does not report that."""
    if prefect_setup.count_upcoming_runs(place, SCHEDULED) == 0:
        print(
            f"Warning: {SCHEDULED} has an active schedule but no upcoming runs.\n"
            "Check that the installed fastapi and sqlalchemy versions are those of requirements.lock.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
