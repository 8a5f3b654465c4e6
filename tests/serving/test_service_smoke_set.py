"""The smoke set of serve/local sends requests to the running service and reports which version answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from mondrian_core.errors import Broken, PortInUse
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.settings import Settings
from mondrian_core.store import DimensionalProfile, Store
from tasks import service
from tasks.service import ServiceSmokeResult, ensure_service_task, service_health, service_smoke_task
from tasks.service_record import ServeOptions

Start = Callable[..., Any]
COMMENT = "The foreground rock anchors the frame and leads the eye to the ridge."


@pytest.fixture(autouse=True)
def pages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The published artifacts."""
    found: list[str] = []
    monkeypatch.setattr(service, "publish_markdown_artifact", lambda key, page, sentence: found.append(page))
    return found


@pytest.fixture(autouse=True)
def critiqued(settings: Settings) -> None:
    """A critique of the workspace's photograph, and one of a file that is none and comes first by name."""
    (settings.root / "source" / "an_error_page.jpg").write_text("<!DOCTYPE html>404 Not Found")
    critique(settings, "source/one.jpg")
    critique(settings, "source/an_error_page.jpg")


def critique(settings: Settings, photograph: str) -> None:
    scores = {name: 7.0 + 0.1 * number for number, name in enumerate(DIMENSIONS)}
    with Store(settings.database) as store:
        row = DimensionalProfile(
            id=photograph,
            advisor="ansel",
            image_path=photograph,
            scores=scores,
            comments=dict.fromkeys(DIMENSIONS, COMMENT),
            overall_grade="7.4",
        )
        store.add_profiles([row])


def test_smoke_set_needs_the_promoted_version(
    start: Start, settings: Settings, promote: Callable[[str], None], control: Callable[..., None], pages: list[str]
) -> None:
    promote("v0001")
    running = start(model_mode="fine_tuned")
    wanted = ServeOptions(port=running.port, model_mode="fine_tuned")
    left_out = " Not tried, because link leaves them out: 1."
    said = f"Smoke set: 1 of 1 photographs answered (ansel v0001).{left_out}"
    assert service_smoke_task.fn(settings, wanted, 3) == ServiceSmokeResult(said, True)
    assert "| source/one.jpg | ansel | v0001 | v0001 | lora |" in pages[0]
    assert "| profile:source/an_error_page.jpg | not_a_photograph" in pages[0]
    control(unsound=["v0002"])
    promote("v0002")
    with pytest.raises(Broken, match="v0001 answered, not v0002"):
        service_smoke_task.fn(settings, wanted, 3)
    control(die=99)
    with pytest.raises(Broken, match="500 The critique failed"):
        service_smoke_task.fn(settings, wanted, 3)
    control()
    assert "v0001" not in running.get("/?x").text.partition("Latest critiques")[2], "smoke jobs are not shown"
    with Store(settings.database, read_only=True) as store:
        assert all(job.explicit_mode for job in store.jobs()), "they take no part in an A/B test"


def test_refused_smoke_photograph_is_a_warning(
    start: Start, settings: Settings, promote: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    promote("v0001")
    running = start(model_mode="fine_tuned")
    chosen = (["source/an_error_page.jpg", "source/one.jpg"], {})
    monkeypatch.setattr(service, "_smoke_photographs", lambda *_: chosen)  # as if link had accepted both
    outcome = service_smoke_task.fn(settings, ServeOptions(port=running.port, model_mode="fine_tuned"), 2)
    assert not outcome.passed
    assert outcome.sentence.startswith("Smoke set: 1 of 2 photographs failed (source/an_error_page.jpg: 4")


def test_smoke_set_without_champion_uses_the_base(start: Start, settings: Settings) -> None:
    running = start()
    outcome = service_smoke_task.fn(settings, ServeOptions(port=running.port), 1)
    assert outcome.passed and outcome.sentence.startswith("Smoke set: 1 of 1 photographs answered (ansel base).")
    running.process.kill()
    running.process.wait()
    with pytest.raises(Broken, match="no answer"):
        service_smoke_task.fn(settings, ServeOptions(port=running.port), 1)


def test_service_of_another_workspace_is_not_used(start: Start, settings: Settings) -> None:
    """It answers 200 on the port that this workspace wants."""
    running = start()
    wanted = ServeOptions(port=running.port)
    other = settings.model_copy(update={"workspace": settings.root.parent / "other"})
    other.root.mkdir()
    assert service_health(settings, wanted) and service_health(other, wanted) is None
    named = f"by the service of workspace {settings.workspace_id}"
    with disable_run_logger(), pytest.raises(PortInUse, match=named) as raised:  # outside of a run
        ensure_service_task.fn(other, wanted)
    assert raised.value.exit_status == 3
    assert running.process.poll() is None, "it is left alone"
