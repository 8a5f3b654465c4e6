"""Staged rollout of a promoted version: share of traffic, guardrails, advance / hold / roll back as values.

assignment.py   who is in the share         decide.py    decide_rollout(rollout, observed, now)
plan.py         the values                  observe.py   jobs -> requests -> counts
evidence.py     always-valid e-values       book.py      rollout.json beside the pointer
traffic.py      requests a day -> plan      shadow.py    which answers the comparison lacks
faults.py       failures of neither arm
"""

from mondrian_core.rollout.assignment import in_share
from mondrian_core.rollout.book import (
    SERVICE,
    Look,
    active,
    carry_out,
    look,
    recorded,
    refuse_while_running,
    set_share,
    settle,
    start,
    taken_back,
)
from mondrian_core.rollout.decide import after, decide_rollout
from mondrian_core.rollout.faults import FAULT, Fault, counts_for_no_arm, fault_of
from mondrian_core.rollout.observe import Request, observe, requests_of
from mondrian_core.rollout.plan import Advance, Decision, Hold, Observed, Plan, RollBack, Rollout, Step, plan_for
from mondrian_core.rollout.shadow import Due, due
from mondrian_core.rollout.traffic import requests_per_day, suitable_plan

__all__ = [
    "FAULT",
    "SERVICE",
    "Advance",
    "Decision",
    "Due",
    "Fault",
    "Hold",
    "Look",
    "Observed",
    "Plan",
    "Request",
    "RollBack",
    "Rollout",
    "Step",
    "active",
    "after",
    "carry_out",
    "counts_for_no_arm",
    "decide_rollout",
    "due",
    "fault_of",
    "in_share",
    "look",
    "observe",
    "plan_for",
    "recorded",
    "refuse_while_running",
    "requests_of",
    "requests_per_day",
    "set_share",
    "settle",
    "start",
    "suitable_plan",
    "taken_back",
]
