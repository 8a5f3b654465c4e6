"""The guardrails keep the false rollbacks that they promise, because what they have counted never changes."""

from __future__ import annotations

from dataclasses import astuple, fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.guardrail_error_rates import ALPHA_KEYS, GUARDRAIL_LIMITS, guardrail_row, promise_is_broken
from mondrian_core.rollout import RolloutObservations, RolloutPlan, RolloutRequest, count_observations, observation
from tests.rollout.test_decision_rules import rollout

COLLAPSE = next(limit for limit in GUARDRAIL_LIMITS if limit.guardrail == "score collapse")


def test_every_promise_of_the_plan_is_measured_at_its_limit() -> None:
    promised = {field.name for field in fields(RolloutPlan) if field.name.endswith("_alpha")}
    assert promised == set(ALPHA_KEYS.values())
    assert {limit.guardrail for limit in GUARDRAIL_LIMITS} == set(ALPHA_KEYS)


@pytest.mark.no_cover  # the same lines in thousands of simulated rollouts
def test_score_collapse_keeps_its_promise_and_overlapping_pairs_break_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not promise_is_broken(COLLAPSE, 400, seed=2, photographs=250)

    def overlapping(answers: list[RolloutRequest]) -> list[object]:
        return list(pairwise(answer.scores for answer in answers if answer.scores is not None))

    monkeypatch.setattr(observation, "_disjoint_score_pairs", overlapping)
    assert promise_is_broken(COLLAPSE, 400, seed=2, photographs=250)


@pytest.mark.no_cover
@pytest.mark.parametrize("limit", GUARDRAIL_LIMITS, ids=lambda limit: f"{limit.guardrail}: {limit.situation}")
def test_each_guardrail_keeps_its_promise(limit: object) -> None:
    """A short version of `python -m bench.rollout_simulation`, which fails for faults of several times the promise."""
    row = guardrail_row(limit, 60, seed=2, photographs=100)
    assert not row["exceeds"], row


def counted(observed: RolloutObservations) -> list[int]:
    """The counts that e-values are computed from."""
    pairs = [observed.shadow, observed.latency, observed.ratings]
    arms = [observed.candidate, observed.control, observed.shadow_candidate, observed.shadow_control]
    equal = (observed.repeated, observed.neighbours - observed.repeated)
    return [*(number for value in (*pairs, *arms) for number in astuple(value)), *equal, observed.longest_run]


@given(st.integers(0, 2**32 - 1))
def test_more_answers_and_late_ratings_only_add_to_the_counts(seed: int) -> None:
    """Otherwise evidence is counted twice, once in each arrangement of the pairs."""
    rng = np.random.default_rng(seed)
    requests = [
        RolloutRequest(
            unit=str(rng.integers(12)),
            share=0.5,
            candidate=bool(rng.integers(2)),
            shadow=bool(rng.integers(2)),
            failed=bool(rng.integers(2)),
            seconds=float(rng.random()),
            scores=(float(rng.integers(2)),),
        )
        for _ in range(12)
    ]
    before = counted(count_observations([], rollout()))
    for length in range(len(requests) + 1):
        after = counted(count_observations(requests[:length], rollout()))
        assert all(a <= b for a, b in zip(before, after, strict=True)), (length, before, after)
        before = after
    for when, place in enumerate(rng.permutation(len(requests))):
        rated = replace(requests[place], rating=float(rng.integers(1, 6)), rated_at=f"2026-11-21T{when:02}")
        requests[place] = rated
        after = counted(count_observations(requests, rollout()))
        assert all(a <= b for a, b in zip(before, after, strict=True)), (when, before, after)
        before = after
