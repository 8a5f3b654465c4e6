"""The flow of `drift/scheduled` against a real server: its state, its page, and one event for each alarm."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, cast

import pytest

from deployments.bootstrap import RunningPrefect
from flows.drift import drift_flow
from mondrian_core.drift.report import drift_report
from tasks.drift import drift_markdown
from tests.drift.conftest import DriftWorkspace
from tests.drift.conftest import workspace as workspace
from tests.flows.test_events import stored_events
from tests.waiting import wait_until


def test_page_has_the_result_first_and_escapes_text(workspace: DriftWorkspace) -> None:
    workspace.promote(40)
    workspace.add_jobs(80, seed=1, shift={"lighting": 3.0})
    page = drift_markdown(drift_report("ansel", workspace.monitor.update("ansel")))
    assert page.startswith("## ansel: Drift of v0001: Lighting.")
    assert "--accept" in page
    assert "| Lighting | alarm |" in page


@pytest.mark.flow
@pytest.mark.timeout(900)
def test_alarm_is_one_event_however_often_the_flow_runs(
    machine: RunningPrefect, prefect_here: AbstractContextManager[object], workspace: DriftWorkspace
) -> None:
    given: dict[str, Any] = {
        "workspace": str(workspace.settings.root),
        "adapters": str(workspace.settings.adapters_root),
    }

    def emitted() -> list[dict[str, Any]]:
        events = cast("list[dict[str, Any]]", stored_events(machine, "ansel"))
        drifts = [event for event in events if event["event"] == "mondrian.drift.detected"]
        return [event for event in drifts if event["payload"]["evidence"].get("signal") == "lighting"]

    with prefect_here:
        assert drift_flow(**given, return_state=True).name == "NothingToDo"
        workspace.promote(40)
        workspace.add_jobs(30, seed=1)
        assert drift_flow(**given, return_state=True).name == "Completed"
        workspace.add_jobs(60, seed=2, shift={"lighting": 3.0})
        for _ in range(2):
            state = drift_flow(**given, return_state=True)
            assert (state.name, state.type) == ("Drift", "COMPLETED")
        (event,) = wait_until(emitted, "the event of the alarm")
    assert event["payload"]["version"] == "v0001"
    assert event["payload"]["link"] == "/drift"
