"""`mondrian down`: stop what `mondrian up` started for a workspace, and nothing else."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from deployments.bootstrap import OnMessage, take_down
from deployments.prefect_instance import set_prefect_home
from deployments.up import progress_printer
from mondrian_core import service_units
from mondrian_core.cli.options import CommandOptions, settings_from_options
from mondrian_core.cli.terminal_output import print_result
from mondrian_core.errors import Broken
from mondrian_core.settings import Settings


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DownOptions(CommandOptions):
    """Options of `mondrian down`."""

    keep_service: Annotated[bool, Parameter(help="leave the service of serve/local running")] = False


def _stop_installed_units(settings: Settings, on_message: OnMessage, *, keep_service: bool) -> list[str]:
    """Stop the units of `mondrian install-service` first: they would start again whatever else is stopped."""
    found = service_units.installed_here(settings)
    if found is None:
        return []
    supervisor, installed = found
    chosen = [part for part in installed.parts if not (keep_service and part == "service")]
    running = [state for state in service_units.unit_states(supervisor, installed) if state.running]
    try:
        service_units.stop_units(supervisor, installed, chosen)
    except Broken as error:
        on_message(f"The services at login could not be stopped: {error.problem}")
        return []
    on_message("the services at login are stopped until the next login or `mondrian up`")
    return [state.name for state in running if state.part in chosen]


def down_command(*, options: DownOptions = DownOptions()) -> int:
    """Stop what `mondrian up` started for a workspace, and nothing else."""
    settings = settings_from_options(options)
    set_prefect_home(settings)
    from tasks.service import stop_service  # imports Prefect, so only after set_prefect_home

    progress = progress_printer(as_json=options.json)
    stopped = _stop_installed_units(settings, progress, keep_service=options.keep_service)
    stopped += take_down(settings, progress)
    if not options.keep_service and stop_service(settings):
        progress("stopping the service")
        stopped.append("service")

    def draw(console: Console) -> None:
        if not stopped:
            console.print(f"Nothing that was started for {settings.root} is running.", markup=False)

    print_result(options.json, {"stopped": stopped, "workspace": str(settings.root)}, draw)
    return 0
