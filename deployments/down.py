"""`make down`: stop what `make up` started on this machine, and nothing else."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deployments.bootstrap import take_down
from deployments.place import use_home
from deployments.up import settings_from


def main(arguments: list[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m deployments.down", description=__doc__)
    parser.add_argument("--workspace", type=Path, help="default: MONDRIAN_WORKSPACE or ./workspace")
    parser.add_argument("--keep-service", action="store_true", help="leave the service of serve/local running")
    options = parser.parse_args(arguments)
    settings = settings_from(options)
    use_home(settings)
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
