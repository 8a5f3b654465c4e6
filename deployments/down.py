"""`mondrian down`: stop what `mondrian up` started for a workspace, and nothing else."""

from __future__ import annotations

import json
import sys

from deployments.bootstrap import take_down
from deployments.prefect_instance import set_prefect_home
from deployments.up import deployment_parser, deployment_settings, progress_printer


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = deployment_parser("down", __doc__ or "")
    parser.add_argument("--keep-service", action="store_true", help="leave the service of serve/local running")
    options = parser.parse_args(arguments)
    settings = deployment_settings(options)
    set_prefect_home(settings)
    from tasks.service import stop_service  # imports Prefect, so only after set_prefect_home

    progress = progress_printer(options)
    stopped = take_down(settings, progress)
    if not options.keep_service and stop_service(settings):
        progress("stopping the service")
        stopped.append("service")
    if options.json:
        print(json.dumps({"stopped": stopped, "workspace": str(settings.root)}))
    elif not stopped:
        print(f"Nothing that was started for {settings.root} is running.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
