"""`mondrian index` and `mondrian synthesize`: what the base does with photographs that have no critique."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

from rich.console import Console
from rich.markup import escape

from mondrian_core import stages
from mondrian_core.cli.options import context_from_options
from mondrian_core.cli.terminal_output import print_result, show_progress
from mondrian_core.recipes import recipe_from_values
from mondrian_core.stages import StageContext


def index_command(options: Namespace) -> int:
    """Bring the index of an advisor's photographs up to date."""
    context = context_from_options(options)
    with show_progress(options.json) as listen:
        done = stages.index_stage(context, listen)

    def draw(console: Console) -> None:
        console.print(
            f"{done.photographs} photographs of {context.advisor}: {done.embedded} embedded now, "
            f"{done.known} indexed before"
        )
        console.print(f"  scored by the base model, for retrieval alone: {done.scored}")
        _draw_left_out(console, done.left_out)

    print_result(options.json, done.as_dict(), draw)
    return 0


def synthesize_command(options: Namespace) -> int:
    """Draft critiques that wait for `mondrian review`; exit status 1 when none could be drafted."""
    context = _with_draft_count(context_from_options(options), options.count)
    with show_progress(options.json) as listen:
        done = stages.synthesize_stage(context, listen)

    def draw(console: Console) -> None:
        console.print(
            f"{done.drafted} critiques drafted; base and {context.advisor} were compared on "
            f"{done.calibrated_on} training photographs"
        )
        console.print(f"  {done.remaining} photographs without a critique are left, {done.known} were drafted before")
        _draw_left_out(console, done.left_out)
        console.print(f"{done.waiting} drafts wait. Next: mondrian review --advisor {context.advisor}")

    print_result(options.json, done.as_dict(), draw)
    return 0 if done.drafted else 1


def _with_draft_count(context: StageContext, count: int | None) -> StageContext:
    if count is None:
        return context
    values = context.recipe.model_dump(mode="json")
    values["synthesize"]["photographs"] = count
    return replace(context, recipe=recipe_from_values(values, "--count"))


def _draw_left_out(console: Console, left_out: list[dict[str, str]]) -> None:
    if left_out:
        files = "1 file" if len(left_out) == 1 else f"{len(left_out)} files"
        console.print(f"  left out: {files}, the first: {escape(left_out[0]['path'])}: {escape(left_out[0]['reason'])}")
