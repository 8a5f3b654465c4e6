"""Staged rollout of a promoted version: pure decisions to advance, hold or roll back.

plan            plan, state, observations and decisions as values
assignment      which photographs the candidate answers
observation     counts from the jobs table
observation_log what several machines observed, in one order
faults          failures that neither arm caused
decision_rules  decide_rollout(rollout, observed, now)
check_schedule  Prefect's schedule of the check, active only while a rollout is
rollout_store   rollouts in the registry's history
shadow          answers for comparison only
traffic         requests per day, and the plan that suits them
"""

from mondrian_core.rollout.assignment import is_in_share
from mondrian_core.rollout.check_schedule import (
    ROLLOUT_DEPLOYMENT,
    activate_rollout_schedule,
    update_rollout_schedule,
)
from mondrian_core.rollout.decision_rules import decide_rollout, rollout_after_decision
from mondrian_core.rollout.faults import FAULT_KEY, Fault, is_external_fault, job_fault
from mondrian_core.rollout.observation import (
    SHADOW_KEY,
    RolloutRequest,
    count_observations,
    is_failed_answer,
    rollout_requests,
)
from mondrian_core.rollout.observation_log import ObservationLog, observe_rollout
from mondrian_core.rollout.plan import (
    Advance,
    Hold,
    RollBack,
    Rollout,
    RolloutDecision,
    RolloutObservations,
    RolloutPlan,
    RolloutStep,
    default_rollout_plan,
)
from mondrian_core.rollout.rollout_store import (
    SERVICE_ACTOR,
    RolloutCheck,
    RolloutStart,
    active_rollout,
    apply_rollout_decision,
    check_rollout,
    load_rollout,
    require_no_active_rollout,
    rollout_ended_by_service,
    set_rollout_share,
    start_rollout,
)
from mondrian_core.rollout.shadow import ShadowRequest, due_shadow_requests
from mondrian_core.rollout.traffic import requests_per_day, rollout_plan_for_traffic

__all__ = [
    "FAULT_KEY",
    "ROLLOUT_DEPLOYMENT",
    "SERVICE_ACTOR",
    "SHADOW_KEY",
    "Advance",
    "Fault",
    "Hold",
    "ObservationLog",
    "RollBack",
    "Rollout",
    "RolloutCheck",
    "RolloutDecision",
    "RolloutObservations",
    "RolloutPlan",
    "RolloutRequest",
    "RolloutStart",
    "RolloutStep",
    "ShadowRequest",
    "activate_rollout_schedule",
    "active_rollout",
    "apply_rollout_decision",
    "check_rollout",
    "count_observations",
    "decide_rollout",
    "default_rollout_plan",
    "due_shadow_requests",
    "is_external_fault",
    "is_failed_answer",
    "is_in_share",
    "job_fault",
    "load_rollout",
    "observe_rollout",
    "requests_per_day",
    "require_no_active_rollout",
    "rollout_after_decision",
    "rollout_ended_by_service",
    "rollout_plan_for_traffic",
    "rollout_requests",
    "set_rollout_share",
    "start_rollout",
    "update_rollout_schedule",
]
