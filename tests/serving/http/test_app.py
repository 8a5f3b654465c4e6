"""The HTTP API: responses, headers, rows, errors. The model process is real, its model is a fake."""

from __future__ import annotations

import io
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mondrian_core.registry import Registry
from mondrian_core.rollout import RolloutPlan, RolloutStep, rollout_requests
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.store import Store
from tests.rollout.conftest import begin_rollout

Make = Callable[..., Service]
Photograph = Callable[..., bytes]
HEADERS = (
    "X-Analysis-Mode",
    "X-Requested-Mode",
    "X-Advisor-ID",
    "X-Strategy-Available",
    "X-Model-Used",
    "X-Adapter-Version",
)


def client_of(service: Service) -> TestClient:
    return TestClient(create_app(service), base_url="http://localhost", raise_server_exceptions=False)


@pytest.fixture
def base(make_service: Make) -> Any:
    with client_of(make_service("base")) as client:
        yield client


def send(client: TestClient, data: bytes, headers: dict[str, str] | None = None, **fields: str) -> Any:
    fields = {"advisor": "ansel", **fields}
    return client.post("/analyze", files={"image": ("my photo.jpg", data)}, data=fields, headers=headers)


def test_base_critiques_a_photograph(base: TestClient, photograph: Photograph, settings: Any) -> None:
    answer = send(base, photograph())
    assert answer.status_code == 200, answer.text
    assert [answer.headers[name] for name in HEADERS] == ["baseline", "baseline", "ansel", "true", "base", "none"]
    body = answer.json()
    assert body["critique"]["dimensional_analysis"]["lighting"] == {"score": 5, "comment": "said by the base"}
    with Store(settings.database, read_only=True) as store:
        row = store.job(body["job_id"])
    assert row is not None
    assert (row.status, row.model_used, row.mode, row.arm, row.attempts) == ("completed", "base", "baseline", None, 1)
    assert (settings.root / "source" / (row.filename or "")).read_bytes() == photograph()
    assert "```json" in (settings.root / "analysis_md" / (row.analysis_markdown or "")).read_text()


def test_job_records_written_expected_and_served_scores(
    base: TestClient, photograph: Photograph, control: Callable[..., None]
) -> None:
    control(expected={"lighting": 7.4})
    body = send(base, photograph()).json()
    assert body["dimensional_analysis"]["lighting"]["score"] == 7, "served"
    assert (body["written_scores"]["lighting"], body["expected_scores"]) == (5, {"lighting": 7.4})
    page = base.get(body["links"]["self"], headers={"Accept": "text/html"}).text
    assert "expected scores, rounded; it wrote Lighting 5</dd>" in page.replace("&#39;", "'")


def test_path_in_the_workspace_is_accepted(base: TestClient) -> None:
    answer = base.post("/analyze", json={"path": "source/one.jpg", "advisor": "ansel"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["photograph"] == "one.jpg"


def test_lora_without_promoted_adapter_falls_back_with_a_reason(base: TestClient, photograph: Photograph) -> None:
    answer = send(base, photograph(), mode="lora")
    assert answer.status_code == 200, answer.text
    assert [answer.headers[name] for name in HEADERS] == ["baseline", "lora", "ansel", "false", "base", "none"]
    assert answer.json()["fallbacks"][0]["strategy"] == "lora"


def test_explicit_lora_uses_the_champion_in_base_mode_too(
    base: TestClient, photograph: Photograph, promote: Callable[[str], None]
) -> None:
    promote("v0002")
    answer = send(base, photograph(), mode="lora")
    assert [answer.headers[name] for name in HEADERS] == ["lora", "lora", "ansel", "true", "fine_tuned", "v0002"]
    assert answer.json()["critique"]["dimensional_analysis"]["lighting"]["comment"] == "said by v0002"
    assert send(base, photograph()).headers["X-Model-Used"] == "base"


def test_promotion_applies_to_the_next_request(
    make_service: Make, photograph: Photograph, promote: Callable[[str | None], None]
) -> None:
    promote("v0001")
    service = make_service("fine_tuned")
    with client_of(service) as client:
        seen = [send(client, photograph()).headers["X-Adapter-Version"]]
        promote("v0002")
        seen.append(send(client, photograph()).headers["X-Adapter-Version"])
        promote(None)
        seen.append(send(client, photograph()).headers["X-Adapter-Version"])
        assert service.model.starts == 1
    assert seen == ["v0001", "v0002", "v0001"]


def test_rollout_splits_requests_and_records_the_version(
    make_service: Make, photograph: Photograph, promote: Callable[[str], None], registry: Registry
) -> None:
    promote("v0001")
    steps = (RolloutStep(0.5, 1, 0.0), RolloutStep(1.0, 1, 0.0))
    rollout = begin_rollout(registry, "v0002", RolloutPlan(steps=steps))
    with client_of(make_service("fine_tuned")) as client:
        seen = [send(client, photograph(seed)).json() for seed in range(8)]
        jobs = [client.get(f"/jobs/{body['job_id']}").json() for body in seen]
    assert {body["adapter_version"] for body in seen} == {"v0001", "v0002"}
    with Store(make_service("base").root / "mondrian.db", read_only=True) as store:
        requests = rollout_requests(store.jobs(), rollout)
    assert [request.candidate for request in requests] == [job["adapter_version"] == "v0002" for job in jobs]
    assert not any(request.failed for request in requests)
    assert all(job["passes"][0]["drafted"] == 0 for job in jobs), "times are compared, so neither side drafts"


def test_ab_test_keeps_the_arm_and_excludes_explicit_modes(
    make_service: Make, photograph: Photograph, promote: Callable[[str], None]
) -> None:
    promote("v0001")
    with client_of(make_service("ab_test", ab_test_split=0.5)) as client:
        used = [send(client, photograph(seed)).json() for seed in range(8)]
        again = [send(client, photograph(seed)).json()["arm"] for seed in range(3)]
        explicit = send(client, photograph(), mode="baseline").json()
        table = client.get("/compare").json()["arms"]
    assert [body["arm"] for body in used[:3]] == again
    assert {body["model_used"] for body in used} == {"ab_test_base", "ab_test_fine_tuned"}
    assert all(body["model_used"] == f"ab_test_{body['arm']}" for body in used)
    assert (explicit["arm"], explicit["model_used"]) == (None, "base")
    assert [row["arm"] for row in table] == ["base", "fine_tuned"]
    assert sum(row["n"] for row in table) == 11


def test_fallback_counts_against_the_assigned_arm(
    make_service: Make, photograph: Photograph, promote: Callable[[str], None], control: Callable[..., None]
) -> None:
    promote("v0001")
    with client_of(make_service("ab_test", ab_test_split=1.0)) as client:
        control(texts=["no critique", "none either"])
        body = send(client, photograph()).json()
        table = {row["arm"]: row for row in client.get("/compare").json()["arms"]}
    assert (body["arm"], body["model_used"], body["mode"]) == ("fine_tuned", "ab_test_base", body["mode"])
    assert body["mode"] != "lora"
    assert table["fine_tuned"]["n"] == table["fine_tuned"]["fell_back"] == 1
    assert table["base"]["n"] == 0
    assert table["base"]["mean_score"] is None


def test_dead_model_process_loses_no_request(
    base: TestClient, photograph: Photograph, control: Callable[..., None]
) -> None:
    control(die=1)
    answer = send(base, photograph())
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Strategy-Available"] == "true"
    assert not answer.json()["fallbacks"][0]["left"]


def test_failed_critique_is_a_problem_and_a_row_with_the_reason(
    base: TestClient, photograph: Photograph, control: Callable[..., None]
) -> None:
    control(die=9)
    answer = send(base, photograph())
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == "urn:mondrian:problem:analysis-failed"
    assert "Traceback" not in answer.text
    assert base.get(f"/jobs/{body['job']['job_id']}").json()["status"] == "failed"


def test_respond_async_returns_202_and_events(base: TestClient, photograph: Photograph) -> None:
    answer = send(base, photograph(), {"Prefer": "respond-async"})
    assert answer.status_code == 202
    place = answer.headers["Location"]
    told = base.get(f"{place}/events").text
    kinds = [line.removeprefix("event: ") for line in told.splitlines() if line.startswith("event: ")]
    assert kinds[0] == "queued"
    assert kinds[-1] == "completed"
    first = next(line.removeprefix("id: ") for line in told.splitlines() if line.startswith("id: "))
    resumed = base.get(f"{place}/events", headers={"Last-Event-ID": first}).text
    assert "event: queued" not in resumed
    assert "event: completed" in resumed
    assert base.get(place).json()["status"] == "completed"


def test_idempotency_key_returns_the_same_job(base: TestClient, photograph: Photograph) -> None:
    key = {"Idempotency-Key": "one"}
    first, second = send(base, photograph(), key), send(base, photograph(), key)
    assert first.json()["job_id"] == second.json()["job_id"]
    assert send(base, photograph(1), key).status_code == 422
    assert send(base, photograph(), key, mode="lora").status_code == 422


def test_full_queue_sends_retry_after(make_service: Make, photograph: Photograph, control: Callable[..., None]) -> None:
    control(tokens=1000, pace=0.05)
    service = make_service("base", longest_queue=1)
    with client_of(service) as client:
        quick = {"Prefer": "respond-async"}
        statuses = []
        for seed in range(4):
            answer = send(client, photograph(seed), quick)
            statuses.append(answer.status_code)
            time.sleep(0.1)
        assert statuses[0] == 202
        assert statuses[-1] == 503
        assert int(answer.headers["Retry-After"]) >= 1
        control()


def test_running_and_queued_jobs_can_be_canceled(
    make_service: Make, photograph: Photograph, control: Callable[..., None]
) -> None:
    control(tokens=1000, pace=0.05)
    with client_of(make_service("base")) as client:
        places = [send(client, photograph(seed), {"Prefer": "respond-async"}).headers["Location"] for seed in (1, 2)]
        time.sleep(0.3)
        for place in reversed(places):
            assert client.post(f"{place}/cancel").status_code == 202
        for place in places:
            client.get(f"{place}/events")
            assert client.get(place).json()["status"] == "canceled"


def test_next_service_runs_the_jobs_of_a_stopped_one(
    make_service: Make, photograph: Photograph, control: Callable[..., None], settings: Any
) -> None:
    control(tokens=1000, pace=0.05)
    with client_of(make_service("base")) as client:
        ids = [send(client, photograph(seed), {"Prefer": "respond-async"}).json()["job_id"] for seed in (1, 2)]
        time.sleep(0.3)
    with Store(settings.database) as store:
        assert [store.job(each).status for each in ids] == ["queued", "queued"]
        store.claim_job(ids[0])  # as a killed service leaves it
    control()
    service = make_service("base")
    service.model._stopped = threading.Event()  # the same supervisor, started again
    with client_of(service) as client:
        for each in ids:
            client.get(f"/jobs/{each}/events")
            assert client.get(f"/jobs/{each}").json()["status"] == "completed"


def test_unreadable_row_does_not_block_uploads(base: TestClient, photograph: Photograph, settings: Any) -> None:
    job = send(base, photograph()).json()["job_id"]
    with closing(sqlite3.connect(settings.database, isolation_level=None)) as other:
        other.execute("UPDATE jobs SET filename = cast(x'6bf66e6967' AS TEXT) WHERE id = ?", (job,))
        for path in ("/compare", "/", f"/jobs/{job}", "/history?advisor=ansel"):
            base.get(path)
            other.execute("UPDATE advisors SET bio = bio || '.'")
            assert send(base, photograph(1)).status_code == 200, path


@pytest.mark.parametrize(
    ("fields", "status", "kind"),
    [
        ({"advisor": ""}, 422, "bad-input"),
        ({"advisor": "../ansel"}, 422, "bad-input"),
        ({"advisor": "nobody"}, 422, "unknown-advisor"),
        ({"mode": "turbo"}, 422, "bad-input"),
    ],
)
def test_invalid_fields_are_problems(
    base: TestClient, photograph: Photograph, fields: dict[str, str], status: int, kind: str
) -> None:
    answer = send(base, photograph(), **fields)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:mondrian:problem:{kind}"


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 422), (b"<html>", 415), (b"\xff\xd8\xff\xe0 not a jpeg", 415), (b"\x89PNG\r\n\x1a\n", 415)],
)
def test_invalid_photograph_is_refused_and_adds_no_job(
    base: TestClient, data: bytes, status: int, settings: Any
) -> None:
    answer = send(base, data)
    assert answer.status_code in (status, 422)
    assert answer.json()["type"] == "urn:mondrian:problem:bad-photograph"
    assert str(settings.root) not in answer.text
    with Store(settings.database, read_only=True) as store:
        assert list(store.jobs()) == []


def strip() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3000, 10), "teal").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"FUJIFILMCCD-RAW 0201" + bytes(400), 415, "raw"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(400), 415, "raw"),
        (strip(), 422, "too_narrow"),
    ],
)
def test_raw_files_and_strips_are_refused_with_a_reason(
    base: TestClient, data: bytes, status: int, reason: str, settings: Any
) -> None:
    (settings.root / "source" / "named.jpg").write_bytes(data)
    named = base.post("/analyze", json={"path": "source/named.jpg", "advisor": "ansel"})
    for answer in (send(base, data), named):
        assert (answer.status_code, answer.json()["reason"]) == (status, reason)
        assert str(settings.root) not in answer.text
    with Store(settings.database, read_only=True) as store:
        assert list(store.jobs()) == []


def test_path_matches_composed_and_decomposed_names(base: TestClient, photograph: Photograph, settings: Any) -> None:
    (settings.root / "source" / "Scho\u0308n.jpg").write_bytes(photograph(9))
    answer = base.post("/analyze", json={"path": "source/Sch\u00f6n.jpg", "advisor": "ansel"})
    assert answer.status_code in (200, 202), answer.text


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/passwd", "source/../../x.jpg", "source/none.jpg", "", "a\0b"])
def test_paths_stay_in_the_workspace(base: TestClient, path: str, settings: Any) -> None:
    (settings.root.parent / "secret.jpg").write_bytes(b"x")
    answer = base.post("/analyze", json={"path": path, "advisor": "ansel"})
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_symbolic_link_out_of_the_workspace_is_refused(base: TestClient, photograph: Photograph, settings: Any) -> None:
    outside = settings.root.parent / "secret.jpg"
    outside.write_bytes(photograph())
    (settings.root / "source" / "link.jpg").symlink_to(outside)
    assert base.post("/analyze", json={"path": "source/link.jpg", "advisor": "ansel"}).status_code == 404


def test_oversized_body_is_refused_while_streaming(base: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="x.jpg"\r\n\r\n'
        for _ in range(70):
            yield b"x" * 1_000_000

    answer = base.post("/analyze", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 413
    claimed = base.post("/analyze", content=b"x", headers={"Content-Length": "99999999999"})
    assert claimed.status_code == 413


def test_unknown_jobs_and_pages_are_problems(base: TestClient) -> None:
    for path in ("/jobs/none", "/jobs/none/events", "/jobs/none/photograph", "/nothing"):
        answer = base.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


def test_html_is_escaped_and_has_a_content_security_policy(
    base: TestClient, photograph: Photograph, control: Callable[..., None]
) -> None:
    from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique

    evil = "<script>alert(1)</script>"
    text = canonical_answer(make_critique(dict.fromkeys(DIMENSIONS, 4), dict.fromkeys(DIMENSIONS, evil)))
    control(texts=[text])
    answer = send(base, photograph(), {"Accept": "text/html"})
    assert answer.headers["content-type"].startswith("text/html")
    assert evil not in answer.text
    assert "&lt;script&gt;" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert base.get("/").status_code == 200
    picture = base.get(f"/jobs/{answer.headers['X-Job-ID']}/photograph")
    assert picture.headers["content-type"] == "image/jpeg"


def test_other_origins_and_host_names_are_refused(base: TestClient, photograph: Photograph) -> None:
    assert send(base, photograph(), {"Origin": "https://evil.example"}).status_code == 401
    assert base.get("/advisors", headers={"Host": "evil.example"}).status_code == 401
    assert send(base, photograph(), {"Origin": "http://localhost"}).status_code == 200
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://localhost"}):
        assert send(base, photograph(1), headers).status_code == 401


def test_health_metrics_and_advisors(base: TestClient, photograph: Photograph) -> None:
    send(base, photograph())
    health = base.get("/health")
    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    assert health.json()["base_fingerprint"] == "fake"
    text = base.get("/metrics").text
    assert 'mondrian_jobs_total{mode="baseline",model_used="base",status="completed"} 1.0' in text
    assert "mondrian_tokens_drafted_total 4.0" in text and "mondrian_tokens_accepted_total 3.0" in text
    assert [each["id"] for each in base.get("/advisors").json()] == ["ansel", "dorothea"]
    assert base.get("/compare").json()["arms"] == []
    analyze = base.get("/openapi.json").json()["paths"]["/analyze"]["post"]
    assert set(analyze["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
