"""The table of photographs: by advisor and bytes, readable in older databases and after manual edits."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.store import Store
from mondrian_core.store.photographs import Photograph, Photographs


def photograph(number: int, advisor: str = "ansel", **changes: object) -> Photograph:
    values = {
        "sha256": f"{number:064x}",
        "image_path": f"source/{number}.jpg",
        "advisor": advisor,
        "portfolio": False,
        "width": 6000,
        "height": 4000,
        "taken_at": "2026-05-17T04:12:00",
        "camera": {"camera": "NIKON D750"},
        "imported_at": "2026-01-01T00:00:00.000000",
    }
    return Photograph(**(values | changes))


@pytest.fixture
def store(tmp_path: Path) -> object:
    with Store.create(tmp_path / "mondrian.db") as made:
        made.add_advisor(AdvisorPrompt("ansel", "Ansel Adams"))
        yield made


def test_photographs_are_found_by_advisor_portfolio_and_bytes(store: Store) -> None:
    ours = [photograph(2), photograph(1, portfolio=True)]
    hers = photograph(2, "dorothea", image_path="source/hers.jpg")
    photographs = Photographs(store)
    photographs.add(*ours, hers)
    assert photographs.find("ansel") == ours[::-1]
    assert photographs.find("ansel", portfolio=True) == photographs.find(portfolio=True) == [ours[1]]
    assert photographs.find() == [*ours[::-1], hers]
    assert photographs.get(hers.sha256) == ours[0]
    assert photographs.get(hers.sha256, "dorothea") == hers
    assert photographs.get("f" * 64) is None


def test_a_known_photograph_is_updated_and_keeps_its_first_time(store: Store) -> None:
    photographs = Photographs(store)
    photographs.add(photograph(1))
    moved = photograph(1, image_path="source/moved/1.jpg", imported_at="2027-01-01T00:00:00.000000")
    photographs.add(moved)
    (found,) = photographs.find()
    assert found.image_path == "source/moved/1.jpg"
    assert found.imported_at == "2026-01-01T00:00:00.000000"


def test_one_refused_photograph_adds_none(store: Store) -> None:
    with pytest.raises(Exception, match="NOT NULL"):
        Photographs(store).add(photograph(1), photograph(2, width=None))
    assert Photographs(store).find() == []


def test_paths_come_from_photographs_jobs_and_index(store: Store) -> None:
    photographs, sha256 = Photographs(store), f"{7:064x}"
    photographs.add(photograph(7))
    for name in ("upload.jpg", "/elsewhere/seven.jpg", "upload.jpg"):
        store.add_job("ansel", name, photograph_sha256=sha256)
    assert photographs.paths(sha256) == ["source/7.jpg", "source/upload.jpg", "/elsewhere/seven.jpg"]
    assert photographs.paths("0" * 64) == []


def test_rows_that_somebody_made_unreadable_are_skipped(store: Store) -> None:
    photographs = Photographs(store)
    photographs.add(photograph(1), photograph(2))
    with store.transaction() as connection:
        connection.execute("UPDATE photographs SET image_path = x'ff' WHERE sha256 LIKE '%1'")
        connection.execute("UPDATE photographs SET camera = 'not JSON', width = 'wide' WHERE sha256 LIKE '%2'")
    (found,) = photographs.find()
    assert (found.sha256, found.camera, found.width) == (f"{2:064x}", {}, 0)


def test_a_database_of_an_older_release_has_no_photographs(tmp_path: Path, store: Store) -> None:
    with closing(sqlite3.connect(tmp_path / "mondrian.db")) as connection, connection:
        connection.execute("DROP TABLE photographs")
        connection.execute("PRAGMA user_version = 6")
    with Store(tmp_path / "mondrian.db", read_only=True) as older:
        assert Photographs(older).find() == [] and Photographs(older).paths("0" * 64) == []
    with Store(tmp_path / "mondrian.db") as migrated:
        Photographs(migrated).add(photograph(1))
        assert Photographs(migrated).find() == [photograph(1)]
