"""A short soak test: the service and its model process are killed, and every request is answered exactly once."""

from __future__ import annotations

import pytest

from bench.soak import SoakPlan, run_soak

pytestmark = pytest.mark.slow


def test_kills_lose_no_job(command: tuple[str, ...]) -> None:
    plan = SoakPlan(requests=24, kills=3, api_kills=2, promotions=1, rollbacks=1)
    counts = run_soak(plan, workers=4, command=list(command))
    assert counts.is_correct, "\n".join(f"{name}: {value}" for name, value in vars(counts).items())
    assert (counts.requests, counts.lost, counts.made_twice) == (24, 0, 0)
    assert counts.kills and (counts.api_kills, len(counts.memory_mb)) == (2, 3)
    assert counts.misattributed_crashes == counts.unexplained_fallbacks == 0
