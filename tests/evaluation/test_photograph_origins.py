"""The user's own photographs decide; rendered ones are reported apart, and advice fits the cause."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mondrian_core.evaluation import EvaluationReport, rescore_evaluation
from mondrian_core.evaluation.gates.definitions import GATES, evaluate_gates
from mondrian_core.evaluation.gates.format_gate import FORMAT_COMPLIANCE
from mondrian_core.evaluation.gates.health_checks import HEALTH_CHECKS
from mondrian_core.evaluation.gates.results import Cause, GateMeasurements, GateResult
from mondrian_core.evaluation.measure.cross_validation import CrossValidationSamples
from mondrian_core.evaluation.measure.metrics import FormatStatistics
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.evaluation.report.builder import build_evaluation_report
from mondrian_core.evaluation.report.html_page import report_html
from mondrian_core.recipes import GateRecipe, Recipe
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.samples_file import PhotographOrigin

Run = Callable[..., EvaluationReport]


def statistics(valid: int, ran: int, cut: int = 0) -> FormatStatistics:
    return FormatStatistics(asked=ran, ran=ran, valid=valid, mended=0, cut=cut, reasons={}, tokens=40.0, seconds=0.1)


def measured(own: tuple[int, int], rendered: tuple[int, int]) -> GateMeasurements:
    """(valid, answers) about own and about rendered photographs."""
    return GateMeasurements(
        formats={"candidate": statistics(own[0] + rendered[0], own[1] + rendered[1])},
        formats_of_own={"candidate": statistics(*own)} if own[1] else {},
        formats_of_others={"candidate": statistics(*rendered)} if rendered[1] else {},
    )


@pytest.mark.parametrize(
    ("own", "rendered", "verdict"),
    [
        ((60, 60), (0, 60), "PASS"),  # own ones are enough, and decide alone
        ((29, 29), (0, 31), "PASS"),
        ((50, 60), (60, 60), "FAIL"),
        ((12, 12), (48, 48), "PASS"),  # too few for the bound: rendered ones fill up
        ((39, 40), (20, 20), "PASS"),
        ((39, 40), (10, 20), "INCONCLUSIVE"),
        ((12, 12), (16, 17), "INCONCLUSIVE"),  # the bound is too low
        ((12, 12), (8, 8), "INCONCLUSIVE"),  # too few together
        ((12, 12), (30, 48), "INCONCLUSIVE"),  # rendered ones fail: they can't stand in, and don't decide
        ((11, 12), (48, 48), "INCONCLUSIVE"),  # own ones miss their own limit
        ((5, 12), (48, 48), "FAIL"),  # own ones show it, whatever rendered ones do
        ((11, 12), (20, 48), "FAIL"),
        ((5, 5), (55, 55), "INCONCLUSIVE"),  # the report that counted 60 of 60 and passed
        ((0, 0), (60, 60), "INCONCLUSIVE"),
        ((0, 0), (0, 60), "FAIL"),
        ((0, 5), (55, 55), "FAIL"),
    ],
)
def test_own_photographs_decide_the_format(own: tuple[int, int], rendered: tuple[int, int], verdict: str) -> None:
    result = FORMAT_COMPLIANCE.evaluate(measured(own, rendered), GateRecipe())
    assert result.verdict == verdict, result.sentence
    assert result.n == own[1] and (result.observed == own[0] / own[1] if own[1] else True)
    assert f"{own[0]} of {own[1]} answers" in result.sentence
    assert rendered[1] == 0 or f"{rendered[0]} of {rendered[1]} about rendered photographs" in result.sentence
    assert (result.cause is None) == (verdict != "INCONCLUSIVE")


def test_truncated_answers_about_own_photographs_are_not_diluted() -> None:
    """One of five own answers is truncated: 1.7 % of all 60, and 20 % of those that count."""
    truncation = next(check for check in HEALTH_CHECKS if check.name == "truncation")
    counts = GateMeasurements(
        formats={"candidate": statistics(60, 60, cut=1)},
        formats_of_own={"candidate": statistics(5, 5, cut=1)},
        formats_of_others={"candidate": statistics(55, 55)},
    )
    assert truncation.evaluate(counts, GateRecipe()).verdict == "INCONCLUSIVE"


def pictures(fake_model: Any, count: int, first: int) -> list[Any]:
    rng = np.random.default_rng(first)
    return [
        fake_model.photograph({name: float(rng.integers(1, 10)) for name in DIMENSIONS}, first + k)
        for k in range(count)
    ]


@pytest.fixture
def mostly_rendered(run: Run, fake_model: Any) -> EvaluationReport:
    """Twenty labelled photographs, two more of the workspace, and 38 rendered ones."""
    critics = {"base": fake_model.noisy_critic(2.5, 1.0), "candidate": fake_model.noisy_critic(0.7)}
    own, rendered = pictures(fake_model, 2, 500), pictures(fake_model, 60, 600)
    return run(fake_model.FakeModel(critics=critics), unlabelled=own, rendered=rendered)


def first_screen(page: str) -> str:
    """The page's header: what is above the advice and the tables."""
    return page[page.index("<header") : page.index("</header>")]


def test_report_counts_own_and_rendered_photographs_apart(mostly_rendered: EvaluationReport, tmp_path: Path) -> None:
    counts = mostly_rendered.metrics["photographs"]
    assert (counts["labelled"], counts["unlabelled_own"], counts["unlabelled_rendered"]) == (20, 2, 38)
    stored = json.loads((tmp_path / "run" / "comparison_report.json").read_text())
    formats = stored["metrics"]["format_by_origin"]
    assert [formats[kind]["candidate"]["ran"] for kind in ("own", "others")] == [22, 38]
    assert mostly_rendered.gate("format_compliance").n == 22
    says = "38 of the 60 photographs were rendered by Mondrian"
    assert any(says in caveat for caveat in stored["caveats"])
    assert "(38 of the photographs are rendered)" in mostly_rendered.gate("tail").sentence
    assert says in first_screen((tmp_path / "run" / "report.html").read_text())
    assert says in mostly_rendered.markdown()
    assert EvaluationReport.from_dict(stored).caveats == mostly_rendered.caveats


def test_report_without_rendered_photographs_has_no_caveat(run: Run, fake_model: Any) -> None:
    critics = {"base": fake_model.noisy_critic(2.5, 1.0), "candidate": fake_model.noisy_critic(0.7)}
    assert run(fake_model.FakeModel(critics=critics)).caveats == ()


def test_samples_of_an_earlier_release_are_read(
    mostly_rendered: EvaluationReport, recipe: Recipe, tmp_path: Path
) -> None:
    """Where no origin is recorded, only labelled photographs are known to be the user's."""
    path = tmp_path / "run" / "samples.jsonl"
    lines = [line for line in path.read_text().splitlines() if json.loads(line)["kind"] != "origin"]
    path.write_text("\n".join(lines) + "\n")
    report = rescore_evaluation(tmp_path / "run", recipe)
    counts = report.metrics["photographs"]
    assert (counts["unlabelled_own"], counts["unlabelled_rendered"], counts["unlabelled_unknown"]) == (0, 0, 40)
    assert report.gate("format_compliance").n == 20
    assert "unrecorded origin" in report.gate("format_compliance").sentence
    assert any("earlier release" in caveat for caveat in report.caveats)


# --- advice fits the cause

TRAINING = re.compile(r"train longer|loss curve|training ran|training settings|learning rate|sees anything", re.I)
NOT_THE_ADAPTER = (Cause.TOO_FEW, Cause.NOT_MEASURED, Cause.NO_ANSWER)
STATES = ("valid", "unparsable", "failed", "not asked")
LEARNED = {gate.name: gate.learned for gate in GATES}


def outcome(arm: str, name: str, state: str, offset: float) -> EvaluationOutcome:
    scores = dict.fromkeys(DIMENSIONS, 4.0 + offset) if state == "valid" else {}
    return EvaluationOutcome(photograph=name, arm=arm, status=state, reason="x", scores=scores)


def samples_of(labelled: int, rendered: int, state: str, trained: int | None, nats: float | None) -> EvaluationSamples:
    """An evaluation on few photographs whose candidate is a little worse than the base."""
    names = [f"own-{number}" for number in range(labelled)]
    drawn = [f"drawn-{number}" for number in range(rendered)]
    asked = [*names, *drawn]
    base = [outcome("base", name, "valid", k % 3) for k, name in enumerate(asked)]
    mine = [outcome("candidate", name, state, k % 3 + 0.5) for k, name in enumerate(asked) if state != "not asked"]
    return EvaluationSamples(
        facts={"leaked": [], "trained": None if trained is None else {"photographs": trained, "everything": False}},
        labels={name: {"scores": dict.fromkeys(DIMENSIONS, 4.0 + k % 3)} for k, name in enumerate(names)},
        origins=dict.fromkeys(drawn, PhotographOrigin.RENDERED),
        outcomes=(*base, *mine),
        divergences={} if nats is None else dict.fromkeys(asked, nats),
    )


COMBINATIONS = list(itertools.product((0, 1, 3, 7, 20), (0, 30), STATES, (None, 3, 40), (None, 0.0, 0.1)))


def undecided(results: tuple[GateResult, ...]) -> list[GateResult]:
    return [result for result in results if result.verdict != "PASS"]


@pytest.mark.parametrize("labelled", [0, 1, 3, 7, 20])
def test_advice_fits_the_cause(labelled: int) -> None:
    """No advice about training where photographs, measurements or answers are missing."""
    recipe, seen = Recipe(), set()
    for combination in (each for each in COMBINATIONS if each[0] == labelled):
        report = build_evaluation_report(samples_of(*combination), recipe)
        by_name = {gate.name: gate for gate in GATES}
        for result in undecided(report.gates):
            seen.add(result.cause)
            few = combination[3] == 3 and result.verdict == "FAIL" and LEARNED[result.name]
            given = GateMeasurements(trained_photographs=combination[3])
            advice = by_name[result.name].advice(result.verdict, given, recipe.gates, result.cause)
            assert advice, (combination, result)
            if result.cause in NOT_THE_ADAPTER or few:
                assert not TRAINING.search(" ".join(advice)), (combination, result, advice)
            if result.verdict == "INCONCLUSIVE" and result.name != "health":
                assert result.cause is not None, (combination, result)
        if labelled < 8 and not any(result.verdict == "FAIL" for result in report.gates):
            assert not TRAINING.search(" ".join(report.next_steps)), (combination, report.next_steps)
    assert set(NOT_THE_ADAPTER) <= seen


def test_three_photographs_are_too_few_and_not_a_fault_of_the_training() -> None:
    report = build_evaluation_report(samples_of(3, 30, "valid", 3, 0.0), Recipe())
    assert report.gate("effect").verdict == "FAIL"
    advice = " ".join(report.next_steps)
    assert "learned from too few photographs (3)" in advice and "loss curve" not in advice
    assert "loss curve" in " ".join(build_evaluation_report(samples_of(20, 0, "valid", 40, 0.0), Recipe()).next_steps)


def test_measured_results_have_no_cause() -> None:
    results = evaluate_gates(measured((60, 60), (0, 0)), GateRecipe())
    assert {result.cause for result in results if result.verdict == "PASS"} == {None}


def test_figures_of_folds_stand_in_the_first_screen() -> None:
    """Eight labelled photographs that the folds judged: the scores are the recipe's."""
    plain = samples_of(8, 30, "valid", 40, 0.1)
    folds = CrossValidationSamples(
        records=plain.labels,
        fold_of={name: k % 2 for k, name in enumerate(plain.labels)},
        outcomes=tuple(each for each in plain.outcomes if each.photograph in plain.labels),
    )
    asked = tuple(each for each in plain.outcomes if each.photograph not in plain.labels)
    facts = {**plain.facts, "trained": {"photographs": 8, "everything": True}}
    samples = replace(plain, labels={}, folds=folds, facts=facts, outcomes=asked)
    report = build_evaluation_report(samples, Recipe())
    assert report.gate("format_compliance").n == 8, "the folds' answers about own photographs count"
    page = first_screen(report_html(report, samples))
    for says in ("not this adapter", "30 of the 30 photographs were rendered", "8 answers about own photographs, 8 of"):
        assert says in page
    assert len(report.as_dict()["caveats"]) == 3, "and that the answers state fractions"
