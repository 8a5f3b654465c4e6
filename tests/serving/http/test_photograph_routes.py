"""The routes of photographs: uploads, and thumbnails of what was imported, critiqued or indexed."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mondrian_core.importing.preparation import prepare_photograph
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.store.photographs import Photograph, Photographs
from tests.importing.test_place_removal import photograph as photograph_with_place
from tests.waiting import wait_until


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


def upload(client: TestClient, *files: tuple[str, bytes], accept: str = "application/json", **fields: str) -> Any:
    parts = [("photographs", file) for file in files]
    return client.post("/photographs", files=parts, data={"advisor": "ansel", **fields}, headers={"Accept": accept})


def test_uploads_have_a_result_each(client: TestClient, service: Service, photograph: Callable[..., bytes]) -> None:
    data = photograph(5)
    answer = upload(client, ("Trip/a.jpg", data), ("b.jpg", data), ("c.jpg", b"no"), ("d.jpg", photograph(6)))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["imported"], body["duplicate"], body["rejected"], body["advisor"]) == (2, 1, 1, "ansel")
    assert [each["outcome"] for each in body["files"]] == ["imported", "duplicate", "rejected", "imported"]
    rows = Photographs(service.store).find("ansel")
    assert [row.image_path for row in rows] == ["source/photographs/ansel/Trip/a.jpg", "source/photographs/ansel/d.jpg"]
    assert (service.root / rows[0].image_path).read_bytes() == data
    assert upload(client, ("again.jpg", data)).json()["known"] == 1
    assert client.get(f"/photographs/{rows[0].sha256}/thumbnail").status_code == 200


def test_uploads_lose_the_place_and_may_be_a_portfolio(client: TestClient, service: Service) -> None:
    data = photograph_with_place("JPEG")
    (file,) = upload(client, ("a.jpg", data), portfolio="yes").json()["files"]
    assert file["place_removed"] == ["EXIF", "XMP"]
    (row,) = Photographs(service.store).find("ansel", portfolio=True)
    assert row.image_path == "source/advisor/photographer/ansel/a.jpg"
    assert b"GPSL" not in (service.root / row.image_path).read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.jpg",
        "/etc/evil.jpg",
        "..\\..\\evil.jpg",
        "a/../../../evil.jpg",
        "x" * 3000 + "/evil.jpg",
        "./.././.jpg",
    ],
)
def test_names_of_uploads_stay_in_the_folder_of_imports(
    client: TestClient, service: Service, photograph: Callable[..., bytes], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(service.root / "source")  # a relative name must not count as a file that is there already
    before = set(service.root.parent.rglob("*"))
    assert upload(client, (name, photograph(7))).json()["imported"] == 1
    (row,) = Photographs(service.store).find("ansel")
    stored = (service.root / row.image_path).resolve()
    assert stored.is_relative_to(service.root / "source" / "photographs" / "ansel") and stored.is_file()
    new = {
        path for path in set(service.root.parent.rglob("*")) - before if path.is_file() and path.name.endswith("jpg")
    }
    assert {path for path in new if "thumbnails" not in path.parts} == {stored}


@pytest.mark.parametrize(
    ("request_of", "status", "title"),
    [
        (lambda client: client.post("/photographs", json={}), 422, "not a multipart form"),
        (lambda client: upload(client), 422, ""),
        (lambda client: upload(client, ("a.jpg", b"x"), advisor="nobody"), 422, "no advisor 'nobody'"),
        (lambda client: upload(client, ("a.jpg", b"x"), advisor="../x"), 422, "advisor"),
        (lambda client: upload(client, ("a.jpg", b"x"), advisor=""), 422, "advisor is missing"),
        (lambda client: upload(client, *((f"{each}.jpg", b"x") for each in range(101))), 422, "Too many files"),
        (lambda client: upload(client, ("a.jpg", b"x"), accept="image/png"), 406, "JSON or HTML"),
    ],
)
def test_invalid_uploads_are_one_problem(
    client: TestClient, service: Service, request_of: Callable[[TestClient], Any], status: int, title: str
) -> None:
    answer = request_of(client)
    assert answer.status_code == status and title in answer.json()["title"], answer.text
    assert not Photographs(service.store).find()


def test_upload_without_a_script_answers_with_the_page(client: TestClient, photograph: Callable[..., bytes]) -> None:
    hostile = '<img src=x onerror="alert(1)">.jpg'
    page = upload(client, (hostile, photograph(8)), ("bad.jpg", b"no"), accept="text/html").text
    assert "1 of 2 imported." in page and "&lt;img src=x" in page and "<img src=x" not in page
    assert "not in a format that a camera writes" in page


def test_page_without_an_advisor_says_what_to_do(client: TestClient, service: Service) -> None:
    assert 'id="drop"' in client.get("/photographs/import?advisor=ansel", headers={"Accept": "text/html"}).text
    with service.store.transaction() as connection:
        connection.execute("DELETE FROM advisors")
    page = client.get("/photographs/import", headers={"Accept": "text/html"}).text
    assert "No advisor yet" in page and 'href="/advisors"' in page and 'id="drop"' not in page


@pytest.mark.parametrize("page", ["/write?advisor=dorothea", "/photographs", "/start?advisor=dorothea", "/advisors"])
def test_photographs_from_before_appear_with_their_progress(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    service, read, go = make_service("base", records=True), threading.Event(), threading.Event()
    prepare = prepare_photograph

    def wait_and_prepare(*given: Any) -> Any:
        read.set()
        assert go.wait(60)
        return prepare(*given)

    monkeypatch.setattr("mondrian_core.importing.importer.prepare_photograph", wait_and_prepare)
    html = {"Accept": "text/html"}
    with TestClient(create_app(service), base_url="http://localhost", follow_redirects=False) as client:
        assert read.wait(60)
        during = client.get(page, headers=html)
        assert during.status_code == 200 and "0 of 1" in during.text and "/static/recording.js" in during.text
        assert client.get("/photographs/recording").json() == {"at_work": True, "done": 0, "total": 1}
        go.set()
        wait_until(lambda: not client.get("/photographs/recording").json()["at_work"], "the photograph is recorded")
        assert client.get("/write?advisor=dorothea").json()["next"] is not None
        assert client.get("/photographs?advisor=dorothea").json()["total"] == 1
        assert client.get("/start?advisor=dorothea").json()["counts"]["photographs"] == 1
        after = client.get(page, headers=html)
        assert "recording.js" not in after.text and (after.status_code == 303) == page.startswith("/write")
