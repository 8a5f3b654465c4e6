"""A request whose answer is lost is sent again by Prefect's client; the server must not do it twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from uuid import uuid4

import httpx
import pytest

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import RunningPrefect

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]

CREATE = "/create_flow_run"
SECONDS = 300  # that the server may take, on a busy machine


class LosingProxy(ThreadingHTTPServer):
    """Forwards requests to a server, and loses its first answer to the creation of a run."""

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarding)
        self.client = httpx.Client(base_url=target, trust_env=False, timeout=SECONDS)
        self.created = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Forwarding(BaseHTTPRequestHandler):
    server: LosingProxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
        answer = self.server.client.request(self.command, self.path, content=body, headers=kept)
        if self.path.endswith(CREATE) and answer.is_success:
            self.server.created += 1
            if self.server.created == 1:
                return  # the run exists; the connection is closed without an answer
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST  # noqa: N815  (the name that http.server looks for)

    def log_message(self, *arguments: object) -> None:
        """Keep the output of the tests free of requests."""


@contextmanager
def losing_proxy(target: str) -> Iterator[LosingProxy]:
    with LosingProxy(target) as proxy, proxy.client:
        thread = Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


def test_a_lost_answer_makes_one_run(machine: RunningPrefect) -> None:
    given = {"advisor": f"twice-{uuid4().hex[:8]}"}
    with losing_proxy(machine.place.ui) as proxy:
        run = run_watcher.start_deployment_run(replace(machine.place, shared_url=proxy.url), "rollback/manual", given)
        assert proxy.created == 2, "the client didn't ask again"
    with prefect_setup.prefect_client(machine.place) as client:
        found = [
            each.id for each in client.read_flow_runs(limit=200) if each.parameters.get("advisor") == given["advisor"]
        ]
        assert found == [run]
        client.delete_flow_run(run)
