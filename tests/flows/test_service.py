"""serve/local: the service outlives the run, is left alone when it is well, and replaced when it is not."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from prefect.states import Cancelling

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import RunningPrefect
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.ports import find_free_port
from mondrian_core.settings import Settings
from tasks.service import WARNED, ServiceSmokeResult, service_health, stop_service
from tasks.service_record import ServeOptions, recorded_service
from tests.waiting import wait_until

pytestmark = [pytest.mark.flow, pytest.mark.mini, pytest.mark.timeout(900)]


@pytest.fixture
def served(tmp_path: Path, settings: Settings) -> Iterator[Settings]:
    create_workspace(tmp_path / "workspace", sample=False)
    place = settings.model_copy(update={"workspace": tmp_path / "workspace"})
    yield place
    stop_service(place)


def test_started_by_a_run_left_alone_and_replaced(
    machine: RunningPrefect,
    prefect_here: AbstractContextManager[object],
    served: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve_module = importlib.import_module("flows.serve")
    serve = serve_module.serve_flow

    port = find_free_port()
    given = {"port": port, "workspace": str(served.root), "base_model": "mini"}
    run = run_watcher.start_deployment_run(machine.place, "serve/local", given)
    seen = run_watcher.follow_flow_run(machine.place, run, lambda glance: None)
    assert (seen.state, "serves now" in seen.message) == ("Completed", True), seen.message
    known = recorded_service(served)
    assert known is not None and known[0].alive and service_health(served, ServeOptions(port=port))
    with prefect_here:
        again = serve(**given, return_state=True)
        assert again.name == "Completed" and "serves already" in again.message
        monkeypatch.setattr(
            serve_module,
            "service_smoke_task",
            lambda *_: ServiceSmokeResult("Smoke set: 1 of 2 photographs failed.", False),
        )
        warned = serve(**given, return_state=True)
        assert warned.is_completed() and warned.name == WARNED and "1 of 2" in warned.message
        monkeypatch.undo()
        assert recorded_service(served) == known
        os.kill(known[0].pid, signal.SIGKILL)
        after = serve(**given, return_state=True)
    assert "serves now" in after.message
    replaced = recorded_service(served)
    assert replaced is not None and replaced[0].pid != known[0].pid
    assert stop_service(served) and not replaced[0].alive
    assert service_health(served, ServeOptions(port=port)) is None
    assert not stop_service(served)


def test_in_the_foreground_it_ends_with_the_run(
    machine: RunningPrefect, prefect_here: AbstractContextManager[object], served: Settings
) -> None:
    """Canceled as a person would in the UI; then serve/stop finds nothing to stop."""
    from flows.stop import stop_flow as stop

    port = find_free_port()
    given = {"port": port, "workspace": str(served.root), "base_model": "mini", "foreground": True}
    run = run_watcher.start_deployment_run(machine.place, "serve/local", given)
    wait_until(lambda: service_health(served, ServeOptions(port=port)) is not None, "the service")
    known = recorded_service(served)
    assert known is not None and known[0].alive
    with prefect_setup.prefect_client(machine.place) as client:
        client.set_flow_run_state(run, Cancelling())
    wait_until(lambda: not known[0].alive, "the end of the service")
    with prefect_here:
        assert stop(workspace=str(served.root), return_state=True).message == "No service was running."


def test_refused_service_start_is_reported_and_cleaned_up(
    prefect_here: AbstractContextManager[object], served: Settings
) -> None:
    from flows.serve import serve_flow

    wanted = replace(ServeOptions(), port=find_free_port(), model_mode="fine_tuned")
    with prefect_here:
        state = serve_flow(
            port=wanted.port,
            fallback=False,
            workspace=str(served.root),
            base_model="mini",
            adapters=str(served.root / "none"),
            return_state=True,
        )
    assert state.name == "Failed" and "did not start" in str(state.message)
    assert recorded_service(served) is None
