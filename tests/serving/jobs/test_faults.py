"""Failures that count against no arm: photographs that no model can answer, bad requests, a full disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mondrian_core.cli.service import analyze_exit_status
from mondrian_core.errors import BaseModelUnavailable, DiskFull
from mondrian_core.registry import Registry
from mondrian_core.rollout import (
    RolloutPlan,
    RolloutStep,
    active_rollout,
    check_rollout,
    due_shadow_requests,
    rollout_requests,
)
from mondrian_core.serving.batch_analyze import AnalysisResult
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs import job_runner
from mondrian_core.serving.jobs.ab_comparison import compare_arms
from mondrian_core.store import Job
from tests.rollout.conftest import begin_rollout

SHARE = RolloutPlan(steps=(RolloutStep(0.999999, 1000, 24.0), RolloutStep(1.0, 0, 0.0)))
Make = Callable[..., Service]
Send = Callable[[int], Any]


@pytest.fixture
def rolling(make_service: Make, promote: Callable[[str], None], registry: Registry) -> Service:
    """A service that rolls out v0002 over v0001 with a share of nearly 1."""
    promote("v0001")
    begin_rollout(registry, "v0002", SHARE)
    return make_service("fine_tuned")


@pytest.fixture
def send(rolling: Service, photograph: Callable[..., bytes]) -> Iterator[Send]:
    """Sends a photograph to that service."""
    with TestClient(create_app(rolling), base_url="http://localhost") as client:

        def act(seed: int) -> Any:
            return client.post("/analyze", files={"image": ("a.jpg", photograph(seed))}, data={"advisor": "ansel"})

        assert [act(seed).headers["X-Adapter-Version"] for seed in (1, 2)] == ["v0002", "v0002"]
        yield act


def assert_sound(rolling: Service, registry: Registry) -> None:
    """The rollout is active, and its guardrails have counted no failure and no crash."""
    rollout = active_rollout(registry, "ansel")
    assert rollout is not None and registry.current("ansel") == "v0002"
    seen = check_rollout(registry, "ansel", rolling.store.jobs("ansel"), actor="test", carry_out="nothing").observed
    assert (seen.candidate.failures, seen.longest_run, seen.crashes, seen.control_crashes) == (0, 0, 0, 0)


@pytest.mark.parametrize("orders", [{"garbled": ["*"]}, {"refuse": True}, {"odd": ["*"]}])
def test_photographs_that_no_arm_can_answer_do_not_roll_back(
    send: Send, rolling: Service, control: Callable[..., None], registry: Registry, orders: dict[str, Any]
) -> None:
    control(**orders)
    answers = [send(seed) for seed in (3, 4, 5, 6)]
    assert {answer.status_code for answer in answers} == {422 if "refuse" in orders else 500}
    assert_sound(rolling, registry)
    control()
    assert send(7).headers["X-Adapter-Version"] == "v0002"


def test_photograph_that_crashes_the_base_too_does_not_blame_the_adapter(
    send: Send, rolling: Service, control: Callable[..., None], registry: Registry
) -> None:
    control(deadly=["*"])
    assert {send(seed).status_code for seed in (3, 4)} == {500}
    assert_sound(rolling, registry)
    assert not rolling.model.pinned, "its crashes must not pin the base"
    control()
    assert send(5).headers["X-Adapter-Version"] == "v0002"


def test_failure_counts_against_the_adapter_if_the_base_can_answer(
    make_service: Make,
    promote: Callable[[str], None],
    control: Callable[..., None],
    registry: Registry,
    photograph: Callable[..., bytes],
) -> None:
    """Half of the photographs go to the champion, whose answers show that the failures are the candidate's."""
    promote("v0001")
    begin_rollout(registry, "v0002", RolloutPlan(steps=(RolloutStep(0.5, 1000, 24.0), RolloutStep(1.0, 0, 0.0))))
    used = []
    with TestClient(create_app(make_service("fine_tuned")), base_url="http://localhost") as client:
        control(odd=["v0002"])
        for seed in range(60):
            files = {"image": ("a.jpg", photograph(seed))}
            answer = client.post("/analyze", files=files, data={"advisor": "ansel"})
            used.append(answer.headers["X-Model-Used"])
            if registry.current("ansel") == "v0001":
                break
    assert registry.current("ansel") == "v0001", "it was not rolled back"
    assert used[-1] == "base" and used.count("base") >= 3


def test_response_says_what_is_wrong_with_the_photograph(
    send: Send, rolling: Service, control: Callable[..., None]
) -> None:
    control(refuse=True)
    answer = send(3)
    body = answer.json()
    assert (answer.status_code, body["type"]) == (422, "urn:mondrian:problem:bad-photograph")
    assert "200 times" in body["detail"] and body["job"]["fault"] == "request"
    job = rolling.store.job(body["job"]["job_id"])
    assert job is not None and (job.status, job.model_used, job.details["fault"]) == ("failed", None, "request")
    assert [hop["strategy"] for hop in job.details["hops"]] == [], "no other strategy is tried"


def test_full_disk_does_not_count_against_the_adapter(
    send: Send, rolling: Service, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise DiskFull("analysis_md")

    with monkeypatch.context() as patch:
        patch.setattr(job_runner, "write_atomic", full)
        assert {send(seed).status_code for seed in (3, 4, 5)} == {500}
    assert_sound(rolling, registry)


def test_unloadable_base_is_not_the_requests_fault() -> None:
    assert job_runner.fault_from_error(BaseModelUnavailable("It is gone.")) == "service"


def test_ab_comparison_counts_unanswered_jobs_separately(
    make_service: Make, photograph: Callable[..., bytes], promote: Callable[[str], None], control: Callable[..., None]
) -> None:
    promote("v0001")
    service = make_service("ab_test", ab_test_split=1.0)
    with TestClient(create_app(service), base_url="http://localhost") as client:
        for seed, orders in enumerate([{}, {"garbled": ["v0001"]}, {"garbled": ["*"]}, {"refuse": True}]):
            control(**orders)
            client.post("/analyze", files={"image": ("a.jpg", photograph(seed))}, data={"advisor": "ansel"})
        told = client.get("/metrics").text
    _, tuned = compare_arms(service.store, 7)
    assert (tuned["n"], tuned["failed"], tuned["fell_back"], tuned["unanswered"]) == (2, 0, 1, 2)
    assert 'mondrian_jobs_total{mode="",model_used="",status="failed"} 2.0' in told


def test_shadow_replaces_a_photograph_that_no_arm_can_answer(
    make_service: Make, photograph: Callable[..., bytes], promote: Callable[[str], None], registry: Registry
) -> None:
    promote("v0001")
    steps = (RolloutStep(0.0, 1, 0.0), RolloutStep(1.0, 0, 0.0))
    rollout = begin_rollout(registry, "v0002", RolloutPlan(steps=steps))
    store = make_service("fine_tuned").store
    for sha256 in ("aa", "bb"):
        job, _ = store.add_job("ansel", "one.jpg", requested_mode="lora", photograph_sha256=sha256)
        store.finish_job(job.id, answer={}, model_used="fine_tuned", mode="lora", adapter_version="v0001")

    def next_due() -> Any:
        (found,) = due_shadow_requests(rollout, store.jobs("ansel"), limit=1)
        return found

    first = next_due()
    job, _ = store.add_job(
        "ansel", "one.jpg", requested_mode=first.mode, photograph_sha256="aa", details={"rollout": first.mark}
    )
    store.fail_job(job.id, "no", details={"rollout": first.mark, "fault": "shared"})
    assert next_due().photograph_sha256 == "bb"


def test_command_line_reports_a_bad_photograph_as_bad_input(tmp_path: Path) -> None:
    failed = {
        fault: AnalysisResult(path=tmp_path, advisor="ansel", requested_mode="lora", job="1", details={"fault": fault})
        for fault in ("request", "shared")
    }
    assert [analyze_exit_status([failed["request"]]), analyze_exit_status([failed["shared"]])] == [2, 3]


def test_unexplained_failure_counts_against_its_arm(rolling: Service, registry: Registry) -> None:
    rollout = active_rollout(registry, "ansel")
    assert rollout is not None
    mark = {"salt": rollout.salt, "share": rollout.share, "candidate": True, "version": "v0002"}
    jobs = [
        Job(
            id="1",
            filename="x.jpg",
            advisor="ansel",
            status="failed",
            photograph_sha256="aa",
            details={"rollout": mark, "fault": fault},
        )
        for fault in (None, "", "adapter", ["shared"], 3)
    ]
    assert [request.failed for request in rollout_requests(jobs, rollout)] == [True] * 5
