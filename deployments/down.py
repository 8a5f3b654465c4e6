"""`mondrian down`: stop what `mondrian up` started for a workspace, and nothing else."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from deployments.bootstrap import take_down
from deployments.prefect_instance import set_prefect_home
from deployments.up import progress_printer
from mondrian_core.cli.options import CommandOptions, settings_from_options
from mondrian_core.cli.terminal_output import print_result


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DownOptions(CommandOptions):
    """Options of `mondrian down`."""

    keep_service: Annotated[bool, Parameter(help="leave the service of serve/local running")] = False


def down_command(*, options: DownOptions = DownOptions()) -> int:
    """Stop what `mondrian up` started for a workspace, and nothing else."""
    settings = settings_from_options(options)
    set_prefect_home(settings)
    from tasks.service import stop_service  # imports Prefect, so only after set_prefect_home

    progress = progress_printer(as_json=options.json)
    stopped = take_down(settings, progress)
    if not options.keep_service and stop_service(settings):
        progress("stopping the service")
        stopped.append("service")

    def draw(console: Console) -> None:
        if not stopped:
            console.print(f"Nothing that was started for {settings.root} is running.", markup=False)

    print_result(options.json, {"stopped": stopped, "workspace": str(settings.root)}, draw)
    return 0
