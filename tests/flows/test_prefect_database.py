"""Prefect's database is bounded: the server deletes old runs, and its SQLite file is compacted when it starts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from deployments.prefect_database import compact_database, free_bytes
from deployments.prefect_instance import KEPT_RUN_DAYS, PrefectInstance
from mondrian_core.prefect_server import auth_string_path, create_prefect_home
from mondrian_core.settings import Settings

ROWS = 200


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A file of which most rows were deleted."""
    path = tmp_path / "prefect.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY, log TEXT)")
        connection.executemany("INSERT INTO runs (log) VALUES (?)", [("x" * 10_000,)] * ROWS)
        connection.commit()
        connection.execute("DELETE FROM runs WHERE id % 10")
        connection.commit()
    return path


def test_a_file_of_free_pages_shrinks_and_keeps_its_rows(database: Path) -> None:
    size, free = database.stat().st_size, free_bytes(database)
    assert free > size / 2
    assert compact_database(database, least=free) == size - database.stat().st_size > 0.8 * free
    assert free_bytes(database) == 0 and compact_database(database, least=0) == 0
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*), sum(length(log)) FROM runs").fetchone() == (20, 200_000)


def test_little_free_space_is_left_alone(database: Path) -> None:
    assert compact_database(database) == 0
    with closing(sqlite3.connect(database)) as connection:
        connection.executemany("INSERT INTO runs (log) VALUES (?)", [("x" * 10_000,)] * 2 * ROWS)
        connection.execute("DELETE FROM runs WHERE id > 500")
        connection.commit()
    assert 0 < free_bytes(database) < database.stat().st_size / 2
    assert compact_database(database, least=1) == 0


def test_a_database_in_use_or_missing_or_damaged_is_left_alone(database: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert compact_database(database, least=1) == 0
    assert compact_database(tmp_path / "missing.db") == 0 and not (tmp_path / "missing.db").exists()
    (tmp_path / "damaged.db").write_bytes(b"no database" * 1000)
    assert compact_database(tmp_path / "damaged.db", least=1) == 0


def test_the_server_deletes_old_runs_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings mean to Prefect what they say; a typo in a variable would be ignored."""
    from prefect.settings.models.server.services import ServerServicesDBVacuumSettings

    settings = Settings(workspace=tmp_path)
    create_prefect_home(settings)
    auth_string_path(settings).write_text("user:password")
    for name, value in PrefectInstance(settings, 4200).environment().items():
        monkeypatch.setenv(name, value)
    found = ServerServicesDBVacuumSettings()
    assert found.enabled_vacuum_types == {"events", "flow_runs", "orphans"}
    assert found.retention_period.days == KEPT_RUN_DAYS
