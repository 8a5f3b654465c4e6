"""Domain events as values: names, IDs and the one payload."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from mondrian_core import prefect_server
from mondrian_core.domain_events import (
    ADAPTER_PROMOTED,
    DRIFT_DETECTED,
    EVENT_NAMES,
    DomainEvent,
    EventServer,
    event_server,
)
from mondrian_core.domain_events.event import MAX_TEXT
from mondrian_core.errors import BadInput, PrefectUnavailable
from mondrian_core.ports import find_free_port
from tasks.events import emit_event_once
from tests.waiting import LIMIT_SECONDS

NO_ANSWER = 0


def make_event(**changes: object) -> DomainEvent:
    values = {"name": DRIFT_DETECTED, "advisor": "ansel", "key": "v0003 lighting", "title": "The scores drift."}
    return DomainEvent(**{**values, **changes})


def test_the_id_depends_on_name_advisor_and_key_alone() -> None:
    first = make_event()
    assert first.id == make_event(title="Another sentence.", occurred=datetime(2020, 1, 1, tzinfo=UTC)).id
    others = {make_event(**change).id for change in ({"name": ADAPTER_PROMOTED}, {"advisor": "dora"}, {"key": "v0004"})}
    assert len(others) == 3
    assert first.id not in others


def test_the_id_is_the_one_of_earlier_releases() -> None:
    assert str(make_event().id) == "e50e3d09-da07-525e-8205-e9e9a5881b2b"


@pytest.mark.parametrize("name", EVENT_NAMES)
def test_every_event_has_the_same_payload(name: str) -> None:
    sent = json.loads(json.dumps(make_event(name=name, version="v0003", verdict="PASS").as_prefect()))
    assert sent["event"] == f"mondrian.{name}"
    assert sent["resource"]["prefect.resource.id"] == "mondrian.advisor.ansel"
    assert sent["resource"]["mondrian.version"] == "v0003"
    assert "mondrian.run" not in sent["resource"], "Prefect refuses a label without text"
    assert list(sent["payload"]) == [
        "advisor",
        "title",
        "reason",
        "version",
        "run",
        "verdict",
        "link",
        "cause",
        "evidence",
    ]


def test_a_long_reason_is_cut() -> None:
    assert len(make_event(reason="x" * 10 * MAX_TEXT).payload["reason"]) == MAX_TEXT


@pytest.mark.parametrize("changes", [{"name": "adapter.exported"}, {"advisor": "../ansel"}])
def test_an_unknown_name_or_advisor_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        make_event(**changes)


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [503, NO_ANSWER, 503, 200]
    asked_again = threading.Event()

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = answers.pop(0)
            if status == NO_ANSWER:
                asked_again.wait(LIMIT_SECONDS)
                return
            if len(answers) < 2:
                asked_again.set()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"value": 7}')

        def log_message(self, *words: object) -> None:
            """Silent."""

    monkeypatch.setattr(prefect_server, "BUSY_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(event_server, "TIMEOUT_SECONDS", 0.3)
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert EventServer(f"http://127.0.0.1:{server.server_port}/api").read_variable("x") == 7
        server.shutdown()
    assert answers == []


def test_a_server_that_does_not_answer_is_named_and_stops_no_flow() -> None:
    api = f"http://127.0.0.1:{find_free_port()}/api"
    with pytest.raises(PrefectUnavailable, match=api):
        EventServer(api).send_new([make_event()])
    with temporary_settings({PREFECT_API_URL: api, PREFECT_API_AUTH_STRING: "mondrian:secret"}):
        assert emit_event_once(make_event()) is False
