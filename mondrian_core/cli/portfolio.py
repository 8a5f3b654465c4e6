"""`mondrian index` and `mondrian synthesize`: what the base does with photographs that have no critique."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace

from rich.console import Console
from rich.markup import escape

from mondrian_core import stages
from mondrian_core.cli.options import context_of
from mondrian_core.cli.screen import answer, progress
from mondrian_core.recipes import recipe_of
from mondrian_core.stages import Context


def index(options: Namespace) -> int:
    """Bring the index of an advisor's photographs up to date."""
    context = context_of(options)
    with progress(options.json) as listen:
        done = stages.index(context, listen)

    def draw(console: Console) -> None:
        console.print(
            f"{done.photographs} photographs of {context.advisor}: {done.embedded} embedded now, "
            f"{done.known} indexed before"
        )
        console.print(f"  scored by the base model, for retrieval alone: {done.scored}")
        _draw_left_out(console, done.left_out)

    answer(options.json, done.as_dict(), draw)
    return 0


def synthesize(options: Namespace) -> int:
    """Draft critiques that wait for `mondrian review`; exit status 1 when none could be drafted."""
    context = _with_count(context_of(options), options.count)
    with progress(options.json) as listen:
        done = stages.synthesize(context, listen)

    def draw(console: Console) -> None:
        console.print(
            f"{done.drafted} critiques drafted; base and {context.advisor} were compared on "
            f"{done.calibrated_on} training photographs"
        )
        console.print(f"  {done.remaining} photographs without a critique are left, {done.known} were drafted before")
        _draw_left_out(console, done.left_out)
        console.print(f"{done.waiting} drafts wait. Next: mondrian review --advisor {context.advisor}")

    answer(options.json, done.as_dict(), draw)
    return 0 if done.drafted else 1


def _with_count(context: Context, count: int | None) -> Context:
    if count is None:
        return context
    values = context.recipe.model_dump(mode="json")
    values["synthesize"]["photographs"] = count
    return replace(context, recipe=recipe_of(values, "--count"))


def _draw_left_out(console: Console, left_out: list[dict[str, str]]) -> None:
    if left_out:
        files = "1 file" if len(left_out) == 1 else f"{len(left_out)} files"
        console.print(f"  left out: {files}, the first: {escape(left_out[0]['path'])}: {escape(left_out[0]['reason'])}")
