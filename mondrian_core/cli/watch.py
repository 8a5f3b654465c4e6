"""`mondrian watch`."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from mondrian_core.cli.options import CommandOptions, XmpOptions, settings_from_options, sidecar_options
from mondrian_core.cli.terminal_output import make_console
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener, StageEvent, StageNotice, StageStarted, ignore_events

if TYPE_CHECKING:
    from mondrian_core.serving.batch_analyze import AnalysisResult, BatchRequest
    from mondrian_core.settings import Settings


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class WatchOptions(CommandOptions, XmpOptions):
    """Options of `mondrian watch`."""

    advisor: Annotated[str | None, Parameter(help="advisor ID; default: the workspace's only advisor")] = None
    mode: Annotated[
        Literal["baseline", "rag", "lora"] | None, Parameter(help="strategy (default: ANALYSIS_MODE, or lora)")
    ] = None
    existing: Annotated[
        bool, Parameter(help="also critique what is there already, except what this advisor critiqued before")
    ] = False
    service: Annotated[
        str | None,
        Parameter(help="let a running service critique, such as http://127.0.0.1:5100; default: in this process"),
    ] = None


def watch_command(
    folder: Annotated[Path, Parameter(help="folder to watch, with its sub-folders")],
    /,
    *,
    options: WatchOptions = WatchOptions(),
) -> int:
    """Critique photographs as they appear in a folder, until Ctrl-C; with --json a line of JSON for each critique."""
    from mondrian_core.serving.batch_analyze import BatchRequest
    from mondrian_core.serving.folder_watch import FolderScanner, FolderWatch, WatchSummary, sole_advisor
    from mondrian_core.store import Store

    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder.", "Name the folder where new photographs appear.")
    settings = settings_from_options(options)
    root, watched = settings.require_workspace(), folder.resolve()
    if watched.is_relative_to(root) and not watched.is_relative_to(root / "source"):
        raise BadInput(
            f"{folder} belongs to the workspace, where Mondrian itself writes pictures.",
            f"Watch a folder outside, or {root / 'source'}.",
        )
    summary = WatchSummary()
    scanner = FolderScanner(folder=watched, excluded=root)
    present = 0 if options.existing else scanner.skip_present()
    try:
        listen = ignore_events if options.json else print_notices
        with stopped_by_signals(), Store(settings.database) as store:
            request = BatchRequest(
                paths=(folder,),
                advisor=store.advisor(options.advisor or sole_advisor(store)).advisor,
                mode=options.mode or settings.analysis_mode,
                sidecars=sidecar_options(options),
            )
            with _analyzer(settings, options.service, request, listen) as analyze:
                left = f"; {present} photographs that are there already are left alone (--existing)" if present else ""
                listen(StageNotice("watch", f"watching {folder} for {request.advisor}{left}. Ctrl-C ends it."))
                FolderWatch(
                    request=request,
                    scanner=scanner,
                    store=store,
                    analyze=analyze,
                    on_result=lambda result: _print_watched(result, options.json),
                    listen=listen,
                    summary=summary,
                ).run()
    except KeyboardInterrupt:
        pass  # the way to end a watch
    if not options.json:
        known = f", {summary.known} critiqued before" if summary.known else ""
        failed = f", {summary.failed} failed" if summary.failed else ""
        make_console().print(f"Stopped: {summary.critiqued} photographs critiqued{known}{failed}.")
    return 0


@contextmanager
def _analyzer(
    settings: Settings, service: str | None, request: BatchRequest, listen: EventListener
) -> Iterator[Callable[[Path], Iterable[AnalysisResult]]]:
    """What critiques a photograph: the running service, or a model that is loaded into this process."""
    if service is None:
        from mondrian_core.serving.batch_analyze import open_analyzer

        with open_analyzer(settings, request, listen) as analyze:
            yield analyze
        return
    from mondrian_core.serving.service_client import ServiceClient

    client = ServiceClient(
        address=service.rstrip("/"),
        token=settings.service_token,
        notice=lambda sentence: listen(StageNotice("watch", sentence)),
    )
    client.check()
    yield lambda path: client.analyze(path, request)


def print_notices(event: StageEvent) -> None:
    """A listener for a command without an end: lines on standard error, because a progress bar would never be full."""
    if isinstance(event, StageStarted | StageNotice):
        text = event.detail if isinstance(event, StageStarted) else event.message
        Console(stderr=True, highlight=False, soft_wrap=True).print(escape(f"{event.stage}: {text}"))


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM ends the command like Ctrl-C, so that a supervisor can stop it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_watched(result: AnalysisResult, as_json: bool) -> None:
    """One line for each critique, at once."""
    from mondrian_core.serving.batch_analyze import printable_path

    if as_json:
        print(json.dumps(result.as_dict(), default=str), flush=True)
        return
    name = escape(printable_path(result.path))
    if result.critique is None:
        line = f"{name}  failed: {escape(result.error or '')}"
    else:
        sidecar = f"  {escape(result.sidecar.name)}" if result.sidecar else ""
        line = f"{name}  [bold]{escape(result.critique.overall_grade)}[/]  {escape(result.answered_by)}{sidecar}"
    make_console().print(line)
    if result.sidecar_error:
        make_console().print(f"  no sidecar: {escape(result.sidecar_error)}")
