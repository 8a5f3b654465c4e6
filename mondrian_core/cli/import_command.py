"""`mondrian import`: photographs from folders; files of critiques go to `import_critiques`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from mondrian_core.cli.options import OptionalAdvisorOptions, settings_from_options, whole_number
from mondrian_core.cli.terminal_output import print_result, show_progress
from mondrian_core.errors import BadInput, NothingToDo
from mondrian_core.files import write_json
from mondrian_core.images import PHOTOGRAPH_SUFFIXES
from mondrian_core.importing.folder_walk import begins_like_a_photograph
from mondrian_core.importing.import_report import OUTCOME_TITLES, ImportedFile, ImportOutcome, ImportReport
from mondrian_core.importing.importer import ImportSettings, PhotographImport
from mondrian_core.importing.rescan import rescan_photographs
from mondrian_core.next_steps import (
    add_advisor_step,
    import_photographs_step,
    quoted_command,
    write_critiques_step,
)
from mondrian_core.store import Store

MAX_FILES_SHOWN = 10
REPORTS_FOLDER = "imports"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ImportCommandOptions(OptionalAdvisorOptions):
    """Options of `mondrian import`."""

    advisor: Annotated[
        str | None, Parameter(help="advisor ID (default: the only one; critiques: the one that the file names)")
    ] = None
    portfolio: Annotated[bool, Parameter(help="photographs: they are the advisor's own work")] = False
    reference: Annotated[bool, Parameter(help="photographs: link to the originals instead of copying them")] = False
    rescan: Annotated[bool, Parameter(help="find photographs that were added, moved or deleted under source/")] = False
    dry_run: Annotated[bool, Parameter(help="check everything and write nothing")] = False
    processes: Annotated[
        int | None,
        Parameter(converter=whole_number, help="processes that read photographs (default: one per core, at most 4)"),
    ] = None
    format: Annotated[str | None, Parameter(help="critiques: format of the files (default: recognized)")] = None
    replace: Annotated[bool, Parameter(help="critiques: also replace newer ones")] = False
    skip_bad: Annotated[bool, Parameter(help="critiques: save the good rows when others are refused")] = False


def import_command(
    *paths: Annotated[Path, Parameter(help="folders and files of photographs, or files of critiques")],
    options: ImportCommandOptions = ImportCommandOptions(),
) -> int:
    """Import photographs (files and folders) or critiques (files).

    Exit status 1 when a photograph was not usable, or when rows of critiques were left out (--skip-bad, --dry-run);
    2 when a row of critiques was refused, and so nothing was saved.
    """
    if not paths and not options.rescan:
        raise BadInput("Nothing to import was named.", import_photographs_step(options.advisor or "ADVISOR"))
    kinds = {_is_of_photographs(path) for path in paths}
    if kinds == {False} and not options.rescan:
        from mondrian_core.cli.import_critiques import import_critiques_command

        return import_critiques_command(paths, options)
    if False in kinds:
        files = ", ".join(str(path) for path in paths if not _is_of_photographs(path))[:200]
        raise BadInput(f"Photographs and other files can't be imported at once ({files}).", "Import them separately.")
    settings = settings_from_options(options)
    settings.require_workspace()
    with Store(settings.database, read_only=options.dry_run) as store:
        wanted = ImportSettings(
            root=settings.root,
            advisor="" if options.rescan else _advisor(store, options.advisor),
            max_pixels=settings.max_pixels,
            portfolio=options.portfolio,
            reference=options.reference,
            dry_run=options.dry_run,
            workers=None if options.processes is None else max(1, options.processes),
        )
        with show_progress(options.json) as listen:
            if options.rescan:
                report = rescan_photographs(store, wanted, options.advisor, listen)
            else:
                report = PhotographImport(store, wanted).run(paths, listen)
    if not options.rescan:
        _require_photographs(report, paths)
    written = None if options.dry_run else _write_long_report(settings.root, report)
    value = {**report.as_dict(), "advisor": wanted.advisor or options.advisor, "report": written}
    print_result(options.json, value, lambda console: _draw(console, report, wanted, written))
    return 1 if report.counts[ImportOutcome.REJECTED] else 0


def _is_of_photographs(path: Path) -> bool:
    """True for a folder and for a file that is named or begins like a photograph.

    Raises:
        BadInput: there is no such file.
    """
    if not path.exists():
        raise BadInput(f"There is no file or folder {path}.", "Check the path.")
    return path.is_dir() or path.suffix.lower() in PHOTOGRAPH_SUFFIXES or begins_like_a_photograph(path)


def _advisor(store: Store, given: str | None) -> str:
    """The given advisor, or the only one.

    Raises:
        BadInput: there are several, or none.
    """
    known = [each.advisor for each in store.advisors()]
    if given is not None or len(known) == 1:
        return given or known[0]
    if not known:
        raise BadInput("This workspace has no advisor yet.", add_advisor_step())
    raise BadInput("The advisor is missing.", f"Add --advisor with one of: {', '.join(known)[:200]}.")


def _require_photographs(report: ImportReport, paths: tuple[Path, ...]) -> None:
    if report.counts or not paths:
        return
    other = ", ".join(f"{count} {suffix}" for suffix, count in report.other_files.most_common(5))
    raise NothingToDo(
        f"No photograph was found in {', '.join(map(str, paths))[:200]}{f' (only {other})' if other else ''}.",
        "Mondrian reads JPEG, HEIC, TIFF, PNG and WebP; export raw files from your raw converter as JPEG or TIFF.",
    )


def _write_long_report(root: Path, report: ImportReport) -> str | None:
    """Write the report to a file when the screen shows only a part of it; its path below the workspace."""
    listed = [file for file in report.kept if file.outcome is not ImportOutcome.KNOWN]
    if max(len(listed), len(report.near_duplicates), len(report.missing)) <= MAX_FILES_SHOWN:
        return None
    path = f"{REPORTS_FOLDER}/{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    write_json(root / path, report.as_dict())
    return path


def _draw(console: Console, report: ImportReport, wanted: ImportSettings, written: str | None) -> None:
    if report.dry_run:
        console.print("Dry run: nothing was written.")
    for outcome, title in OUTCOME_TITLES.items():
        if report.counts[outcome] or outcome is ImportOutcome.IMPORTED:
            console.print(f"{report.counts[outcome]:>6,}  {title}")
    _draw_notes(console, report)
    for outcome in (ImportOutcome.REJECTED, ImportOutcome.DUPLICATE, ImportOutcome.LINK):
        _draw_list(console, OUTCOME_TITLES[outcome], [_line(file) for file in report.of(outcome)])
    pairs = [f"{pair.first} and {pair.second} ({pair.how})" for pair in report.near_duplicates]
    _draw_list(console, "look alike, and will be in the same split", pairs)
    _draw_list(console, "moved", [f"{old} -> {new}" for old, new in report.moved.items()])
    _draw_list(console, "missing; their critiques are kept", report.missing)
    if written:
        console.print(f"The whole list: {escape(str(wanted.root / written))}")
    if report.counts[ImportOutcome.IMPORTED] and not report.dry_run and wanted.advisor:
        console.print(f"Next: {_next_step(wanted)}")


def _next_step(wanted: ImportSettings) -> str:
    if wanted.portfolio:
        return f"Build the index: {quoted_command('index', '--advisor', wanted.advisor)}."
    return write_critiques_step(wanted.advisor)


def _draw_notes(console: Console, report: ImportReport) -> None:
    if report.place_removed:
        where = ", ".join(f"{count:,} in {name}" for name, count in sorted(report.place_removed.items()))
        console.print(f"GPS data removed from the copies ({where}); the originals are unchanged.")
    if report.referenced and report.counts[ImportOutcome.IMPORTED]:
        console.print("Referenced photographs keep their GPS data; pages and critiques never show it.")
    if report.other_files:
        common = ", ".join(f"{count:,} {escape(suffix)}" for suffix, count in report.other_files.most_common(5))
        console.print(f"Other files were left alone: {common}.")


def _draw_list(console: Console, title: str, lines: list[Any]) -> None:
    if not lines:
        return
    console.print(f"{title}:")
    for line in lines[:MAX_FILES_SHOWN]:
        console.print(f"  {escape(str(line))}")
    if len(lines) > MAX_FILES_SHOWN:
        console.print(f"  and {len(lines) - MAX_FILES_SHOWN:,} more")


def _line(file: ImportedFile) -> str:
    return f"{file.file}: {file.detail}"
