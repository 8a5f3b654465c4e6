"""The course of a self-test, with a worker that plays a script."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.selftest.report import SelfTestReport
from mondrian_core.selftest.session import SelfTestListener, SelfTestPlan, run_selftest
from mondrian_core.selftest.steps import STEPS, StepCause, StepResult, StepStatus
from tests.selftest.scripted_worker import FIGURES, FINE

WORKER = Path(__file__).with_name("scripted_worker.py")
LIMIT = 30.0
SHORT_LIMIT = 1.0  # of the step that hangs in these tests
ALL = {step.name for step in STEPS}


def played(
    script: Mapping[str, Any],
    *,
    configured: bool = False,
    hangs: str = "",
    listen: SelfTestListener | None = None,
    **plan: Any,
) -> SelfTestReport:
    """The report of a self-test whose workers play the script."""
    values: dict[str, Any] = {
        "base": "owner/name" if configured else "mini",
        "base_folder": "configured" if configured else None,
        "steps": [replace(step, limit=SHORT_LIMIT if step.name == hangs else LIMIT) for step in STEPS],
        "worker": (sys.executable, str(WORKER), json.dumps(script)),
        "entries": (),
    }
    return run_selftest(SelfTestPlan(**{**values, **plan}), listen or SelfTestListener())


def by_status(report: SelfTestReport, base: str, stream: str) -> dict[StepStatus, set[str]]:
    found: dict[StepStatus, set[str]] = {status: set() for status in StepStatus}
    for result in report.results:
        if (result.base, result.stream) == (base, stream):
            found[result.status].add(result.step)
    return found


def only(report: SelfTestReport, base: str, stream: str, step: str) -> StepResult:
    (found,) = [each for each in report.results if (each.base, each.stream, each.step) == (base, stream, step)]
    return found


def test_all_steps_of_both_bases_run_on_the_one_stream() -> None:
    seen: list[tuple[str, str]] = []
    words: list[str] = []
    listen = SelfTestListener(
        on_run=lambda base, stream: seen.append((base, stream)), on_progress=lambda title, text: words.append(text)
    )
    report = played({}, configured=True, listen=listen)
    assert seen == [("", ""), ("mini", "CPU"), ("configured", "CPU")]
    assert "half done" in words
    for base in ("mini", "configured"):
        assert by_status(report, base, "CPU")[StepStatus.OK] == ALL
    assert report.off == [] and report.bases == {"mini": "mini", "configured": "owner/name"}


def test_a_second_stream_of_a_large_base_gives_only_what_is_compared() -> None:
    gpu = {**FINE, "figures": {**FIGURES["machine"], "gpu": True, "gpu_name": "a scripted GPU"}}
    report = played({"mini CPU machine": gpu}, configured=True)
    assert by_status(report, "mini", "CPU")[StepStatus.OK] == ALL
    assert by_status(report, "configured", "GPU")[StepStatus.OK] == ALL
    assert by_status(report, "configured", "CPU")[StepStatus.OK] == {"load", "logits", "training_step"}


def test_without_a_loaded_base_its_other_steps_are_skipped() -> None:
    error = {"event": "error", "kind": "BaseModelUnavailable", "detail": "it is damaged", "places": []}
    report = played({"configured CPU load": error}, configured=True)
    assert by_status(report, "mini", "CPU")[StepStatus.OK] == ALL
    found = by_status(report, "configured", "CPU")
    assert (found[StepStatus.OFF], found[StepStatus.SKIPPED]) == ({"load"}, ALL - {"load"})
    assert only(report, "configured", "CPU", "load").cause is StepCause.ERROR


def test_a_process_that_exits_is_named_with_its_status() -> None:
    report = played({"mini CPU drafts": "exit"})
    found = only(report, "mini", "CPU", "drafts")
    assert found.cause is StepCause.CRASHED and "exit status 7" in found.finding
    assert by_status(report, "mini", "CPU")[StepStatus.OK] == ALL - {"drafts"}


@pytest.mark.parametrize(("base", "status"), [("mini", StepStatus.OFF), ("configured", StepStatus.SKIPPED)])
def test_a_limit_on_the_cpu_is_a_fault_of_mini_alone(base: str, status: StepStatus) -> None:
    """A large base may only be too slow there."""
    report = played({f"{base} CPU resume": "hang"}, configured=True, hangs="resume")
    assert by_status(report, base, "CPU")[status] == {"resume"}
    assert by_status(report, base, "CPU")[StepStatus.OK] == ALL - {"resume"}


def test_after_a_pass_that_is_too_slow_nothing_else_is_tried() -> None:
    report = played({"configured CPU logits": "hang"}, configured=True, hangs="logits")
    found = by_status(report, "configured", "CPU")
    assert (found[StepStatus.OK], found[StepStatus.SKIPPED]) == ({"load"}, ALL - {"load"})


def test_a_hanging_gpu_is_a_fault_of_every_base() -> None:
    gpu = {**FINE, "figures": {**FIGURES["machine"], "gpu": True, "gpu_name": "a scripted GPU"}}
    script = {"mini CPU machine": gpu, "configured GPU resume": "hang"}
    report = played(script, configured=True, hangs="resume")
    assert only(report, "configured", "GPU", "resume").cause is StepCause.TIME_LIMIT


def test_what_has_no_time_left_is_skipped_and_says_so() -> None:
    report = played({}, seconds=1.0)
    assert {result.status for result in report.results} == {StepStatus.SKIPPED}
    assert "no time is left" in report.results[0].finding


def test_a_check_that_would_take_too_long_is_skipped(tmp_path: Path) -> None:
    import time

    from mondrian_core.selftest.checks.context import CheckContext, SkipCheck

    loaded: Any = None
    context = CheckContext(
        base=loaded, stream="CPU", folder=tmp_path, report=print, until=time.monotonic() + 60, token_seconds=0.5
    )
    context.require_time("a short step", forward_tokens=10)
    with pytest.raises(SkipCheck, match=r"would take about 2\.0 minutes"):
        context.require_time("a long step", forward_tokens=240)
    context.decode_seconds = 1.0
    with pytest.raises(SkipCheck):
        context.require_time("an answer", decoded_tokens=200)
