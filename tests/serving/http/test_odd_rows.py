"""Rows written by other programs: every page renders, and timestamps are compared as times."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from mondrian_core.retrieval.nearest_neighbors import portfolio_from_profiles
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs import ab_comparison, score_history
from mondrian_core.store import DimensionalProfile, Job, Store, utc_timestamp

GOOD = {"dimensional_analysis": {name: {"score": 7, "comment": "Calm."} for name in DIMENSIONS}, "overall_grade": "7.0"}
CELLS = [
    "cast(x'6bf66e6967' as text)",
    "x'0102ff'",
    "7",
    "-0.5",
    "9e999",
    "9223372036854775807",
    "'K\u00f6nig \u5149'",
    "'{\"a\": 1}'",
    "'[1]'",
    "NULL",
]
ANSWERS = [
    "[]",
    "7",
    '"text"',
    "{",
    "NaN",
    '{"dimensional_analysis": []}',
    '{"dimensional_analysis": {"lighting": 3}}',
    '{"dimensional_analysis": {"lighting": {"score": NaN, "comment": "c"}}}',
    '{"dimensional_analysis": {"lighting": {"score": 1' + "0" * 400 + ', "comment": "c"}}}',
    '{"dimensional_analysis": {"lighting": {"score": 7, "comment": "lone \\ud83d"}}, "overall_grade": 7}',
    '{"dimensional_analysis": {"lighting": {"score": "7", "comment": ["x"]}}}',
    json.dumps({**GOOD, "overall_grade": None}),
    json.dumps({"dimensional_analysis": {"lighting": {"score": 7}}}),
    "[" * 50_000,
]
DETAILS = [
    "[]",
    "7",
    "{",
    '{"hops": 7, "passes": {}, "rollout": "x", "seconds": "fast", "rating": [], "compared_with": [1]}',
    '{"hops": [{}], "compared_with": [{}], "corrected_at": 7, "camera": {}, "expected_scores": []}',
    '{"rollout": {"share": "x"}, "seconds": 1e999, "crashed": "no"}',
]


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    return make_service("base")


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    service.store.import_jobs(
        [
            Job(
                id=f"j{number}",
                filename="one.jpg",
                advisor="ansel",
                status="completed",
                answer=GOOD,
                mode="baseline",
                arm="base",
                created_at=utc_timestamp(),
                completed_at=utc_timestamp(),
                model_used="ab_test_base",
                details={"seconds": 2.0},
            )
            for number in range(2)
        ]
    )
    with TestClient(create_app(service), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def change(store: Store, column: str, cell: str) -> None:
    with store.transaction() as connection:
        connection.execute(f"UPDATE jobs SET {column} = {cell} WHERE id = 'j0'")


def require_answers(client: TestClient, what: str) -> None:
    for path in (
        "/",
        "/compare",
        "/history?advisor=ansel",
        "/advisors",
        "/jobs/j0",
        "/jobs/j0?format=html",
        "/jobs/j1",
    ):
        answer = client.get(path)
        assert answer.status_code == 200, (what, path, answer.text[:300])
        if answer.headers["content-type"] == "application/json":
            json.dumps(answer.json(), allow_nan=False)
    assert client.get("/jobs/j0/photograph").status_code < 500, what
    assert client.get("/jobs/j0/compared/1").status_code < 500, what
    if not what.startswith("status"):  # an unknown status may still end
        assert client.get("/jobs/j0/events").status_code == 200, what


@pytest.mark.no_cover  # the same lines for each column and cell
def test_pages_render_any_values_in_a_job_row(client: TestClient, service: Service) -> None:
    columns = [row[0] for row in service.store.select("SELECT name FROM pragma_table_info('jobs') WHERE NOT pk")]
    for column in columns:
        (old,) = service.store.select(f"SELECT {column} FROM jobs WHERE id = 'j0'")[0]
        for cell in CELLS:
            change(service.store, column, cell)
            require_answers(client, f"{column} {cell}")
        with service.store.transaction() as connection:
            connection.execute(f"UPDATE jobs SET {column} = ? WHERE id = 'j0'", (old,))
    assert len(client.get("/history", params={"advisor": "ansel"}).json()) == 2


@pytest.mark.no_cover
@pytest.mark.parametrize(("column", "texts"), [("answer", ANSWERS), ("details", DETAILS)])
def test_pages_render_any_json_in_a_job_row(
    client: TestClient, service: Service, column: str, texts: list[str]
) -> None:
    for text in texts:
        change(service.store, column, "'" + text.replace("'", "''") + "'")
        require_answers(client, text[:60])
        rated = client.post("/jobs/j0/rating", json={"rating": 4})
        assert rated.status_code in (200, 422), (text[:60], rated.text)


def test_odd_rows_do_not_block_a_critique(
    client: TestClient, service: Service, photograph: Callable[..., bytes]
) -> None:
    (service.root / "source" / "near.jpg").write_bytes(photograph(9))
    with service.store.transaction() as connection:
        for number, cell in enumerate(CELLS):
            named = ", ".join(f"{name}_score" for name in DIMENSIONS)
            scores = ", ".join([cell] * len(DIMENSIONS))
            connection.execute(
                f"INSERT INTO dimensional_profiles (id, advisor_id, image_path, {named}, lighting_comment, "
                f"overall_grade) VALUES ('p{number}', 'ansel', 'source/near.jpg', {scores}, {cell}, {cell})"
            )
        connection.execute("INSERT INTO advisors VALUES (x'ff', x'ff', x'ff', x'ff')")
    for mode in ("baseline", "rag"):
        answer = client.post(
            "/analyze", files={"image": ("a.jpg", photograph())}, data={"advisor": "ansel", "mode": mode}
        )
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "spell",
    [
        lambda at: at.isoformat(sep=" ", timespec="seconds"),
        lambda at: at.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" "),
        lambda at: at.isoformat().replace("+00:00", "Z"),
        lambda at: (at + timedelta(hours=9)).replace(tzinfo=None).isoformat() + "+09:00",
        lambda at: at.timestamp(),
        lambda at: int(at.timestamp() * 1000),
        lambda at: str(int(at.timestamp())),
    ],
)
def test_comparison_window_handles_all_timestamp_formats(settings: Any, spell: Callable[[datetime], Any]) -> None:
    now = datetime(2026, 1, 20, 12, tzinfo=UTC)
    with Store(settings.database) as store:
        for number, hours in enumerate((1, 23, 25, 200)):
            made = Job(
                id=f"j{number}", filename="one.jpg", advisor="ansel", status="completed", arm="base", answer=GOOD
            )
            store.import_jobs([made])
            with store.transaction() as connection:
                moment = spell(now - timedelta(hours=hours))
                connection.execute(
                    "UPDATE jobs SET created_at = ?, completed_at = ? WHERE id = ?", (moment, moment, made.id)
                )
        assert ab_comparison.compare_arms(store, 1, now=now)[0]["n"] == 2
        assert [job.id for job in store.latest_jobs(9)] == ["j0", "j1", "j2", "j3"]
        points = score_history.score_points(store.latest_jobs(9), "ansel")
        assert [point.job_id for point in points] == ["j3", "j2", "j1", "j0"]


@pytest.mark.parametrize(
    ("first", "second", "newest"),
    [
        ("'2026-01-20 18:00:00'", "'2026-01-20T09:00:00'", 3.0),
        ("1700000000", "'2026-01-20T09:00:00Z'", 6.0),
        ("'2026-01-20 18:00:00'", "NULL", 6.0),
    ],
)
def test_retrieval_uses_the_latest_critique(settings: Any, first: str, second: str, newest: float) -> None:
    with Store(settings.database) as store:
        for number, (score, at) in enumerate(((3.0, first), (6.0, second))):
            scores, comments = dict.fromkeys(DIMENSIONS, score), dict.fromkeys(DIMENSIONS, "Said before.")
            store.add_profiles(
                [
                    DimensionalProfile(
                        id=f"p{number}",
                        advisor="ansel",
                        image_path="source/one.jpg",
                        scores=scores,
                        comments=comments,
                        overall_grade="5.0",
                    )
                ]
            )
            with store.transaction() as connection:
                connection.execute(f"UPDATE dimensional_profiles SET created_at = {at} WHERE id = 'p{number}'")
        (reference,) = portfolio_from_profiles(store.profiles("ansel")).references
    assert reference.scores["lighting"] == newest
