"""The bench of the gates, shortened."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import gates
from mondrian_core.evaluation.outcomes import Journal, Outcome
from mondrian_core.rubric import DIMENSIONS


def test_format_gate_lets_few_bad_models_through_and_most_good_ones() -> None:
    shares = gates.formats(120)
    assert shares[0.90] < 0.05
    assert shares[0.99] > 0.95


def test_a_short_run_keeps_the_promise() -> None:
    cells = gates.scores(60)
    by_noise = {noise: gates.times(40, noise) for noise in (0.03,)}
    assert gates.as_promised(cells, by_noise, 60)
    assert "| 40 |" in gates.table(cells)


def test_observed_figure_alone_promotes_the_worthless() -> None:
    worthless = [cell for cell in gates.scores(60) if not cell.gain and cell.photographs <= 20]
    assert min(cell.observed_only for cell in worthless) > 0.2
    assert max(cell.gate for cell in worthless) < 0.2


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run on twelve photographs: the base is off by 2 in one dimension, the candidate by 1 in another."""
    journal = Journal(tmp_path / "run" / "samples.jsonl")
    journal.begin({})
    for k in range(12):
        truth = dict.fromkeys(DIMENSIONS, 5.0)
        journal.append("label", {"photograph": str(k), "scores": truth})
        for arm, off in (("base", {"lighting": 7.0}), ("candidate", {"composition": 4.0})):
            scores = truth | off if k else {}  # one photograph that neither could be read on
            journal.append(
                "answer",
                Outcome(photograph=str(k), arm=arm, status="valid" if k else "unparsable", scores=scores).as_dict(),
            )
    return tmp_path / "run"


def test_errors_are_those_that_were_measured(run: Path) -> None:
    base, candidate = gates.errors_of_run(run)
    assert base.shape == candidate.shape == (11, 8)
    assert np.array_equal(base.sum(axis=0), 11 * np.array([0, 2, 0, 0, 0, 0, 0, 0]))
    assert np.array_equal(candidate.sum(axis=0), 11 * np.array([-1, 0, 0, 0, 0, 0, 0, 0]))


def test_the_command_leaves_table_and_picture(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gates, "SIZES", (8, 40))
    monkeypatch.setattr(gates, "NOISES", (0.03,))
    assert gates.main(["--runs", "20", "--samples", str(run), "--out", str(tmp_path / "out")]) in (0, 1)
    assert "| photographs | no gain |" in capsys.readouterr().out
    kept = json.loads((tmp_path / "out" / "gates.json").read_text())
    assert {cell["photographs"] for cell in kept["scores"]} == {8, 40}
    assert (tmp_path / "out" / "gates.png").read_bytes().startswith(b"\x89PNG")


def test_a_gate_that_errs_more_often_than_it_may_is_told() -> None:
    good = [gates.Cell(n, gain, 0.05 if not gain else 0.9, 0.3) for n in gates.SIZES for gain in gates.GAINS]
    times = {0.03: dict.fromkeys(gates.RATIOS, (0.02, 12.0))}
    assert gates.as_promised(good, times, 200)
    lax = [gates.Cell(cell.photographs, cell.gain, 0.3, 0.3) if not cell.gain else cell for cell in good]
    blunt = [gates.Cell(cell.photographs, cell.gain, min(cell.gate, 0.5), 0.3) for cell in good]
    assert not gates.as_promised(lax, times, 200)
    assert not gates.as_promised(blunt, times, 200)
