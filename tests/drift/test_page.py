"""The page /drift: states, empty states, markup in names, JSON."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient

from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.serving.critique.routing import RoutingPolicy
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.server import ServerOptions, build_service
from tests.drift.conftest import DriftWorkspace
from tests.serving.conftest import fake_model

HTML = {"Accept": "text/html"}


@pytest.fixture
def client(workspace: DriftWorkspace) -> TestClient:
    """The app without its lifespan: no worker runs."""
    service = build_service(
        workspace.settings,
        ServerOptions(),
        RoutingPolicy(model_mode="base"),
        workspace.store,
        fake_model.FakeEngine(workspace.settings.root / "control.json"),
        lambda event: None,
    )
    service.recording.stop()
    return TestClient(create_app(service), base_url="http://localhost")


def test_page_before_a_promotion_says_what_to_do(client: TestClient, workspace: DriftWorkspace) -> None:
    page = client.get("/drift", headers=HTML).text
    assert "Nothing to compare with yet" in page
    assert "mondrian retrain" in re.sub(r"<[^>]+>", "", page)
    workspace.store.remove_advisor("ansel")
    assert "No advisor yet" in client.get("/drift", headers=HTML).text


def test_page_shows_the_alarm_first_and_each_signal_with_its_band(
    client: TestClient, workspace: DriftWorkspace
) -> None:
    workspace.store.add_advisor(AdvisorPrompt("ansel", "<b>Ansel</b>"))
    workspace.promote(40)
    assert "No request has counted yet." in client.get("/drift", headers=HTML).text
    workspace.add_jobs(120, seed=1, shift={"emotional_impact": -2.0})
    page = client.get("/drift", headers=HTML)
    assert page.status_code == 200
    assert "&lt;b&gt;Ansel" in page.text
    assert 'role="alert"' in page.text
    titles = re.findall(r"<h3>([^<]+)</h3><span class=\"badge (\w*)\"", page.text)
    assert titles[0] == ("Emotional Impact", "bad")
    assert len(titles) == 12
    assert page.text.count("<svg") == 2 * 11, "every signal but the distance has distributions and evidence"
    (report,) = client.get("/drift?advisor=ansel").json()
    assert (report["status"], report["counted"]) == ("alarm", 120)
    assert client.get("/drift?advisor=nobody").status_code == 422
