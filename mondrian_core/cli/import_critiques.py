"""`mondrian import` for files of critiques: what would happen with each row, and the import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mondrian_core.cli.options import CommandOptions, settings_from_options
from mondrian_core.cli.terminal_output import print_result, show_progress
from mondrian_core.critique_files.formats import CritiqueFile
from mondrian_core.critique_files.importing import CritiqueImport, CritiqueImportOptions, import_critiques
from mondrian_core.critique_files.planning import BAD_OUTCOMES, OUTCOME_MEANINGS, RowOutcome
from mondrian_core.errors import BadInput
from mondrian_core.settings import validate_advisor_id
from mondrian_core.store import Store

MAX_ROWS_SHOWN = 20
_STYLES = {
    RowOutcome.NEW: "green",
    RowOutcome.CHANGED: "yellow",
    RowOutcome.CONFLICT: "bold red",
    RowOutcome.REFUSED: "bold red",
}


class CritiqueImportChoices(Protocol):
    """The options of `mondrian import` that files of critiques use; see `CritiqueImportOptions`."""

    @property
    def advisor(self) -> str | None: ...
    @property
    def dry_run(self) -> bool: ...
    @property
    def replace(self) -> bool: ...
    @property
    def skip_bad(self) -> bool: ...
    @property
    def format(self) -> str | None: ...
    @property
    def json(self) -> bool: ...


def import_critiques_command(paths: Sequence[Path], options: CritiqueImportChoices) -> int:
    """Import critiques from files, all or none; exit status 2 when nothing was saved, 1 when rows were left out."""
    assert isinstance(options, CommandOptions)
    settings = settings_from_options(options)
    settings.require_workspace()
    wanted = CritiqueImportOptions(
        advisor=None if options.advisor is None else validate_advisor_id(options.advisor),
        dry_run=options.dry_run,
        replace=options.replace,
        skip_bad=options.skip_bad,
        format=options.format,
    )
    files = [_critique_file(path) for path in paths]
    with Store(settings.database, read_only=wanted.dry_run) as store, show_progress(options.json) as listen:
        done = import_critiques(store, settings.root, files, wanted, listen)
    print_result(options.json, done.as_dict(), lambda console: _draw(console, done, wanted))
    if not done.bad:
        return 0
    return 1 if wanted.dry_run or wanted.skip_bad else 2


def _critique_file(path: Path) -> CritiqueFile:
    if not path.is_file():
        raise BadInput(
            f"{path} is not a file." if path.exists() else f"There is no file {path}.",
            "Name the files to import, such as critiques.csv or analysis_md/*.md.",
        )
    try:
        with path.open("rb"):
            return CritiqueFile(path, path.name)
    except OSError as error:
        raise BadInput(f"{path} can't be read ({error.strerror}).", "Check its permissions.") from None


def _draw(console: Console, done: CritiqueImport, wanted: CritiqueImportOptions) -> None:
    for notice in done.notices:
        console.print(escape(notice))
    _draw_rows(console, done, [outcome for outcome in RowOutcome if outcome is not RowOutcome.SAME])
    counted = [outcome for outcome in RowOutcome if done.counts[outcome]]
    for outcome in counted:
        console.print(f"{done.counts[outcome]:>6,}  {outcome.value:<9} {OUTCOME_MEANINGS[outcome]}")
    console.print(_conclusion(done, wanted))


def _draw_rows(console: Console, done: CritiqueImport, outcomes: Sequence[RowOutcome]) -> None:
    """A table of the rows that a person may want to look at; those that keep others from being saved come first."""
    shown = [row for row in done.rows if row.outcome in outcomes]
    shown.sort(key=lambda row: row.outcome not in BAD_OUTCOMES)
    if not shown:
        return
    several = len({row.file for row in done.rows}) > 1
    table = Table(title_justify="left")
    for heading in ("row", "outcome", "photograph", "reason"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "outcome")
    for row in shown[:MAX_ROWS_SHOWN]:
        place = row.title if several or not row.place else row.place
        style = _STYLES.get(row.outcome)
        outcome = f"[{style}]{row.outcome.value}[/]" if style else row.outcome.value
        table.add_row(escape(place), outcome, escape(row.photograph), escape(row.reason))
    console.print(table)
    if len(shown) > MAX_ROWS_SHOWN:
        console.print(f"and {len(shown) - MAX_ROWS_SHOWN:,} more rows; --json prints all of them")


def _conclusion(done: CritiqueImport, wanted: CritiqueImportOptions) -> str:
    if done.saved:
        return f"Saved {_critiques(done.to_write)}."
    if wanted.dry_run:
        would = f"Dry run: nothing was written. The import would save {_critiques(done.to_write)}"
        return would + (" with --skip-bad, and none without it." if done.bad and done.to_write else ".")
    if not done.bad:
        return "Nothing to save: the workspace has all of these critiques."
    return (
        f"Nothing was saved, because {done.bad:,} of {len(done.rows):,} rows can't be used. Fix them and import the "
        "file again, or save the others with --skip-bad."
    )


def _critiques(count: int) -> str:
    return "1 critique" if count == 1 else f"{count:,} critiques"
