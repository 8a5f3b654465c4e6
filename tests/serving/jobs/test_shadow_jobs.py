"""An idle service makes the answers that a rollout in shadow mode needs; they are shown nowhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fastapi.testclient import TestClient

from mondrian_core.registry import Registry
from mondrian_core.rollout import RolloutPlan, RolloutStep, count_observations, rollout_requests
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from tests.rollout.conftest import begin_rollout

Make = Callable[..., Service]
Photograph = Callable[..., bytes]


def test_shadow_jobs_run_while_idle(
    make_service: Make, photograph: Photograph, promote: Callable[[str], None], registry: Registry
) -> None:
    promote("v0001")
    plan = RolloutPlan(steps=(RolloutStep(0.0, 2, 0.0), RolloutStep(1.0, 1, 0.0)))
    rollout = begin_rollout(registry, "v0002", plan)
    assert rollout.in_shadow
    service = make_service("fine_tuned")
    with TestClient(create_app(service), base_url="http://localhost") as client:

        def send(seed: int) -> Any:
            form = {"files": {"image": ("a.jpg", photograph(seed))}, "data": {"advisor": "ansel"}}
            return client.post("/analyze", **form)

        assert {send(seed).headers["X-Adapter-Version"] for seed in (1, 2, 3)} == {"v0001"}
        ends = time.monotonic() + 90
        while len(shadows := [each for each in rollout_requests(service.store.jobs(), rollout) if each.shadow]) < 4:
            assert time.monotonic() < ends
            time.sleep(0.2)
        page, figures = client.get("/").text, client.get("/metrics").text
    found = count_observations(rollout_requests(service.store.jobs(), rollout), rollout)
    drafted = [job.details["passes"][0]["drafted"] for job in service.store.jobs()]
    assert drafted == [0] * 7, "times are compared, so neither side drafts from earlier answers"
    assert found.in_step == 2, "the step needs two photographs, answered by both versions"
    assert sorted((each.candidate, each.scores and each.scores[0]) for each in shadows) == [
        (False, 1.0),
        (False, 1.0),
        (True, 2.0),
        (True, 2.0),
    ]
    assert page.count("critique-card") == 3
    assert "mondrian_shadow_answers_total 4.0" in figures
    assert 'mondrian_jobs_total{mode="lora",model_used="fine_tuned",status="completed"} 3.0' in figures
