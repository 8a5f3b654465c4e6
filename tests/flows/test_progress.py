"""The bar of a stage goes forward, whatever its steps count."""

from __future__ import annotations

import io
import logging
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
