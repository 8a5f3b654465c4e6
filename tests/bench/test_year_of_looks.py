"""The simulation of years, shortened: it uses the gates, and it notices a promise that is broken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import gate_error_rates, year_of_looks
from bench.year_of_looks import ChampionRates, FirstPromotionRates
from mondrian_core.evaluation.gates.comparison_gates import SCORE_ERROR


def first(worthless: float = 0.03, half: float = 1.0) -> list[FirstPromotionRates]:
    shares = {-0.1: 0.0, 0.0: worthless, 0.3: 0.9, 0.5: half}
    return [FirstPromotionRates(20, gain, 0.6, share, 9) for gain, share in shares.items()]


def champions(crept: float = 0.01) -> list[ChampionRates]:
    cell = ChampionRates(
        rule="observed and best",
        photographs=20,
        correlation=0.9,
        weekly_loss=0.05,
        replaced=0.01,
        crept=crept,
        quality=1.0,
    )
    return [cell, replace(cell, rule="margin alone", crept=0.6)]


def test_broken_promises_are_named() -> None:
    assert year_of_looks.broken_year_promises(first(), champions(), 400) == []
    assert "promised at most 5%" in year_of_looks.broken_year_promises(first(worthless=0.2), champions(), 400)[0]
    assert "promised at least 99%" in year_of_looks.broken_year_promises(first(half=0.9), champions(), 400)[0]
    assert "promised at most 2%" in year_of_looks.broken_year_promises(first(), champions(crept=0.1), 400)[0]


def test_few_years_show_that_the_ledger_stops_worthless_candidates_and_finds_large_gains() -> None:
    cells = {cell.gain: cell for cell in year_of_looks.first_promotion_rates(12, seed=1, sizes=(20,))}
    assert cells[0.0].one_look > 0.25
    assert cells[0.0].ledger <= 0.25
    assert cells[-0.1].ledger == 0.0
    assert cells[0.5].ledger == 1.0


def test_few_years_show_that_slightly_worse_champions_form_no_chain() -> None:
    cells = year_of_looks.champion_rates(6, seed=2, correlations=(0.97,))
    alone, guarded = ([cell for cell in cells if cell.rule == rule] for rule in ("margin alone", "observed and best"))
    assert max(cell.crept for cell in alone) > 0.2
    assert max(cell.crept for cell in guarded) == 0.0
    assert sum(cell.replaced for cell in guarded) < sum(cell.replaced for cell in alone)


def test_gate_that_ignores_the_look_breaks_the_promise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command asks the gate itself: one that passes at every look is reported, and the exit status is 1."""
    real = SCORE_ERROR.judge

    def forgetful(measured: object, recipe: object) -> object:
        look = measured.look  # type: ignore[attr-defined]
        return real(replace(measured, look=replace(look, level=1.0)), recipe)  # type: ignore[type-var]

    monkeypatch.setattr(year_of_looks, "SCORE_ERROR", replace(SCORE_ERROR, judge=forgetful))
    monkeypatch.setattr(year_of_looks, "YEAR_SIZES", (20,))
    monkeypatch.setattr(year_of_looks, "champion_rates", lambda years, seed: champions())
    monkeypatch.setattr(
        year_of_looks, "first_promotion_rates", lambda years, seed: _first(year_of_looks.YEAR_SIZES, years, seed)
    )
    assert gate_error_rates.main(["--year", "--years", "30", "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "BROKEN: 20 photographs, true gain 0%" in told
    assert "| test photographs |" in told
    assert json.loads((tmp_path / "gates-year.json").read_text())["years"] == 30
    assert (tmp_path / "gates-year.png").read_bytes().startswith(b"\x89PNG")


_first_promotion_rates = year_of_looks.first_promotion_rates


def _first(sizes: tuple[int, ...], years: int, seed: int) -> list[FirstPromotionRates]:
    return _first_promotion_rates(years, seed, sizes)
