"""`mondrian dataset`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from mondrian_core import stages
from mondrian_core.cli.options import AdvisorOptions, RecipeOptions, context_from_options
from mondrian_core.cli.terminal_output import print_result, show_progress
from mondrian_core.events import EventListener
from mondrian_core.stages import StageContext


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DatasetOptions(AdvisorOptions, RecipeOptions):
    """Options of `mondrian dataset`."""

    preview: Annotated[
        list[int] | None,
        Parameter(
            consume_multiple=(0, 1), help="show row N (default 1) of the training split exactly as the model sees it"
        ),
    ] = None
    export: Annotated[
        tuple[str, Path] | None,
        Parameter(
            help="also write the dataset to a new folder: first the format (parquet, chat or pairs), then the folder"
        ),
    ] = None


def dataset_command(*, options: DatasetOptions) -> int:
    """Write the dataset version of the linked critiques; exit status 1 when no critique is usable."""
    context = context_from_options(options, options.advisor)
    with show_progress(options.json) as listen:
        built = link_and_build_dataset(context, listen)
    extra: dict[str, Any] = {}
    if options.export:
        from mondrian_core.data.dataset.export import export_dataset
        from mondrian_core.data.dataset.version import load_dataset_version

        form, folder = options.export
        written = export_dataset(load_dataset_version(Path(built.path)), form, folder.resolve())
        extra["exported"] = [str(path) for path in written]
    preview = None
    if options.preview is not None:
        from mondrian_core.cli.dataset_preview import load_row_preview, print_row_preview

        preview = load_row_preview(context, Path(built.path), options.preview[0] if options.preview else 1)
        extra["preview"] = preview.as_dict()

    def draw(console: Console) -> None:
        console.print(f"Dataset {built.digest[:12]} at {built.path}")
        for split, rows in built.rows.items():
            console.print(f"  {split}: {built.photographs.get(split, 0)} photographs, {rows} rows")
        held = ", ".join(f"{part} {count}" for part, count in built.parts.items() if count)
        console.print(f"  answers: {built.answer_form}{f' ({held} photographs)' if held else ''}")
        console.print(f"  contact sheet of the variants: {built.contact_sheet}")
        for path in extra.get("exported", ()):
            console.print(f"  exported: {path}")
        if preview is not None:
            print_row_preview(console, preview)

    print_result(options.json, {**built.as_dict(), **extra}, draw)
    return 0


def link_and_build_dataset(context: StageContext, listen: EventListener) -> stages.DatasetSummary:
    """Run the stages link and dataset in the run of `context`."""
    stages.link_stage(context, listen)
    return stages.dataset_stage(context, listen)
