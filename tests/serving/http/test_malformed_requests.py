"""Fuzzing: requests generated from the OpenAPI document, and a corpus of malformed requests.

Every response is below 500, the model process is never replaced, memory and open files don't grow.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

pytestmark = pytest.mark.slow
Start = Callable[..., Any]
# for each of the routes, once with data that fits the document and once with data that doesn't; always the same ones
EXAMPLES = 3
SECONDS = 60  # until a request counts as unanswered; the machine may be loaded
MOST_GROWTH = 40_000  # kilobytes
RAW = (
    b"",
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000,
    b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nx",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    bytes(range(256)),
)


def _malformed() -> Any:
    spec = importlib.util.spec_from_file_location("malformed", Path(__file__).with_name("malformed.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["malformed"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


# threads of other tests' clients may draw from `random` while hypothesis draws; nothing here is made with it
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(25, marks=pytest.mark.soak)])
def test_requests_generated_from_openapi_cause_no_server_error(
    start: Start, photograph: Callable[..., bytes], tmp_path: Path, examples: int
) -> None:
    import schemathesis

    running = start(log=tmp_path / "log")
    running.post(photograph())
    pid, address = running.model_pid, f"http://127.0.0.1:{running.port}"
    document = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) >= 14, "the document contains every route"
    quick = settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    for operation in operations:
        for way in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            _try(operation, way, quick)
    assert running.model_pid == pid and running.get("/health").status_code == 200


def _try(operation: Any, way: Any, quick: settings) -> None:
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

    @quick
    @given(case=operation.as_strategy(generation_mode=way))
    def ask(case: Any) -> None:
        answer = case.call(timeout=SECONDS)
        case.validate_response(answer, checks=[not_a_server_error, status_code_conformance, content_type_conformance])

    try:
        ask()
    except Unsatisfiable:  # a route without parameters takes no wrong ones
        assert way is GenerationMode.NEGATIVE and not list(operation.iter_parameters())


def test_malformed_requests_are_refused_without_side_effects(
    start: Start, photograph: Callable[..., bytes], settings: Any, tmp_path: Path
) -> None:
    running = start(log=tmp_path / "log")
    job = running.post(photograph()).json()["job_id"]
    pid = running.model_pid
    requests = _malformed().corpus(job)
    bad, memory, files = [], [], []
    for _ in range(2):  # the first round warms caches up
        for request in requests:
            status = _send(running.port, request)
            if not 200 <= status < 500:
                bad.append((request.name, status))
        for number, raw in enumerate(RAW):
            _shout(running.port, raw)
            assert running.get("/health").status_code == 200, f"raw {number}"
        memory.append(_kilobytes(running.process.pid))
        files.append(_open_files(running.process.pid))
    assert not bad, "; ".join(f"{name}: {status}" for name, status in bad)[:2000]
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert running.model_pid == pid, "malformed requests never reach the model process"
    assert memory[1] < memory[0] + MOST_GROWTH
    assert files[1] <= files[0] + 5
    source = settings.root / "source"
    assert {path.suffix for path in source.iterdir()} <= {".jpg", ".png", ".tif", ".webp"}, "only photographs remain"
    thumbnails = settings.root / "thumbnails"
    strays = [path for path in settings.root.parent.rglob("*.jpg") if thumbnails not in path.parents]
    assert all(path.is_file() and path.parent == source for path in strays)


class _Careless(http.client.HTTPConnection):
    """A client that sends paths unchanged."""

    def _encode_request(self, request: str) -> bytes:
        return request.encode("latin-1")

    def _validate_path(self, url: str) -> None:
        pass


def _send(port: int, request: Any) -> int:
    """The status of the response; 400 if the server closes the connection because it is not HTTP."""
    connection = _Careless("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.putrequest(
            request.method,
            request.path.encode().decode("latin-1").replace(" ", "%20"),
            skip_host="Host" in request.headers,
            skip_accept_encoding=True,
        )
        for name, value in request.headers.items():
            connection.putheader(name, value.encode("latin-1", "replace"))
        if "Content-Length" not in request.headers and "Transfer-Encoding" not in request.headers:
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        return connection.getresponse().status
    except TimeoutError:
        return 599
    except (http.client.RemoteDisconnected, http.client.BadStatusLine, ConnectionError):
        return 400
    finally:
        connection.close()


def _shout(port: int, raw: bytes) -> None:
    """Sends bytes that are not a request, then closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as line:
        try:
            line.sendall(raw)
        except ConnectionError:
            return


def _kilobytes(pid: int) -> int:
    return int(subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout)


def _open_files(pid: int) -> int:
    folder = Path(f"/proc/{pid}/fd")
    return len(os.listdir(folder)) if folder.exists() else 0
