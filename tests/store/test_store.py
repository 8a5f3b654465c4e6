"""The database: migrations, read-only access, jobs, locks."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.errors import BadInput, DatabaseBusy, NoDatabase, UnknownAdvisor
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import COMPLETED, FAILED, QUEUED, RUNNING, DimensionalProfile, Job, Store, utc_timestamp
from mondrian_core.store.migrations import ORIGINAL_TABLES, SCHEMA_VERSION

ANSEL = AdvisorPrompt("ansel", "Ansel Adams", "Landscapes.", "You are Ansel Adams.")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "mondrian.db") as made:
        made.add_advisor(ANSEL)
        yield made


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database without migrations."""
    path = tmp_path / "mondrian.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in ORIGINAL_TABLES.values():
            connection.execute(statement)
        connection.execute("INSERT INTO advisors VALUES ('ansel', 'Ansel Adams', 'Landscapes.', NULL)")
        connection.execute(
            "INSERT INTO jobs (id, filename, advisor, status) VALUES ('j1', 'a.jpg', 'ansel', 'analyzing')"
        )
        connection.execute(
            "INSERT INTO dimensional_profiles (id, advisor_id, image_path, composition_score) "
            "VALUES ('p1', 'ansel', 'a', 7)"
        )
    return path


def test_new_database_has_latest_version_and_no_backup(store: Store, tmp_path: Path) -> None:
    assert store.version == SCHEMA_VERSION
    assert not list(tmp_path.glob("*.backup-*"))
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_create_leaves_existing_database_unchanged(store: Store) -> None:
    before = store.path.read_bytes()
    with pytest.raises(BadInput, match="already"):
        Store.create(store.path)
    assert store.path.read_bytes() == before


def test_opening_for_writing_migrates_and_keeps_a_backup(old: Path) -> None:
    with Store(old) as store:
        assert store.version == SCHEMA_VERSION
        job = store.job("j1")
        assert job is not None
        assert (job.status, job.model_used, job.attempts) == ("analyzing", None, 0)
        assert store.profiles("ansel")[0].origin == "human"
    copy = old.with_name("mondrian.db.backup-0")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 0
        assert connection.execute("SELECT count(*) FROM jobs").fetchone()[0] == 1
        assert "model_used" not in {row[1] for row in connection.execute("PRAGMA table_info(jobs)")}


def test_migration_keeps_first_backup(old: Path) -> None:
    old.with_name("mondrian.db.backup-0").write_text("the true original")
    Store(old).close()
    assert old.with_name("mondrian.db.backup-0").read_text() == "the true original"


def test_migrating_is_idempotent_and_tolerates_manually_added_columns(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("ALTER TABLE jobs ADD COLUMN model_used TEXT")
        connection.execute("UPDATE jobs SET model_used = 'base'")
    for _ in range(2):
        with Store(old) as store:
            assert store.jobs("ansel").__next__().model_used == "base"


def test_failed_migration_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mondrian_core.store import database as module
    from mondrian_core.store import migrations

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE jobs ADD COLUMN half TEXT")
        raise RuntimeError("power cut")

    monkeypatch.setattr(module, "MIGRATIONS", (*migrations.MIGRATIONS[:-1], fail))
    with pytest.raises(RuntimeError):
        Store(old)
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 0
        assert {row[1] for row in connection.execute("PRAGMA table_info(jobs)")} & {"half", "model_used"} == set()


def test_several_processes_may_migrate_at_once(old: Path) -> None:
    versions: list[int] = []

    def open_it() -> None:
        with Store(old) as store:
            versions.append(store.version)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert versions == [SCHEMA_VERSION] * 6


def test_reading_leaves_older_database_unchanged(old: Path) -> None:
    before = old.read_bytes()
    with Store(old, read_only=True) as store:
        assert store.version == 0
        assert store.advisor("ansel").name == "Ansel Adams"
        profile = store.profiles("ansel")[0]
        assert profile.scores == {**dict.fromkeys(DIMENSIONS), "composition": 7.0}
        assert profile.origin == "human"
        assert [job.id for job in store.jobs()] == ["j1"]
        with pytest.raises(DatabaseBusy, match="reading only"):
            store.add_job("ansel", "a.jpg")
    assert old.read_bytes() == before
    assert [each.name for each in old.parent.iterdir()] == ["mondrian.db"]


def test_wal_database_is_readable_in_read_only_folder(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(old).close()
    if os.geteuid() == 0:  # root may write everywhere, so make SQLite refuse manually
        real = sqlite3.connect

        def connect(address: str, **options: Any) -> Any:
            return real(address, **options) if "immutable" in address else _Refusing()

        monkeypatch.setattr("mondrian_core.store.database.sqlite3.connect", connect)
    else:
        old.chmod(0o444)
        old.parent.chmod(0o555)
    try:
        with Store(old, read_only=True) as store:
            assert store.advisor("ansel").name == "Ansel Adams"
    finally:
        old.parent.chmod(0o755)


class _Refusing:
    """SQLite's behavior for a WAL database in a read-only folder."""

    def execute(self, statement: str) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    def close(self) -> None:
        pass


def test_writing_to_read_only_database_is_reported(old: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write to read-only files")
    old.chmod(stat.S_IRUSR)
    with pytest.raises(DatabaseBusy, match="can't be written"):
        Store(old)


def test_missing_damaged_foreign_and_newer_databases_are_rejected(tmp_path: Path, store: Store) -> None:
    with pytest.raises(NoDatabase, match="missing"):
        Store(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("this is a letter, not a database" * 100)
    with pytest.raises(NoDatabase, match="not a database"):
        Store(tmp_path / "text.db", read_only=True)
    (tmp_path / "empty.db").write_bytes(b"")
    with pytest.raises(NoDatabase, match="no table advisors"):
        Store(tmp_path / "empty.db", read_only=True)
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(NoDatabase, match="newer"):
        Store(store.path)


def test_advisors_round_trip_and_unknown_advisor(store: Store) -> None:
    store.add_advisor(AdvisorPrompt("watkins", "Carleton Watkins", "Yosemite."))
    store.add_advisor(AdvisorPrompt("ansel", "Ansel E. Adams", "Landscapes.", "You are he."))
    assert [advisor.advisor for advisor in store.advisors()] == ["ansel", "watkins"]
    assert store.advisor("ansel").system_message == "You are he."
    with pytest.raises(UnknownAdvisor, match="known: ansel, watkins"):
        store.advisor("weston")


def test_profile_round_trip(store: Store) -> None:
    given = [
        DimensionalProfile(
            id=f"p{number}",
            advisor="ansel",
            image_path=f"source/{number}.jpg",
            scores=dict.fromkeys(DIMENSIONS, number / 2),
            comments=dict.fromkeys(DIMENSIONS, "It's level."),
            overall_grade="5.0",
            origin=("human", "model")[number % 2],
            created_at=utc_timestamp(),
            order=number + 1,
            recommendations={"lighting": "Wait for the evening."} if number else {},
            details={"strengths": ["The sky."]} if number else {},
        )
        for number in range(5)
    ]
    store.add_profiles(given)
    assert store.profiles("ansel") == given
    assert store.profiles("watkins") == []
    assert len(store.profiles()) == 5


def test_job_lifecycle(store: Store) -> None:
    job, made = store.add_job("ansel", "a.jpg", requested_mode="lora", arm="fine_tuned", photograph_sha256="ab")
    assert made
    assert (job.status, job.attempts, job.explicit_mode, job.arm) == (QUEUED, 0, False, "fine_tuned")
    claimed = store.claim_job(job.id)
    assert claimed is not None
    assert (claimed.status, claimed.attempts) == (RUNNING, 1)
    assert store.claim_job(job.id) is None
    done = store.finish_job(
        job.id,
        answer={"overall_grade": "7.0"},
        model_used="ab_test_fine_tuned",
        mode="lora",
        adapter_version="v0001",
        details={"seconds": 1.5},
    )
    assert (done.status, done.answer, done.model_used) == (COMPLETED, {"overall_grade": "7.0"}, "ab_test_fine_tuned")
    assert (done.adapter_version, done.mode, done.details) == ("v0001", "lora", {"seconds": 1.5})
    assert done.completed_at is not None


def test_failed_job_can_be_retried(store: Store) -> None:
    first, _ = store.add_job("ansel", "a.jpg")
    second, _ = store.add_job("ansel", "b.jpg")
    assert store.claim_job() == store.job(first.id)
    assert store.fail_job(first.id, "it died", again=True).status == QUEUED
    again = store.claim_job()
    assert again is not None
    assert (again.id, again.attempts) == (first.id, 2)
    failed = store.fail_job(first.id, "it died twice")
    assert (failed.status, failed.error) == (FAILED, "it died twice")
    assert [job.id for job in store.jobs(status=QUEUED)] == [second.id]


def test_idempotency_key_returns_the_same_job(store: Store) -> None:
    first, made = store.add_job("ansel", "a.jpg", idempotency_key="k")
    again, made_again = store.add_job("ansel", "a.jpg", idempotency_key="k")
    assert (made, made_again) == (True, False)
    assert again.id == first.id
    assert store.job_by_idempotency_key("k") == first
    store.add_job("ansel", "b.jpg")
    store.add_job("ansel", "c.jpg")  # without a key there may be many


def test_only_running_jobs_are_requeued(store: Store) -> None:
    job, _ = store.add_job("ansel", "a.jpg")
    store.claim_job(job.id)
    store.import_jobs([Job(id="old", filename="b.jpg", advisor="ansel", status="analyzing")])
    ended, _ = store.add_job("ansel", "c.jpg")
    store.cancel_job(ended.id)
    assert store.requeue_running([job.id, "old", ended.id, "none"]) == 1
    again = store.claim_job()
    assert again is not None
    assert (again.id, again.attempts) == (job.id, 2)
    assert store.job("old").status == "analyzing"


def test_model_used_has_four_values(store: Store) -> None:
    job, _ = store.add_job("ansel", "a.jpg")
    with pytest.raises(ValueError, match="model_used"):
        store.finish_job(job.id, answer={}, model_used="lora", mode="lora")
    with pytest.raises(BadInput, match="no job"):
        store.finish_job("none", answer={}, model_used="base", mode="baseline")


def test_jobs_are_filtered_by_date(store: Store) -> None:
    now = datetime.now(UTC)
    store.import_jobs(
        [
            Job(
                id=f"j{days}",
                filename="a.jpg",
                advisor="ansel",
                status=COMPLETED,
                created_at=utc_timestamp(now - timedelta(days=days)),
            )
            for days in (9, 5, 1)
        ]
    )
    assert [job.id for job in store.jobs(since=now - timedelta(days=7))] == ["j5", "j1"]
    assert [job.id for job in store.jobs("ansel", since=now - timedelta(days=2))] == ["j1"]
    assert list(store.jobs("watkins")) == []


def test_jobs_are_read_while_others_are_written(store: Store) -> None:
    for number in range(30):
        store.add_job("ansel", f"{number}.jpg")
    seen = 0
    for job in store.jobs():
        seen += 1
        if seen <= 3:
            store.claim_job(job.id)
    assert seen == 30


def test_each_job_is_claimed_once_by_many_threads(store: Store) -> None:
    for number in range(40):
        store.add_job("ansel", f"{number}.jpg")
    claimed: list[str] = []

    def work() -> None:
        with Store(store.path) as own:
            while (job := own.claim_job()) is not None:
                claimed.append(job.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 40


def test_one_store_may_be_shared_by_threads(store: Store) -> None:
    def work(number: int) -> None:
        for each in range(10):
            job, _ = store.add_job("ansel", f"{number}-{each}.jpg")
            store.claim_job(job.id)
            store.finish_job(job.id, answer={"n": number}, model_used="base", mode="baseline")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(job.status == COMPLETED for job in store.jobs()) == 50


def test_locked_database_waits_and_then_raises(store: Store) -> None:
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with Store(store.path, busy_seconds=0.2) as impatient:
            began = time.monotonic()
            with pytest.raises(DatabaseBusy, match="locked"):
                impatient.add_job("ansel", "a.jpg")
            assert time.monotonic() - began >= 0.2
            assert list(impatient.jobs()) == []  # readers don't wait
        waiting = threading.Thread(target=lambda: store.add_job("ansel", "b.jpg"))
        waiting.start()
        time.sleep(0.2)
        other.execute("COMMIT")
        waiting.join()
    assert [job.filename for job in store.jobs()] == ["b.jpg"]


def test_interrupted_transaction_is_rolled_back(store: Store) -> None:
    def interrupted() -> None:
        with store.transaction():
            store.add_job("ansel", "a.jpg")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(store.jobs()) == []
    store.add_job("ansel", "b.jpg")


@pytest.mark.parametrize("workspace", ["legacy_workspace_copy", "real_workspace_copy"])
def test_legacy_database_is_read_without_migration(workspace: str, request: pytest.FixtureRequest) -> None:
    samples: Path = request.getfixturevalue(workspace)
    with Store(samples / "mondrian.db", read_only=True) as store:
        assert [advisor.advisor for advisor in store.advisors()] == ["ansel", "watkins"]
        assert len(store.profiles("ansel")) == 17
        assert len(list(store.jobs("ansel"))) == 9
    with Store(samples / "mondrian.db") as store:
        assert len(store.profiles("ansel")) == 17
