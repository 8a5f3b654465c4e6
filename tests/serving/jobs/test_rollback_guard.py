"""A failing new version is rolled back by the failure that proves it, without a scheduled check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mondrian_core.registry import Registry
from mondrian_core.rollout import RolloutPlan, RolloutStep, active_rollout, load_rollout
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from tests.rollout.conftest import assigned_jobs, begin_rollout

SHARE = RolloutPlan(steps=(RolloutStep(0.999999, 1000, 24.0), RolloutStep(1.0, 0, 0.0)))


@pytest.fixture
def send(
    make_service: Callable[..., Service],
    photograph: Callable[..., bytes],
    promote: Callable[[str], None],
    registry: Registry,
) -> Iterator[Callable[[int], Any]]:
    """Sends a photograph to a service that rolls out v0002 over v0001; returns the response headers.

    Both versions have answered before, at a share of 5 %, so that failures can be compared.
    """
    promote("v0001")
    rollout = begin_rollout(registry, "v0002", SHARE)
    service = make_service("fine_tuned")
    before = {"began": datetime.now(UTC), "hours": 1e-6}  # before anything that is sent below
    answered = assigned_jobs(replace(rollout, plan=RolloutPlan()), 60, **before)
    service.store.import_jobs(answered)
    with TestClient(create_app(service), base_url="http://localhost") as client:

        def act(seed: int) -> Any:
            form = {"files": {"image": ("a.jpg", photograph(seed))}, "data": {"advisor": "ansel"}}
            return client.post("/analyze", **form).headers

        assert [act(seed)["X-Adapter-Version"] for seed in (1, 2)] == ["v0002", "v0002"]
        yield act


def test_third_consecutive_failure_rolls_back(
    send: Callable[[int], Any], control: Callable[..., None], registry: Registry
) -> None:
    control(garbled=["v0002"])
    assert "lora" not in {send(seed)["X-Analysis-Mode"] for seed in (3, 4)}
    assert registry.current("ansel") == "v0002" and active_rollout(registry, "ansel") is not None
    send(5)
    assert registry.current("ansel") == "v0001"
    last, ended = registry.history("ansel")[-1], load_rollout(registry, "ansel")
    assert (last.event, last.actor) == ("rollback", "service") and "3 answers in a row failed" in last.reason
    assert ended is not None and ended.status == "rolled_back"
    assert send(6)["X-Adapter-Version"] == "v0001"


def test_second_model_crash_rolls_back(
    send: Callable[[int], Any], control: Callable[..., None], registry: Registry
) -> None:
    control(deadly=["v0002"])
    send(3)
    assert registry.current("ansel") == "v0001"
    assert "died 2 times" in registry.history("ansel")[-1].reason
    assert send(4)["X-Adapter-Version"] == "v0001"


def test_failures_of_the_previous_version_do_not_roll_back(
    send: Callable[[int], Any], control: Callable[..., None], registry: Registry
) -> None:
    """Failures of the control's share, or after the rollout has ended, don't count against the new version."""
    promoted = registry.history("ansel")[-1].serial
    control(garbled=["v0002"])
    send(3)
    registry.rollback("ansel", actor="person:test", reason="by hand")
    control(garbled=["v0001"])
    for seed in (4, 5, 6, 7):
        send(seed)
    assert [each.actor for each in registry.history("ansel") if each.serial > promoted] == ["person:test"]
