"""A promoted adapter serves only after it has passed a smoke test on a photograph."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from mondrian_core.errors import Broken
from mondrian_core.photograph_model import Question
from mondrian_core.serving.critique.adapter_smoke_check import AdapterSmokeCheck
from mondrian_core.serving.engine.interface import Reply
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs.worker import IDLE_SECONDS
from mondrian_core.settings import Settings
from mondrian_core.store import Store

Make = Callable[..., Service]
Photograph = Callable[..., bytes]


def send(client: TestClient, data: bytes) -> Any:
    return client.post("/analyze", files={"image": ("a.jpg", data)}, data={"advisor": "ansel"})


def test_failed_smoke_test_keeps_old_adapter(
    make_service: Make, photograph: Photograph, promote: Callable[[str], None], control: Callable[..., None]
) -> None:
    promote("v0001")
    with TestClient(create_app(make_service("fine_tuned")), base_url="http://localhost") as client:
        assert send(client, photograph()).headers["X-Adapter-Version"] == "v0001"
        control(texts=["{ this is cut"])
        promote("v0002")
        answers = [send(client, photograph()) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert [answer.headers["X-Adapter-Version"] for answer in answers] == ["v0001", "v0001"]
        assert client.get("/health").json()["adapters"] == {"ansel": "v0001"}
        promote("v0001")
        promote("v0002")  # the pointer moved again: it is tried again, and passes now
        assert send(client, photograph()).headers["X-Adapter-Version"] == "v0002"


def test_idle_service_picks_up_a_promotion(
    make_service: Make, photograph: Photograph, promote: Callable[[str], None]
) -> None:
    promote("v0001")
    with TestClient(create_app(make_service("fine_tuned")), base_url="http://localhost") as client:
        send(client, photograph())
        promote("v0002")
        assert IDLE_SECONDS <= 2
        began = time.monotonic()
        while client.get("/health").json()["adapters"] != {"ansel": "v0002"}:
            assert time.monotonic() - began < 60, "it looks whenever it was idle for that long"
            time.sleep(0.05)


def test_workspace_without_photographs_checks_only_the_weights(
    settings: Settings, fake_engine: Any, control: Callable[..., None]
) -> None:
    (settings.root / "source" / "one.jpg").write_bytes(b"no photograph")
    (settings.root / "source" / "two.png").mkdir()
    with Store(settings.database) as store:
        smoke_check = AdapterSmokeCheck(fake_engine, store, settings.root)
        assert smoke_check(Path("ansel/v0001")) == ()
        assert fake_engine.asked == 0
        control(unsound=["v0002"])
        assert smoke_check(Path("ansel/v0002")) == ("it is unsound",)


def test_photograph_that_the_base_fails_on_too_is_ignored(
    settings: Settings, fake_engine: Any, photograph: Photograph, control: Callable[..., None]
) -> None:
    class Picky:
        """No arm answers about narrow photographs; one version about none."""

        check = fake_engine.check

        def ask(self, question: Question) -> Reply:
            if question.image.width < 20 or question.adapter == Path("ansel/v0002"):
                raise Broken("No answer.", "")
            return fake_engine.ask(question)

    (settings.root / "source" / "a_strip.jpg").write_bytes(photograph(1, (10, 90)))
    with Store(settings.database) as store:
        smoke_check = AdapterSmokeCheck(Picky(), store, settings.root)
        assert smoke_check(Path("ansel/v0001")) == ()
        assert smoke_check(Path("ansel/v0002")) == ("it gives no answer in the smoke test: No answer.",)
        control(garbled=["v0001"])
        assert "can't be read" in smoke_check(Path("ansel/v0001"))[0]
