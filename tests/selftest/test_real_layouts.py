"""The self-test of bases with the layout and tokenizer of real checkpoints (random weights)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.selftest.session import CONFIGURED, SelfTestPlan, run_selftest
from mondrian_core.selftest.steps import STEPS, StepStatus

pytestmark = [pytest.mark.mini, pytest.mark.slow]

PACKED = {"family": "qwen3_vl", "bits": 4}
NEEDS_A_PACKED_BASE = ("load", "adapter_swap")  # what mini, which isn't packed, can't show


def checked(folder: Path, names: tuple[str, ...]) -> set[str]:
    """The steps that are fine on this base; none is off."""
    steps = [replace(step, limit=280.0) for step in STEPS if step.name in names]
    report = run_selftest(
        SelfTestPlan(base="a skeleton", base_folder=str(folder), seconds=1500.0, steps=steps, entries=())
    )
    assert report.off == []
    return {result.step for result in report.results if (result.base, result.status) == (CONFIGURED, StepStatus.OK)}


def test_an_adapter_on_a_packed_base_equals_merged_weights(skeleton: Callable[..., Path]) -> None:
    assert checked(skeleton(**PACKED), NEEDS_A_PACKED_BASE) == set(NEEDS_A_PACKED_BASE)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shape", [PACKED, {"family": "qwen2_vl"}, {"family": "qwen2_5_vl", "bits": 4}], ids=str)
def test_every_step_runs_on_real_layouts(skeleton: Callable[..., Path], shape: dict[str, Any]) -> None:
    """A whole answer of random weights may not end in time."""
    found = checked(skeleton(**shape), tuple(step.name for step in STEPS))
    assert found >= {step.name for step in STEPS} - {"constrained"}
