"""When the machine of a training counts as gone: by its signs of life and one clock, that of the retraining."""

from __future__ import annotations

import pytest
from prefect.states import Completed, Crashed, Pending, Running, Scheduled

from mondrian_core.shared_training import AttemptSign
from tasks.handover import LEASE_SECONDS, TrainingWatch


def test_a_machine_that_works_is_left_alone() -> None:
    watch = TrainingWatch(changed=0.0)
    for beat in range(100):
        assert not watch.machine_is_gone(Running(), AttemptSign(1, "m1", beat), now=beat * LEASE_SECONDS)


@pytest.mark.parametrize("state", [Running(), Pending()])
def test_a_silent_machine_is_gone_once(state: object) -> None:
    watch, sign = TrainingWatch(changed=0.0), AttemptSign(1, "m1", 5)
    assert not watch.machine_is_gone(state, sign, now=1.0)
    assert not watch.machine_is_gone(state, sign, now=1.0 + LEASE_SECONDS)
    assert watch.machine_is_gone(state, sign, now=2.0 + LEASE_SECONDS)
    assert (watch.attempts, watch.machine) == (2, "m1")
    assert not watch.machine_is_gone(state, sign, now=3.0 + LEASE_SECONDS), "the next one gets its time"


def test_a_run_that_waits_for_a_machine_is_not_gone() -> None:
    watch = TrainingWatch(changed=0.0)
    for now in (1.0, 1e6):
        assert not watch.machine_is_gone(Scheduled(), AttemptSign(), now=now)
    assert not watch.machine_is_gone(Running(), AttemptSign(), now=1e6 + 1.0), "its time begins when it is taken"
    assert not watch.machine_is_gone(Completed(), AttemptSign(), now=2e6)


def test_a_crash_is_known_at_once() -> None:
    assert TrainingWatch(changed=0.0).machine_is_gone(Crashed(), AttemptSign(1, "m1", 5), now=0.1)
