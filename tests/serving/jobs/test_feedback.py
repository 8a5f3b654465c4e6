"""Feedback: ratings reach the A/B comparison and rollouts, judgements and corrections reach the next dataset."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mondrian_core.errors import BadInput
from mondrian_core.registry import Registry
from mondrian_core.retrieval.nearest_neighbors import portfolio_from_profiles
from mondrian_core.rollout import RolloutPlan, RolloutStep, rollout_requests
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs import ab_comparison, feedback, score_history
from mondrian_core.store import Job, Store
from mondrian_core.store.advice_judgements import judgements_of
from mondrian_core.store.corrections import correction_id
from tests.rollout.conftest import begin_rollout

Make = Callable[..., Service]
Photograph = Callable[..., bytes]


def told(score: float = 7.5, **more: Any) -> dict[str, Any]:
    entries = {name: {"score": score, "comment": f"The {name} holds the frame together."} for name in DIMENSIONS}
    return {"dimensional_analysis": entries, **more}


@pytest.fixture
def service(make_service: Make) -> Service:
    return make_service("base")


@pytest.fixture
def client(service: Service) -> Any:
    with TestClient(create_app(service), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def critique(client: TestClient, data: bytes, **fields: str) -> dict[str, Any]:
    answer = client.post("/analyze", files={"image": ("a.jpg", data)}, data={"advisor": "ansel", **fields})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_last_rating_counts_and_invalid_ratings_are_refused(client: TestClient, photograph: Photograph) -> None:
    job = critique(client, photograph())["job_id"]
    assert client.post(f"/jobs/{job}/rating", json={"rating": 2}).json()["rating"] == 2
    assert client.post(f"/jobs/{job}/rating", json={"rating": 5}).json()["rating"] == 5
    for bad in ({"rating": 0}, {"rating": 6}, {"rating": 2.5}, {"rating": True}, {"rating": "good"}, {}, [], "x"):
        answer = client.post(f"/jobs/{job}/rating", json=bad)
        assert answer.status_code == 422, bad
        assert answer.headers["content-type"] == "application/problem+json"
    assert client.get(f"/jobs/{job}").json()["rating"] == 5
    assert client.post("/jobs/none/rating", json={"rating": 3}).status_code == 404


def test_ab_comparison_shows_ratings_by_assigned_arm(
    make_service: Make, photograph: Photograph, promote: Callable[[str], None]
) -> None:
    promote("v0001")
    with TestClient(create_app(make_service("ab_test")), base_url="http://localhost") as client:
        jobs = [critique(client, photograph(seed)) for seed in range(8)]
        explicit = critique(client, photograph(1), mode="baseline")
        client.post(f"/jobs/{explicit['job_id']}/rating", json={"rating": 1})
        for job in jobs[:-1]:
            rating = 4 if job["arm"] == "fine_tuned" else 2
            client.post(f"/jobs/{job['job_id']}/rating", json={"rating": rating})
        table = {row["arm"]: row for row in client.get("/compare").json()["arms"]}
    assert sum(row["rated"] for row in table.values()) == 7, "without the explicit and the unrated job"
    for arm, rating in (("fine_tuned", 4), ("base", 2)):
        if table[arm]["rated"]:
            assert table[arm]["mean_rating"] == rating
    unrated = ab_comparison.arm_summary("base", [])
    assert (unrated["mean_rating"], unrated["mean_rating_95"]) == (None, None), "a missing rating is not a bad one"


def test_rollout_reads_ratings(
    make_service: Make, photograph: Photograph, promote: Callable[[str], None], registry: Registry
) -> None:
    promote("v0001")
    plan = RolloutPlan(steps=(RolloutStep(0.5, 1, 0.0), RolloutStep(1.0, 1, 0.0)))
    rollout = begin_rollout(registry, "v0002", plan)
    service = make_service("fine_tuned")
    with TestClient(create_app(service), base_url="http://localhost") as client:
        job = critique(client, photograph())["job_id"]
        client.post(f"/jobs/{job}/rating", json={"rating": 3})
    assert [request.rating for request in rollout_requests(service.store.jobs(), rollout)] == [3]


def test_next_dataset_uses_a_correction_as_a_persons_critique(
    client: TestClient, service: Service, photograph: Photograph
) -> None:
    from mondrian_core.data.linking.link import link_critiques

    job = critique(client, photograph())["job_id"]
    (before,) = [
        each for each in link_critiques(service.store, service.root, "ansel").used if each.record == f"job:{job}"
    ]
    assert before.origin == "model"
    for score in (4, 7.5):
        answer = client.post(f"/jobs/{job}/correction", json=told(score))
        assert answer.status_code == 200, answer.text
        assert answer.json()["corrected_at"]
    (after,) = link_critiques(service.store, service.root, "ansel").used
    assert (after.record, after.origin) == (f"profile:correction-{job}", "human")
    assert set(after.scores.values()) == {7.5}, "the last correction replaces the earlier one"
    assert after.overall_grade == "7.5"
    assert client.get(f"/jobs/{job}").json()["critique"]["dimensional_analysis"]["lighting"]["score"] == 5
    page = client.get(f"/jobs/{job}?format=html").text
    assert "The lighting holds the frame together." in page
    assert not portfolio_from_profiles(service.store.profiles("ansel")).references, (
        "it is no photograph of the advisor's"
    )


def test_a_correction_keeps_the_advice_that_it_holds(
    client: TestClient, service: Service, photograph: Photograph
) -> None:
    """The model's own advice isn't a person's; what the person wrote is."""
    job = critique(client, photograph())["job_id"]
    given = told(7, strengths=["The gate."], priority_improvements=["Wait for rain."])
    given["dimensional_analysis"]["lighting"]["recommendation"] = "Come back at dusk."
    assert client.post(f"/jobs/{job}/correction", json=given).status_code == 200
    profile = service.store.profile(correction_id(job))
    assert profile is not None and profile.recommendations == {"lighting": "Come back at dusk."}
    assert (profile.strengths, profile.priority_improvements) == (("The gate.",), ("Wait for rain.",))


@pytest.mark.parametrize(
    "bad",
    [
        {},
        told(11),
        told(-1),
        told(overall_grade="1.0"),
        told(overall_grade="eleven"),
        told(more=1),
        {"dimensional_analysis": {"lighting": {"score": 3, "comment": "x"}}},
        {"dimensional_analysis": {**told()["dimensional_analysis"], "lighting": {"score": 3, "comment": "  "}}},
        {"dimensional_analysis": {**told()["dimensional_analysis"], "lighting": {"score": 3, "comment": "x" * 2001}}},
        {"dimensional_analysis": {**told()["dimensional_analysis"], "lighting": {"score": 3, "comment": "\ud800"}}},
    ],
)
def test_incomplete_correction_is_refused(
    client: TestClient, service: Service, photograph: Photograph, bad: dict[str, Any]
) -> None:
    import json

    job = critique(client, photograph())["job_id"]
    answer = client.post(
        f"/jobs/{job}/correction", content=json.dumps(bad), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"].startswith("urn:mondrian:problem:")
    assert service.store.profile(correction_id(job)) is None


def test_job_without_critique_can_not_be_rated_or_corrected(settings: Any) -> None:
    with Store(settings.database) as store:
        job, _ = store.add_job("ansel", "one.jpg")
        for act in (
            lambda: feedback.rate_critique(store, job, 3),
            lambda: feedback.correct_critique(store, job, told()),
            lambda: feedback.judge_recommendation(store, job, "lighting", True),
            lambda: feedback.decide_on_crop(store, job, True),
        ):
            with pytest.raises(BadInput, match="no critique"):
                act()
        with pytest.raises(BadInput, match="not completed"):
            store.update_job_details(job.id, rating=3)


def give_advice(service: Service, job_id: str, degrees: float = 0.0) -> None:
    """Add a recommendation on lighting with a box, and an offered crop, to a completed job."""
    import json

    job = service.store.job(job_id)
    assert job is not None and job.answer is not None
    job.answer["dimensional_analysis"]["lighting"] |= {
        "recommendation": "Burn the corner.",
        "regions": [[0, 0, 0.5, 1]],
    }
    found = {
        "offered": True,
        "reason": "This crop leaves out the fence.",
        "whole": {"grade": 5.0, "interval": [4.9, 5.1]},
        "crop": {"box": [0.0, 0.0, 0.5, 0.5], "degrees": degrees, "grade": 6.0, "interval": [5.9, 6.1]},
        "difference": 1.0,
        "difference_interval": [0.9, 1.1],
        "tried": [{}],
        "passes": 20,
    }
    with service.store.transaction() as connection:
        connection.execute(
            "UPDATE jobs SET details = ?, answer = ? WHERE id = ?",
            (json.dumps({**job.details, "crops": found}), json.dumps(job.answer), job_id),
        )


def test_last_judgement_of_each_piece_of_advice_counts(
    client: TestClient, service: Service, photograph: Photograph
) -> None:
    job = critique(client, photograph())["job_id"]
    give_advice(service, job)
    for useful in (True, False):
        answer = client.post(f"/jobs/{job}/recommendations/lighting/judgement", json={"useful": useful})
        assert answer.status_code == 200, answer.text
    assert client.post(f"/jobs/{job}/crop/decision", json={"accepted": True}).status_code == 200
    client.post(f"/jobs/{job}/rating", json={"rating": 2})
    stored = service.store.job(job)
    assert stored is not None
    lighting, crop = judgements_of(stored).values()
    assert (lighting.subject, lighting.useful, lighting.text) == ("lighting", False, "Burn the corner.")
    assert (lighting.regions, crop.regions) == (((0.0, 0.0, 0.5, 1.0),), ((0.0, 0.0, 0.5, 0.5),))
    assert (crop.subject, crop.useful, crop.text) == ("crop", True, "This crop leaves out the fence.")
    body = client.get(f"/jobs/{job}").json()
    assert body["judgements"]["crop"]["judged_at"] == crop.judged_at and body["rating"] == 2
    page = client.get(f"/jobs/{job}?format=html").text
    assert 'data-key="useful" data-value="false"' in page and 'data-key="accepted" data-value="true"' in page


def test_turned_crop_is_stored_without_a_box(client: TestClient, service: Service, photograph: Photograph) -> None:
    job = critique(client, photograph())["job_id"]
    give_advice(service, job, degrees=2.0)
    assert (
        client.post(f"/jobs/{job}/crop/decision", json={"accepted": True}).json()["judgements"]["crop"]["regions"] == []
    )


def test_judging_advice_that_a_critique_lacks_is_refused(
    client: TestClient, service: Service, photograph: Photograph
) -> None:
    job = critique(client, photograph())["job_id"]
    for path, body in (("recommendations/lighting/judgement", {"useful": True}), ("crop/decision", {"accepted": True})):
        answer = client.post(f"/jobs/{job}/{path}", json=body)
        assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json", answer.text
        assert client.post(f"/jobs/none/{path}", json=body).status_code == 404
    give_advice(service, job)
    for path, bad in (
        ("recommendations/lightning/judgement", {"useful": True}),
        ("recommendations/lighting/judgement", {"useful": 1}),
        ("recommendations/lighting/judgement", {}),
        ("crop/decision", {"accepted": "yes"}),
        ("crop/decision", {"accepted": True, "by": "me"}),
    ):
        assert client.post(f"/jobs/{job}/{path}", json=bad).status_code == 422, bad
    assert client.get(f"/jobs/{job}").json()["judgements"] == {}


@pytest.mark.parametrize(
    "details", ["", "[]", "no JSON", '{"advice_judgements": 3}', '{"advice_judgements": {"lighting": 3}}']
)
def test_odd_details_of_older_rows_do_not_stop_a_judgement(settings: Any, details: str) -> None:
    with Store(settings.database) as store:
        store.import_jobs([past(1, 5, "a")])
        with store.transaction() as connection:
            connection.execute("UPDATE jobs SET details = ?", (details,))
        job = store.job("j1")
        assert job is not None and judgements_of(job) == {}
        job.answer["dimensional_analysis"]["lighting"]["recommendation"] = "Wait."  # type: ignore[index]
        judged = feedback.judge_recommendation(store, job, "lighting", True)
        assert judgements_of(judged)["lighting"].useful


def past(number: int, score: float, sha: str, **more: Any) -> Job:
    at = datetime(2026, 1, 1 + number, tzinfo=UTC).isoformat()
    answer = {"dimensional_analysis": {name: {"score": score, "comment": "c"} for name in DIMENSIONS}}
    return Job(
        id=f"j{number}",
        filename=f"{sha}.jpg",
        advisor=more.pop("advisor", "ansel"),
        status="completed",
        completed_at=at,
        answer=answer,
        photograph_sha256=sha,
        **more,
    )


def test_history_has_one_point_per_photograph_and_shows_the_change() -> None:
    jobs = [past(3, 6, "b"), past(1, 2, "a"), past(2, 4, "b"), past(4, 8, "c", adapter_version="v0001")]
    jobs += [
        past(5, 9, "d", advisor="dorothea"),
        Job(id="x", filename="e.jpg", advisor="ansel", status="completed", completed_at="2026-01-09"),
    ]
    points = score_history.score_points(jobs, "ansel")
    assert [(point.job_id, point.mean) for point in points] == [("j1", 2), ("j3", 6), ("j4", 8)]
    found = score_history.score_history_charts(points)
    assert found is not None
    assert 'class="line" points="0,120 ' in found.picture, "score 2 is drawn at 8/10 of the height, from above"
    assert [trend.change for trend in found.trends] == [6.0] * len(DIMENSIONS)
    assert score_history.score_history_charts(points[:1]) is None
    assert score_history.format_day("2026-01-02T10:00:00") == "2 Jan 2026"


def test_front_page_draws_the_history(client: TestClient, photograph: Photograph) -> None:
    for seed in range(3):
        critique(client, photograph(seed))
    assert "Mean score of 3 photographs" in client.get("/").text
    assert [len(client.get("/history", params={"advisor": each}).json()) for each in ("ansel", "dorothea")] == [3, 0]
    assert client.get("/history", params={"advisor": "../x"}).status_code == 422


def test_job_page_shows_compared_photographs(
    client: TestClient, service: Service, photograph: Photograph, tmp_path: Path
) -> None:
    from mondrian_core.store import DimensionalProfile

    (service.root / "source" / "near.jpg").write_bytes(photograph(9))
    comments = dict.fromkeys(DIMENSIONS, "Said long ago.")
    service.store.add_profiles(
        [
            DimensionalProfile(
                id="p",
                advisor="ansel",
                image_path="/Volumes/old/source/near.jpg",
                scores=dict.fromkeys(DIMENSIONS, 6),
                comments=comments,
                overall_grade="6.0",
            )
        ]
    )
    body = critique(client, photograph(), mode="rag")
    (compared,) = body["compared_with"]
    assert compared["photograph"] == "near.jpg"
    assert "/Volumes" not in str(body), "the response must not contain the path"
    assert client.get(compared["link"]).headers["content-type"] == "image/jpeg"
    assert compared["link"] in client.get(f"/jobs/{body['job_id']}?format=html").text
    assert client.get(f"/jobs/{body['job_id']}/compared/2").status_code == 404
    assert client.get(f"/jobs/{body['job_id']}/compared/0").status_code == 422
