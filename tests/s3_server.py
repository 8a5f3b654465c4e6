"""A real S3 server on this machine (moto's), an empty place in a bucket of it, and a registry there."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.object_store import open_object_store
from mondrian_core.registry import Registry
from mondrian_core.settings import cache_folder_from_url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server that takes one request at a time, so that its conditional writes are atomic."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class SilentHandler(WSGIRequestHandler):
        def log(self, *arguments: Any) -> None:
            """Say nothing."""

    app = DomainDispatcherApplication(create_backend_app)
    running = make_server("127.0.0.1", 0, app, threaded=False, request_handler=SilentHandler)

    def serve() -> None:
        sys.settrace(None)  # nothing of ours runs here, and coverage would look at every call
        running.serve_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def url(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """An empty place in a bucket."""
    from s3fs import S3FileSystem

    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    open_object_store.cache_clear()
    S3FileSystem.clear_instance_cache()
    place = f"s3://photographs/{abs(hash(request.node.name))}/adapters"
    store = open_object_store(place)
    store._fs.loop.call_soon_threadsafe(sys.settrace, None)  # as above: the client's loop runs boto alone
    if not store._fs.exists("photographs"):
        store._fs.call_s3("create_bucket", Bucket="photographs")
    return place


Machine = Callable[..., Registry]


@pytest.fixture
def machine(url: str, tmp_path: Path) -> Machine:
    """The registry as a machine with a cache of that name sees it."""

    def look(name: str, **options: Any) -> Registry:
        return Registry(cache_folder_from_url(url, tmp_path / name), **options)

    return look
