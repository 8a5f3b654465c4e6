"""The gates over a year of looks: a look's level, pooled evidence, and the best champion so far."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.evaluation import BestChampion, EvaluationReport, TrainingProvenance
from mondrian_core.evaluation.gates.comparison_gates import (
    BEST_CHAMPION_COMPARISON,
    CHAMPION_COMPARISON,
    SCORE_ERROR,
)
from mondrian_core.evaluation.gates.results import GateMeasurements
from mondrian_core.evaluation.measure.metrics import ArmComparison
from mondrian_core.evaluation.measure.pooled_evidence import LookEvidence, look_evidence
from mondrian_core.evaluation.measure.samples import load_evaluation_samples
from mondrian_core.recipes import GateRecipe, recipe_from_values
from tests.evaluation.conftest import adapter

Run = Callable[..., EvaluationReport]
RECIPE = GateRecipe()


def comparison(reduction: float, **values: Any) -> ArmComparison:
    """Twenty photographs with this observed reduction."""
    given: dict[str, Any] = {
        "n": 20,
        "error_ours": 2 * (1 - reduction),
        "error_theirs": 2.0,
        "reduction": reduction,
        "interval": None,
        "p_better": 0.004,
        "p_worse": 0.9,
        "p_not_inferior": 0.001,
        "detectable": None,
        "needed": None,
        "penalised": 0,
        "left_out": 0,
        "no_answer": 0,
    }
    return ArmComparison(**{**given, **values})


def look(**values: Any) -> LookEvidence:
    given: dict[str, Any] = {"number": 7, "level": 0.0031, "spent": 0.021, "yearly_level": 0.05}
    given |= {"photographs": 20, "fresh": 1, "candidates": 7, "p_value": 0.002}
    return LookEvidence(**{**given, **values})


@pytest.mark.parametrize(
    ("evidence", "p_better", "verdict", "says"),
    [
        (look(), 0.004, "PASS", "Look 7 of the year: this look may pass at p <= 0.0031"),
        (look(), 0.004, "PASS", "0.021 of the year's 0.05 is spent"),
        (look(p_value=0.0032), 0.004, "INCONCLUSIVE", "the looks of this year don't show it yet"),
        (look(), 0.06, "INCONCLUSIVE", "may be chance"),
        (look(level=0.0), 0.0001, "INCONCLUSIVE", "the looks of this year are spent"),
        (None, 0.009, "PASS", "No registry counts the looks"),
        (None, 0.02, "INCONCLUSIVE", "can't promote it"),
    ],
)
def test_score_gate_passes_at_the_level_of_its_look(
    evidence: LookEvidence | None, p_better: float, verdict: str, says: str
) -> None:
    measured = GateMeasurements(against_base=comparison(0.3, p_better=p_better), look=evidence)
    result = SCORE_ERROR.evaluate(measured, RECIPE)
    assert (result.verdict, says in result.sentence) == (verdict, True), result.sentence


def test_evidence_averages_over_the_candidates_of_each_photograph() -> None:
    own = {f"photo-{k}": 1.0 for k in range(8)}
    alone = look_evidence(None, own, first_level=0.01, yearly_level=0.05, seed=0)
    assert (alone.number, alone.level, alone.candidates) == (None, 0.01, 1)
    assert alone.p_value == 0.5**8
    counted = {"number": 3, "level": 0.002, "spent": 0.012, "yearly_level": 0.05, "fresh": 0}
    opposite = [dict.fromkeys(own, -3.0)]
    worse = look_evidence({**counted, "earlier": opposite}, own, first_level=0.01, yearly_level=0.05, seed=0)
    assert (worse.candidates, worse.p_value) == (2, 1.0)
    other = [{f"other-{k}": 1.0 for k in range(4)}]
    more = look_evidence({**counted, "earlier": other}, own, first_level=0.01, yearly_level=0.05, seed=0)
    assert more.p_value == 0.5**12


@pytest.mark.parametrize(
    ("reduction", "p_not_inferior", "verdict"),
    [(0.001, 0.01, "PASS"), (0.0, 0.01, "PASS"), (-0.001, 0.01, "INCONCLUSIVE"), (0.001, 0.06, "INCONCLUSIVE")],
)
def test_candidate_observed_above_the_champion_does_not_replace_it(
    reduction: float, p_not_inferior: float, verdict: str
) -> None:
    compared = comparison(reduction, p_not_inferior=p_not_inferior)
    measured = GateMeasurements(has_champion=True, against_champion=compared)
    assert CHAMPION_COMPARISON.evaluate(measured, RECIPE).verdict == verdict


@pytest.mark.parametrize(
    ("compared", "verdict"),
    [
        (comparison(0.01, p_not_inferior=0.04), "PASS"),
        (comparison(0.01, p_not_inferior=0.06), "INCONCLUSIVE"),
        (comparison(-0.01, p_not_inferior=0.04), "PASS"),
        (comparison(-0.2, p_not_inferior=0.9, p_worse=0.01), "FAIL"),
        (comparison(0.1, n=7), "INCONCLUSIVE"),
        (comparison(0.1, no_answer=5), "INCONCLUSIVE"),
        (None, "INCONCLUSIVE"),
    ],
)
def test_best_champion_gate(compared: ArmComparison | None, verdict: str) -> None:
    measured = GateMeasurements(has_champion=True, best_champion="v0002", against_best=compared)
    result = BEST_CHAMPION_COMPARISON.evaluate(measured, RECIPE)
    assert result.verdict == verdict
    assert "v0002" in result.sentence
    assert not BEST_CHAMPION_COMPARISON.applies(replace(measured, best_champion=None))


NOTHING_KNOWN = TrainingProvenance(photo_ids=frozenset({"elsewhere"}))


def test_best_champion_answers_as_an_arm_of_its_own(run: Run, fake_model: Any, tmp_path: Path) -> None:
    """The candidate equals the champion, which is worse than the best champion: one gate passes, the other does not."""
    best = adapter(tmp_path, "best_champion")
    critics = {name: fake_model.noisy_critic(spread) for name, spread in _SPREADS.items()}
    report = run(
        fake_model.FakeModel(critics=critics),
        champion="champion",
        champion_trained=NOTHING_KNOWN,
        best=BestChampion("v0001", best, NOTHING_KNOWN),
    )
    assert report.gate("champion").verdict == "PASS"
    assert report.gate("best_champion").verdict == "FAIL"
    assert report.verdict == "FAIL"
    assert (
        report.metrics["arms"]["best_champion"]["scores"]["mse"] < report.metrics["arms"]["champion"]["scores"]["mse"]
    )
    asked = {(outcome.arm) for outcome in load_evaluation_samples(tmp_path / "run" / "samples.jsonl").outcomes}
    assert asked == {"base", "candidate", "champion", "best_champion"}


_SPREADS = {"base": 3.0, "candidate": 1.5, "champion": 2.0, "best_champion": 0.3}


def test_best_champion_that_is_the_champion_is_asked_once(run: Run, fake_model: Any, tmp_path: Path) -> None:
    champion = adapter(tmp_path, "champion")
    critics = {name: fake_model.noisy_critic(spread) for name, spread in _SPREADS.items() if name != "best_champion"}
    report = run(
        fake_model.FakeModel(critics=critics),
        champion="champion",
        champion_trained=NOTHING_KNOWN,
        best=BestChampion("v0001", champion, NOTHING_KNOWN),
    )
    assert report.gate("best_champion").n == report.gate("champion").n == 20
    assert "best_champion" not in report.metrics["arms"]


def test_report_says_which_look_it_is(run: Run, fake_model: Any, tmp_path: Path) -> None:
    critics = {"base": fake_model.noisy_critic(2.0), "candidate": fake_model.noisy_critic(1.0)}
    counted = {"number": 3, "level": 0.002, "spent": 0.012, "yearly_level": 0.05, "fresh": 2, "earlier": []}
    report = run(fake_model.FakeModel(critics=critics), look=counted)
    written = json.loads((tmp_path / "run" / "comparison_report.json").read_text())
    assert written["look"]["number"] == 3
    assert written["look"]["p_value"] == report.look["p_value"] <= 0.002  # type: ignore[index]
    assert "Look 3 of the year" in report.gate("score_error").sentence
    assert len(written["metrics"]["against_base"]["differences"]) == 20


def test_first_look_cannot_spend_more_than_the_year() -> None:
    from mondrian_core.errors import BadRecipe

    with pytest.raises(BadRecipe, match="first_look_level"):
        recipe_from_values({"gates": {"yearly_level": 0.01, "first_look_level": 0.02}})
