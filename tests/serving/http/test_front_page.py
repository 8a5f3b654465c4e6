"""The front page says who answers; the sample and previews are what it needs to show photographs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.front_page import PREVIEW_SIDE, answering_model
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs.score_history import format_day
from mondrian_core.settings import Settings
from mondrian_core.store import Store, utc_timestamp

Make = Callable[..., Service]


def client_of(service: Service) -> TestClient:
    return TestClient(create_app(service), base_url="http://localhost", raise_server_exceptions=False)


def test_promoted_version_answers_since_its_promotion(make_service: Make, promote: Callable[[str], None]) -> None:
    assert answering_model(make_service("base"), "ansel", "Ansel Adams").version is None
    promote("v0002")
    answers = answering_model(make_service("fine_tuned"), "ansel", "Ansel Adams")
    assert (answers.version, answers.since, answers.note) == ("v0002", format_day(utc_timestamp()), "")
    base = answering_model(make_service("base"), "ansel", "Ansel Adams")
    assert base.version is None and "v0002 is promoted" in base.note
    assert "A/B test" in answering_model(make_service("ab_test"), "ansel", "Ansel Adams").note
    page = client_of(make_service("fine_tuned")).get("/").text
    assert "adapter v0002</span>" in page and ">base model</span>" in page, "dorothea has no adapter"


def test_damaged_pointer_is_told_and_breaks_no_page(
    make_service: Make, promote: Callable[[str], None], settings: Settings
) -> None:
    promote("v0001")
    (settings.adapters_root / "ansel" / "promoted.json").write_text("{")
    answers = answering_model(make_service("base"), "ansel", "Ansel Adams")
    assert answers.version is None and "can't be read" in answers.note
    assert client_of(make_service("base")).get("/").status_code == 200


def test_page_without_an_advisor_says_how_to_add_one(make_service: Make, settings: Settings) -> None:
    with Store(settings.database) as store, store.transaction() as connection:
        connection.execute("DELETE FROM advisors")
    page = client_of(make_service("base")).get("/").text
    assert 'id="ask"' not in page and "mondrian advisors add" in page and 'href="/advisors"' in page


def test_preview_is_a_small_jpeg_and_leaves_nothing_behind(make_service: Make, settings: Settings) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (2000, 1000), "olive").save(buffer, "TIFF")
    before = files_of(settings.root)
    client = client_of(make_service("base"))
    answer = client.post("/preview", files={"image": ("scan.tif", buffer.getvalue())})
    with Image.open(io.BytesIO(answer.content)) as small:
        assert (small.format, small.size) == ("JPEG", (PREVIEW_SIDE, PREVIEW_SIDE // 2))
    assert files_of(settings.root) == before
    with Image.open(io.BytesIO(client.get("/sample").content)) as sample:
        assert sample.format == "JPEG" and min(sample.size) > 100


@pytest.mark.parametrize(
    ("data", "status"), [(b"", 422), (b"<svg onload=alert(1)>", 415), (b"\xff\xd8\xff broken", 415)]
)
def test_preview_refuses_what_is_not_a_photograph(make_service: Make, data: bytes, status: int) -> None:
    client = client_of(make_service("base"))
    assert client.post("/preview", files={"image": ("x.heic", data)}).status_code == status
    assert client.post("/preview", json={"path": "source/one.jpg"}).status_code == 422, "nothing else is read"


def files_of(root: Path) -> set[str]:
    return {
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "mondrian.db" not in path.name
    }
