"""Terminal output: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mondrian_core.events import (
    EventListener,
    StageEvent,
    StageFinished,
    StageNotice,
    StageProgressed,
    StageStarted,
    ignore_events,
)
from mondrian_core.next_steps import continue_with_options
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, Critique

if TYPE_CHECKING:
    from mondrian_core.cli.options import CommandOptions
    from mondrian_core.settings import Settings

VERDICT_STYLE = {"PASS": "green", "FAIL": "bold red", "INCONCLUSIVE": "yellow"}


def make_console() -> Console:
    """Standard output; without styles unless it is a terminal."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


@contextmanager
def show_progress(quiet: bool) -> Iterator[EventListener]:
    """A listener that draws progress bars on standard error, or prints a line per stage without a terminal."""
    if quiet:
        yield ignore_events
        return
    errors = Console(stderr=True, highlight=False)
    if not errors.is_terminal:
        yield _line_listener(errors)
        return
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False),  # it may be the name of a file
    )
    with Progress(*columns, console=errors) as bars:
        yield _bar_listener(bars)


def show_recording(settings: Settings, quiet: bool) -> None:
    """Record photographs that were put under source/, with progress, before a command lists what is there."""
    from mondrian_core.importing.recording import record_before_listing

    with show_progress(quiet) as listen:
        record_before_listing(settings, listen)


def _line_listener(errors: Console) -> EventListener:
    def listen(event: StageEvent) -> None:
        if isinstance(event, StageStarted):
            errors.print(f"{event.stage}: {event.detail or 'started'}")
        elif isinstance(event, StageNotice):
            errors.print(f"{event.stage}: {event.message}")
        elif isinstance(event, StageFinished):
            errors.print(f"{event.stage}: done")

    return listen


def _bar_listener(bars: Progress) -> EventListener:
    tasks: dict[str, TaskID] = {}

    def task(stage: str, total: int | None) -> TaskID:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total, detail="")
        return tasks[stage]

    def listen(event: StageEvent) -> None:
        if isinstance(event, StageStarted):
            bars.update(task(event.stage, event.total), total=event.total, detail=event.detail)
        elif isinstance(event, StageProgressed):
            bars.update(task(event.stage, event.total), completed=event.done, total=event.total, detail=event.detail)
        elif isinstance(event, StageNotice):
            bars.console.print(f"{event.stage}: {event.message}")
        else:
            row = bars.tasks[task(event.stage, 1)]
            bars.update(row.id, completed=row.total or 1, total=row.total or 1, detail="done")

    return listen


def print_result(as_json: bool, value: Any, draw: Callable[[Console], None]) -> None:
    """Print `value` as one JSON document, or call `draw` for readable output."""
    if as_json:
        print(json.dumps(value, indent=2, default=str))
    else:
        draw(make_console())


def step_with_options(options: CommandOptions, step: str) -> str:
    """The step, with the workspace, registry and base model that this command was given added to its commands."""
    return continue_with_options(step, shared_option_words(options))


def shared_option_words(options: CommandOptions) -> list[str]:
    """The workspace, registry and base model that a command was given, as words for another command."""
    given = {"--workspace": options.workspace, "--adapters": options.adapters, "--base-model": options.base_model}
    return [word for name, value in given.items() if value is not None for word in (name, str(value))]


def print_next_step(console: Console, options: CommandOptions, step: str) -> None:
    """Print the next step; nothing for ""."""
    if step:
        console.print(f"Next: {step[0].lower()}{step_with_options(options, step)[1:]}", markup=False)


def draw_left_out(console: Console, left_out: list[dict[str, str]]) -> None:
    """Print how many files were left out, with the first one and its reason."""
    if left_out:
        files = "1 file" if len(left_out) == 1 else f"{len(left_out)} files"
        first = f"{left_out[0]['path']}: {left_out[0]['reason']}"
        console.print(f"  left out: {files}, the first: {_escape_markup(first)}")


def rich_gate_table(gates: Sequence[Mapping[str, Any]]) -> Table:
    """A table of gates: verdict, explanation and values; fits 80 columns."""
    table = Table(title="Gates", title_justify="left", show_lines=True)
    for heading in ("gate", "verdict"):
        table.add_column(heading, no_wrap=True)
    table.add_column("explanation", overflow="fold", ratio=1)
    for gate in gates:
        words = Text(str(gate.get("sentence", "")))
        figures = _figures(gate)
        if figures:
            words.append(f"\n{figures}", style="dim")
        table.add_row(gate["name"], Text(gate["verdict"], style=VERDICT_STYLE.get(gate["verdict"], "")), words)
    return table


def _figures(gate: Mapping[str, Any]) -> str:
    """Observed value with its interval, threshold and n, where the gate has them."""
    if gate.get("observed") is None:
        return ""
    values = [f"observed {display_number(gate['observed'])} {_display_interval(gate.get('interval'))}".strip()]
    if gate.get("threshold") is not None:
        values.append(f"threshold {display_number(gate['threshold'])}")
    if gate.get("n"):
        values.append(f"n {display_number(gate['n'])}")
    return ", ".join(values)


def rich_critique_table(titles_and_critiques: list[tuple[str, Critique]]) -> Table:
    """A table of critiques, with a row for each dimension."""
    table = Table(title_justify="left", show_lines=True)
    table.add_column("dimension", no_wrap=True)
    for title, _ in titles_and_critiques:
        table.add_column(title, overflow="fold", ratio=1)
    for name in DIMENSIONS:
        cells = [critique.assessments[name] for _, critique in titles_and_critiques]
        table.add_row(
            DIMENSION_TITLES[name],
            *(
                f"[bold]{display_number(cell.score)}[/]  {_escape_markup(cell.comment)}"
                + (f"\n[blue]{_escape_markup(cell.recommendation)}[/]" if cell.recommendation else "")
                for cell in cells
            ),
        )
    critiques = [critique for _, critique in titles_and_critiques]
    for title, lists in (
        ("Strengths", [critique.strengths for critique in critiques]),
        ("Priority improvements", [critique.priority_improvements for critique in critiques]),
    ):
        if any(lists):
            table.add_row(title, *("\n".join(map(_escape_markup, texts)) for texts in lists))
    table.add_row(
        "Overall grade", *(f"[bold]{_escape_markup(critique.overall_grade)}[/]" for _, critique in titles_and_critiques)
    )
    return table


def display_number(value: Any) -> str:
    """A number for display: at most three significant digits; empty for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def _display_interval(value: Any) -> str:
    """An interval for display, as [low, high]."""
    if not value:
        return ""
    low, high = value
    return f"[{display_number(low)}, {display_number(high)}]"


def _escape_markup(text: str) -> str:
    from rich.markup import escape

    return escape(text)
