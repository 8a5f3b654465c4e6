"""`mondrian serve`, `mondrian analyze` and `mondrian compare`."""

from __future__ import annotations

from argparse import Namespace

from rich.console import Console
from rich.table import Table

from mondrian_core.cli.options import settings_of
from mondrian_core.cli.screen import answer, critique_table, progress


def serve(options: Namespace) -> int:
    """Answer requests until it is interrupted."""
    from mondrian_core.serving import serve as run_service

    run_service(settings_of(options), host=options.host, port=options.port, model_mode=options.model_mode,
                lora_path=options.lora_path, ab_test_split=options.ab_test_split, fallback=options.fallback)  # fmt: skip
    return 0


def analyze(options: Namespace) -> int:
    """Critique photographs in this process; each becomes a row of the jobs table."""
    from mondrian_core.serving import analyze as critique_photographs

    settings = settings_of(options)
    with progress(options.json) as listen:
        results = critique_photographs(settings, options.photographs, options.advisor,
                                       options.mode or settings.analysis_mode, listen)  # fmt: skip

    def draw(console: Console) -> None:
        for result in results:
            console.print(f"{result.path}  ({result.mode}, {result.model_used})")
            if result.critique is not None:
                console.print(critique_table([(options.advisor, result.critique)]))
            else:
                console.print(f"  failed: {result.error}")

    answer(options.json, [result.as_dict() for result in results], draw)
    return 0 if all(result.critique is not None for result in results) else 3


def compare(options: Namespace) -> int:
    """The A/B table of the last days."""
    from mondrian_core.serving.analytics import compare as compare_arms
    from mondrian_core.store import Store

    settings = settings_of(options)
    settings.require_workspace()
    rows = compare_arms(Store(settings.database, read_only=True), options.days)

    def draw(console: Console) -> None:
        table = Table(title=f"Arms, last {options.days} days", title_justify="left")
        for heading in rows[0] if rows else ("arm",):
            table.add_column(str(heading))
        for row in rows:
            table.add_row(*("" if value is None else str(value) for value in row.values()))
        console.print(table)

    answer(options.json, rows, draw)
    return 0 if rows else 1
