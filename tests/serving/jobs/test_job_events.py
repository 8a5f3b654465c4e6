"""Server-sent events: every client receives the final event, whatever happened to the service."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs import job_events
from mondrian_core.settings import Settings
from mondrian_core.store import Store

Make = Callable[..., Service]
Photograph = Callable[..., bytes]
Start = Callable[..., Any]


@pytest.fixture
def client(make_service: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(job_events, "POLL_SECONDS", 0.1)
    with TestClient(create_app(make_service("base")), base_url="http://localhost") as found:
        yield found


def send(client: TestClient, data: bytes, prefer: str = "wait=60") -> str:
    answer = client.post(
        "/analyze", files={"image": ("x.jpg", data)}, data={"advisor": "ansel"}, headers={"Prefer": prefer}
    )
    return str(answer.json()["job_id"])


def heard(text: str) -> list[tuple[str, str]]:
    """(id, kind) of the events of a stream."""
    ids = [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")]
    kinds = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    return list(zip(ids, kinds, strict=True))


def listen(client: TestClient, job: str, last: str = "") -> list[tuple[str, str]]:
    headers = {"Last-Event-ID": last.encode("latin-1")} if last else {}
    return heard(client.get(f"/jobs/{job}/events", headers=headers).text)


@pytest.mark.parametrize("last", ["500", "{boot}-500", "{boot}-4", "0123456789ab-3", "{boot}-", "-1", "²", "x" * 200])
def test_finished_job_always_sends_its_final_event(client: TestClient, photograph: Photograph, last: str) -> None:
    job = send(client, photograph())
    boot = client.get("/health").json()["boot"]
    events = listen(client, job, last.format(boot=boot))
    assert events[-1][1] == "completed"
    assert all(name.startswith(f"{boot}-") for name, _ in events)


def test_event_stream_resumes_after_last_event_id(client: TestClient, photograph: Photograph) -> None:
    job = send(client, photograph())
    events = listen(client, job)
    assert [kind for _, kind in events][:2] == ["queued", "started"]
    for place, (name, _) in enumerate(events[:-1]):
        assert listen(client, job, name) == events[place + 1 :]


def test_stream_ends_for_a_job_that_ended_without_an_event(
    client: TestClient, photograph: Photograph, control: Callable[..., None], settings: Settings
) -> None:
    control(tokens=1000, pace=0.05)
    job = send(client, photograph(), "respond-async")
    with Store(settings.database) as store:
        while store.job(job).status != "running":
            time.sleep(0.05)
        store.fail_job(job, "ended by another program")
    assert listen(client, job)[-1][1] == "failed"
    control()


def test_stream_ends_for_a_job_whose_row_was_deleted(
    client: TestClient, photograph: Photograph, control: Callable[..., None], settings: Settings
) -> None:
    control(tokens=250, pace=0.02)
    first, second = (send(client, photograph(seed), "respond-async") for seed in (1, 2))
    with closing(sqlite3.connect(settings.database)) as connection, connection:
        connection.execute("UPDATE jobs SET status = 'canceled' WHERE id = ?", (second,))
    assert listen(client, first)[-1][1] == "completed"
    assert listen(client, second)[-1][1] == "canceled"


def test_event_ids_of_an_earlier_start_restart_the_stream(
    start: Start, photograph: Photograph, control: Callable[..., None]
) -> None:
    control(tokens=1000, pace=0.05)
    running = start()
    job = running.post(photograph(), Prefer="respond-async").json()["job_id"]
    boot, last = running.get("/health").json()["boot"], ""
    with httpx.stream("GET", f"http://127.0.0.1:{running.port}/jobs/{job}/events", timeout=90) as stream:
        for line in stream.iter_lines():
            last = line.removeprefix("id: ") if line.startswith("id: ") else last
            if last.endswith("-4"):
                break
    running.process.kill()
    running.process.communicate()
    control()
    again = start()
    assert again.get("/health").json()["boot"] != boot
    told = httpx.get(f"http://127.0.0.1:{again.port}/jobs/{job}/events", headers={"Last-Event-ID": last}, timeout=90)
    assert [kind for _, kind in heard(told.text)][-1] == "completed"
