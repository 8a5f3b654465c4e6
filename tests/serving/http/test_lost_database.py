"""A database that is replaced, deleted or restored under a running service is detected; nothing is accepted."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.settings import Settings
from mondrian_core.store import Store

Start = Callable[..., Any]
Photograph = Callable[..., bytes]


def copy_of(path: Path) -> Path:
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def rename_a_copy_over_it(path: Path, copy: Path) -> None:
    copy.replace(path)


def delete_it(path: Path, copy: Path) -> None:
    path.unlink()


def restore_with_sqlite(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)


def copy_over_it(path: Path, copy: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(copy, path)


@pytest.mark.parametrize("act", [rename_a_copy_over_it, delete_it, restore_with_sqlite, copy_over_it])
def test_lost_database_stops_accepting_jobs(
    start: Start, photograph: Photograph, settings: Settings, act: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    running = start(log=tmp_path / "log")
    copy = copy_of(settings.database)
    job = running.post(photograph(1)).json()["job_id"]
    assert running.get("/health").status_code == 200
    act(settings.database, copy)
    health = running.get("/health")
    assert health.status_code == 503
    assert health.json()["status"] in ("database_replaced", "database_restored")
    answer = running.post(photograph(2))
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:mondrian:problem:database-replaced"
    assert str(settings.root) not in answer.text + health.text
    if act is not copy_over_it:  # there, what SQLite remembers may still be read
        assert running.get(f"/jobs/{job}").status_code == 503


def test_restored_older_copy_is_detected_without_an_upload(start: Start, settings: Settings) -> None:
    copy = copy_of(settings.database)
    running = start()
    assert running.get("/health").status_code == 200
    restore_with_sqlite(settings.database, copy)
    assert running.get("/health").json()["status"] == "database_restored"


def test_restart_continues_with_the_current_database(start: Start, photograph: Photograph, settings: Settings) -> None:
    running = start()
    copy = copy_of(settings.database)
    running.post(photograph(1))
    rename_a_copy_over_it(settings.database, copy)
    assert running.get("/health").status_code == 503
    running.process.terminate()
    running.process.communicate(timeout=90)
    again = start()
    assert again.get("/health").json()["status"] == "ok"
    assert again.post(photograph(2)).status_code == 200


def test_response_is_not_200_when_the_row_was_lost(
    start: Start, photograph: Photograph, settings: Settings, control: Callable[..., None]
) -> None:
    control(tokens=120, pace=0.05)
    running = start()
    copy = copy_of(settings.database)
    seen: list[int] = []
    waiting = threading.Thread(target=lambda: seen.append(running.post(photograph(1)).status_code))
    waiting.start()
    with Store(settings.database, read_only=True) as store:
        while not list(store.jobs(status="running")):
            time.sleep(0.05)
    rename_a_copy_over_it(settings.database, copy)
    waiting.join()
    assert seen == [503]


def test_manual_row_edits_are_not_database_loss(start: Start, photograph: Photograph, settings: Settings) -> None:
    running = start()
    job = running.post(photograph(1)).json()["job_id"]
    with closing(sqlite3.connect(settings.database)) as connection, connection:
        connection.execute("UPDATE jobs SET advisor = 'dorothea' WHERE id = ?", (job,))
        connection.execute("UPDATE advisors SET bio = 'Deserts.'")
        connection.commit()
        connection.execute("DELETE FROM jobs WHERE id = ?", (job,))
        connection.commit()
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert running.get("/health").status_code == 200
    assert running.get(f"/jobs/{job}").status_code == 404
    assert running.post(photograph(2)).status_code == 200


def test_health_identifies_the_workspace_without_a_path(start: Start, settings: Settings) -> None:
    first = start()
    health = first.get("/health")
    assert health.json()["workspace"] == settings.workspace_id
    assert int(health.json()["boot"], 16) >= 0
    assert str(settings.root.parent) not in health.text and "/" not in health.text
    first.process.terminate()
    first.process.communicate(timeout=90)
    again = start().get("/health").json()
    assert again["workspace"] == settings.workspace_id and again["boot"] != health.json()["boot"]
