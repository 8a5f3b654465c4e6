"""The simulation of the gate `comments`: sound adapters are hardly ever refused, faulty ones nearly always."""

from __future__ import annotations

import pytest

from bench import comment_error_rates
from bench.comment_faults import COMMENT_FAULTS


@pytest.mark.parametrize("fault", COMMENT_FAULTS)
def test_twenty_photographs_show_every_fault(fault: str) -> None:
    faulty = comment_error_rates.SimulatedWriter(fault=fault)
    refused, checks = comment_error_rates.refusals(faulty, 20, 2, seed=1)
    assert (refused, bool(checks)) == (2, True)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("photographs", comment_error_rates.SIZES)
def test_sound_adapters_are_hardly_refused(photographs: int, capsys: pytest.CaptureFixture[str]) -> None:
    refused = {}
    for name, adapter in comment_error_rates.ADAPTERS.items():
        if adapter.fault is None:
            refused[name], checks = comment_error_rates.refusals(adapter, photographs, 200, seed=0)
            with capsys.disabled():
                print(name, photographs, refused[name], checks)
    assert max(refused.values()) <= 10, refused
