"""`mondrian export`: critiques as a file for spreadsheets, programs, Label Studio and Argilla."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from mondrian_core.cli.options import OptionalAdvisorOptions, settings_from_options
from mondrian_core.cli.terminal_output import print_result, show_progress
from mondrian_core.critique_files.exporting import (
    ExportCounts,
    export_critiques,
    exported_bytes,
    exported_records,
)
from mondrian_core.critique_files.formats import CSV, WRITTEN_FORMATS, written_format
from mondrian_core.critique_files.label_studio import labeling_config
from mondrian_core.errors import BadInput
from mondrian_core.files import write_atomic
from mondrian_core.settings import validate_advisor_id
from mondrian_core.store import Store

STANDARD_OUTPUT = Path("-")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CritiqueExportOptions(OptionalAdvisorOptions):
    """Options of `mondrian export`."""

    format: Annotated[str, Parameter(help=f"one of {', '.join(WRITTEN_FORMATS)} (default: csv)")] = CSV
    out: Annotated[
        Path | None,
        Parameter(
            allow_leading_hyphen=True,
            help="the file, or - for standard output (default: a new file critiques.SUFFIX here)",
        ),
    ] = None
    labeling_config: Annotated[
        Path | None, Parameter(help="also write the labeling configuration for Label Studio to this file (XML)")
    ] = None


def export_command(*, options: CritiqueExportOptions = CritiqueExportOptions()) -> int:
    """Export all complete critiques; exit status 1 when there are none."""
    settings = settings_from_options(options)
    settings.require_workspace()
    advisor = None if options.advisor is None else validate_advisor_id(options.advisor)
    kind = written_format(options.format)
    if options.out == STANDARD_OUTPUT and options.json:
        raise BadInput("--json and the critiques can't both go to standard output.", "Give --out a file.")
    counts = ExportCounts()
    out = options.out or _new_file(Path(f"critiques{kind.suffixes[0]}"))
    with Store(settings.database, read_only=True) as store:
        if advisor is not None:
            store.advisor(advisor)
        with show_progress(options.json) as listen:
            records = exported_records(store, settings.root, advisor, counts, listen)
            if out == STANDARD_OUTPUT:
                sys.stdout.buffer.writelines(exported_bytes(kind, records))
                sys.stdout.buffer.flush()
            else:
                export_critiques(kind, records, out)
    if options.labeling_config is not None:
        write_atomic(options.labeling_config, labeling_config())
    if out == STANDARD_OUTPUT:
        print(_summary(counts, "standard output"), file=sys.stderr)
    else:
        value = {"file": str(out), "format": kind.name, "advisor": advisor, **vars(counts)}
        print_result(options.json, value, lambda console: _draw(console, counts, out, options.labeling_config))
    return 0 if counts.critiques else 1


def _new_file(path: Path) -> Path:
    """The path; somebody may have edited an earlier export, so it is replaced only when it is named."""
    if path.exists():
        raise BadInput(f"There is already a file {path}.", f"Replace it with --out {path}, or name another.")
    return path


def _draw(console: Console, counts: ExportCounts, out: Path, config: Path | None) -> None:
    console.print(escape(_summary(counts, str(out))))
    if config is not None:
        console.print(f"Labeling configuration: {escape(str(config))}")


def _summary(counts: ExportCounts, place: str) -> str:
    sentences = [f"Exported {counts.critiques:,} {'critique' if counts.critiques == 1 else 'critiques'} to {place}."]
    if counts.incomplete:
        sentences.append(f"Left out: {counts.incomplete:,} without all scores and comments.")
    if counts.index_made:
        sentences.append(f"Left out: {counts.index_made:,} by the base model for retrieval only.")
    if counts.without_photograph:
        sentences.append(f"The photographs of {counts.without_photograph:,} are not in the workspace.")
    return " ".join(sentences)
