"""`make down`: stop what `make up` started on this machine, and nothing else."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deployments.bootstrap import take_down
from deployments.prefect_instance import set_prefect_home
from deployments.up import deployment_settings


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m deployments.down", description=__doc__)
    parser.add_argument("--workspace", type=Path, help="default: MONDRIAN_WORKSPACE or ./workspace")
    parser.add_argument("--keep-service", action="store_true", help="leave the service of serve/local running")
    options = parser.parse_args(arguments)
    settings = deployment_settings(options)
    set_prefect_home(settings)
    from tasks.service import stop_service  # imports Prefect, which must find its home first

    stopped = take_down(settings, lambda line: print(line, flush=True))
    if not options.keep_service and stop_service(settings):
        print("stopping the service")
        stopped.append("service")
    if not stopped:
        print(f"Nothing that was started for {settings.root} is running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
