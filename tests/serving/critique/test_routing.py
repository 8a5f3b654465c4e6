"""Routing: strategy and arm of a request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.errors import BadInput
from mondrian_core.rollout import Rollout, default_rollout_plan
from mondrian_core.serving.critique.routing import (
    RoutingPolicy,
    StrategyRoute,
    is_in_adapter_arm,
    model_used_label,
    resolve_model_mode,
    route_in_rollout,
    route_request,
    startup_notices,
)

UNITS = st.text("0123456789abcdef", min_size=1, max_size=64)
SHARES = st.floats(0, 1)


@given(unit=UNITS, first=SHARES, second=SHARES)
def test_larger_split_only_moves_photographs_to_the_adapter(unit: str, first: float, second: float) -> None:
    low, high = sorted((first, second))
    if is_in_adapter_arm("s", "ansel", unit, low):
        assert is_in_adapter_arm("s", "ansel", unit, high)


@given(unit=UNITS)
def test_split_0_and_1_assign_none_and_all(unit: str) -> None:
    assert not is_in_adapter_arm("s", "ansel", unit, 0.0)
    assert is_in_adapter_arm("s", "ansel", unit, 1.0)


def test_split_share_is_met_and_differs_by_advisor() -> None:
    units = [f"{number:064x}" for number in range(4000)]
    share = sum(is_in_adapter_arm("s", "ansel", unit, 0.1) for unit in units) / len(units)
    assert 0.08 < share < 0.12
    assert [is_in_adapter_arm("s", "ansel", unit, 0.5) for unit in units] != [
        is_in_adapter_arm("s", "ada", unit, 0.5) for unit in units
    ]


@pytest.mark.parametrize(
    ("policy", "asked", "expected"),
    [
        (RoutingPolicy(model_mode="base"), None, StrategyRoute("baseline", False)),
        (RoutingPolicy(model_mode="base", analysis_mode="rag"), None, StrategyRoute("rag", False)),
        (RoutingPolicy(model_mode="base"), "lora", StrategyRoute("lora", True)),
        (RoutingPolicy(model_mode="fine_tuned"), None, StrategyRoute("lora", False)),
        (RoutingPolicy(model_mode="fine_tuned", analysis_mode="baseline"), None, StrategyRoute("baseline", False)),
        (RoutingPolicy(model_mode="fine_tuned"), "baseline", StrategyRoute("baseline", True)),
        (RoutingPolicy(model_mode="ab_test", split=1.0), None, StrategyRoute("lora", False, "fine_tuned")),
        (RoutingPolicy(model_mode="ab_test", split=0.0), None, StrategyRoute("baseline", False, "base")),
        (RoutingPolicy(model_mode="ab_test", split=1.0), "baseline", StrategyRoute("baseline", True, None)),
    ],
)
def test_mode_routing_table(policy: RoutingPolicy, asked: str | None, expected: StrategyRoute) -> None:
    assert route_request(policy, asked, "ansel", "00") == expected


ROLLOUT = Rollout(
    advisor="ansel",
    version="v0002",
    control="v0001",
    salt="salt",
    plan=default_rollout_plan(5000),
    started_at="2026-01-01",
    step_started_at="2026-01-01",
    step=1,
)


def test_rollout_splits_requests_between_new_and_old_version() -> None:
    way = StrategyRoute("lora", explicit=False)
    marks = [route_in_rollout(way, ROLLOUT, f"{number:064x}")[1] for number in range(2000)]
    share = sum(mark["candidate"] for mark in marks if mark) / len(marks)
    assert abs(share - ROLLOUT.share) < 0.02
    assert {(mark["candidate"], mark["version"]) for mark in marks if mark} == {(True, "v0002"), (False, "v0001")}


def test_first_rollout_uses_the_base_and_excludes_explicit_modes() -> None:
    first = replace(ROLLOUT, control=None, step=0, plan=default_rollout_plan(50))  # begins with share 0
    way, mark = route_in_rollout(StrategyRoute("lora", explicit=False), first, "00")
    assert way.mode == "baseline" and mark is not None and mark["version"] is None
    assert route_in_rollout(StrategyRoute("lora", explicit=True), ROLLOUT, "00") == (StrategyRoute("lora", True), None)
    assert route_in_rollout(StrategyRoute("lora", explicit=False), None, "00")[1] is None


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(BadInput, match="baseline, rag, lora"):
        route_request(RoutingPolicy(), "turbo", "ansel", "00")


def test_model_used_label() -> None:
    assert model_used_label(None, adapted=False) == "base"
    assert model_used_label(None, adapted=True) == "fine_tuned"
    assert model_used_label("base", adapted=False) == "ab_test_base"
    assert model_used_label("fine_tuned", adapted=True) == "ab_test_fine_tuned"
    assert model_used_label("fine_tuned", adapted=False) == "ab_test_base"


@pytest.mark.parametrize(
    ("given", "analysis_mode", "expected"),
    [
        (None, None, "base"),
        (None, "lora", "fine_tuned"),
        (None, "rag", "base"),
        (None, "baseline", "base"),
        ("base", "lora", "base"),
        ("ab_test", "lora", "ab_test"),
        ("fine_tuned", "rag", "fine_tuned"),
    ],
)
def test_model_mode_follows_analysis_mode_by_default(given: str | None, analysis_mode: Any, expected: str) -> None:
    assert resolve_model_mode(given, analysis_mode) == expected


@pytest.mark.parametrize(
    ("policy", "given", "analysis_mode", "told"),
    [
        (RoutingPolicy(model_mode="base"), None, None, "older service's default was rag"),
        (RoutingPolicy(model_mode="fine_tuned"), None, "lora", "fine_tuned"),
        (RoutingPolicy(model_mode="base"), "base", "lora", "wins over ANALYSIS_MODE=lora"),
        (RoutingPolicy(model_mode="fine_tuned", analysis_mode="rag"), "fine_tuned", "rag", "get rag"),
        (RoutingPolicy(model_mode="ab_test"), "ab_test", "rag", "no effect"),
    ],
)
def test_startup_warnings(policy: RoutingPolicy, given: str | None, analysis_mode: Any, told: str) -> None:
    assert told in " ".join(startup_notices(policy, given, analysis_mode))


def test_no_startup_warnings_by_default() -> None:
    assert startup_notices(RoutingPolicy(model_mode="base", analysis_mode="rag"), None, "rag") == []
    assert startup_notices(RoutingPolicy(model_mode="fine_tuned"), "fine_tuned", "lora") == []
