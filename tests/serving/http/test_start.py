"""The page of the first hour."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mondrian_core.serving.http import start_routes
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from mondrian_core.store.photographs import Photograph, Photographs
from tests.plain_critiques import save_critiques

HTML = {"Accept": "text/html"}


@pytest.fixture
def client(make_service: Callable[..., Service]) -> Iterator[TestClient]:
    with TestClient(create_app(make_service("base")), base_url="http://localhost", follow_redirects=False) as found:
        yield found


def test_without_an_advisor_the_page_asks_for_a_name(client: TestClient, settings: Settings) -> None:
    with Store(settings.database) as store:
        store.remove_advisor("ansel")
        store.remove_advisor("dorothea")
    page = client.get("/start", headers=HTML).text
    assert 'action="/advisors"' in page and page.count('aria-current="step"') == 1
    refused = client.post("/advisors", data={"name": "", "next": "/start"})
    assert refused.status_code == 422 and 'name="next"' in refused.text
    answer = client.post("/advisors", data={"name": "Weegee", "next": "https://evil.example"})
    assert answer.headers["Location"] == "/start?advisor=weegee"
    assert client.get("/start").json()["current"] == "photographs"


def test_steps_follow_what_is_there(client: TestClient, settings: Settings) -> None:
    page = client.get("/start?advisor=dorothea", headers=HTML).text
    assert "/photographs/import?advisor=dorothea" in page
    assert "mondrian import FOLDER <span>--advisor</span> dorothea" in page
    with Store(settings.database) as store:
        for number in range(10):
            row = Photograph(
                sha256=f"{number:064x}",
                image_path=f"source/advisor/photographer/dorothea/{number}.jpg",
                advisor="dorothea",
                portfolio=True,
                width=64,
                height=48,
            )
            Photographs(store).add(row)
    assert client.get("/start?advisor=dorothea").json()["current"] == "critiques"
    save_critiques(settings.root, "dorothea", 9)
    assert "1 more" in client.get("/start?advisor=dorothea", headers=HTML).text
    refused = client.post("/start/training", data={"advisor": "dorothea"})
    assert refused.status_code == 422 and "needs 10" in refused.text
    save_critiques(settings.root, "dorothea", 10)
    way = client.get("/start?advisor=dorothea").json()
    assert way["current"] == "train" and way["recipe"]["name"] == "small-set"
    assert way["recipe"]["reason"] in client.get("/start?advisor=dorothea", headers=HTML).text.replace("&#39;", "'")


def test_training_starts_once_and_its_error_is_shown(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(given: Settings, advisor: str) -> Any:
        started.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        return started[-1]

    monkeypatch.setattr(start_routes, "start_retraining", start)
    save_critiques(settings.root, "dorothea", 10)
    for _ in range(2):
        answer = client.post("/start/training", data={"advisor": "dorothea"})
        assert answer.status_code == 303 and answer.headers["Location"] == "/start?advisor=dorothea"
    assert len(started) == 1
    page = client.get("/start?advisor=dorothea", headers=HTML).text
    assert '<progress max="1"' in page and "start.js" in page and "/start/training" not in page
    started[0].communicate(b"\n")
    result = settings.root / "runs" / "retrained" / "dorothea.json"
    result.write_text(json.dumps({"error": "No <usable> critique.", "next_step": "Look.", "exit_status": 1}))
    page = client.get("/start?advisor=dorothea", headers=HTML).text
    assert "No &lt;usable&gt; critique. Look." in page and "Try again" in page


@pytest.mark.parametrize("advisor", ["nobody", "../../etc", ""])
def test_training_of_nobody_is_refused(advisor: str, client: TestClient, settings: Settings) -> None:
    answer = client.post("/start/training", data={"advisor": advisor})
    assert answer.status_code in (404, 422)
    assert not list(Path(settings.root, "runs").glob("retrained/*.json"))
