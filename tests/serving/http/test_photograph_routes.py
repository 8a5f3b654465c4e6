"""The routes of photographs: thumbnails of what was imported, critiqued or indexed."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.store.photographs import Photograph, Photographs


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    return make_service("base")


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service), base_url="http://localhost", raise_server_exceptions=False) as found:
        yield found


def add(service: Service, path: str, data: bytes, **changes: Any) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    values = {"advisor": "ansel", "portfolio": False, "width": 64, "height": 48} | changes
    Photographs(service.store).add(Photograph(sha256=sha256, image_path=path, **values))
    return sha256


def test_thumbnail_of_an_imported_photograph(client: TestClient, service: Service) -> None:
    sha256 = add(service, "source/one.jpg", (service.root / "source" / "one.jpg").read_bytes())
    answer = client.get(f"/photographs/{sha256}/thumbnail?side=160")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    assert "immutable" in answer.headers["cache-control"]
    assert Image.open(io.BytesIO(answer.content)).size == (64, 48)
    (service.root / "source" / "one.jpg").unlink()
    assert client.get(f"/photographs/{sha256}/thumbnail?side=160").content == answer.content


def test_thumbnail_of_an_upload(client: TestClient, photograph: Callable[..., bytes]) -> None:
    data = photograph(3)
    sent = client.post("/analyze", files={"image": ("a.jpg", data)}, data={"advisor": "ansel"})
    assert sent.status_code == 200
    assert client.get(f"/photographs/{hashlib.sha256(data).hexdigest()}/thumbnail").status_code == 200


@pytest.mark.parametrize("path", ["source/gone.jpg", "../../secret.jpg", "/nowhere/secret.jpg"])
def test_missing_file_is_a_problem(client: TestClient, service: Service, path: str) -> None:
    (Path(service.root).parent / "secret.jpg").write_bytes((service.root / "source" / "one.jpg").read_bytes())
    answer = client.get(f"/photographs/{add(service, path, b'x')}/thumbnail")
    assert answer.status_code == 404 and answer.json()["type"].endswith("bad-photograph")
    assert str(service.root) not in answer.text


def test_changed_file_is_a_problem(client: TestClient, service: Service) -> None:
    answer = client.get(f"/photographs/{add(service, 'source/one.jpg', b'earlier bytes')}/thumbnail")
    assert answer.status_code == 404 and "content has changed" in answer.json()["title"]
    assert str(service.root) not in answer.text


@pytest.mark.parametrize("address", ["0" * 63, "A" * 64, "..%2f..", f"{'0' * 64}/thumbnail?side=0"])
def test_invalid_requests(client: TestClient, address: str) -> None:
    url = f"/photographs/{address}" if "thumbnail" in address else f"/photographs/{address}/thumbnail"
    assert client.get(url).status_code in (404, 422)
    assert client.get(f"/photographs/{'0' * 64}/thumbnail").status_code == 404
