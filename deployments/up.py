"""`make up`: Prefect's server, worker, deployments and the service on this machine, left running."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import bring_up
from deployments.prefect_instance import DEFAULT_PORT, ROOT, PrefectInstance, set_prefect_home
from mondrian_core.errors import Broken, MondrianError
from mondrian_core.prefect_server import auth_string_path
from mondrian_core.settings import Settings

SCHEDULED, SERVE = "retrain/scheduled", "serve/local"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; exit status as everywhere."""
    parser = argparse.ArgumentParser(prog="python -m deployments.up", description=__doc__)
    add_deployment_options(parser)
    parser.add_argument("--service-port", type=int, default=5100, help="of the service; default: %(default)s")
    parser.add_argument("--no-service", action="store_true", help="Prefect alone; the base isn't kept in memory")
    options = parser.parse_args(arguments)
    settings = deployment_settings(options)
    set_prefect_home(settings)
    try:
        running = bring_up(settings, port=options.port or settings.prefect_port, usual_port=DEFAULT_PORT, tell=_tell)
        _check_schedule(running.place)
        service, warning = (
            ("(no service)", "") if options.no_service else _start_service(running.place, options.service_port)
        )
    except MondrianError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("Interrupted; what this command had started is stopped again.", file=sys.stderr)
        return 130
    print(_summary(running.place, service, warning))
    return 0


def _summary(place: PrefectInstance, service: str, warning: str) -> str:
    """Addresses, and lines to copy into any terminal. The password goes to a terminal alone, never into a log."""
    password, root = auth_string_path(place.settings), place.settings.root
    shown = place.auth if sys.stdout.isatty() else f"the line in {password}"
    named = "" if root == ROOT / "workspace" else f" --workspace {shlex.quote(str(root))}"
    stopping = f"make down ARGS={shlex.quote(named.strip())}" if named else "make down"
    lines = [
        "",
        f"Prefect UI:  {place.ui}",
        f"  it asks for a password: {shown}",
        f"critiques:   {service}",
        *([f"  warning: {warning}"] if warning else []),
        f"workspace:   {root}",
        f"logs:        {place.home}",
        "",
        f"A run now:   mondrian prefect{named} deployment run '{SCHEDULED}'",
        f"Stop it:     {stopping}",
        "For `prefect` itself, or another program, in this terminal:",
        f"  export PREFECT_API_URL={place.api}",
        f'  export PREFECT_API_AUTH_STRING="$(cat {shlex.quote(str(password))})"',
    ]
    return "\n".join(lines)


def _start_service(place: PrefectInstance, port: int) -> tuple[str, str]:
    """Have the service started by a run of `serve/local`, as everybody else would: its address, and a warning.

    Raises:
        Broken: it didn't come up; Prefect stays, with the run that says why.
    """
    from tasks.service import WARNED  # imports Prefect, which must find its home first

    _tell("starting the service")
    given = {"port": port, "base_model": place.settings.base}
    seen = run_watcher.follow_flow_run(
        place, run_watcher.start_deployment_run(place, SERVE, given), lambda glance: None
    )
    if seen.state not in ("Completed", WARNED):
        raise Broken(
            f"Prefect runs at {place.ui}, the service doesn't: {seen.message or seen.state}",
            "Fix that and run `make up` again; `make down` stops the rest.",
        )
    _tell(seen.message)
    return f"http://127.0.0.1:{port}", seen.message if seen.state == WARNED else ""


def add_deployment_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which workspace, adapters, base model and port."""
    parser.add_argument("--workspace", type=Path, help="default: MONDRIAN_WORKSPACE or ./workspace")
    parser.add_argument("--adapters", type=Path, help="default: MONDRIAN_ADAPTERS, or adapters next to the workspace")
    parser.add_argument("--base-model", help="default: MONDRIAN_BASE_MODEL, or what suits the machine")
    parser.add_argument("--port", type=int, help="of the Prefect server; default: a free one")


def deployment_settings(options: argparse.Namespace) -> Settings:
    """Options over environment over defaults."""
    given = {name: getattr(options, name, None) for name in ("workspace", "adapters", "base_model")}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _check_schedule(place: PrefectInstance) -> None:
    """Say so when a schedule makes no runs: nothing else would tell."""
    if prefect_setup.count_upcoming_runs(place, SCHEDULED) == 0:
        print(
            f"Warning: {SCHEDULED} has no upcoming runs although its schedule is active.\n"
            "Compare the installed fastapi and sqlalchemy with requirements.lock; `make clean setup` mends it.",
            file=sys.stderr,
        )


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
