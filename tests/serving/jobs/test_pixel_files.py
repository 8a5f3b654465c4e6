"""A served photograph is decoded once, and its pixels reach the model process through a file, not the socket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mondrian_core.images import downscale_to_fit, open_photograph
from mondrian_core.photograph_model import Question
from mondrian_core.pixel_files import PixelFileCache
from mondrian_core.serving.engine.supervisor import ModelProcess
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs import image_decoding
from mondrian_core.serving.server import PIXEL_FOLDER
from mondrian_core.settings import Settings

Make = Callable[..., Service]
LARGE = (1600, 1200)  # scaled to 1024 x 768 for the model: 2.4 MB of pixels


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each photograph that the service decodes; the real decoder does the work."""
    counted: list[int] = []

    def open_and_count(source: Path | bytes) -> Any:
        counted.append(1)
        return open_photograph(source)

    monkeypatch.setattr(image_decoding, "open_photograph", open_and_count)
    return counted


@pytest.fixture
def sent_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each message to the model process."""
    sizes: list[int] = []
    send = Connection.send

    def send_and_measure(self: Connection, message: Any) -> None:
        sizes.append(len(ForkingPickler.dumps(message)))
        send(self, message)

    monkeypatch.setattr(Connection, "send", send_and_measure)
    return sizes


def _expected_pixels(data: bytes) -> str:
    return hashlib.sha256(downscale_to_fit(open_photograph(data).image).tobytes()).hexdigest()


def test_request_decodes_once_and_sends_no_pixels(
    make_service: Make,
    photograph: Callable[..., bytes],
    control: Callable[..., None],
    decodes: list[int],
    sent_bytes: list[int],
    tmp_path: Path,
) -> None:
    data, pixels = photograph(1, LARGE), tmp_path / "pixels.json"
    control(record_pixels=str(pixels))
    with TestClient(create_app(make_service()), base_url="http://localhost") as client:
        answer = client.post("/analyze", files={"image": ("a.jpg", data)}, data={"advisor": "ansel"})
        assert answer.status_code == 200
        assert len(decodes) == 1
        assert 0 < sum(sent_bytes) < 16_000, "bytes over the socket; the pixels alone are 2.4 MB"
        assert json.loads(pixels.read_text()) == {"size": [1024, 768], "sha256": _expected_pixels(data)}


def test_job_left_by_a_stopped_service_is_decoded_again(
    make_service: Make, settings: Settings, photograph: Callable[..., bytes], decodes: list[int]
) -> None:
    stopped = make_service()
    (settings.root / "source" / "left.jpg").write_bytes(photograph(2, LARGE))
    job, _ = stopped.store.add_job("ansel", "left.jpg", requested_mode="baseline", photograph_sha256="0" * 64)
    with TestClient(create_app(make_service()), base_url="http://localhost") as client:
        with client.stream("GET", f"/jobs/{job.id}/events") as events:
            events.read()
        assert client.get(f"/jobs/{job.id}").json()["status"] == "completed"
    assert len(decodes) == 1


def test_missing_pixel_file_is_decoded_again(
    make_service: Make, settings: Settings, photograph: Callable[..., bytes], decodes: list[int]
) -> None:
    service = make_service()
    with TestClient(create_app(service), base_url="http://localhost") as client:
        form = {"files": {"image": ("a.jpg", photograph(3))}, "data": {"advisor": "ansel"}}
        first = client.post("/analyze", **form)
        (file,) = (settings.root / PIXEL_FOLDER).glob("*.rgb")
        assert file.parent.stat().st_mode & 0o077 == 0, "only the owner reads it"
        file.unlink()
        job, _ = service.store.add_job(
            "ansel",
            first.json()["photograph"],
            requested_mode="baseline",
            photograph_sha256=first.json()["photograph_sha256"],
        )
        service.worker.submit(job.id)
        with client.stream("GET", f"/jobs/{job.id}/events") as events:
            events.read()
        assert client.get(f"/jobs/{job.id}").json()["status"] == "completed"
        assert len(decodes) == 2
        assert file.is_file()


def test_cache_is_lossless_and_bounded(tmp_path: Path) -> None:
    cache = PixelFileCache(tmp_path / "decoded", capacity=2)
    images = {str(number): Image.effect_noise((40 + number, 30), 80).convert("RGB") for number in range(3)}
    for name, image in images.items():
        stored = cache.put(name, image)
        assert stored.load().tobytes() == image.tobytes()
        assert stored.size == image.size
        assert cache.get("0") is not None, "a file that was read is not the first to be evicted"
    assert [name for name in images if cache.get(name)] == ["0", "2"]
    assert len(list((tmp_path / "decoded").iterdir())) == 2
    cache.clear()
    assert cache.get("0") is None
    assert not (tmp_path / "decoded").exists()


def test_model_process_refuses_an_image_in_memory(model: ModelProcess) -> None:
    with pytest.raises(TypeError, match="not a PixelFile"):
        model.ask(Question(messages=[], image=Image.new("RGB", (8, 8))))
