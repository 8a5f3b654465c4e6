"""Writing critiques over HTTP: strict bodies, conflicts, saving, the draft on request, no foreign photographs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from mondrian_core.store.photographs import Photograph, Photographs
from mondrian_core.writing.writing_desk import written_critique_id
from tests.waiting import wait_until

Photo = Callable[..., bytes]
FULL = {name: {"score": 7.5, "comment": f"The {name} carries it."} for name in DIMENSIONS}


def add_photographs(settings: Settings, photograph: Photo, count: int = 3) -> list[str]:
    """Photographs of ansel; returns their SHA-256 in the order of their paths."""
    names = []
    with Store(settings.database) as store:
        for number in range(count):
            data = photograph(100 + number, (90, 60))
            (settings.root / "source" / f"{number}.jpg").write_bytes(data)
            names.append(hashlib.sha256(data).hexdigest())
            path = f"source/{number}.jpg"
            Photographs(store).add(
                Photograph(sha256=names[-1], image_path=path, advisor="ansel", portfolio=False, width=90, height=60)
            )
    return names


@pytest.fixture
def photographs(settings: Settings, photograph: Photo) -> list[str]:
    return add_photographs(settings, photograph)


@pytest.fixture
def client(make_service: Callable[..., Service], photographs: list[str]) -> Iterator[TestClient]:
    """A client of a service whose worker runs."""
    with TestClient(create_app(make_service()), base_url="http://localhost") as found:
        yield found


def put(client: TestClient, sha256: str, revision: int, dimensions: Any = FULL, **more: Any) -> Any:
    body = {"revision": revision, "entry": {"dimensions": dimensions, **more}}
    return client.put(f"/write/{sha256}/entry?advisor=ansel", json=body)


def test_a_critique_is_stored_saved_changed_and_undone(
    client: TestClient, photographs: list[str], settings: Settings
) -> None:
    sha256 = photographs[1]
    stored = put(client, sha256, 0, {"lighting": {"score": 3}}).json()
    assert (stored["revision"], stored["state"]) == (1, "open")
    upcoming = client.get("/write?advisor=ansel").json()
    assert upcoming["next"]["photograph"] == sha256 and upcoming["progress"]["critiques"] == 0
    body = {"revision": 1, "entry": {"dimensions": FULL, "strengths": "Light\nLine", "notes": "Early."}}
    saved = client.post(f"/write/{sha256}/critique?advisor=ansel", json=body).json()
    assert saved["progress"]["critiques"] == 1 and saved["next"]["photograph"] != sha256
    with Store(settings.database, read_only=True) as store:
        kept = store.profile(written_critique_id("ansel", sha256))
    assert kept is not None and kept.origin == "human" and kept.scores["lighting"] == 7.5
    assert kept.details == {"strengths": ["Light", "Line"], "advisor_notes": "Early.", "written_in": "page"}
    undone = client.post(f"/write/{sha256}/undo?advisor=ansel").json()
    assert undone["entry"]["notes"] == "Early." and undone["state"] == "open"
    assert client.get("/write?advisor=ansel").json()["progress"]["critiques"] == 0


def test_a_stale_revision_is_a_conflict_with_what_is_stored(client: TestClient, photographs: list[str]) -> None:
    sha256 = photographs[0]
    put(client, sha256, 0)
    answer = put(client, sha256, 0, {})
    assert answer.status_code == 409 and answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["current"]["entry"]["dimensions"]["lighting"]["score"] == 7.5
    body = {"revision": 0, "entry": {"dimensions": FULL}}
    assert client.post(f"/write/{sha256}/critique?advisor=ansel", json=body).status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"revision": 0},
        {"revision": -1, "entry": {}},
        {"revision": "0", "entry": {}},
        {"revision": 0, "entry": {"dimensions": {"lighting": {"score": "7"}}}},
        {"revision": 0, "entry": {"dimensions": {"lighting": {"score": 7.25}}}},
        {"revision": 0, "entry": {"dimensions": {"lighting": {"comment": "x" * 601}}}},
        {"revision": 0, "entry": {"dimensions": {"unknown": {}}}},
        {"revision": 0, "entry": {}, "state": "saved"},
    ],
)
def test_bodies_are_validated_strictly(client: TestClient, photographs: list[str], body: Any) -> None:
    answer = client.put(f"/write/{photographs[0]}/entry?advisor=ansel", json=body)
    assert answer.status_code == 422 and answer.json()["type"].startswith("urn:mondrian:problem:")
    assert client.get(f"/write/{photographs[0]}?advisor=ansel").json()["revision"] == 0


def test_incomplete_critiques_and_foreign_photographs_are_refused(client: TestClient, photographs: list[str]) -> None:
    answer = client.post(f"/write/{photographs[0]}/critique?advisor=ansel", json={"revision": 0, "entry": {}})
    assert answer.status_code == 422 and "a score for Composition" in answer.json()["title"]
    assert client.get(f"/write/{photographs[0]}?advisor=dorothea").status_code == 404
    assert client.get(f"/write/{'0' * 64}/pixels?advisor=ansel").status_code == 404
    assert client.get("/write/..%2f..%2fmondrian.db?advisor=ansel").status_code in (404, 422)
    assert client.get("/write?advisor=nobody").status_code == 422
    saved = client.put(f"/write/{photographs[0]}/state?advisor=ansel", json={"state": "saved"})
    assert saved.status_code == 422


def test_skipped_and_excluded_photographs_lead_to_the_next(client: TestClient, photographs: list[str]) -> None:
    seen = set()
    for state in ("skipped", "excluded"):
        sha256 = client.get("/write?advisor=ansel").json()["next"]["photograph"]
        seen.add(sha256)
        answer = client.put(f"/write/{sha256}/state?advisor=ansel", json={"state": state}).json()
        assert answer["next"]["photograph"] not in seen
    assert len(seen) == 2


def test_the_draft_comes_only_when_asked_and_is_recorded(
    client: TestClient, photographs: list[str], control: Callable[..., None], settings: Settings
) -> None:
    control()
    sha256 = photographs[0]
    put(client, sha256, 0, {"composition": {"score": 9}})
    page = client.get(f"/write/{sha256}?advisor=ansel", headers={"Accept": "text/html"}).text
    assert "said by the base" not in page
    address = f"/write/{sha256}/draft?advisor=ansel"
    assert client.post(address).status_code == 202
    shown = wait_until(lambda: (found := client.post(address)).status_code == 200 and found.json(), "the draft")
    assert shown["draft"]["lighting"]["comment"] == "said by the base" and shown["draft_seen"]
    again = client.post(address).json()
    assert again["revision"] == shown["revision"]
    body = {"revision": shown["revision"], "entry": {"dimensions": FULL}}
    assert client.post(f"/write/{sha256}/critique?advisor=ansel", json=body).status_code == 200
    with Store(settings.database, read_only=True) as store:
        kept = store.profile(written_critique_id("ansel", sha256))
        assert len(list(store.jobs())) == 1
    assert kept is not None and kept.details["draft"]["scored_before"] == ["composition"]
    anchoring = client.get("/write?advisor=ansel").json()["progress"]["anchoring"]
    assert (anchoring["seen"]["mean"], anchoring["unseen"]["mean"]) == (2.5, 2.5)


def test_pixels_are_all_of_them_without_metadata(
    client: TestClient, settings: Settings, photograph: Photo, photographs: list[str]
) -> None:
    import io

    from PIL import Image

    data = photograph(7, (4600, 40))  # more than twice the side to which a photograph is decoded for the model
    (settings.root / "source" / "wide.jpg").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    with Store(settings.database) as store:
        path = "source/wide.jpg"
        Photographs(store).add(
            Photograph(sha256=sha256, image_path=path, advisor="ansel", portfolio=False, width=4600, height=40)
        )
    answer = client.get(f"/write/{sha256}/pixels?advisor=ansel")
    image = Image.open(io.BytesIO(answer.content))
    assert image.size == (4600, 40) and not image.getexif()


def test_pages_say_what_to_do_next(client: TestClient, photographs: list[str], settings: Settings) -> None:
    html = {"Accept": "text/html"}
    start = client.get("/write", headers=html).text
    assert "Ansel Adams" in start and "/write?advisor=dorothea" in start
    empty = client.get("/write?advisor=dorothea", headers=html).text
    assert "mondrian import FOLDER <span>--advisor</span> dorothea" in empty
    first = client.get("/write?advisor=ansel", headers=html, follow_redirects=False)
    assert first.status_code == 303 and first.headers["location"].startswith("/write/")
    for sha256 in photographs:
        client.put(f"/write/{sha256}/state?advisor=ansel", json={"state": "excluded"})
    assert "No photograph waits" in client.get("/write?advisor=ansel", headers=html).text


def test_markup_in_names_and_comments_stays_text(
    client: TestClient, settings: Settings, photograph: Photo, photographs: list[str]
) -> None:
    data, name = photograph(9), "<img src=x onerror='alert(1)'>.jpg"
    (settings.root / "source" / name).write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    with Store(settings.database) as store:
        Photographs(store).add(
            Photograph(
                sha256=sha256, image_path=f"source/{name}", advisor="ansel", portfolio=False, width=64, height=48
            )
        )
    put(client, sha256, 0, {"lighting": {"comment": "</textarea><script>alert('x')</script>"}})
    page = client.get(f"/write/{sha256}?advisor=ansel", headers={"Accept": "text/html"}).text
    assert "<img src=x" not in page and "<script>alert" not in page
