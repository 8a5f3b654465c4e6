"""Every planted fault is named, in its step alone; the others still run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.selftest.report import PrivateWords, SelfTestReport
from mondrian_core.selftest.session import SelfTestPlan, run_selftest
from mondrian_core.selftest.steps import STEPS, StepCause, StepResult, StepStatus

pytestmark = [pytest.mark.mini, pytest.mark.slow]

FAULTY_WORKER = Path(__file__).with_name("faulty_worker.py")
HANGS = "training_step"
# one fault for each step of two streams, which both compute on the CPU
PLANTED: dict[str, Any] = {
    "GPU": {
        "patches": ["wrong logit", "drafts change text", "resume differs", "adapter left"],
        "checks": {HANGS: "hang", "constrained": "no memory"},
    },
    "CPU": {"checks": {HANGS: "hang", "resume": "watchdog", "drafts": "abort", "constrained": "killed"}},
}
EXPECTED = {
    ("GPU and CPU", "logits"): StepCause.WRONG_RESULT,
    ("GPU", HANGS): StepCause.TIME_LIMIT,
    ("GPU", "resume"): StepCause.WRONG_RESULT,
    ("GPU", "drafts"): StepCause.WRONG_RESULT,
    ("GPU", "adapter_swap"): StepCause.WRONG_RESULT,
    ("GPU", "constrained"): StepCause.OUT_OF_MEMORY,
    ("CPU", HANGS): StepCause.TIME_LIMIT,
    ("CPU", "resume"): StepCause.WATCHDOG,
    ("CPU", "drafts"): StepCause.ABORTED,
    ("CPU", "constrained"): StepCause.OUT_OF_MEMORY,
}
HANG_LIMIT, SHARED_MACHINE_LIMIT = 2.0, 270.0  # seconds


@pytest.fixture(scope="module")
def report() -> SelfTestReport:
    """One self-test with all faults."""
    limits = {HANGS: HANG_LIMIT}
    plan = SelfTestPlan(
        base="mini",
        base_folder=None,
        seconds=1200.0,
        steps=[
            replace(step, limit=limits.get(step.name, SHARED_MACHINE_LIMIT)) for step in STEPS if step.name != "speed"
        ],
        worker=(sys.executable, str(FAULTY_WORKER), json.dumps(PLANTED)),
        entries=(),
    )
    return run_selftest(plan)


def found(report: SelfTestReport, stream: str, step: str) -> StepResult:
    (result,) = [each for each in report.results if (each.stream, each.step) == (stream, step)]
    return result


@pytest.mark.parametrize(("stream", "step"), EXPECTED)
def test_a_planted_fault_is_named(report: SelfTestReport, stream: str, step: str) -> None:
    result = found(report, stream, step)
    assert (result.status, result.cause) == (StepStatus.OFF, EXPECTED[stream, step]), result
    assert result.advice
    (written,) = [
        each for each in report.as_dict(PrivateWords([]))["steps"] if (each["stream"], each["step"]) == (stream, step)
    ]
    assert (written["cause"], written["finding"]) == (EXPECTED[stream, step].value, result.finding)


def test_what_has_no_fault_is_fine(report: SelfTestReport) -> None:
    """A step after a crash runs in a new process."""
    assert {(each.stream, each.step) for each in report.off} == set(EXPECTED)
    assert found(report, "CPU", "adapter_swap").status is StepStatus.OK
    assert [each for each in report.results if each.status is StepStatus.SKIPPED] == []


def test_words_of_an_error_reach_the_report_without_places(report: SelfTestReport) -> None:
    assert "somebody" in found(report, "GPU", "constrained").detail
    text = json.dumps(report.as_dict(PrivateWords([])))
    assert "[metal::malloc]" in text
    assert "somebody" not in text and "example.org" not in text
