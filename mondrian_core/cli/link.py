"""`mondrian link`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markdown import Markdown

from mondrian_core import stages
from mondrian_core.cli.options import AdvisorOptions, context_from_options, settings_from_options
from mondrian_core.cli.terminal_output import print_next_step, print_result, show_progress, show_recording
from mondrian_core.files import read_json
from mondrian_core.stages.link import step_without_usable_critiques


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LinkOptions(AdvisorOptions):
    """Options of `mondrian link`."""

    csv: Annotated[Path | None, Parameter(help="also write every record as a line of this CSV file")] = None


def link_command(*, options: LinkOptions) -> int:
    """Link critiques to photographs; exit status 1 when no record is usable."""
    context = context_from_options(options, options.advisor)
    show_recording(settings_from_options(options), options.json)
    with show_progress(options.json) as listen:
        linked = stages.link_stage(context, listen)
    manifest = read_json(Path(linked.manifest))
    if options.csv:
        from mondrian_core.data.linking.link import LinkManifest

        LinkManifest.from_dict(manifest).write_csv(options.csv)

    def draw(console: Console) -> None:
        console.print(Markdown(linked.table))
        console.print(f"Manifest: {linked.manifest}")
        if not linked.used and not linked.left_out:
            print_next_step(console, options, step_without_usable_critiques(context))

    print_result(options.json, {**linked.as_dict(), "records": manifest}, draw)
    return 0 if linked.used else 1
