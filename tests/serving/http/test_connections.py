"""Idle, incomplete and too many connections don't block others. Real sockets, a real server."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mondrian_core.serving.http.connections import ConnectionTimeouts, HttpServer, max_connections, uvicorn_config
from mondrian_core.serving.server import listening_socket

Start = Callable[..., Any]
QUICK = ConnectionTimeouts(head=0.5, body=0.5, whole_body=2.0, answer=0.5, stalled=0.2)
LARGE = 40_000_000


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, then responds: /large with more than the buffers hold, /slow late."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.disconnect":
        return
    body = b"x" * LARGE if scope["path"] == "/large" else b"well"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    with contextlib.ExitStack() as stack:

        def act(**options: Any) -> int:
            listening = stack.enter_context(listening_socket("127.0.0.1", 0))
            server = HttpServer(uvicorn_config(app, **options))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, server, "should_exit", True)
            return int(listening.getsockname()[1])

        yield act


def closed(line: socket.socket, seconds: float = 90) -> bool:
    """True when the server closes the connection within that time."""
    line.settimeout(seconds)
    try:
        while line.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def drip(line: socket.socket) -> None:
    for _ in range(900):
        line.sendall(b"x")
        time.sleep(0.1)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /health HT",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nbegun",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTT",
    ],
)
def test_incomplete_request_is_closed(serve: Callable[..., int], said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", serve(patience=QUICK))) as line:
        line.sendall(said)
        assert closed(line)


def test_slow_request_body_times_out(serve: Callable[..., int]) -> None:
    with socket.create_connection(("127.0.0.1", serve(patience=QUICK))) as line:
        line.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        with pytest.raises(ConnectionError):
            drip(line)


def test_unread_response_times_out(serve: Callable[..., int]) -> None:
    with socket.create_connection(("127.0.0.1", serve(patience=QUICK))) as line:
        line.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(3)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while data := line.recv(1 << 20):
                taken += len(data)
        assert taken < LARGE


def test_idle_connection_is_closed_for_a_new_one(serve: Callable[..., int]) -> None:
    port = serve(most=8)
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert httpx.get(f"http://127.0.0.1:{port}/", timeout=90).text == "well"


def test_only_health_is_answered_when_all_connections_are_busy(serve: Callable[..., int]) -> None:
    port = serve(most=8, patience=ConnectionTimeouts(stalled=60))
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            line.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        time.sleep(1)
        busy = httpx.get(f"http://127.0.0.1:{port}/", timeout=90)
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "5")
        assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=90).text == "well"


def test_connection_limit_reserves_file_descriptors() -> None:
    assert max_connections(256) == 96
    assert max_connections(resource.RLIM_INFINITY) == max_connections(1_000_000) == 512
    assert max_connections(64) == 8


@pytest.mark.parametrize("said", [b"", b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"])
def test_service_survives_260_connections_with_256_descriptors(
    start: Start, photograph: Callable[..., bytes], said: bytes, tmp_path: Path
) -> None:
    running = start(descriptors=256, log=tmp_path / "log")
    with contextlib.ExitStack() as stack:
        for _ in range(260):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=90))
            with contextlib.suppress(ConnectionError):
                line.sendall(said)
        health = running.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "ok")
        if not said:
            assert running.post(photograph()).status_code == 200
    assert running.post(photograph(2)).status_code == 200
