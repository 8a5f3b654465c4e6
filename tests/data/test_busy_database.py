"""A database that another program holds: everything waits for it, and says so when it has waited in vain."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from mondrian_core.cli import main
from mondrian_core.data.linking.link import link_critiques
from mondrian_core.data.retrieval_index import build_index
from mondrian_core.errors import DatabaseBusy
from mondrian_core.store import Store
from mondrian_core.store.drafts import DraftStore
from mondrian_core.store.migrations import ORIGINAL_TABLES
from tests.data.stand_in import Stub, workspace_of

SHORT = 0.3


@contextmanager
def locked(path: Path, seconds: float | None = None) -> Iterator[None]:
    """Another connection holds the database exclusively: until the block ends, or for so many seconds."""
    taken, free = threading.Event(), threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            taken.set()
            free.wait(seconds)
            connection.execute("COMMIT")

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    try:
        yield
    finally:
        free.set()
        thread.join()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An original database: no WAL, so a writer shuts readers out."""
    (tmp_path / "source").mkdir()
    path = tmp_path / "mondrian.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in ORIGINAL_TABLES.values():
            connection.execute(statement)
        connection.execute("INSERT INTO advisors VALUES ('ansel', 'Ansel Adams', '', NULL)")
    return path


def test_reading_waits_and_then_says_so(old: Path) -> None:
    with locked(old):
        began = time.monotonic()
        with pytest.raises(DatabaseBusy, match=r"locked.*Close the other program") as caught:
            Store(old, read_only=True, busy_seconds=SHORT)
        assert time.monotonic() - began >= SHORT
    assert caught.value.exit_status == 3
    with Store(old, read_only=True) as store:
        assert link_critiques(store, old.parent, "ansel").used == ()


def test_reading_goes_on_when_the_lock_is_given_back(old: Path) -> None:
    with locked(old, 0.5), Store(old, read_only=True, busy_seconds=30) as store:
        assert [voice.advisor for voice in store.advisors()] == ["ansel"]


def test_migrating_waits_and_then_says_so_and_changes_nothing(old: Path) -> None:
    with locked(old), pytest.raises(DatabaseBusy, match="locked"):
        Store(old, busy_seconds=SHORT)
    with Store(old, read_only=True) as store:
        assert store.version == 0


@pytest.mark.parametrize("write", ["index", "draft"])
def test_writing_waits_and_then_says_so(tmp_path: Path, write: str) -> None:
    workspace_of(tmp_path, 2).close()
    with Store(tmp_path / "mondrian.db", busy_seconds=SHORT) as store, locked_for_writing(store.path):
        assert len(link_critiques(store, tmp_path, "ansel").used) == 2  # reading is not shut out
        act = (
            partial(build_index, store, tmp_path, "ansel", Stub())
            if write == "index"
            else partial(DraftStore(store).add, [])
        )
        with pytest.raises(DatabaseBusy, match="locked"):
            act()
    with Store(tmp_path / "mondrian.db") as store:
        assert build_index(store, tmp_path, "ansel", Stub()).embedded == 2


@contextmanager
def locked_for_writing(path: Path) -> Iterator[None]:
    """Another program is in the middle of a write; with a WAL, readers go on."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_the_command_line_says_it_in_one_paragraph(
    old: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Store.__init__, "__kwdefaults__", {"read_only": False, "busy_seconds": SHORT})
    with locked(old):
        for command in (["link"], ["review", "--list"], ["review"]):
            assert main([*command, "--advisor", "ansel", "--workspace", str(old.parent)]) == 3
            told = capsys.readouterr().err.strip()
            assert "locked" in told and "run the command again" in told and "\n" not in told
