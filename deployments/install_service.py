"""`mondrian install-service` and `mondrian uninstall-service`: server, worker and service at login."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from deployments import bootstrap
from deployments.prefect_instance import DEFAULT_PORT, choose_port
from deployments.up import SERVICE_PORT
from mondrian_core import service_units
from mondrian_core.cli.options import NO_OPTIONS, CommandOptions, WholeNumber, settings_from_options
from mondrian_core.cli.terminal_output import print_result
from mondrian_core.errors import NothingToDo
from mondrian_core.prefect_server import read_join_record
from mondrian_core.service_units import UnitPart, UnitPlan
from mondrian_core.settings import Settings
from tasks.service_record import recorded_service


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class InstallServiceOptions(CommandOptions):
    """Options of `mondrian install-service`."""

    port: Annotated[
        WholeNumber | None, Parameter(help="port of the Prefect server (default: the present one, 4200, or a free one)")
    ] = None
    service_port: Annotated[
        WholeNumber | None, Parameter(help="port of the service (default: the present one, 5100, or a free one)")
    ] = None
    model_mode: Annotated[
        Literal["base", "fine_tuned", "ab_test"],
        Parameter(show_default=True, help="which model answers"),
    ] = "fine_tuned"
    no_service: Annotated[bool, Parameter(help="install Prefect's server and worker only")] = False
    dry_run: Annotated[bool, Parameter(help="print the files and exit; secrets are hidden")] = False


def install_service_command(*, options: InstallServiceOptions = InstallServiceOptions()) -> int:
    """Start server, worker and service at login, and again whenever one of them ends."""
    settings = settings_from_options(options)
    settings.require_workspace()
    supervisor = service_units.supervisor_of_machine(settings)
    plan = service_units.plan_units(
        settings,
        program=Path(sys.executable),
        home=supervisor.folder,
        environment=os.environ,
        arguments=_arguments(settings, options),
    )
    files = supervisor.files(plan)
    notices = [] if options.dry_run else service_units.install_units(supervisor, plan)
    shown = [{"path": str(file.path), "mode": f"{file.mode:o}", "text": _shown_text(plan, file.text)} for file in files]

    def draw(console: Console) -> None:
        for file in shown:
            if options.dry_run:
                print(f"# {file['path']} ({file['mode']})\n{file['text']}")
            else:
                console.print(file["path"], markup=False)
        for notice in notices:
            console.print(notice, markup=False)
        if not options.dry_run:
            console.print("Remove them again: mondrian uninstall-service. State: mondrian doctor.", markup=False)

    print_result(options.json, {"dry_run": options.dry_run, "files": shown, "notices": notices}, draw)
    return 0


def _arguments(settings: Settings, options: InstallServiceOptions) -> dict[UnitPart, tuple[str, ...]]:
    """The arguments of `mondrian foreground`, by part; a machine that joined a server has none of its own."""
    joined = read_join_record(settings)
    parts: dict[UnitPart, tuple[str, ...]] = {}
    if joined is None:
        port = options.port or bootstrap.recorded_port(settings) or settings.prefect_port
        parts["server"] = ("server", "--port", str(port or choose_port(None, usual=DEFAULT_PORT)))
    parts["worker"] = ("worker",)
    roles = settings.roles if joined is None else joined.roles
    if not options.no_service and "serving" in roles:
        known = recorded_service(settings)
        present = known[1].port if known else None
        port = options.service_port or present or choose_port(None, usual=SERVICE_PORT)
        parts["service"] = ("service", "--service-port", str(port), "--model-mode", options.model_mode)
    return parts


def _shown_text(plan: UnitPlan, text: str) -> str:
    """A file's text without values that may be secret."""
    if not text.startswith(service_units.ENVIRONMENT_HEAD):
        return text
    return service_units.ENVIRONMENT_HEAD + "".join(f"export {name}=...\n" for name in plan.environment)


def uninstall_service_command(*, options: CommandOptions = NO_OPTIONS) -> int:
    """Stop and remove what `mondrian install-service` wrote; the workspace and its logs stay.

    Exit status 1 when no services are installed for the workspace.
    """
    settings = settings_from_options(options)
    supervisor = service_units.supervisor_of_machine(settings)
    installed = service_units.find_installed_units(supervisor, settings)
    if installed is None:
        raise NothingToDo(
            f"No services are installed for {settings.root}.",
            "Give the path that the workspace had at that time, with --workspace, if it was moved.",
        )
    removed = service_units.uninstall_units(supervisor, installed)

    def draw(console: Console) -> None:
        for path in removed:
            console.print(f"removed {path}", markup=False)

    print_result(options.json, {"removed": [str(path) for path in removed]}, draw)
    return 0
