"""`mondrian download`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from mondrian_core.cli.options import CommandOptions, settings_from_options
from mondrian_core.cli.terminal_output import print_result, show_progress
from mondrian_core.models.base_download import fetch_base, plan_download
from mondrian_core.models.base_model import is_hub_id, local_base_path, resolve_base_path


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DownloadOptions(CommandOptions):
    """Options of `mondrian download`."""

    verify: Annotated[bool, Parameter(help="hash the weights, and download again what the hub sent otherwise")] = False
    dry_run: Annotated[bool, Parameter(help="say how much would be downloaded, and download nothing")] = False


def download_command(*, options: DownloadOptions = DownloadOptions()) -> int:
    """Download the base model, or complete an interrupted download; files that are complete are kept."""
    name = settings_from_options(options).base
    if not is_hub_id(name) or (local_base_path(name) is not None and not options.verify):
        folder = resolve_base_path(name)
        print_result(
            options.json,
            {"base_model": name, "folder": str(folder), "missing_bytes": 0},
            lambda console: console.print(f"The base model {name} is complete: {folder}", markup=False),
        )
        return 0
    if options.dry_run:
        plan = plan_download(name)

        def draw(console: Console) -> None:
            for file, size in plan.files.items():
                console.print(f"  {size / 1e6:12,.1f} MB  {file}", markup=False)
            total = f"{plan.missing_bytes / 1e9:.2f} of {plan.total_bytes / 1e9:.2f} GB"
            console.print(f"{total} of {name} would be downloaded.", markup=False)

        print_result(options.json, plan.as_dict(), draw)
        return 0
    with show_progress(options.json) as listen:
        folder = fetch_base(name, listen, verify=options.verify)
    value: dict[str, Any] = {"base_model": name, "folder": str(folder), "missing_bytes": 0}
    print_result(options.json, value, lambda console: console.print(f"Downloaded {name}: {folder}", markup=False))
    return 0
