"""A running job belongs to its process: a service that starts takes over the jobs of dead processes only."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.serving.jobs.job_claims import claim_new_job, claim_queued_job, requeue_abandoned_jobs
from mondrian_core.store import CANCELED, QUEUED, RUNNING, Store
from tests.waiting import wait_until

OTHER_PROCESS = """
import sys
from pathlib import Path
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.serving.jobs.job_claims import claim_new_job
from mondrian_core.store import Store
with Store(Path(sys.argv[1])) as store, claim_new_job(store, "ansel", "a.jpg") as job:
    print(job.id, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "mondrian.db"


@pytest.fixture
def store(database: Path) -> Iterator[Store]:
    with Store.create(database) as made:
        made.add_advisor(AdvisorPrompt("ansel", "Ansel Adams", "Landscapes.", "You are Ansel Adams."))
        yield made


@pytest.fixture
def other_process(database: Path, store: Store) -> Iterator[subprocess.Popen[str]]:
    """A process that runs a job until its input is closed."""
    command = [sys.executable, "-c", OTHER_PROCESS, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_running_job_is_requeued_only_when_its_process_is_gone(
    store: Store, other_process: subprocess.Popen[str]
) -> None:
    assert other_process.stdout is not None
    job_id = other_process.stdout.readline().strip()
    assert requeue_abandoned_jobs(store) == 0
    row = store.job(job_id)
    assert row is not None and (row.status, row.attempts) == (RUNNING, 1)
    with claim_queued_job(store, job_id) as job:
        assert job is None  # and no wait for the other process
    other_process.send_signal(signal.SIGSTOP)
    assert requeue_abandoned_jobs(store) == 0  # a machine that sleeps
    other_process.kill()
    wait_until(lambda: requeue_abandoned_jobs(store) == 1, "the dead process's job to be queued again")
    with claim_queued_job(store, job_id) as job:
        assert job is not None and (job.id, job.attempts) == (job_id, 2)
        assert requeue_abandoned_jobs(store) == 0


def test_claims_leave_no_files(store: Store, database: Path) -> None:
    with claim_new_job(store, "ansel", "a.jpg") as job:
        assert job.status == RUNNING
        store.cancel_job(job.id)
    strange, _ = store.add_job("ansel", "b.jpg", job_id="../../etc/" + "ü" * 300)
    with pytest.raises(RuntimeError), claim_queued_job(store, strange.id):
        raise RuntimeError
    assert [each.status for each in store.jobs()] == [CANCELED, RUNNING]
    assert not list(database.with_name(f"{database.name}.claims").iterdir())
    assert requeue_abandoned_jobs(store) == 1 and store.job(strange.id).status == QUEUED
