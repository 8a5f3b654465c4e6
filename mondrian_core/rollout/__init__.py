"""Staged rollout of a promoted version: share of traffic, guardrails, advance / hold / roll back as values.

assignment.py   who is in the share         decide.py    decide_rollout(rollout, observed, now)
plan.py         the values                  observe.py   jobs -> requests -> counts
evidence.py     always-valid e-values       book.py      rollout.json beside the pointer
"""

from mondrian_core.rollout.assignment import in_share
from mondrian_core.rollout.book import active, carry_out, look, recorded, start
from mondrian_core.rollout.decide import after, decide_rollout
from mondrian_core.rollout.observe import Request, observe, requests_of
from mondrian_core.rollout.plan import Advance, Decision, Hold, Observed, Plan, RollBack, Rollout, Step, plan_for

__all__ = [
    "Advance", "Decision", "Hold", "Observed", "Plan", "Request", "RollBack", "Rollout", "Step", "active", "after",
    "carry_out", "decide_rollout", "in_share", "look", "observe", "plan_for", "recorded", "requests_of", "start",
]  # fmt: skip
