"""`mondrian index`."""

from __future__ import annotations

from dataclasses import dataclass

from cyclopts import Parameter
from rich.console import Console

from mondrian_core import stages
from mondrian_core.cli.options import AdvisorOptions, NoWaitOption, context_from_options
from mondrian_core.cli.terminal_output import draw_left_out, print_result, show_progress


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class IndexOptions(AdvisorOptions, NoWaitOption):
    """Options of `mondrian index`."""


def index_command(*, options: IndexOptions) -> int:
    """Bring the index of an advisor's photographs up to date; exit status 1 when there are none."""
    context = context_from_options(options, options.advisor)
    with show_progress(options.json) as listen:
        done = stages.index_stage(context, listen)

    def draw(console: Console) -> None:
        console.print(
            f"{done.photographs} photographs of {context.advisor}: {done.embedded} embedded now, "
            f"{done.known} indexed before"
        )
        console.print(f"  scored by the base model, used for retrieval only: {done.scored}")
        draw_left_out(console, done.left_out)

    print_result(options.json, done.as_dict(), draw)
    return 0
