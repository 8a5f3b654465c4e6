"""An adapter trained on the full dataset: only the folds measure scores, and no training photograph is a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mondrian_core.evaluation import (
    EvaluationReport,
    GateResult,
    LabelledPhotograph,
    TrainingProvenance,
    rescore_evaluation,
)
from mondrian_core.evaluation.blind import preference
from mondrian_core.evaluation.measure.samples import load_evaluation_samples
from mondrian_core.near_duplicates import photograph_fingerprint
from mondrian_core.photograph_model import Question
from mondrian_core.recipes import Recipe, recipe_from_values
from mondrian_core.rubric import DIMENSIONS
from tests.evaluation.fake_training import FakeFoldTrainer, make_fold_model, make_folding

Run = Callable[..., EvaluationReport]


@pytest.fixture
def recipe() -> Recipe:
    return recipe_from_values(
        {"evaluate": {"compliance_photographs": 60, "edited_photographs": 0, "constrained_photographs": 0, "folds": 4}}
    )


@pytest.fixture
def labelled(labelled: list[LabelledPhotograph]) -> list[LabelledPhotograph]:
    """Twenty photographs that aren't near-duplicates: blocks of grey above and below the stripes."""
    found = []
    for number, entry in enumerate(labelled):
        pixels = np.asarray(entry.image).copy()
        for rows in (slice(0, 24), slice(48, 72)):
            blocks = np.random.default_rng([number, rows.start]).integers(0, 256, (3, 12), dtype=np.uint8)
            pixels[rows] = np.repeat(np.kron(blocks, np.ones((8, 10), dtype=np.uint8))[:, :, None], 3, axis=2)
        found.append(replace(entry, image=Image.fromarray(pixels)))
    return found


def knowing(entries: list[LabelledPhotograph], *, everything: bool = True) -> TrainingProvenance:
    """The provenance of an adapter trained on these photographs."""
    return TrainingProvenance(
        photo_ids=frozenset(entry.photograph for entry in entries),
        fingerprints=tuple(photograph_fingerprint(entry.photograph, entry.image) for entry in entries),
        scores=tuple(entry.scores for entry in entries),
        critiques=tuple(entry.critique or "" for entry in entries),
        whole_dataset=everything,
    )


@pytest.fixture
def whole(run: Run, tmp_path: Path, labelled: list[LabelledPhotograph]) -> Callable[..., EvaluationReport]:
    """Evaluate an adapter trained on all twenty photographs, with folds over them."""

    def evaluate(model: Any, out: str = "run", **options: Any) -> EvaluationReport:
        school = options.pop("school", None) or FakeFoldTrainer(tmp_path, labelled)
        given = {"trained": knowing(labelled), "cross_validation": make_folding(school, labelled), "split": "folds"}
        return run(model, [], out=out, **(given | options))

    return evaluate


def part(report: EvaluationReport, name: str) -> GateResult:
    return next(part for part in report.gate("health").parts if part.name == name)


def live(fake_model: Any, spread: float, champion: float) -> Any:
    model = make_fold_model(fake_model, spread)
    model.critics["live"] = fake_model.noisy_critic(champion)
    return model


def test_only_folds_measure_scores_and_sentence_says_so(
    whole: Callable[..., EvaluationReport], fake_model: Any, labelled: list[LabelledPhotograph], tmp_path: Path
) -> None:
    model = make_fold_model(fake_model, 0.8)
    report = whole(model)
    gate = report.gate("score_error")
    assert (gate.verdict, gate.n) == ("PASS", 20)
    assert "not this adapter (no held-out photographs: it was trained on all 20)" in gate.sentence
    known = {int(entry.photograph[-2:]) for entry in labelled}
    assert not known & {number for arm, number in model.asked if arm == "candidate"}
    found = report.metrics["arms"]["candidate"]
    assert found["scores"]["n"] == found["written_scores"]["n"] == 0
    counts = report.metrics["photographs"]
    assert (counts["labelled"], counts["unlabelled_own"], report.metrics["untested"]) == (0, 60, 20)
    assert report.metrics["per_photograph"] == [] and report.metrics["against_base"] is None
    samples = load_evaluation_samples(tmp_path / "run" / "samples.jsonl")
    asked = {outcome.photograph for outcome in (*samples.outcomes, *samples.constrained)} | set(samples.divergences)
    assert not asked & {entry.photograph for entry in labelled}
    assert report.verdict == "PASS"


def test_memorizing_adapter_is_not_credited(whole: Callable[..., EvaluationReport], fake_model: Any) -> None:
    """The shipped adapter is perfect on what it was trained on; its recipe isn't better than the base elsewhere."""
    model = make_fold_model(fake_model, 3.0)
    model.critics["candidate"] = fake_model.noisy_critic(0.0)
    assert whole(model).gate("score_error").verdict == "FAIL"


def test_training_photographs_as_test_fail_contamination(
    whole: Callable[..., EvaluationReport],
    run: Run,
    fake_model: Any,
    labelled: list[LabelledPhotograph],
    tmp_path: Path,
) -> None:
    """What would happen if a stage handed trained photographs over as a test: a FAIL, however good the figures are."""
    model = make_fold_model(fake_model, 0.8)
    model.critics["candidate"] = fake_model.noisy_critic(0.0)
    report = run(model, labelled, trained=knowing(labelled))
    assert report.gate("score_error").verdict == "PASS"
    assert (part(report, "leakage").verdict, report.verdict) == ("FAIL", "FAIL")


def test_report_states_source_of_figures(
    whole: Callable[..., EvaluationReport], fake_model: Any, tmp_path: Path, labelled: list[LabelledPhotograph]
) -> None:
    whole(make_fold_model(fake_model, 0.8))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "trained on all 20 photographs that the advisor critiqued: none is held out to measure it" in page
    assert "Compared with the advisor's scores, by folds" in page
    assert "None of these adapters is the one that would go live" in page
    assert page.count("<article>") >= 4 and 'src="data:image/jpeg;base64,' in page
    assert "never trained on, for format, effect and time" in page


def test_preferences_compare_critiques_of_folds(
    whole: Callable[..., EvaluationReport], fake_model: Any, labelled: list[LabelledPhotograph], tmp_path: Path
) -> None:
    whole(make_fold_model(fake_model, 0.8))
    samples = load_evaluation_samples(tmp_path / "run" / "samples.jsonl")
    pairs = preference.blind_pairs(samples)
    assert {pair.photograph for pair in pairs} == {entry.photograph for entry in labelled}
    assert all(pair.picture for pair in pairs) and "<img" in preference.blind_page(samples)


def test_without_folds_scores_are_inconclusive(run: Run, fake_model: Any, labelled: list[LabelledPhotograph]) -> None:
    report = run(make_fold_model(fake_model, 0.8), [], trained=knowing(labelled), split="folds")
    for gate in (report.gate("score_error"), part(report, "leakage")):
        assert gate.verdict == "INCONCLUSIVE"
        assert "the adapter was trained on all 20. Use --folds K" in gate.sentence
    assert part(report, "photograph_dependence").verdict == "INCONCLUSIVE"
    assert report.gate("format_compliance").verdict == "PASS"
    assert any("--folds 5" in step for step in report.next_steps)


def test_later_photographs_evaluate_adapter_itself(
    run: Run, fake_model: Any, labelled: list[LabelledPhotograph], tmp_path: Path
) -> None:
    model = make_fold_model(fake_model, 3.0)
    school = FakeFoldTrainer(tmp_path, labelled)
    report = run(model, labelled[11:], trained=knowing(labelled[:11]), cross_validation=make_folding(school, labelled))
    gate = report.gate("score_error")
    assert (gate.verdict, gate.n) == ("PASS", 9)  # the folds alone would give FAIL
    assert "By folds" not in gate.sentence
    assert report.metrics["untested"] is None


def test_critique_in_prompt_contaminates_folds(
    whole: Callable[..., EvaluationReport], fake_model: Any, labelled: list[LabelledPhotograph], tmp_path: Path
) -> None:
    from mondrian_core.prompts import AdvisorPrompt

    said = "The black sky presses on the white cross and the whole valley listens."
    text = fake_model.canonical_answer(
        fake_model.make_critique(dict.fromkeys(DIMENSIONS, 5), dict.fromkeys(DIMENSIONS, said))
    )
    entries = [replace(labelled[0], critique=text), *labelled[1:]]
    school = FakeFoldTrainer(tmp_path, labelled)
    quoting = AdvisorPrompt("ansel", "Ansel Adams", prompt=f"You are Ansel. For example: {said}")
    sound = whole(make_fold_model(fake_model, 0.8), out="sound")
    leaking = whole(make_fold_model(fake_model, 0.8), cross_validation=make_folding(school, entries), voice=quoting)
    assert (part(sound, "leakage").verdict, part(leaking, "leakage").verdict) == ("PASS", "FAIL")
    assert "No photograph of a fold was known to the adapter that judged it" in part(sound, "leakage").sentence


def test_near_duplicates_in_two_folds_are_contamination(
    whole: Callable[..., EvaluationReport], fake_model: Any, labelled: list[LabelledPhotograph], tmp_path: Path
) -> None:
    twin = labelled[0].image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    entries = [labelled[0], replace(labelled[1], image=twin), *labelled[2:]]
    report = whole(
        make_fold_model(fake_model, 0.8), cross_validation=make_folding(FakeFoldTrainer(tmp_path, labelled), entries)
    )
    assert "looks like one that was trained on" in part(report, "leakage").sentence


# --- the folds' answers and the photograph ---


def test_folds_detect_image_blind_recipe(whole: Callable[..., EvaluationReport], fake_model: Any) -> None:
    """Each fold's adapter has its own level: pooled over folds that alone would look like an eye, or like none."""
    looking = whole(make_fold_model(fake_model, 0.8), out="looking")
    found = part(looking, "photograph_dependence")
    assert (found.verdict, found.n) == ("PASS", 20)
    assert "exchanged ones of the same fold" in found.sentence and "By folds" in found.sentence
    model = make_fold_model(fake_model, 0.8)
    model.critics |= {f"fold-{k}": (lambda truth, rng, level=k: 3.5 + level + rng.normal(0, 0.5, 8)) for k in range(4)}
    assert part(whole(model, out="blind"), "photograph_dependence").verdict != "PASS"


def test_calibration_is_within_folds(whole: Callable[..., EvaluationReport], fake_model: Any) -> None:
    """Right up to a level that each fold's adapter has of its own: pooled, the levels would flatten the slope."""
    model = make_fold_model(fake_model, 0.8)
    model.critics |= {
        f"fold-{k}": (lambda truth, rng, level=k: 2 + 0.5 * truth + 1.5 * (level - 1.5)) for k in range(4)
    }
    found = whole(model).metrics["folds"]["health"]["arms"]["candidate"]
    assert found["calibration_slope"] == pytest.approx(2.0, abs=0.15)
    assert found["spread_ratio"] == pytest.approx(0.5, abs=0.05)


def test_collapse_is_measured_on_the_adapter_itself(
    whole: Callable[..., EvaluationReport], run: Run, fake_model: Any, labelled: list[LabelledPhotograph]
) -> None:
    model = make_fold_model(fake_model, 0.8)
    model.critics["candidate"] = fake_model.constant_critic(8)
    found = part(whole(model), "mode_collapse")
    assert (found.verdict, found.n) == ("FAIL", 60)
    alone = part(run(model, [], trained=knowing(labelled), out="alone"), "mode_collapse")
    assert alone.verdict == "INCONCLUSIVE" and "no critique says" in alone.sentence


# --- against a champion ---


@pytest.mark.parametrize(
    ("spread", "verdict"), [(0.5, "PASS"), (3.5, "FAIL")]
)  # the champion is off by 2; the base by as much
def test_champion_is_compared_on_photographs_neither_was_trained_on(
    whole: Callable[..., EvaluationReport],
    fake_model: Any,
    labelled: list[LabelledPhotograph],
    spread: float,
    verdict: str,
) -> None:
    model = live(fake_model, spread, 2.0)
    report = whole(model, champion="live", champion_trained=knowing(labelled[:12]))
    gate = report.gate("champion")
    assert (gate.verdict, gate.n) == (verdict, 8)
    assert gate.sentence.startswith(
        "By folds, which measure the recipe and not this adapter (no held-out photographs: it was trained on all"
    )
    assert {number for arm, number in model.asked if arm == "live"} == set(range(12, 20))
    assert report.metrics["folds"]["champion_saw"] == 12
    assert "champion" not in report.metrics["folds"]["arms"]  # eight photographs next to twenty would mislead


def test_champion_trained_on_nearly_all_is_inconclusive_with_advice(
    whole: Callable[..., EvaluationReport], fake_model: Any, labelled: list[LabelledPhotograph]
) -> None:
    few = whole(live(fake_model, 0.5, 2.0), champion="live", champion_trained=knowing(labelled[:14])).gate("champion")
    assert (few.verdict, few.n) == ("INCONCLUSIVE", 6)
    assert "the champion was on 14 of the others" in few.sentence
    assert "add 2 critiques of photographs that the champion hasn't seen" in few.sentence
    assert "promote manually with a reason" in few.sentence
    none = whole(live(fake_model, 0.5, 2.0), out="none", champion="live", champion_trained=knowing(labelled))
    assert (none.gate("champion").verdict, none.gate("champion").n) == ("INCONCLUSIVE", 0)
    assert "add 8 critiques" in none.gate("champion").sentence
    assert none.verdict == "INCONCLUSIVE"


def test_near_duplicate_of_champions_training_data_does_not_count(
    whole: Callable[..., EvaluationReport], fake_model: Any, labelled: list[LabelledPhotograph]
) -> None:
    seen = [*labelled[:11], replace(labelled[11], photograph="another photograph")]
    gate = whole(live(fake_model, 0.5, 2.0), champion="live", champion_trained=knowing(seen)).gate("champion")
    assert gate.n == 8


def test_champion_with_unknown_training_is_not_compared_by_folds(
    whole: Callable[..., EvaluationReport], fake_model: Any
) -> None:
    model = live(fake_model, 0.5, 2.0)
    gate = whole(model, champion="live", champion_trained=None).gate("champion")
    assert gate.verdict == "INCONCLUSIVE" and "isn't known" in gate.sentence
    assert not [arm for arm, _ in model.asked if arm == "live"]


def test_held_out_photographs_of_champions_training_are_excluded(
    run: Run, fake_model: Any, labelled: list[LabelledPhotograph]
) -> None:
    """The dataset grew: part of last month's training photographs is now held out."""
    model = live(fake_model, 0.8, 1.0)
    model.critics["candidate"] = fake_model.noisy_critic(1.0)
    report = run(model, labelled, champion="live", champion_trained=knowing(labelled[:5]))
    assert report.gate("champion").n == 15
    assert {number for arm, number in model.asked if arm == "live"} == set(range(5, 20))
    assert report.gate("score_error").n == 20


def test_interruption_between_fold_and_champion_resumes_without_training(
    whole: Callable[..., EvaluationReport],
    fake_model: Any,
    labelled: list[LabelledPhotograph],
    tmp_path: Path,
    recipe: Recipe,
) -> None:
    class Impatient(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            asks_champion = question.adapter is not None and question.adapter.name == "live"
            if asks_champion and len([arm for arm, _ in self.asked if arm == "live"]) == 3:
                raise KeyboardInterrupt
            return super().ask(question, **options)

    options = {"champion": "live", "champion_trained": knowing(labelled[:12])}
    with pytest.raises(KeyboardInterrupt):
        whole(Impatient(critics=live(fake_model, 0.5, 2.0).critics), **options)
    trainer = FakeFoldTrainer(tmp_path, labelled)
    report = whole(live(fake_model, 0.5, 2.0), school=trainer, **options)
    assert [fold for fold, _ in trainer.trained] == [2, 3]
    assert report.gate("champion").n == 8
    assert rescore_evaluation(tmp_path / "run", recipe, tmp_path / "again") == report
