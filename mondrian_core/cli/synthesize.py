"""`mondrian synthesize`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from mondrian_core import stages
from mondrian_core.cli.options import (
    AdvisorOptions,
    NoWaitOption,
    RecipeFileOption,
    context_from_options,
    whole_number,
)
from mondrian_core.cli.terminal_output import draw_left_out, print_result, show_progress
from mondrian_core.recipes import recipe_from_values
from mondrian_core.stages import StageContext


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SynthesizeOptions(AdvisorOptions, RecipeFileOption, NoWaitOption):
    """Options of `mondrian synthesize`."""

    count: Annotated[
        int | None, Parameter(converter=whole_number, help="maximum number of drafts (default: the recipe's, 20)")
    ] = None


def synthesize_command(*, options: SynthesizeOptions) -> int:
    """Draft critiques that wait for `mondrian review`; exit status 1 when none could be drafted."""
    context = _with_draft_count(context_from_options(options, options.advisor), options.count)
    with show_progress(options.json) as listen:
        done = stages.synthesize_stage(context, listen)

    def draw(console: Console) -> None:
        console.print(
            f"{done.drafted} critiques drafted; base and {context.advisor} were compared on "
            f"{done.calibrated_on} training photographs"
        )
        console.print(f"  {done.remaining} photographs without a critique remain, {done.known} were drafted before")
        draw_left_out(console, done.left_out)
        console.print(f"{done.waiting} drafts wait. Next: mondrian review --advisor {context.advisor}")

    print_result(options.json, done.as_dict(), draw)
    return 0 if done.drafted else 1


def _with_draft_count(context: StageContext, count: int | None) -> StageContext:
    if count is None:
        return context
    values = context.recipe.model_dump(mode="json")
    values["synthesize"]["photographs"] = count
    return replace(context, recipe=recipe_from_values(values, "--count"))
