"""False rollbacks of every guardrail at its limit: the promised chance against the measured one.

Each row simulates rollouts of an adapter that is exactly as bad as its guardrail tolerates. The answers pass through
the rollout's own counting and decision functions, which are asked again and again while the answers arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

import numpy as np
from scipy.stats import binom

from mondrian_core.markdown import markdown_table
from mondrian_core.rollout import (
    Hold,
    RollBack,
    Rollout,
    RolloutPlan,
    RolloutRequest,
    RolloutStep,
    count_observations,
    decide_rollout,
)

PHOTOGRAPHS = 600  # of a simulated rollout
CONFIDENCE = (
    0.999  # of the upper limit of the rollbacks; a guardrail that keeps its promise exceeds it once in 1,000 rows
)
START_TIME = datetime(2026, 1, 1, tzinfo=UTC)
_NEVER = 1e-300  # alpha of the guardrails that a row leaves out
ALPHA_KEYS = {
    "failures": "failure_alpha",
    "latency": "latency_alpha",
    "score collapse": "collapse_alpha",
    "ratings": "rating_alpha",
    "failures in a row": "run_alpha",
    "crashes": "crash_alpha",
    "sample ratio": "ratio_alpha",
}


@dataclass(frozen=True, kw_only=True)
class GuardrailLimit:
    """A guardrail, and an adapter at the limit of what it tolerates.

    Attributes:
        guardrail: its name in the decisions.
        situation: the limit in words.
        share: of the photographs that the candidate answers (0-1); 0 is the shadow, where both arms answer.
        values: draws the fields of one answer; the second argument is True for the candidate.
    """

    guardrail: str
    situation: str
    share: float
    values: Callable[[np.random.Generator, bool], dict[str, Any]]

    def plan(self) -> RolloutPlan:
        """The default plan with this guardrail alone."""
        others = dict.fromkeys((key for name, key in ALPHA_KEYS.items() if name != self.guardrail), _NEVER)
        steps = (RolloutStep(self.share, 10**9, 0.0), RolloutStep(1.0, 0, 0.0))
        return RolloutPlan.from_dict({"steps": steps, "watch": float("inf"), **others})

    @property
    def promised(self) -> float:
        """The chance of an alarm during the whole rollout that the default plan allows."""
        return float(getattr(RolloutPlan(), ALPHA_KEYS[self.guardrail]))


def _failing(rate: float) -> Callable[[np.random.Generator, bool], dict[str, Any]]:
    return lambda rng, _: {"failed": bool(rng.random() < rate)}


def _slow(spread: float) -> Callable[[np.random.Generator, bool], dict[str, Any]]:
    ratio = RolloutPlan().latency_ratio
    return lambda rng, candidate: {"seconds": float(rng.lognormal(0.0, spread)) * (ratio if candidate else 1.0)}


def _one_favourite_answer(rng: np.random.Generator, _: bool) -> dict[str, Any]:
    """One answer is so frequent that two answers are equal as often as the plan tolerates; no other repeats."""
    favourite = rng.random() < RolloutPlan().collapse_limit ** 0.5
    return {"scores": (0.0,) if favourite else (float(rng.random()),)}


def _rated_late(rng: np.random.Generator, _: bool) -> dict[str, Any]:
    """Half of the answers are rated, after up to 100 more requests (`rated_at` is the delay until `_seen_at`)."""
    if rng.random() < 0.5:
        return {}
    return {"rating": float(rng.integers(1, 6)), "rated_at": str(int(rng.integers(0, 100)))}


def _crashing(rng: np.random.Generator, _: bool) -> dict[str, Any]:
    return {"crashed": int(rng.random() < RolloutPlan().crash_limit)}


GUARDRAIL_LIMITS: tuple[GuardrailLimit, ...] = (
    *(
        GuardrailLimit(
            guardrail="failures",
            situation=f"both fail in {rate:.0%}, {'in the shadow' if not share else f'share {share:.0%}'}",
            share=share,
            values=_failing(rate),
        )
        for rate, share in ((0.1, 0.0), (0.1, 0.05), (0.1, 0.5))
    ),
    GuardrailLimit(guardrail="latency", situation="10 % slower, share 50%", share=0.5, values=_slow(0.25)),
    GuardrailLimit(guardrail="latency", situation="10 % slower, in the shadow", share=0.0, values=_slow(0.10)),
    GuardrailLimit(
        guardrail="score collapse", situation="one pair in five is equal", share=0.95, values=_one_favourite_answer
    ),
    GuardrailLimit(guardrail="ratings", situation="equal ratings, given late", share=0.5, values=_rated_late),
    *(
        GuardrailLimit(
            guardrail="failures in a row",
            situation=f"both fail in {rate:.0%}, share {share:.0%}",
            share=share,
            values=_failing(rate),
        )
        for rate, share in ((0.02, 0.5), (0.1, 0.05), (0.1, 0.5), (0.3, 0.5), (0.5, 0.5))
    ),
    *(
        GuardrailLimit(
            guardrail="crashes", situation=f"the tolerated rate, share {share:.0%}", share=share, values=_crashing
        )
        for share in (0.05, 0.5)
    ),
    GuardrailLimit(guardrail="sample ratio", situation="share 25%, as configured", share=0.25, values=_failing(0.0)),
)


def guardrail_row(limit: GuardrailLimit, runs: int, seed: int, photographs: int = PHOTOGRAPHS) -> dict[str, Any]:
    """Simulate rollouts at a limit.

    Args:
        limit: the guardrail and the adapter.
        runs: number of rollouts.
        seed: of the simulation.
        photographs: answered in each rollout.

    Returns:
        guardrail, situation, promised (a probability), measured (share of the rollouts with an alarm), allowed (the
        alarms that a kept promise exceeds with probability 1 - CONFIDENCE, as a share) and exceeds.
    """
    rng = np.random.default_rng([seed, GUARDRAIL_LIMITS.index(limit)])
    plan = limit.plan()
    alarms = sum(_alarms(limit, plan, photographs, rng) for _ in range(runs))
    allowed = int(binom.ppf(CONFIDENCE, runs, limit.promised))
    return {
        "guardrail": limit.guardrail,
        "limit": limit.situation,
        "promised": limit.promised,
        "measured": alarms / runs,
        "allowed": allowed / runs,
        "exceeds": alarms > allowed,
        "runs": runs,
    }


def promise_is_broken(limit: GuardrailLimit, runs: int, seed: int, photographs: int = PHOTOGRAPHS) -> bool:
    """`exceeds` of `guardrail_row`, which takes the same arguments; ends as soon as there are too many alarms."""
    rng = np.random.default_rng([seed, GUARDRAIL_LIMITS.index(limit)])
    plan, allowed = limit.plan(), int(binom.ppf(CONFIDENCE, runs, limit.promised))
    alarms = (_alarms(limit, plan, photographs, rng) for _ in range(runs))
    return any(count > allowed for count in accumulate(alarms))


def guardrail_rows(runs: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row for every guardrail and limit."""
    return (guardrail_row(limit, runs, seed) for limit in GUARDRAIL_LIMITS)


def guardrail_table_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    return markdown_table(
        ("guardrail", "at its limit", "promised", "measured", f"upper limit ({CONFIDENCE:.1%})", ""),
        [
            (
                row["guardrail"],
                row["limit"],
                f"{row['promised']:.1%}",
                f"{row['measured']:.2%}",
                f"{row['allowed']:.2%}",
                "exceeds" if row["exceeds"] else "",
            )
            for row in rows
        ],
    )


def _alarms(limit: GuardrailLimit, plan: RolloutPlan, photographs: int, rng: np.random.Generator) -> bool:
    """True when the guardrail raises an alarm during one simulated rollout."""
    rollout = Rollout(
        advisor="a",
        version="v0002",
        control="v0001",
        salt="salt",
        plan=plan,
        started_at=START_TIME.isoformat(),
        step_started_at=START_TIME.isoformat(),
    )
    requests = list(_simulated_requests(limit, photographs, rng))
    for moment in _moments(len(requests)):
        observed = count_observations(_seen_at(requests, moment), rollout)
        decision = decide_rollout(rollout, observed, START_TIME)
        if isinstance(decision, RollBack):
            return decision.guardrail == limit.guardrail
        if limit.guardrail == "sample ratio" and isinstance(decision, Hold) and "assignment" in decision.sentence:
            return True
    return False


def _simulated_requests(limit: GuardrailLimit, photographs: int, rng: np.random.Generator) -> Iterator[RolloutRequest]:
    for number in range(photographs):
        arms = (True, False) if limit.share == 0.0 else (bool(rng.random() < limit.share),)
        for candidate in arms:
            yield RolloutRequest(
                unit=str(number),
                share=limit.share,
                candidate=candidate,
                shadow=limit.share == 0.0,
                **limit.values(rng, candidate),
            )


def _moments(requests: int) -> list[int]:
    """Numbers of requests after which the decision is asked for: always at first, then every 4 %."""
    moments, at = [], 2.0
    while at <= requests:
        moments.append(int(at))
        at = max(at + 2, at * 1.04)
    return moments


def _seen_at(requests: Sequence[RolloutRequest], moment: int) -> list[RolloutRequest]:
    """The first `moment` requests as they are known by then: a rating counts from its time on."""
    seen = []
    for number, request in enumerate(requests[:moment]):
        if request.rated_at is not None:
            at = number + int(request.rated_at)
            known = at < moment
            request = replace(request, rating=request.rating if known else None, rated_at=f"{at:09}" if known else None)
        seen.append(request)
    return seen
