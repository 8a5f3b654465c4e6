"""The bar of a stage goes forward, whatever its steps count."""

from __future__ import annotations

import io
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from uuid import uuid4

import pytest
from rich.console import Console

from deployments.demo_screen import demo_stage_progress
from deployments.run_watcher import FlowRunStatus
from mondrian_core.events import StageEvent, StageFinished, StageProgressed
from tasks import reporting


def test_steps_after_the_stages_own_count_do_not_move_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[float, str]] = []

    def show(progress: float, description: str, **_: object) -> object:
        shown.append((progress, description))
        return uuid4()

    monkeypatch.setattr(reporting, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(reporting, "create_progress_artifact", show)
    monkeypatch.setattr(reporting, "update_progress_artifact", lambda artifact, **given: show(**given))
    monkeypatch.setattr(reporting, "UPDATE_SECONDS", 0.0)
    listen = reporting.ProgressReporter("train", "ansel")
    counts = (
        ("encode", 1, 2),
        ("encode", 2, 2),
        ("validate", 1, 1),
        ("train", 1, 4),
        ("validate", 1, 8),
        ("validate", 8, 8),
        ("train", 2, 4),
    )
    events: list[StageEvent] = [StageProgressed(*count) for count in counts]
    for event in (*events, StageFinished("train", {})):
        listen(event)
    assert [percent for percent, _ in shown] == [50, 100, 100, 25, 25, 25, 50, 100]
    assert "validate 8 of 8" in shown[5][1]


@pytest.mark.filterwarnings("ignore:Artifact creation outside")
def test_a_server_that_cannot_answer_does_not_hold_up_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its database is down. Other requests are sent again for minutes; an update of the bar is sent once, then none."""
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    asked: list[str] = []

    class OutOfOrder(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        do_GET = do_POST  # noqa: N815  (the name that http.server looks for)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), OutOfOrder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(reporting, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(reporting, "UPDATE_SECONDS", 0.0)
    address = f"http://127.0.0.1:{server.server_port}/api"
    with temporary_settings({PREFECT_API_URL: address, PREFECT_CLIENT_MAX_RETRIES: 8}):
        listen = reporting.ProgressReporter("train", "ansel")
        for done in range(1, 4):
            listen(StageProgressed("train", done, 4))
    server.shutdown()
    server.server_close()
    assert len(asked) == 1, asked


def test_without_a_terminal_each_step_of_a_stage_has_its_lines() -> None:
    written = io.StringIO()
    with demo_stage_progress(Console(file=written, width=100)) as look:
        for percent, detail in ((50.0, "encode 5 of 10"), (0.0, "1 of 9"), (50.0, "5 of 9"), (50.0, "5 of 9")):
            look(
                FlowRunStatus(
                    run="run",
                    state="Running",
                    message="",
                    final=False,
                    stages={"train": "RUNNING"},
                    percent={"train": percent},
                    detail={"train": detail},
                )
            )
    lines = [line.split("train", 1)[1].strip() for line in written.getvalue().splitlines()]
    assert lines == ["50 % encode 5 of 10", "running 1 of 9", "50 % 5 of 9"]
