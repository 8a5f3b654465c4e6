"""The tail: rare catastrophes are found on photographs without labels, and an honest adapter isn't accused of any."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mondrian_core.evaluation import EvaluationReport, GateMeasurements, GateResult, TrainingProvenance
from mondrian_core.evaluation.gates.tail_gate import TAIL
from mondrian_core.evaluation.measure.metrics import compare_paired_errors, score_table
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.measure.photographs import FILE_INFO
from mondrian_core.evaluation.measure.samples import EvaluationSamples, load_evaluation_samples
from mondrian_core.evaluation.measure.tail import LEAST_DEVIATION, tail_measurement
from mondrian_core.evaluation.report.html_page import report_html
from mondrian_core.recipes import GateRecipe
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique

Run = Callable[..., EvaluationReport]
RECIPE = GateRecipe()
LABELLED, ALL = 20, 100
STRUCK = (30, 40, 50, 60, 70)  # photographs without labels


def advisor(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, D) scores of an advisor who likes or dislikes a photograph as a whole."""
    return np.clip(np.round(6 + rng.normal(0, 1.5, (n, 1)) + rng.normal(0, 0.7, (n, len(DIMENSIONS)))), 1, 10)


Change = Callable[[np.ndarray, np.ndarray, np.ndarray], None]


def make_samples(change: Change, *, n: int = ALL, labelled: int = LABELLED, seed: int = 3) -> EvaluationSamples:
    """Samples of an honest adapter: the base errs by 1.2 points, the candidate by 0.7.

    `change` alters labels, base's and candidate's scores, each (n, D), in place.
    """
    rng = np.random.default_rng(seed)
    labels = advisor(rng, n)
    base, candidate = labels + rng.normal(0, 1.2, labels.shape), labels + rng.normal(0, 0.7, labels.shape)
    change(labels, base, candidate)

    def scores(row: np.ndarray) -> dict[str, float]:
        return dict(zip(DIMENSIONS, map(float, row), strict=True))

    comments = dict.fromkeys(DIMENSIONS, "Plain.")
    return EvaluationSamples(
        labels={f"p{k}": {"scores": scores(labels[k]), "title": f"IMG_{k}.jpg"} for k in range(labelled)},
        outcomes=tuple(
            EvaluationOutcome(photograph=f"p{k}", arm=arm, status="valid", expected_scores=scores(rows[k]))
            for arm, rows in (("base", base), ("candidate", candidate))
            for k in range(n)
        ),
        training=tuple(
            canonical_answer(make_critique({name: round(v) for name, v in scores(row).items()}, comments))
            for row in advisor(rng, 40)
        ),
    )


def judged(samples: EvaluationSamples, recipe: GateRecipe = RECIPE) -> GateResult:
    table = score_table({name: record["scores"] for name, record in samples.labels.items()}, samples.outcomes)
    against = compare_paired_errors(table, "base", margin=0.1, wanted=0.05, seed=0) if samples.labels else None
    return TAIL.evaluate(GateMeasurements(samples=samples, against_base=against), recipe)


def unchanged(labels: np.ndarray, base: np.ndarray, candidate: np.ndarray) -> None:
    """The honest adapter."""


def strike(photographs: Collection[int], score: float) -> Change:
    """The candidate gives these photographs one score in every dimension, `score` points from the advisor's mean."""

    def change(labels: np.ndarray, base: np.ndarray, candidate: np.ndarray) -> None:
        rows = list(photographs)
        candidate[rows] = labels[rows] + np.where(labels[rows].mean(axis=1, keepdims=True) > 5.5, -score, score)

    return change


def test_catastrophes_without_labels_stop_an_adapter_that_passes_on_labelled_photographs() -> None:
    gate = judged(make_samples(strike(STRUCK, 5.0)))
    assert gate.verdict != "PASS"
    assert {part.name for part in gate.parts} == {f"p{k}" for k in STRUCK}
    assert gate.observed is None or gate.observed >= 1
    assert "5 of 100 answers are far from the base's: p" in gate.sentence


def test_honest_adapter_has_no_tail() -> None:
    gate = judged(make_samples(unchanged))
    assert (gate.verdict, gate.observed, gate.n, gate.parts) == ("PASS", 0.0, 100, ())


@pytest.mark.parametrize("points", [1.0, 3.0, 4.0])
def test_corrected_offset_of_the_base_is_no_tail(points: float) -> None:
    def offset(labels: np.ndarray, base: np.ndarray, candidate: np.ndarray) -> None:
        base += points * np.resize([1, -1], len(DIMENSIONS))

    assert judged(make_samples(offset)).verdict == "PASS"


def test_one_small_deviation_does_not_outweigh_the_gain() -> None:
    gate = judged(make_samples(strike([30], 3.0)))
    assert (gate.verdict, len(gate.parts)) == ("PASS", 1)
    assert gate.observed is not None and 0 < gate.observed < 1
    assert "even if they are wrong" in gate.sentence


def test_catastrophes_of_the_base_are_not_held_against_the_candidate() -> None:
    def base_fails(labels: np.ndarray, base: np.ndarray, candidate: np.ndarray) -> None:
        base[list(STRUCK)] = np.resize([0.0, 10.0], len(DIMENSIONS))

    known = make_samples(base_fails)
    gate = judged(known)
    assert (gate.verdict, {part.verdict for part in gate.parts}) == ("PASS", {"PASS"})
    assert "where the base is the one that is wrong" in gate.sentence
    unknown = EvaluationSamples(labels=known.labels, outcomes=known.outcomes)
    assert judged(unknown).verdict == "INCONCLUSIVE", "without the advisor's critiques nobody knows which arm is wrong"


def test_labels_show_that_the_candidate_is_right() -> None:
    def base_fails_on_labelled(labels: np.ndarray, base: np.ndarray, candidate: np.ndarray) -> None:
        base[3] = labels[3] + np.where(labels[3].mean() > 5.5, -5.0, 5.0)

    gate = judged(make_samples(base_fails_on_labelled))
    assert (gate.verdict, [part.name for part in gate.parts]) == ("PASS", ["p3"])
    assert "IMG_3.jpg" in gate.parts[0].sentence and "closer to the advisor" in gate.parts[0].sentence


def test_certain_catastrophes_fail() -> None:
    def unlike_anything(labels: np.ndarray, base: np.ndarray, candidate: np.ndarray) -> None:
        candidate[LABELLED : LABELLED + 15] = np.resize([0.0, 10.0], len(DIMENSIONS))

    gate = judged(make_samples(unlike_anything))
    assert (gate.verdict, {part.verdict for part in gate.parts}) == ("FAIL", {"FAIL"})
    assert gate.interval is not None and (gate.interval[0] or 0) >= 1
    assert "they cost more than the other photographs gain" in gate.sentence


@pytest.mark.parametrize(("n", "verdict"), [(58, "INCONCLUSIVE"), (59, "PASS")])
def test_too_few_photographs_are_inconclusive(n: int, verdict: str) -> None:
    gate = judged(make_samples(unchanged, n=n))
    assert (gate.verdict, "at least 59 photographs are needed" in gate.sentence) == (verdict, n < 59)


def test_uncertain_gain_can_not_outweigh_a_catastrophe() -> None:
    def no_gain(labels: np.ndarray, base: np.ndarray, candidate: np.ndarray) -> None:
        strike([30], 5.0)(labels, base, candidate)
        base[:LABELLED] = candidate[:LABELLED]

    gate = judged(make_samples(no_gain))
    assert (gate.verdict, gate.observed) == ("INCONCLUSIVE", None)
    assert judged(make_samples(strike([30], 5.0), labelled=0)).verdict == "INCONCLUSIVE"


def test_nothing_answered_is_inconclusive() -> None:
    assert TAIL.evaluate(GateMeasurements(), RECIPE).verdict == "INCONCLUSIVE"
    assert judged(EvaluationSamples()).verdict == "INCONCLUSIVE"


def test_adapter_close_to_the_base_has_no_tail() -> None:
    def close(labels: np.ndarray, base: np.ndarray, candidate: np.ndarray) -> None:
        candidate[:] = base
        candidate[40] += LEAST_DEVIATION * np.resize([0.9, -0.9], len(DIMENSIONS))

    found = tail_measurement(make_samples(close), RECIPE.tail_deviation)
    assert found is not None and not found.deviant


def test_incomplete_answers_are_left_to_the_format_gate() -> None:
    samples = make_samples(unchanged)
    silent = EvaluationSamples(labels=samples.labels, outcomes=samples.outcomes[:-3])
    assert judged(silent).n == 97


def test_evaluation_stops_and_shows_rare_catastrophe(run: Run, fake_model: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    truths = [dict(zip(DIMENSIONS, map(float, row), strict=True)) for row in advisor(rng, 60)]
    unlabelled = [fake_model.photograph(truth, 100 + k) for k, truth in enumerate(truths)]
    struck = {tuple(truths[k].values()) for k in (5, 25)}
    unlabelled[5].info[FILE_INFO] = "source/IMG_0005.jpg"

    def critic(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        usual = truth + rng.normal(0, 0.5, len(truth))
        return np.full(len(truth), 0.0 if truth.mean() > 5 else 10.0) if tuple(truth) in struck else usual

    model = fake_model.FakeModel(critics={"base": fake_model.noisy_critic(0.8, 0.7), "candidate": critic})
    critiques = tuple(fake_model.answer_text(row) for row in advisor(rng, 40))
    report = run(
        model,
        unlabelled=unlabelled,
        trained=TrainingProvenance(photo_ids=frozenset({"other"}), critiques=critiques),
    )
    assert report.gate("score_error").verdict == "PASS"
    gate = report.gate("tail")
    assert gate.verdict != "PASS" and report.verdict != "PASS"
    assert len(gate.parts) == 2 and all(part.name.startswith("unlabelled-") for part in gate.parts)
    assert any("Write critiques of the photographs" in step or "tail check names" in step for step in report.next_steps)
    samples = load_evaluation_samples(tmp_path / "run" / "samples.jsonl")
    assert {part.name for part in gate.parts} <= set(samples.pictures)
    assert "source/IMG_0005.jpg (" in gate.sentence, "the file, where the photograph has one"
    page = report_html(report, samples)
    section = page[page.index("Answers far from the base") :].split("<h2>")[0]
    assert section.count("data:image/jpeg;base64,") == 2 and "Composition" in section


def test_report_shows_the_largest_losses_against_base_and_champion(run: Run, fake_model: Any, tmp_path: Path) -> None:
    model = fake_model.FakeModel(
        critics={
            "base": fake_model.noisy_critic(1.0),
            "champion": fake_model.noisy_critic(0.8),
            "candidate": fake_model.noisy_critic(0.9),
        }
    )
    report = run(model, champion="champion")
    page = report_html(report, load_evaluation_samples(tmp_path / "run" / "samples.jsonl"))
    section = page[page.index("<h2>Worst photographs") :].split("<h2>")[1]
    rows = report.metrics["per_photograph"]
    for arm in ("base", "champion"):
        loss = max(row["candidate"] - row[arm] for row in rows)
        assert f"{loss:.2f} worse than the {arm}" in section
