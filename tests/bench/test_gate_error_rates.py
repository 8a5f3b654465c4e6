"""The bench of the gates, shortened."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import gate_error_rates
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import SamplesFile


def test_format_gate_lets_few_bad_models_through_and_most_good_ones() -> None:
    shares = gate_error_rates.format_gate_pass_rates(120)
    assert shares[0.90] < 0.05
    assert shares[0.99] > 0.95


def test_short_simulation_stays_within_error_limits() -> None:
    cells = gate_error_rates.score_gate_pass_rates(60)
    by_noise = {noise: gate_error_rates.overhead_gate_pass_rates(40, noise) for noise in (0.03,)}
    assert gate_error_rates.within_promised_error_rates(cells, by_noise, 60)
    assert "| 40 |" in gate_error_rates.score_gate_markdown(cells)


def test_observed_figure_alone_gives_false_promotions() -> None:
    worthless = [
        cell for cell in gate_error_rates.score_gate_pass_rates(60) if not cell.gain and cell.photographs <= 20
    ]
    assert min(cell.observed_only for cell in worthless) > 0.2
    assert max(cell.gate for cell in worthless) < 0.2


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run on twelve photographs: the base is off by 2 in one dimension, the candidate by 1 in another."""
    journal = SamplesFile(tmp_path / "run" / "samples.jsonl")
    journal.resume_or_start({})
    for k in range(12):
        truth = dict.fromkeys(DIMENSIONS, 5.0)
        journal.append("label", {"photograph": str(k), "scores": truth})
        for arm, off in (("base", {"lighting": 7.0}), ("candidate", {"composition": 4.0})):
            scores = truth | off if k else {}  # one photograph that neither could be read on
            journal.append(
                "answer",
                EvaluationOutcome(
                    photograph=str(k), arm=arm, status="valid" if k else "unparsable", scores=scores
                ).as_dict(),
            )
    return tmp_path / "run"


def test_errors_from_run_match_samples(run: Path) -> None:
    base, candidate = gate_error_rates.errors_from_run(run)
    assert base.shape == candidate.shape == (11, 8)
    assert np.array_equal(base.sum(axis=0), 11 * np.array([0, 2, 0, 0, 0, 0, 0, 0]))
    assert np.array_equal(candidate.sum(axis=0), 11 * np.array([-1, 0, 0, 0, 0, 0, 0, 0]))


def test_command_writes_table_and_plot(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate_error_rates, "SIZES", (8, 40))
    monkeypatch.setattr(gate_error_rates, "NOISES", (0.03,))
    assert gate_error_rates.main(["--runs", "20", "--samples", str(run), "--out", str(tmp_path / "out")]) in (0, 1)
    assert "| photographs | no gain |" in capsys.readouterr().out
    kept = json.loads((tmp_path / "out" / "gates.json").read_text())
    assert {cell["photographs"] for cell in kept["scores"]} == {8, 40}
    assert (tmp_path / "out" / "gates.png").read_bytes().startswith(b"\x89PNG")


def test_excessive_gate_error_rate_is_reported() -> None:
    good = [
        gate_error_rates.GatePassRates(n, gain, 0.05 if not gain else 0.9, 0.3)
        for n in gate_error_rates.SIZES
        for gain in gate_error_rates.GAINS
    ]
    times = {0.03: dict.fromkeys(gate_error_rates.RATIOS, (0.02, 12.0))}
    assert gate_error_rates.within_promised_error_rates(good, times, 200)
    lax = [
        gate_error_rates.GatePassRates(cell.photographs, cell.gain, 0.3, 0.3) if not cell.gain else cell
        for cell in good
    ]
    blunt = [gate_error_rates.GatePassRates(cell.photographs, cell.gain, min(cell.gate, 0.5), 0.3) for cell in good]
    assert not gate_error_rates.within_promised_error_rates(lax, times, 200)
    assert not gate_error_rates.within_promised_error_rates(blunt, times, 200)
