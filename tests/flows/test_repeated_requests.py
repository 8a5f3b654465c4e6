"""A request whose answer is lost is sent again by Prefect's client; the server must not do it twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import RunningPrefect
from tasks.approval import Approval, wait_for_approval
from tests.waiting import wait_until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]

CREATED, PAUSED = r"[^ ]*/create_flow_run .*", r"[^ ]*/set_state .*\"PAUSED\".*"
SECONDS = 300  # that the server may take, on a busy machine


class LosingProxy(ThreadingHTTPServer):
    """Forwards requests to a server, and loses its first success with one whose path and body match a pattern."""

    def __init__(self, target: str, pattern: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarding)
        self.pattern = re.compile(pattern.encode(), re.DOTALL)
        self.client = httpx.Client(base_url=target, trust_env=False, timeout=SECONDS)
        self.succeeded = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Forwarding(BaseHTTPRequestHandler):
    server: LosingProxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
        answer = self.server.client.request(self.command, self.path, content=body, headers=kept)
        if self.server.pattern.fullmatch(self.path.encode() + b" " + body) and answer.is_success:
            self.server.succeeded += 1
            if self.server.succeeded == 1:
                return  # it is done; the connection is closed without an answer
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_PATCH = do_POST  # noqa: N815
    do_GET = do_POST  # noqa: N815  (the name that http.server looks for)

    def log_message(self, *arguments: object) -> None:
        """Keep the output of the tests free of requests."""


@contextmanager
def losing_proxy(target: str, pattern: str) -> Iterator[LosingProxy]:
    with LosingProxy(target, pattern) as proxy, proxy.client:
        thread = Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


def test_a_lost_answer_makes_one_run(machine: RunningPrefect) -> None:
    given = {"advisor": f"twice-{uuid4().hex[:8]}"}
    with losing_proxy(machine.place.ui, CREATED) as proxy:
        run = run_watcher.start_deployment_run(replace(machine.place, shared_url=proxy.url), "rollback/manual", given)
        assert proxy.succeeded >= 2, "the client didn't ask again"
    with prefect_setup.prefect_client(machine.place) as client:
        found = [
            each.id for each in client.read_flow_runs(limit=200) if each.parameters.get("advisor") == given["advisor"]
        ]
        assert found == [run]
        client.delete_flow_run(run)


def test_a_lost_answer_to_a_pause_still_asks_the_person(machine: RunningPrefect) -> None:
    """Prefect's client asks twice for the pause, and the second request is refused, because the run is paused."""
    from prefect import flow
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    name = f"asks-{uuid4().hex[:8]}"
    found: list[Approval | None] = []

    @flow(name=name)
    def asks() -> None:
        found.append(wait_for_approval("Promote it?", seconds=SECONDS))

    def run_flow(proxy: LosingProxy) -> None:
        with temporary_settings({PREFECT_API_URL: f"{proxy.url}/api", PREFECT_API_AUTH_STRING: machine.place.auth}):
            asks()

    def form_of(client: SyncPrefectClient) -> FlowRun | None:
        """The run, once its form can be filled in."""
        asked = FlowFilter(name=FlowFilterName(any_=[name]))
        for run in client.read_flow_runs(flow_filter=asked):
            if run.state and run.state.is_paused():
                key = run.state.state_details.run_input_keyset or {}
                with suppress(PrefectHTTPStatusError):  # 404: it is not stored yet
                    client.request(
                        "GET", "/flow_runs/{id}/input/{key}", path_params={"id": run.id, "key": key["schema"]}
                    )
                    return run
        return None

    with losing_proxy(machine.place.ui, PAUSED) as proxy:
        thread = Thread(target=run_flow, args=(proxy,), daemon=True)
        thread.start()
        with prefect_setup.prefect_client(machine.place) as client:
            run = wait_until(lambda: form_of(client), "the form")
            client.resume_flow_run(run.id, run_input={"approve": True, "name": "Ansel"})
            thread.join(SECONDS)
            client.delete_flow_run(run.id)
        assert proxy.succeeded >= 2, "the client didn't ask again"
    assert [answer and (answer.approve, answer.name) for answer in found] == [(True, "Ansel")]
