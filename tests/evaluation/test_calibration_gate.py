"""The gate `beyond_calibration`: an adapter that is a calibrated base never passes it, a real gain does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from bench.calibration_gate import GAINS, NULLS, calibration_gate_pass_rates
from mondrian_core.evaluation import EvaluationReport, LabelledPhotograph
from mondrian_core.evaluation.gates.definitions import GATES
from mondrian_core.evaluation.gates.gate import REPORTED_ONLY
from mondrian_core.evaluation.measure.samples import load_evaluation_samples
from mondrian_core.evaluation.report.builder import build_evaluation_report
from mondrian_core.evaluation.report.gain import gain_sentence
from mondrian_core.recipes import Recipe
from mondrian_core.registry import ChampionReference
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.stages.promotion_decision import Keep, Promote, Reject, decide_promotion

Run = Callable[..., EvaluationReport]
NAME = "beyond_calibration"


def own_noise(truth: np.ndarray, spread: float) -> np.ndarray:
    """Errors that belong to the photograph: base and adapter make the same ones."""
    return np.random.default_rng(np.round(truth * 20).astype(int)).normal(0, spread, len(truth))


def critics(gain: float) -> dict[str, Any]:
    """A base that is 2 points too strict, and an adapter without this offset that also errs less by `gain` (0-1)."""
    return {
        "base": lambda truth, rng: truth - 2 + own_noise(truth, 1.5),
        "candidate": lambda truth, rng: truth + (1 - gain) * own_noise(truth, 1.5),
    }


def photographs(fake_model: Any, count: int, first: int) -> list[LabelledPhotograph]:
    """Photographs with scores in the middle of the range, so that hardly any answer is cut off at 0 or 10."""
    rng, found = np.random.default_rng(first), []
    for number in range(first, first + count):
        scores = {name: float(rng.integers(4, 8)) for name in DIMENSIONS}
        critique = fake_model.answer_text(np.array([scores[name] for name in DIMENSIONS]), "Austere")
        image = fake_model.photograph(scores, number)
        found.append(
            LabelledPhotograph(photograph=f"photo-{number:03d}", image=image, scores=scores, critique=critique)
        )
    return found


def requiring(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"gates": recipe.gates.model_copy(update={NAME: "required"})})


@pytest.fixture
def evaluated(run: Run, fake_model: Any) -> Callable[..., EvaluationReport]:
    """Evaluate an adapter with this gain; options that aren't given: 20 photographs, 40 of training."""

    def evaluate(gain: float, tested: int = 20, training: int = 40, **options: Any) -> EvaluationReport:
        model = options.pop("model", None) or fake_model.FakeModel(critics=critics(gain))
        more = photographs(fake_model, training, 300)
        return run(model, photographs(fake_model, tested, 200), training_photographs=more, **options)

    return evaluate


def decision(report: EvaluationReport) -> Promote | Keep | Reject:
    champion = ChampionReference()
    return decide_promotion({**report.as_dict(), "compared_with": champion.as_dict()}, champion, gates=GATES)


def test_shifted_base_is_reported_and_still_promoted(evaluated: Callable[..., EvaluationReport]) -> None:
    report = evaluated(0.0)
    gate = report.gate(NAME)
    assert report.gate("score_error").verdict == "PASS" and gate.verdict != "PASS"
    assert not gate.decides and gate.sentence.endswith(REPORTED_ONLY)
    assert (report.verdict, type(decision(report))) == ("PASS", Promote)
    assert "most of the gain is an offset" in report.gain and "the base with shifted" in report.gain
    assert len(report.next_steps) > 1, "advice about the reported gate comes after the way to promote"


def test_shifted_base_is_not_promoted_where_the_recipe_requires_more(
    evaluated: Callable[..., EvaluationReport], recipe: Recipe
) -> None:
    report = evaluated(0.0, recipe=requiring(recipe))
    assert report.gate(NAME).decides and REPORTED_ONLY not in report.gate(NAME).sentence
    assert report.verdict == report.gate(NAME).verdict != "PASS"
    assert isinstance(decision(report), Keep | Reject)


def test_gain_that_depends_on_the_photograph_passes(evaluated: Callable[..., EvaluationReport], recipe: Recipe) -> None:
    report = evaluated(0.5, recipe=requiring(recipe))
    gate = report.gate(NAME)
    assert (gate.verdict, report.verdict, gate.n) == ("PASS", "PASS", 20), gate.sentence
    assert "usually show a reduction of" in gate.sentence and "fitted on 40 training photographs" in gate.sentence
    assert gate.threshold is not None and gate.threshold > recipe.gates.score_improvement, "the fit has a cost"


@pytest.mark.parametrize(("tested", "training"), [(6, 40), (7, 0)])
def test_few_photographs_are_inconclusive(
    evaluated: Callable[..., EvaluationReport], tested: int, training: int
) -> None:
    assert evaluated(0.9, tested, training).gate(NAME).verdict == "INCONCLUSIVE"


def test_without_training_photographs_calibrations_are_cross_fitted(
    evaluated: Callable[..., EvaluationReport],
) -> None:
    gate = evaluated(0.6, tested=30, training=0).gate(NAME)
    assert gate.verdict == "PASS" and "fitted on 24 of the other tested photographs" in gate.sentence


def test_only_the_base_answers_training_photographs_and_only_once(
    evaluated: Callable[..., EvaluationReport], fake_model: Any, tmp_path: Path, recipe: Recipe
) -> None:
    model = fake_model.FakeModel(critics=critics(0.0))
    evaluated(0.0, model=model, cache=tmp_path / "cache")
    asked = [arm for arm, number in model.asked if number >= 300 - 256 and number < 340 - 256]
    assert asked == ["base"] * 40
    known = load_evaluation_samples(tmp_path / "run" / "samples.jsonl").calibration
    assert len(known) == 40 and known[0].scores != known[1].scores
    evaluated(0.0, model=model, cache=tmp_path / "cache", out="again")
    assert model.asked.count(("base", 300 - 256)) == 1, "the second evaluation takes them from the cache"
    fewer = recipe.evaluate.model_copy(update={"calibration_photographs": 12})
    report = evaluated(0.0, out="fewer", recipe=recipe.model_copy(update={"evaluate": fewer}))
    assert "fitted on 12 training photographs" in report.gate(NAME).sentence


def test_page_shows_the_gain_on_its_first_screen(evaluated: Callable[..., EvaluationReport], tmp_path: Path) -> None:
    report = evaluated(0.0)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    header = page[page.index("<header") : page.index("</header>")]
    assert report.gain and report.gain in header and report.gain in report.markdown()
    assert 'class="errors"' in page and "the base with shifted and stretched scores" in page
    assert "The scores that people read" in page


def test_adapter_that_is_a_shifted_base_passes_in_at_most_5_percent_of_simulations() -> None:
    runs = 60
    found = calibration_gate_pass_rates(runs, NULLS, training=True, sizes=(20,), seed=3)
    assert max(found.values()) <= binom.ppf(0.995, runs, 0.05) / runs, found


def test_gate_finds_a_large_gain_in_most_simulations() -> None:
    found = calibration_gate_pass_rates(20, GAINS[-1:], training=True, sizes=(20,), seed=4)
    assert min(found.values()) >= 0.8


def comparison(reduction: float | None, p: float = 0.03) -> dict[str, Any]:
    return {"reduction": reduction, "p_better": p}


def calibrations(chosen: str, reduction: float, offset: float | None, best: float | None) -> dict[str, Any]:
    return {
        "chosen": chosen,
        "against": comparison(reduction, 0.38),
        "offset_share": offset,
        "offset_interval": (0.7, 1.2) if offset else None,
        "best_share": best,
    }


@pytest.mark.parametrize(
    ("gain", "found", "sentence"),
    [
        (
            0.37,
            calibrations("base_shifted", 0.03, 0.95, 0.95),
            "37% lower error than the base; 3% lower than the base "
            "with shifted scores (p = 0.38): most of the gain is an offset (95% of it, 95% interval 70% to 120%).",
        ),
        (
            0.37,
            calibrations("base_calibrated", -0.1, 0.2, 0.9),
            "37% lower error than the base; 10% higher than the base "
            "with shifted and stretched scores (p = 0.38): most of the gain needs no adapter (90% of it).",
        ),
        (
            0.37,
            calibrations("base_shifted", 0.3, 0.2, 0.2),
            "37% lower error than the base; 30% lower than the base with "
            "shifted scores (p = 0.38): an offset brings 20% of the gain (95% interval 70% to 120%).",
        ),
        (
            -0.1,
            calibrations("base_shifted", -0.3, None, None),
            "10% higher error than the base; 30% higher than the base with shifted scores (p = 0.38).",
        ),
        (
            0.2,
            calibrations("base", 0.2, 0.1, 0.0),
            "20% lower error than the base (p = 0.38), which no calibration improves.",
        ),
        (0.2, None, "20% lower error than the base (p = 0.03); no calibration of the base could be fitted."),
        (None, None, ""),
    ],
)
def test_gain_sentence(gain: float | None, found: dict[str, Any] | None, sentence: str) -> None:
    assert gain_sentence(comparison(gain), found) == sentence


def test_report_without_the_gate_can_still_be_read(
    evaluated: Callable[..., EvaluationReport], tmp_path: Path, recipe: Recipe
) -> None:
    """Reports of earlier releases have neither the gate nor the figures."""
    values = evaluated(0.5).as_dict()
    values["gates"] = [
        {key: value for key, value in gate.items() if key != "decides"}
        for gate in values["gates"]
        if gate["name"] != NAME
    ]
    values["metrics"] = {key: value for key, value in values["metrics"].items() if key not in ("calibrations", "gain")}
    old = EvaluationReport.from_dict(values)
    assert (old.gain, old.calibrations) == ("", None) and isinstance(decision(old), Promote)
    samples = load_evaluation_samples(tmp_path / "run" / "samples.jsonl")
    assert build_evaluation_report(samples, recipe).gate(NAME).verdict == "PASS"
