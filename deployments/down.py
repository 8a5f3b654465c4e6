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
    settings = settings_from(parser.parse_args(arguments))
    use_home(settings)
    stopped = take_down(settings, lambda line: print(line, flush=True))
    if not stopped:
        print(f"Nothing that was started for {settings.root} is running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
