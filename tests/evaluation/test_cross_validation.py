"""Cross-validation: no photograph is evaluated by an adapter trained on it, and the report explains folds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mondrian_core.evaluation import EvaluationReport, LabelledPhotograph, rescore_evaluation
from mondrian_core.recipes import Recipe, recipe_from_values
from tests.evaluation.fake_training import FakeFoldTrainer, make_fold_model, make_folding

Run = Callable[..., EvaluationReport]


@pytest.fixture
def recipe() -> Recipe:
    return recipe_from_values(
        {"evaluate": {"compliance_photographs": 30, "edited_photographs": 0, "constrained_photographs": 0, "folds": 4}}
    )


def test_each_fold_is_evaluated_by_an_adapter_not_trained_on_it(
    run: Run, fake_model: Any, labelled: list[LabelledPhotograph], tmp_path: Path, recipe: Recipe
) -> None:
    trainer, model = FakeFoldTrainer(tmp_path, labelled), make_fold_model(fake_model, 0.8)
    report = run(model, labelled[:3], cross_validation=make_folding(trainer, labelled))
    assert [fold for fold, _ in trainer.trained] == [0, 1, 2, 3]
    for fold, photo_ids in trainer.trained:
        assert photo_ids == {name for name, other in trainer.fold_of.items() if other != fold}
    asked = {(arm, number) for arm, number in model.asked if arm.startswith("fold-")}
    assert asked == {(f"fold-{trainer.fold_of[entry.photograph]}", int(entry.photograph[-2:])) for entry in labelled}
    found = report.metrics["folds"]
    assert (found["count"], found["photographs"], found["against_base"]["n"]) == (4, 20, 20)
    assert sum(each["n"] for each in found["by_fold"]) == 20
    assert {"fold_mean", "always_8", "base_calibrated"} <= set(found["rivals"])


def test_folds_decide_when_holdout_is_too_small(
    run: Run, fake_model: Any, labelled: list[LabelledPhotograph], tmp_path: Path, recipe: Recipe
) -> None:
    few = run(make_fold_model(fake_model, 0.8), labelled[:3], out="few").gate("score_error")
    assert few.verdict == "INCONCLUSIVE"
    gate = run(
        make_fold_model(fake_model, 0.8),
        labelled[:3],
        cross_validation=make_folding(FakeFoldTrainer(tmp_path, labelled), labelled),
        out="folds",
    ).gate("score_error")
    assert (gate.verdict, gate.n) == ("PASS", 20)
    assert "not this adapter" in gate.sentence


def test_recipe_without_gain_fails_by_folds(
    run: Run, fake_model: Any, labelled: list[LabelledPhotograph], tmp_path: Path, recipe: Recipe
) -> None:
    trainer = FakeFoldTrainer(tmp_path, labelled)
    report = run(make_fold_model(fake_model, 3.0), labelled[:3], cross_validation=make_folding(trainer, labelled))
    assert report.gate("score_error").verdict == "FAIL"


def test_enough_held_out_photographs_overrule_folds(
    run: Run, fake_model: Any, labelled: list[LabelledPhotograph], tmp_path: Path, recipe: Recipe
) -> None:
    model = make_fold_model(fake_model, 0.1)
    model.critics["candidate"] = fake_model.noisy_critic(3.0)
    report = run(model, labelled, cross_validation=make_folding(FakeFoldTrainer(tmp_path, labelled), labelled))
    assert report.gate("score_error").verdict == "FAIL"
    assert report.metrics["folds"]["against_base"]["reduction"] > 0.5


def test_report_explains_cross_validation(
    run: Run, fake_model: Any, labelled: list[LabelledPhotograph], tmp_path: Path, recipe: Recipe
) -> None:
    run(
        make_fold_model(fake_model, 0.8),
        labelled[:3],
        cross_validation=make_folding(FakeFoldTrainer(tmp_path, labelled), labelled),
    )
    page = (tmp_path / "run" / "report.html").read_text()
    assert "This measures the recipe" in page
    assert "The evaluated adapter is none of these: it is trained on the 20 photographs of the training split" in page


def test_report_warns_when_shifted_base_is_better(
    run: Run, fake_model: Any, labelled: list[LabelledPhotograph], tmp_path: Path, recipe: Recipe
) -> None:
    """Observed on mini with 16 training photographs: 21 % below the base, but above the calibrated base."""
    model = make_fold_model(fake_model, 1.2)
    model.critics["base"] = fake_model.noisy_critic(0.5, shift=2)
    report = run(model, labelled[:3], cross_validation=make_folding(FakeFoldTrainer(tmp_path, labelled), labelled))
    assert report.metrics["folds"]["against_base"]["reduction"] > 0.2
    gate = report.gate("beyond_calibration")
    assert gate.verdict == "FAIL" and "By folds" in gate.sentence and "photographs of the other folds" in gate.sentence
    assert report.gain.startswith("By folds, which measure the recipe: ")
    assert any(step.startswith("A calibration of the base gets as close") for step in report.next_steps)
    assert any(step.startswith("By folds the recipe doesn't beat the base with shifted") for step in report.next_steps)


def test_interrupted_folds_resume_and_rescore_without_training(
    run: Run, fake_model: Any, labelled: list[LabelledPhotograph], tmp_path: Path, recipe: Recipe
) -> None:
    class Impatient(FakeFoldTrainer):
        def __call__(self, fold: int, photo_ids: frozenset[str]) -> Path:
            if fold == 2:
                raise KeyboardInterrupt
            return super().__call__(fold, photo_ids)

    with pytest.raises(KeyboardInterrupt):
        run(
            make_fold_model(fake_model, 0.8),
            labelled[:3],
            cross_validation=make_folding(Impatient(tmp_path, labelled), labelled),
        )
    trainer, model = FakeFoldTrainer(tmp_path, labelled), make_fold_model(fake_model, 0.8)
    report = run(model, labelled[:3], cross_validation=make_folding(trainer, labelled))
    assert [fold for fold, _ in trainer.trained] == [2, 3]
    assert report.metrics["folds"]["photographs"] == 20
    assert rescore_evaluation(tmp_path / "run", recipe, tmp_path / "again") == report


def test_fold_mean_excludes_its_own_fold() -> None:
    from mondrian_core.evaluation.measure.cross_validation import other_fold_means
    from mondrian_core.rubric import DIMENSIONS

    labels = {str(k): dict.fromkeys(DIMENSIONS, float(k)) for k in range(4)}
    means = other_fold_means(labels, {"0": 0, "1": 0, "2": 1, "3": 1})
    assert np.array_equal(means[:, 0], [2.5, 2.5, 0.5, 0.5])
