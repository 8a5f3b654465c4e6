"""A database that is replaced, deleted or restored while it is open, and statements that fail midway."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mondrian_core.errors import DatabaseReplaced, MondrianError
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "mondrian.db") as made:
        made.add_advisor(AdvisorPrompt("ansel", "Ansel Adams"))
        yield made


def rename_another_over_it(path: Path) -> None:
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    copy.replace(path)


def delete_it(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def delete_its_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def move_its_folder_away_and_make_another(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    shutil.copytree(path.parent.with_name("elsewhere"), path.parent)


@pytest.mark.parametrize(
    "act", [rename_another_over_it, delete_it, delete_its_log, move_its_folder_away_and_make_another]
)
def test_replaced_database_file_is_detected_by_reading_and_writing(tmp_path: Path, act: Callable[[Path], None]) -> None:
    path = tmp_path / "workspace" / "mondrian.db"
    with Store.create(path) as store:
        store.add_job("ansel", "one.jpg")
        before = store.replaced
        act(path)
        assert (before, store.replaced) == (False, True)
        with pytest.raises(DatabaseReplaced, match=r"^The database mondrian\.db was replaced or deleted"):
            store.add_job("ansel", "two.jpg")
        with pytest.raises(DatabaseReplaced):
            store.advisors()
        with pytest.raises(DatabaseReplaced):
            list(store.jobs())


def test_commit_to_replaced_database_file_fails(store: Store) -> None:
    def replaced_before_the_end() -> None:
        with store.transaction() as connection:
            connection.execute("UPDATE advisors SET name = 'A'")
            rename_another_over_it(store.path)

    with pytest.raises(DatabaseReplaced):
        replaced_before_the_end()


def test_wal_checkpoints_and_other_writers_are_not_replacements(store: Store) -> None:
    with closing(sqlite3.connect(store.path)) as other, other:
        other.execute("UPDATE advisors SET name = 'Another name'")
        other.commit()
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.start_write_counter("boot")
    store.increment_write_counter("boot")
    assert not store.replaced
    assert store.read_write_counter("boot") == 2
    assert store.advisors()[0].name == "Another name"


def test_rows_lost_by_a_restore_are_detected(store: Store) -> None:
    """A copy over the open file (`cp backup.db mondrian.db`) keeps its inode; SQLite's own restore does too."""
    copy = store.path.with_name("copy.db")
    with closing(sqlite3.connect(store.path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    store.start_write_counter("boot")
    store.increment_write_counter("boot")
    with closing(sqlite3.connect(store.path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert store.read_write_counter("boot") == 2
    inode = os.stat(store.path).st_ino
    shutil.copyfile(copy, store.path)
    assert os.stat(store.path).st_ino == inode
    assert store.read_write_counter("boot") == 0


def test_failed_read_does_not_block_the_next_write(store: Store) -> None:
    for number in range(3):
        store.add_job("ansel", f"{number}.jpg")
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("UPDATE jobs SET filename = cast(x'6bf66e' AS TEXT) WHERE filename = '1.jpg'")
        kept = []
        for read in (
            lambda: store.select("SELECT filename FROM jobs"),
            lambda: list(store._each("SELECT filename FROM jobs", (), 1)),
            lambda: _in_transaction(store),
        ):
            try:
                read()
            except (MondrianError, sqlite3.Error) as error:
                kept.append(error)  # with its traceback, which holds the frames and whatever is open in them
            other.execute("UPDATE advisors SET name = name || '.'")
            store.add_job("ansel", "later.jpg")


def test_slow_reader_does_not_block_writes(store: Store) -> None:
    for number in range(3):
        store.add_job("ansel", f"{number}.jpg")
    rows = store._each("SELECT id FROM jobs", (), 1)
    next(rows)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("UPDATE advisors SET name = 'Another name'")
    store.add_job("ansel", "later.jpg")
    assert len(list(rows)) == 2


def _in_transaction(store: Store) -> None:
    with store.transaction() as connection:
        for _ in connection.execute("SELECT filename FROM jobs"):
            pass
