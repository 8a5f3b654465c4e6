"""Decide to advance, hold or roll back, from a rollout, its observations and the time. Pure functions."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

from mondrian_core.rollout.plan import (
    Advance,
    Hold,
    RollBack,
    Rollout,
    RolloutDecision,
    RolloutObservations,
    RolloutPlan,
    RolloutStatus,
)
from mondrian_core.statistics.e_processes import (
    log_e_failure_rate,
    log_e_rate_above,
    log_e_sample_ratio,
    log_e_sign_test,
)

CRASH_ALTERNATIVES = (0.01, 0.03, 0.1, 0.3)  # a faulty adapter kills the process in about this share of its answers


def decide_rollout(rollout: Rollout, observed: RolloutObservations, now: datetime) -> RolloutDecision:
    """The decision for now; checking often doesn't raise the error rate."""
    plan = rollout.plan
    if rollout.status != "running":
        return Hold(f"The rollout of {rollout.version} is {rollout.status.replace('_', ' ')}.")
    if (rollback := _immediate_rollback(plan, observed)) is not None:
        return rollback
    logs = _log_e_values(plan, observed)
    evidence = {name: round(math.exp(min(value, 700.0)), 4) for name, (value, _) in logs.items()}
    for name, (value, alpha) in logs.items():
        if name != "sample ratio" and value >= -math.log(alpha):
            sentence = (
                f"Rolled back: {_guardrail_sentence(name, observed)} (e = {evidence[name]:.3g}, limit {1 / alpha:.0f})."
            )
            return RollBack(name, sentence, evidence)
    value, alpha = logs["sample ratio"]
    if value >= -math.log(alpha):
        return Hold("Held: requests don't reach the arms in the configured share; check the assignment.", evidence)
    return _progress(rollout, observed, now, evidence)


def _immediate_rollback(plan: RolloutPlan, observed: RolloutObservations) -> RollBack | None:
    """Rollback after failures in a row that an adapter like the control would hardly produce."""
    length = observed.longest_run
    if length >= plan.run and _chance_of_run(plan, observed) <= plan.run_alpha:
        return RollBack("failures in a row", f"Rolled back: {length} answers in a row failed.")
    return None


def _chance_of_run(plan: RolloutPlan, observed: RolloutObservations) -> float:
    """Bound of the chance that an adapter like the control fails so often in a row while the control fails so rarely.

    For a failure rate p of both arms, n answers of the candidate and f failures in m answers of the control it is
    n p^length P(Binomial(m, p) <= f); the rate with the largest value counts. Each length from `run` on gets a part of
    `run_alpha`, a half of the rest, and each f a part of that in proportion to 1 / (f + 1), because a rollout is
    checked whenever one of them grows.
    """
    import numpy as np
    from scipy.special import bdtr

    live, shadow, length = observed.control, observed.shadow_control, observed.longest_run
    rates = np.linspace(0.001, 0.999, 999)
    failures = live.failures + shadow.failures
    control = bdtr(failures, live.requests + shadow.requests, rates)
    answers = max(observed.candidate.requests, length)
    looks = 2.0 ** (length - plan.run + 1) * 2 * (failures + 1)
    return looks * float((answers * rates**length * control).max())


def _log_e_values(plan: RolloutPlan, observed: RolloutObservations) -> dict[str, tuple[float, float]]:
    """By guardrail the log e-value and alpha. Failures of live and of shadow answers share one alpha."""
    live = log_e_failure_rate((s.share, s.candidate.failures, s.control.failures) for s in observed.strata)
    shadow = log_e_sign_test(observed.shadow.worse, observed.shadow.better)
    return {
        "failures": (live + shadow, plan.failure_alpha),  # independent photographs: the product is an e-value
        "latency": (log_e_sign_test(observed.latency.worse, observed.latency.better), plan.latency_alpha),
        "score collapse": (
            log_e_rate_above(observed.repeated, observed.neighbours - observed.repeated, plan.collapse_limit),
            plan.collapse_alpha,
        ),
        "ratings": (log_e_sign_test(observed.ratings.worse, observed.ratings.better), plan.rating_alpha),
        "crashes": (_log_e_crashes(plan, observed), plan.crash_alpha),
        "sample ratio": (
            log_e_sample_ratio((s.share, s.candidate.requests, s.control.requests) for s in observed.strata),
            plan.ratio_alpha,
        ),
    }


def _log_e_crashes(plan: RolloutPlan, observed: RolloutObservations) -> float:
    """Log e-value of "the model process dies during more than `crash_limit` of the candidate's answers".

    It is 0 below `crashes` deaths, and where the control's answers kill the process as often.
    """
    answers = observed.candidate.requests + observed.shadow_candidate.requests
    control = observed.control.requests + observed.shadow_control.requests
    expected = answers * observed.control_crashes / max(1, control)
    if observed.crashes < plan.crashes or expected >= 0.5:
        return 0.0
    return log_e_rate_above(observed.crashes, max(0, answers - observed.crashes), plan.crash_limit, CRASH_ALTERNATIVES)


def _guardrail_sentence(name: str, observed: RolloutObservations) -> str:
    """The observation that triggered a guardrail, as half a sentence."""
    candidate, control = observed.candidate, observed.control
    return {
        "failures": f"{candidate.failures} of {candidate.requests} answers failed, "
        f"{control.failures} of {control.requests} of the control's"
        + (
            f"; {observed.shadow.worse} against {observed.shadow.better} in the shadow" if observed.shadow.worse else ""
        ),
        "latency": f"it was slower in {observed.latency.worse} of "
        f"{observed.latency.worse + observed.latency.better} pairs, beyond the tolerance",
        "score collapse": f"{observed.repeated} of {observed.neighbours} consecutive answers have the same scores",
        "crashes": f"the model process died {observed.crashes} times while it answered",
        "ratings": f"users rated it lower in {observed.ratings.worse} of "
        f"{observed.ratings.worse + observed.ratings.better} pairs",
    }[name]


def _progress(
    rollout: Rollout, observed: RolloutObservations, now: datetime, evidence: dict[str, float]
) -> RolloutDecision:
    """Hold or advance: no guardrail has reached its limit."""
    plan, step = rollout.plan, rollout.plan.steps[rollout.step]
    suspects = [name for name, value in evidence.items() if value >= plan.watch and name != "sample ratio"]
    if suspects:
        return Hold(f"Held: watching {', '.join(suspects)}; not clear enough to advance or roll back.", evidence)
    hours = rollout.hours_in_step(now)
    if observed.in_step < step.requests or hours < step.hours:
        what = "pairs" if rollout.in_shadow else "requests"
        idle = rollout.in_shadow and not observed.in_step and hours >= step.hours
        advice = " No pairs yet: check that the service runs and has photographs to compare." if idle else ""
        return Hold(
            f"Held {rollout.position}: {observed.in_step} of {step.requests} {what}, {hours:.1f} of "
            f"{step.hours:.0f} hours.{advice}",
            evidence,
        )
    share = plan.steps[min(rollout.step + 1, len(plan.steps) - 1)].share
    origin = "the shadow" if rollout.in_shadow else f"{step.share:.0%}"
    return Advance(
        share,
        f"Advanced from {origin} to {share:.0%} after {observed.in_step} answers and {hours:.1f} hours.",
        evidence,
    )


def rollout_after_decision(rollout: Rollout, decision: RolloutDecision, now: datetime) -> Rollout:
    """The rollout after `decision`; a Hold changes nothing. Pure."""
    if isinstance(decision, Hold):
        return rollout
    status: RolloutStatus = "rolled_back"
    step, step_started_at = rollout.step, rollout.step_started_at
    if isinstance(decision, Advance):
        step = [plan_step.share for plan_step in rollout.plan.steps].index(decision.share)
        status = "finished" if decision.share >= 1.0 else "running"
        step_started_at = now.astimezone(UTC).isoformat()
    return replace(
        rollout,
        step=step,
        status=status,
        step_started_at=step_started_at,
        revision=rollout.revision + 1,
        why=decision.sentence,
        evidence=dict(decision.evidence),
    )
