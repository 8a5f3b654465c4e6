"""Files of critiques over HTTP: preview, confirm, export; in a browser the whole way with the keyboard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.settings import Settings
from mondrian_core.store import DimensionalProfile, Store
from tests.serving.http.test_browser import assert_fits, browser, page

__all__ = ["browser", "page"]  # fixtures
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def client(make_service: Callable[..., Service]) -> Iterator[TestClient]:
    with TestClient(create_app(make_service("base")), base_url="http://localhost") as found:
        yield found


def row(photograph: str = "one.jpg", **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"photograph": photograph}
    values |= {f"{name}_score": 7 for name in DIMENSIONS} | {f"{name}_comment": f"On {name}." for name in DIMENSIONS}
    return {**values, **changes}


def content(*rows: dict[str, Any]) -> bytes:
    return "".join(f"{json.dumps(each)}\n" for each in rows).encode()


def post(client: TestClient, *files: tuple[str, bytes], **fields: str) -> Any:
    parts = [("file", (name, data)) for name, data in files]
    return client.post("/critiques/import", files=parts, data={"advisor": "ansel", **fields})


def saved(settings: Settings) -> list[DimensionalProfile]:
    with Store(settings.database, read_only=True) as store:
        return store.profiles()


def test_a_preview_saves_nothing_and_its_confirmation_exactly_what_it_showed(
    client: TestClient, settings: Settings
) -> None:
    data = content(row())
    preview = post(client, ("a.jsonl", data), dry_run="1").json()
    assert preview["counts"]["new"] == 1 and not preview["saved"] and saved(settings) == []
    other = post(client, ("a.jsonl", content(row(lighting_score=2))), expected=preview["signature"])
    assert other.status_code == 422 and other.json()["type"].endswith("plan-changed") and saved(settings) == []
    done = post(client, ("a.jsonl", data), expected=preview["signature"]).json()
    assert done["saved"] and [each.image_path for each in saved(settings)] == ["source/one.jpg"]
    assert post(client, ("a.jsonl", data)).json()["counts"]["same"] == 1


def test_bad_rows_come_first_and_hold_the_others_back(client: TestClient, settings: Settings) -> None:
    data = content(*(row(lighting_comment=f"{number}") for number in range(2)), row(f"{MARKUP}.jpg"))
    answer = post(client, ("a.jsonl", data))
    assert answer.headers["content-type"] == "application/json"
    assert [each["outcome"] for each in answer.json()["rows"]] == ["refused", "refused", "new"]
    assert not answer.json()["saved"] and saved(settings) == []
    assert post(client, ("a.jsonl", data), skip_bad="1").json()["saved"] and len(saved(settings)) == 1


@pytest.mark.parametrize(
    ("fields", "files"),
    [
        ({}, ()),
        ({"advisor": "../x"}, (("a.jsonl", content(row())),)),
        ({"advisor": "henri"}, (("a.jsonl", content(row())),)),
        ({"format": "xls"}, (("a.jsonl", content(row())),)),
        ({}, (("a.csv", b"\x89PNG\r\n\x1a\n\0\0"),)),
        ({}, (("../../etc/a.json", b"[{]"),)),
    ],
)
def test_requests_that_cannot_be_used_are_problems(client: TestClient, fields: dict[str, str], files: Any) -> None:
    answer = post(client, *files, **fields)
    assert answer.status_code == 422 and answer.json()["title"] and answer.json()["detail"]


def test_exports_are_downloads_that_an_import_knows(client: TestClient) -> None:
    post(client, ("a.jsonl", content(row())))
    for name, suffix in (("csv", "ansel.csv"), ("jsonl", "ansel.jsonl"), ("label-studio", "ansel-label-studio.json")):
        export = client.get("/critiques/export", params={"format": name, "advisor": "ansel"})
        assert export.headers["content-disposition"] == f'attachment; filename="critiques-{suffix}"'
        again = post(client, (f"x{Path(suffix).suffix}", export.content)).json()
        assert again["counts"]["same"] == 1 and again["rows_total"] == 1
    assert "<Rating" in client.get("/critiques/labeling-config").text
    for wrong in ("format=xls", "format=analysis", "advisor=henri", "advisor=../x"):
        assert client.get(f"/critiques/export?{wrong}").status_code == 422, wrong


@pytest.mark.browser
@pytest.mark.slow
def test_a_file_is_previewed_and_imported_in_the_browser(
    page: Page, start: Callable[..., Any], settings: Settings, tmp_path: Path
) -> None:
    site = f"http://127.0.0.1:{start().port}"
    page.goto(f"{site}/critiques/import")
    file = tmp_path / "mine.jsonl"
    file.write_bytes(content(row(), row(f"{MARKUP}.jpg")))
    page.locator("#advisor").select_option("ansel")
    page.get_by_label("Files", exact=True).set_input_files(str(file))
    expect(page.locator("#conclusion")).to_contain_text("1 of 2 rows can't be used")
    expect(page.get_by_role("button", name="Import 1 critique")).to_be_hidden()
    expect(page.locator("#rows")).to_contain_text(MARKUP)
    page.get_by_label("Save the good rows").focus()
    page.keyboard.press("Space")
    confirm = page.get_by_role("button", name="Import 1 critique")
    expect(confirm).to_be_visible()
    assert_fits(page)
    assert saved(settings) == []
    confirm.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#conclusion")).to_have_text("Saved 1 critique.")
    assert [each.comments["lighting"] for each in saved(settings)] == ["On lighting."]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "critiques.csv"
