"""The bench of the gates, shortened."""

from __future__ import annotations

from bench import gates


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
