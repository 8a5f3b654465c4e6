"""The search for jobs: every filter keeps exactly the jobs that it names, whatever the rows hold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import Job, Store
from mondrian_core.store.job_search import ORDERS, JobFilter, find_job_ids, modes_used

EVEN = {name: {"score": 5, "comment": "even"} for name in DIMENSIONS}


def job(number: int, grade: str = "5.0", comment: str = "calm", **values: Any) -> Job:
    moment = f"2026-03-{number:02}T12:00:00.000000"
    first = {DIMENSIONS[0]: {"score": float(grade), "comment": comment}}
    answer = {"dimensional_analysis": {**EVEN, **first}, "overall_grade": grade}
    facts = {"advisor": "ansel", "filename": f"frame-{number}.jpg", "mode": "lora", "status": "completed"}
    facts |= {"answer": answer, "completed_at": moment, "created_at": moment, "details": {}, **values}
    return Job(id=f"job-{number}", **facts)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "mondrian.db") as made:
        made.import_jobs(
            [
                job(1, "3.0", comment="The crème of 100% skies"),
                job(2, "7.5", advisor="dorothea", details={"rating": 4, "corrected_at": "2026-03-09T00:00:00.000000"}),
                job(3, "9.0", mode="rag", details={"rating": 2}, photograph_sha256="a" * 64),
                job(4, "5.0", filename="50%_off.jpg"),
                job(5, status="failed", answer=None, error="no light"),
                job(6, idempotency_key="smoke-1"),
                job(7, details={"rollout": {"shadow": True}}),
            ]
        )
        yield made


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, [4, 3, 2, 1]),
        ({"order": "oldest"}, [1, 2, 3, 4]),
        ({"order": "best"}, [3, 2, 4, 1]),
        ({"order": "worst"}, [1, 4, 2, 3]),
        ({"advisor": "dorothea"}, [2]),
        ({"mode": "rag"}, [3]),
        ({"lowest": 5.0, "highest": 7.5}, [4, 2]),
        ({"dimension": DIMENSIONS[0], "lowest": 9.0}, [3]),
        ({"dimension": DIMENSIONS[1], "lowest": 9.0}, []),
        ({"since": date(2026, 3, 2), "until": date(2026, 3, 3)}, [3, 2]),
        ({"corrected": True}, [2]),
        ({"corrected": False}, [4, 3, 1]),
        ({"least_rating": 3}, [2]),
        ({"sha256": "a" * 64}, [3]),
        ({"text": "frame-3"}, [3]),
        ({"text": "FRAME 3.jpg"}, [3]),
        ({"text": "crème skies"}, [1]),
        ({"text": "100%"}, [1]),
        ({"text": "0%_o"}, [4]),
        ({"text": "composition"}, []),  # a key of the answer is not a word of the critique
        ({"text": "frame-3 calm'; DROP TABLE jobs"}, []),
        ({"status": "failed"}, [5]),
        ({"since": date.max}, []),
        ({"until": date.min}, []),
    ],
)
def test_filter_finds_its_jobs_in_its_order(store: Store, wanted: dict[str, Any], numbers: list[int]) -> None:
    assert find_job_ids(store, JobFilter(**wanted)) == [f"job-{number}" for number in numbers]


def test_modes_are_those_that_answered(store: Store) -> None:
    assert modes_used(store) == ["lora", "rag"]


def test_unreadable_cells_break_no_search(store: Store) -> None:
    cells = ["not json", b"\xff\xfe", 7, "[1, 2]", '{"overall_grade": {}}', None, "{" * 2000]
    with store.transaction() as connection:
        for number, cell in enumerate(cells):
            connection.execute(
                "INSERT INTO jobs (id, status, filename, answer, details, completed_at, mode) "
                "VALUES (?, 'completed', ?, ?, ?, ?, ?)",
                (f"odd-{number}", *[cell] * 5),
            )
    for order in ORDERS:
        for wanted in ({}, {"lowest": 5.0}, {"text": "x"}, {"corrected": True}, {"least_rating": 1}):
            found = find_job_ids(store, JobFilter(order=order, **wanted))
            assert {each for each in found if each.startswith("odd")} <= {"odd-4"}
    assert "lora" in modes_used(store)


def test_ten_thousand_jobs_are_searched_in_less_than_a_second(tmp_path: Path) -> None:
    with Store.create(tmp_path / "mondrian.db") as store:
        comment = "The foreground rock anchors the frame and leads the eye to the ridge. " * 3
        made = job(1, "6.0", comment=comment)
        store.import_jobs(
            Job(**{**made.__dict__, "id": f"many-{number}", "photograph_sha256": f"{number:064x}"})
            for number in range(10_000)
        )
        before = time.monotonic()
        assert len(find_job_ids(store, JobFilter(text="ridge frame", lowest=6.0, order="best"))) == 10_000
        seconds = time.monotonic() - before
    assert seconds < 5, "0.2 s on an idle machine; tests share theirs"
