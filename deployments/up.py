"""`make up`: Prefect's server, worker, deployments and the service on this machine, left running."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deployments import arrange, watching
from deployments.bootstrap import bring_up
from deployments.place import DEFAULT_PORT, Place, use_home
from mondrian_core.errors import Broken, MondrianError
from mondrian_core.settings import Settings

SCHEDULED, SERVE = "retrain/scheduled", "serve/local"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; exit status as everywhere."""
    parser = argparse.ArgumentParser(prog="python -m deployments.up", description=__doc__)
    add_place_options(parser)
    parser.add_argument("--service-port", type=int, default=5100, help="of the service; default: %(default)s")
    parser.add_argument("--no-service", action="store_true", help="Prefect alone; the base isn't kept in memory")
    options = parser.parse_args(arguments)
    settings = settings_from(options)
    use_home(settings)
    try:
        running = bring_up(settings, port=options.port or settings.prefect_port, usual_port=DEFAULT_PORT, tell=_tell)
        _check_schedule(running.place)
        service = "" if options.no_service else _serve(running.place, options.service_port)
    except MondrianError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("Interrupted; what this command had started is stopped again.", file=sys.stderr)
        return 130
    print(
        f"\nPrefect UI:  {running.place.ui}\ncritiques:   {service or '(no service)'}\n"
        f"workspace:   {settings.root}\nlogs:        {running.place.home}\n\n"
        f"For `prefect` in this terminal:  export PREFECT_API_URL={running.place.api}\n"
        f"A run now:                       prefect deployment run '{SCHEDULED}'\n"
        "Stop it:                         make down"
    )
    return 0


def _serve(place: Place, port: int) -> str:
    """Have the service started by a run of `serve/local`, as everybody else would; its address.

    Raises:
        Broken: it didn't come up; Prefect stays, with the run that says why.
    """
    _tell("starting the service")
    given = {"port": port, "base_model": place.settings.base}
    seen = watching.follow(place.api, watching.begin(place.api, SERVE, given), lambda glance: None)
    if seen.state != "Completed":
        raise Broken(
            f"Prefect runs at {place.ui}, the service doesn't: {seen.message or seen.state}",
            f"Mend that, then `prefect deployment run '{SERVE}'`; `make down` stops the rest.",
        )
    _tell(seen.message)
    return f"http://127.0.0.1:{port}"


def add_place_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which workspace, adapters, base model and port."""
    parser.add_argument("--workspace", type=Path, help="default: MONDRIAN_WORKSPACE or ./workspace")
    parser.add_argument("--adapters", type=Path, help="default: MONDRIAN_ADAPTERS, or adapters beside the workspace")
    parser.add_argument("--base-model", help="default: MONDRIAN_BASE_MODEL, or what suits the machine")
    parser.add_argument("--port", type=int, help="of the Prefect server; default: a free one")


def settings_from(options: argparse.Namespace) -> Settings:
    """Options over environment over defaults."""
    given = {name: getattr(options, name, None) for name in ("workspace", "adapters", "base_model")}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _check_schedule(place: Place) -> None:
    """Say so when a schedule makes no runs: nothing else would tell."""
    if arrange.upcoming_runs(place, SCHEDULED) == 0:
        print(
            f"Warning: {SCHEDULED} has no upcoming runs although its schedule is active.\n"
            "Compare the installed fastapi and sqlalchemy with requirements.lock; `make clean setup` mends it.",
            file=sys.stderr,
        )


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
