"""`mondrian serve`, `mondrian analyze` and `mondrian compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mondrian_core.cli.options import (
    AdvisorOptions,
    CommandOptions,
    WholeNumber,
    XmpOptions,
    settings_from_options,
    sidecar_options,
)
from mondrian_core.cli.terminal_output import print_result, rich_critique_table, show_progress
from mondrian_core.rollout import FAULT_KEY

if TYPE_CHECKING:
    from mondrian_core.serving.batch_analyze import AnalysisResult


_LoraPath = Annotated[
    str | None,
    Parameter(
        help="adapter: a folder, a version such as ansel/v0003, an advisor, or a registry (default: the promoted ones)"
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServeCommandOptions(CommandOptions):
    """Options of `mondrian serve`."""

    host: Annotated[str, Parameter(show_default=True, help="address to listen on")] = "127.0.0.1"
    port: Annotated[WholeNumber, Parameter(show_default=True, help="port to listen on")] = 5100
    model_mode: Annotated[
        Literal["base", "fine_tuned", "ab_test"] | None,
        Parameter(help="which model answers (default: fine_tuned when ANALYSIS_MODE is lora, otherwise base)"),
    ] = None
    use_fine_tuned: Annotated[bool, Parameter(help="legacy name of --model-mode fine_tuned")] = False
    lora_path: _LoraPath = None
    ab_test_split: Annotated[float, Parameter(show_default=True, help="adapter's share of photographs, 0-1")] = 0.5
    fallback: Annotated[
        Literal["base"] | None,
        Parameter(help="without a usable adapter, let the base model answer until a version is promoted"),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AnalyzeOptions(AdvisorOptions, XmpOptions):
    """Options of `mondrian analyze`."""

    advisor: Annotated[str, Parameter(help="advisor ID; several separated by commas, or all, critique side by side")]
    mode: Annotated[
        Literal["baseline", "rag", "lora", "all"] | None,
        Parameter(help="strategy (default: ANALYSIS_MODE, or lora); all: compare the three"),
    ] = None
    use_fine_tuned: Annotated[bool, Parameter(help="legacy name of --mode lora")] = False
    lora_path: _LoraPath = None
    crops: Annotated[bool, Parameter(help="also look for a better crop: up to 31 more passes")] = False
    csv: Annotated[Path | None, Parameter(help="also write a line for each critique to this file")] = None
    html: Annotated[
        Path | None, Parameter(help="also write a contact sheet with all critiques: one page that prints well")
    ] = None
    pdf: Annotated[Path | None, Parameter(help="also write the contact sheet as PDF (needs Chrome or Chromium)")] = None
    paper: Annotated[Literal["A4", "letter"], Parameter(show_default=True, help="paper of --pdf")] = "A4"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CompareOptions(CommandOptions):
    """Options of `mondrian compare`."""

    days: Annotated[WholeNumber, Parameter(show_default=True, help="number of days to include")] = 7


def serve_command(*, options: ServeCommandOptions = ServeCommandOptions()) -> int:
    """Answer requests until interrupted.

    Exit status 1 when --model-mode fine_tuned has no usable adapter and --fallback base is not given.
    """
    from mondrian_core.serving.server import ServerOptions, run_server

    model_mode = options.model_mode or ("fine_tuned" if options.use_fine_tuned else None)
    run_server(
        settings_from_options(options),
        ServerOptions(
            host=options.host,
            port=options.port,
            model_mode=model_mode,
            lora_path=options.lora_path,
            ab_test_split=options.ab_test_split,
            fallback=options.fallback,
        ),
    )
    return 0


def analyze_command(
    photographs: Annotated[tuple[Path, ...], Parameter(help="photographs, or folders of them")],
    /,
    *,
    options: AnalyzeOptions,
) -> int:
    """Critique photographs in this process; each becomes a row of the jobs table.

    Exit status 2 when a file or a sidecar was not usable, 3 when a critique failed.
    """
    from mondrian_core.serving.batch_analyze import BatchRequest, analyze_photographs, printable_path
    from mondrian_core.serving.pdf_print import find_browser

    settings = settings_from_options(options)
    if options.pdf:
        find_browser()  # before work begins that would be lost in the end
    mode = options.mode or ("lora" if options.use_fine_tuned else settings.analysis_mode)
    results: list[AnalysisResult] = []
    try:
        with show_progress(options.json) as listen:
            request = BatchRequest(
                paths=photographs,
                advisor=options.advisor,
                mode=mode,
                lora_path=options.lora_path,
                sidecars=sidecar_options(options),
                crops=options.crops,
            )
            analyze_photographs(settings, request, listen, on_result=results.append)
    finally:  # also writes what was critiqued before an interruption
        _write_batch(options, results)

    def draw(console: Console) -> None:
        for path, group in _group_by_photograph(results).items():
            console.print(f"[bold]{escape(printable_path(path))}[/]")
            _draw_critiques(console, group)
        written = [path for path in (options.csv, options.html, options.pdf) if path and results]
        sidecars = len({result.sidecar for result in results if result.sidecar})
        if sidecars:
            console.print(f"{sidecars} XMP sidecar{'' if sidecars == 1 else 's'} next to the photographs")
        for path in written:
            console.print(f"written: {escape(printable_path(path))}")

    print_result(options.json, [result.as_dict() for result in results], draw)
    return analyze_exit_status(results)


def _draw_critiques(console: Console, group: list[AnalysisResult]) -> None:
    """The critiques of one photograph side by side, below the facts of its camera."""
    from mondrian_core.exif import camera_line
    from mondrian_core.serving.jobs.crop_record import crop_sentence

    if facts := camera_line(group[0].camera, group[0].taken_at):
        console.print(escape(facts), style="dim")
    found = [(each.title_among(group), each.critique) for each in group if each.critique is not None]
    if found:
        console.print(rich_critique_table(found))
    for each in group:
        if searched := each.details.get("crops"):
            console.print(f"  crop: {escape(crop_sentence(searched))}")
        for neighbor in each.details.get("compared_with") or []:
            if reason := neighbor.get("reason"):
                console.print(f"  compared with {escape(str(neighbor.get('photograph')))}: {escape(reason)}")
        if each.critique is None:
            console.print(f"  {each.advisor}, {each.requested_mode} failed: {escape(each.error or '')}")
        if each.sidecar_error:
            console.print(f"  no sidecar: {escape(each.sidecar_error)}")


def analyze_exit_status(results: list[AnalysisResult]) -> int:
    """0 when every photograph has its critiques and sidecars, 2 when every failure is an unusable file, otherwise 3."""
    failed = [result for result in results if result.critique is None]
    if not failed:
        return 3 if not results else 2 if any(result.sidecar_error for result in results) else 0
    return 2 if all(result.job is None or result.details.get(FAULT_KEY) == "request" for result in failed) else 3


def _write_batch(options: AnalyzeOptions, results: list[AnalysisResult]) -> None:
    from mondrian_core.serving.batch_report import write_batch_html, write_batch_pdf, write_csv

    if results and options.csv:
        write_csv(options.csv, results)
    if results and options.html:
        write_batch_html(options.html, results)
    if results and options.pdf:
        write_batch_pdf(options.pdf, results, options.paper)


def _group_by_photograph(results: list[AnalysisResult]) -> dict[Path, list[AnalysisResult]]:
    """The critiques grouped by photograph, in order of creation."""
    groups: dict[Path, list[AnalysisResult]] = {}
    for result in results:
        groups.setdefault(result.path, []).append(result)
    return groups


AB_TABLE_ROWS = {
    "n": ("requests", None),
    "unanswered": ("not answered by any model (excluded)", None),
    "failed": ("failed", "failure_rate_95"),
    "fell_back": ("answered by another strategy", "fallback_rate_95"),
    "mean_score": ("mean score, 0-10", "mean_score_95"),
    "seconds_median": ("seconds, median", "seconds_median_95"),
    "seconds_p95": ("seconds, 95th percentile", None),
    "rated": ("rated by people", None),
    "mean_rating": ("mean rating, 1-5", "mean_rating_95"),
}


def compare_command(*, options: CompareOptions = CompareOptions()) -> int:
    """Print the A/B table of the last days; exit status 1 when no request took part."""
    from mondrian_core.serving.jobs.ab_comparison import compare_arms
    from mondrian_core.store import Store

    settings = settings_from_options(options)
    settings.require_workspace()
    with Store(settings.database, read_only=True) as store:
        rows = compare_arms(store, options.days)

    def draw(console: Console) -> None:
        if not rows:
            console.print(f"No request of the last {options.days} days took part in an A/B test.")
            console.print("Start one: mondrian serve --model-mode ab_test. Requests that name a mode are excluded.")
            return
        table = Table(title=f"By assigned arm, last {options.days} days; 95 % intervals", title_justify="left")
        table.add_column("")
        for row in rows:
            table.add_column(str(row["arm"]))
        for name, (title, interval) in AB_TABLE_ROWS.items():
            table.add_row(title, *(_figure(row, name, interval) for row in rows))
        console.print(table)

    print_result(options.json, rows, draw)
    return 0 if rows else 1


def _figure(row: dict[str, Any], name: str, interval: str | None) -> str:
    """A value with its interval; a dash where there is no data."""
    value, bounds = row[name], row[interval] if interval else None
    if value is None:
        return "-"
    if bounds is None:
        return f"{value:g}"
    rate = "rate " if interval and "rate_95" in interval else ""
    return f"{value:g}  ({rate}{bounds[0]:g} to {bounds[1]:g})"
