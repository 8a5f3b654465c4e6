"""Ports: free, or taken by somebody who is named."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mondrian_core import ports
from mondrian_core.errors import PortInUse


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which this process listens, and answers nothing."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_a_free_port_is_free() -> None:
    port = ports.find_free_port()
    assert ports.is_port_free(port)
    ports.require_free_port(port)


def test_found_ports_are_never_given_to_outgoing_connections() -> None:
    """A server that is away for a moment must find its port free when it comes back."""
    assert all(10_000 <= ports.find_free_port() < 32_768 for _ in range(30))


def test_no_free_port_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_port_free", lambda *_: False)
    with pytest.raises(PortInUse):
        ports.find_free_port()


def test_the_process_on_a_taken_port_is_named(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "PROBE_TIMEOUT_SECONDS", 0.2)
    assert not ports.is_port_free(taken)
    with pytest.raises(PortInUse, match=rf"Port {taken} is taken by process {os.getpid()} \(") as raised:
        ports.require_free_port(taken)
    assert raised.value.exit_status == 3


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"workspace": "mine-00000000"}', "the service of workspace mine-00000000"),
        (b'{"workspace": "\\u001b[2J' + b"x" * 200 + b'"}', "the service of workspace [2J" + "x" * 96),
        (b'["workspace"]', "process"),
        (b"\xff{", "process"),
    ],
)
def test_port_owner_description_is_sanitized(body: bytes, expected: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        owner = ports.port_owner(server.server_port)
        server.shutdown()
    assert owner.startswith(expected) and len(owner) < 140


@pytest.mark.parametrize("host", ["::1", "no such host"])
def test_port_owner_lookup_with_invalid_host(host: str) -> None:
    assert ports.port_owner(1, host) == "another process"
