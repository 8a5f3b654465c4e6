"""Builds the report from samples: metrics, gate results and next steps. Uses no model and no files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mondrian_core.evaluation.blind import preference
from mondrian_core.evaluation.gates.definitions import GATES, evaluate_gates, recommended_next_steps
from mondrian_core.evaluation.gates.gate import Gate
from mondrian_core.evaluation.gates.results import GateMeasurements, deciding_comparison, overall_verdict
from mondrian_core.evaluation.measure import health_metrics
from mondrian_core.evaluation.measure.baselines import baseline_metrics, unbeaten_baseline_notes
from mondrian_core.evaluation.measure.calibration import (
    CalibratedBase,
    CalibrationComparison,
    calibrate_base,
    compare_with_calibrations,
    training_score_table,
)
from mondrian_core.evaluation.measure.comment_measurement import comment_measurement
from mondrian_core.evaluation.measure.contamination import verbatim_overlap_share
from mondrian_core.evaluation.measure.cross_validation import CrossValidationSamples, other_fold_means
from mondrian_core.evaluation.measure.latency import LatencyOverhead, overhead_from_pairs
from mondrian_core.evaluation.measure.metamorphic import metamorphic_violations
from mondrian_core.evaluation.measure.metrics import (
    ArmComparison,
    FormatStatistics,
    ScoreArray,
    ScoreTable,
    compare_paired_errors,
    format_statistics,
    score_error_metrics,
    score_table,
)
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.evaluation.measure.pooled_evidence import LookEvidence, look_evidence
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.evaluation.measure.score_forms import ScoreForms, score_forms, served_scores_note
from mondrian_core.evaluation.report.caveats import report_caveats
from mondrian_core.evaluation.report.comments_section import comment_metrics
from mondrian_core.evaluation.report.evaluation_report import EvaluationReport
from mondrian_core.evaluation.report.gain import gain_sentence
from mondrian_core.gate_strictness import judged_settings, loosened_settings
from mondrian_core.recipes import Recipe
from mondrian_core.samples_file import BASE, BEST_CHAMPION, CANDIDATE, CHAMPION, PhotographOrigin

ARMS = (BASE, BEST_CHAMPION, CHAMPION, CANDIDATE)
SHOWN_METRICS = ("n", "mse", "mae", "bias", "rank_correlation")


def build_evaluation_report(
    samples: EvaluationSamples, recipe: Recipe, gates: Sequence[Gate] = GATES
) -> EvaluationReport:
    """The report on these samples; the same samples and recipe give the same report."""
    labels = {name: record["scores"] for name, record in samples.labels.items()}
    table = score_table(labels, samples.outcomes)
    measured = gate_measurements_from_samples(samples, table, recipe)
    results = evaluate_gates(measured, recipe.gates, gates)
    about = {
        **samples.identity,
        **{key: samples.facts.get(key) for key in ("advisor", "answer_form", "split", "compared_with")},
        "recipe": recipe.digest,
    }
    forms = _score_forms(samples, recipe)
    metrics = {
        **report_metrics(samples, table, measured, recipe),
        "score_forms": {arm: asdict(found) for arm, found in forms.items()},
        "gain": _gain(measured, recipe),
    }
    own = metrics["arms"].get(CANDIDATE, {}).get("scores", {}).get("mse")
    least = recipe.gates.score_photographs  # on fewer photographs a baseline's lead says nothing about the adapter
    scored = 0 if samples.stopped else len(table.photographs)
    notes = unbeaten_baseline_notes(own, metrics["rivals"]) if scored >= least else ()
    notes += served_scores_note(forms, CANDIDATE, recipe.gates.p_value)
    if (folds := metrics["folds"]) and folds["photographs"] >= least:
        notes += unbeaten_baseline_notes(
            folds["arms"].get(CANDIDATE, {}).get("mse"), folds["rivals"], "By folds the recipe"
        )
    return EvaluationReport(
        verdict=overall_verdict(results),
        gates=results,
        metrics=_finite(metrics),
        about=about,
        look=measured.look.as_dict() if measured.look else None,
        next_steps=(*recommended_next_steps(results, measured, recipe.gates, gates), *notes),
        loosened=loosened_settings(judged_settings(recipe)),
        caveats=report_caveats(measured, metrics["photographs"], recipe.gates),
    )


def _gain(measured: GateMeasurements, recipe: Recipe) -> dict[str, Any]:
    """The sentence about the gain on the photographs that decide about scores, and whether they are the folds'."""
    against_base, by_folds = deciding_comparison(measured.against_base, measured.by_folds, recipe.gates)
    calibrations = measured.calibrations_by_folds if by_folds else measured.calibrations
    sentence = gain_sentence(
        asdict(against_base) if against_base else None,
        asdict(calibrations) if calibrations else None,
        by_folds=by_folds,
    )
    return {"sentence": sentence, "by_folds": by_folds}


def _score_forms(samples: EvaluationSamples, recipe: Recipe) -> dict[str, ScoreForms]:
    """Written, expected and served scores by arm, on the photographs that decide about scores."""
    records, outcomes = samples.scored
    labels = {name: record["scores"] for name, record in records.items()}
    asked = {outcome.arm for outcome in outcomes}
    return {arm: score_forms(labels, outcomes, arm, seed=recipe.evaluate.seed) for arm in ARMS if arm in asked}


def gate_measurements_from_samples(samples: EvaluationSamples, table: ScoreTable, recipe: Recipe) -> GateMeasurements:
    """The measurements that the gates take."""
    facts, seed = samples.facts, recipe.evaluate.seed
    by_arm = {arm: [outcome for outcome in samples.outcomes if outcome.arm == arm] for arm in ARMS}
    leaked = facts.get("leaked")
    folded = _fold_table(samples.folds) if samples.folds.outcomes else None
    against_base, by_folds = _against(BASE, table, samples, recipe), _by_folds(folded, samples, recipe)
    return GateMeasurements(
        samples=samples,
        problems=tuple(facts.get("integrity_problems", ())),
        formats={arm: format_statistics(outcomes) for arm, outcomes in by_arm.items() if outcomes},
        **_by_origin(samples, _advisors_scores(table, folded), recipe),
        trained_photographs=(facts.get("trained") or {}).get("photographs"),
        divergences=tuple(samples.divergences.values()),
        same_answers=_same_answers(by_arm[BASE], by_arm[CANDIDATE]),
        calibrations=_against_calibrations(table, _calibrated(table, samples, recipe), recipe),
        against_base=against_base,
        against_champion=_against(CHAMPION, table, samples, recipe),
        against_best=_against(BEST_CHAMPION, table, samples, recipe),
        has_champion=bool(facts.get("has_champion")),
        best_champion=facts.get("best_champion"),
        look=None if samples.stopped else _look(against_base, by_folds.get("by_folds"), samples, recipe),
        champion_saw=_count(facts.get("champion_saw", ())),
        overhead=_overhead(samples, recipe),
        dependence=health_metrics.image_dependence(table, seed=seed),
        leaked=None if leaked is None else _contaminated(leaked),
        comments=None if samples.stopped else comment_measurement(samples, seed),
        edits=metamorphic_violations(samples.outcomes, samples.edited, CANDIDATE)
        if recipe.evaluate.edited_photographs
        else None,
        base_edits=metamorphic_violations(samples.outcomes, samples.edited, BASE),
        **by_folds,
        untested=_untested(samples),
        metal=bool(facts.get("metal")),
        planned=(samples.stopped["own"], samples.stopped["others"]) if samples.stopped else None,
    )


def _by_origin(samples: EvaluationSamples, labels: ScoreArray, recipe: Recipe) -> dict[str, Any]:
    """The fields of `GateMeasurements` that the workspace's own photographs decide.

    Where they are fewer than the recipe wants, the answers about the photographs of the folds are added: those of the
    base, and those of an adapter of the recipe that was not trained on the photograph.
    """
    own = {arm: samples.answers_of(arm, own=True) for arm in ARMS}
    others = {arm: samples.answers_of(arm, own=False) for arm in ARMS}
    by_folds = 0
    if sum(outcome.ran for outcome in own[CANDIDATE]) < recipe.gates.own_photographs:
        for outcome in samples.folds.outcomes:
            own[outcome.arm].append(outcome)
            by_folds += outcome.arm == CANDIDATE
    recorded, asked = bool(samples.origins), bool(own[CANDIDATE] or others[CANDIDATE])
    return {
        "formats_of_own": {arm: format_statistics(outcomes) for arm, outcomes in own.items() if outcomes},
        "formats_of_others": {arm: format_statistics(outcomes) for arm, outcomes in others.items() if outcomes},
        "own_by_folds": by_folds,
        "other_photographs": "rendered photographs" if recorded else "photographs of unrecorded origin",
        "collapse": health_metrics.mode_collapse(own[CANDIDATE], labels) if asked else None,
        "stuttering": _repetition(own[CANDIDATE]),
    }


def _look(
    own: ArmComparison | None, by_folds: ArmComparison | None, samples: EvaluationSamples, recipe: Recipe
) -> LookEvidence | None:
    """What this look and the year's earlier ones show; None where nothing was compared with the base."""
    compared, _ = deciding_comparison(own, by_folds, recipe.gates)
    if compared is None:
        return None
    return look_evidence(
        samples.facts.get("look"),
        compared.differences,
        first_level=recipe.gates.first_look_level,
        yearly_level=recipe.gates.yearly_level,
        seed=recipe.evaluate.seed,
    )


def _by_folds(folded: ScoreTable | None, samples: EvaluationSamples, recipe: Recipe) -> dict[str, Any]:
    """The fields of `GateMeasurements` that come from cross-validation."""
    if folded is None:
        return {}
    folds = samples.folds.folds_of(folded.photographs)
    return {
        "by_folds": _against(BASE, folded, samples, recipe),
        "calibrations_by_folds": _against_calibrations(folded, _calibrated_by_folds(samples.folds, recipe), recipe),
        "champion_by_folds": _against(CHAMPION, folded, samples, recipe),
        "best_by_folds": _against(BEST_CHAMPION, folded, samples, recipe),
        "dependence_by_folds": health_metrics.image_dependence(folded, seed=recipe.evaluate.seed, folds=folds),
        "fold_leaked": _contaminated(samples.facts.get("fold_leaked", ())),
    }


def _calibrated(table: ScoreTable, samples: EvaluationSamples, recipe: Recipe) -> CalibratedBase | None:
    """The calibrations of the base for the held-out photographs."""
    return calibrate_base(table, training_score_table(samples.calibration), seed=recipe.evaluate.seed)


def _calibrated_by_folds(folds: CrossValidationSamples, recipe: Recipe) -> CalibratedBase | None:
    """The same for the photographs of the folds: each is fitted on what the adapter of its fold was trained on."""
    table = _fold_table(folds)
    return calibrate_base(table, None, folds.folds_of(table.photographs), seed=recipe.evaluate.seed)


def _against_calibrations(
    table: ScoreTable, calibrated: CalibratedBase | None, recipe: Recipe
) -> CalibrationComparison | None:
    return compare_with_calibrations(
        table, calibrated, wanted=recipe.gates.score_improvement, seed=recipe.evaluate.seed
    )


def _against(arm: str, table: ScoreTable, samples: EvaluationSamples, recipe: Recipe) -> ArmComparison | None:
    """The candidate compared with another arm; None if one of them is missing.

    The comparison with a champion uses only photographs that it was not trained on. The best champion is the champion
    itself unless it answered as an arm of its own.
    """
    saw, margin = (), recipe.gates.non_inferiority_margin
    if arm == BEST_CHAMPION:
        saw, margin = samples.facts.get("best_saw") or (), recipe.gates.best_champion_margin
        arm = BEST_CHAMPION if BEST_CHAMPION in samples.identity.get("asked", ()) else CHAMPION
    elif arm == CHAMPION:
        saw = samples.facts.get("champion_saw") or ()
    if arm not in table.predictions or CANDIDATE not in table.predictions:
        return None
    kept = table.without(saw)
    if not kept.photographs:
        return None
    return compare_paired_errors(
        kept,
        arm,
        margin=margin,
        wanted=recipe.gates.score_improvement,
        seed=recipe.evaluate.seed,
    )


def _count(photographs: Sequence[str] | None) -> int | None:
    return None if photographs is None else len(photographs)


def _contaminated(leaked: Sequence[Mapping[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((leak["photograph"], leak["how"]) for leak in leaked)


def _advisors_scores(table: ScoreTable, folded: ScoreTable | None) -> ScoreArray:
    """(N, DIMENSIONS) the advisor's scores, 0-10; those of the folds where no photograph is held out."""
    return folded.labels if folded is not None and not table.photographs else table.labels


def _untested(samples: EvaluationSamples) -> int | None:
    trained = samples.facts.get("trained") or {}
    return trained["photographs"] if trained.get("everything") and not samples.labels else None


def _repetition(candidate: Sequence[EvaluationOutcome]) -> tuple[int, int] | None:
    ran = [outcome for outcome in candidate if outcome.ran]
    return (sum(health_metrics.is_degenerate_answer(outcome.text) for outcome in ran), len(ran)) if ran else None


def _overhead(samples: EvaluationSamples, recipe: Recipe) -> LatencyOverhead | None:
    if not samples.pairs:
        return None
    return overhead_from_pairs(samples.pairs, recipe.evaluate.latency_pairs, recipe.gates.overhead_ratio)


def _same_answers(base: Sequence[EvaluationOutcome], candidate: Sequence[EvaluationOutcome]) -> float | None:
    texts = {outcome.photograph: outcome.text for outcome in base if outcome.ran}
    pairs = [(texts[o.photograph], o.text) for o in candidate if o.ran and o.photograph in texts]
    return sum(first == second for first, second in pairs) / len(pairs) if pairs else None


def report_metrics(
    samples: EvaluationSamples, table: ScoreTable, measured: GateMeasurements, recipe: Recipe
) -> dict[str, Any]:
    """All numbers for the JSON and the HTML report, as plain values."""
    shuffled = measured.dependence.shuffled if measured.dependence else None
    seed = recipe.evaluate.seed
    calibrated = _calibrated(table, samples, recipe)
    means = samples.facts.get("training_mean")
    baselines = baseline_metrics(table, means, calibrated, seed=seed) if table.photographs else {}
    return {
        "photographs": photograph_counts(samples),
        "format_by_origin": {
            "own": {arm: _plain(counts) for arm, counts in measured.own_formats.items()},
            "others": {arm: _plain(counts) for arm, counts in measured.formats_of_others.items()},
            "own_by_folds": measured.own_by_folds,
            "others_are": measured.other_photographs,
        },
        "arms": {arm: _arm(arm, samples, table, measured) for arm in ARMS if arm in table.predictions},
        "rivals": {
            **{name: {key: metrics[key] for key in SHOWN_METRICS} for name, metrics in baselines.items()},
            "candidate_shuffled": {**dict.fromkeys(SHOWN_METRICS), "mse": shuffled},
        },
        "against_base": asdict(measured.against_base) if measured.against_base else None,
        "against_champion": asdict(measured.against_champion) if measured.against_champion else None,
        "against_best": asdict(measured.against_best) if measured.against_best else None,
        "effect": {"nats_per_score": list(measured.divergences), "same_answers": measured.same_answers},
        "overhead": asdict(measured.overhead) if measured.overhead else None,
        "load_seconds": samples.load_seconds,
        "health": {
            "collapse": asdict(measured.collapse) if measured.collapse else None,
            "dependence": asdict(measured.dependence) if measured.dependence else None,
            "advisor_by_heart": _advisor_by_heart(samples),
        },
        "edits": {arm: metamorphic_violations(samples.outcomes, samples.edited, arm) for arm in (BASE, CANDIDATE)}
        if samples.edited
        else {},
        "constrained": {arm: _format([o for o in samples.constrained if o.arm == arm]) for arm in (BASE, CANDIDATE)}
        if samples.constrained
        else {},
        "comments": comment_metrics(measured.comments, samples.processor_time),
        "preferences": preference.preference_summary(
            [preference.PreferenceChoice(**choice) for choice in samples.preferences]
        ),
        "calibrations": asdict(measured.calibrations) if measured.calibrations else None,
        "folds": _folds(samples.folds, measured, recipe),
        "trained": samples.facts.get("trained"),
        "untested": measured.untested,
        "per_photograph": errors_by_photograph(table),
        "advisor_spread": float(np.var(table.labels, axis=0).mean()) if len(table.photographs) > 1 else None,
        "seed": seed,
    }


def _arm(arm: str, samples: EvaluationSamples, table: ScoreTable, measured: GateMeasurements) -> dict[str, Any]:
    """One arm: format, errors of the expected scores and of the written digits, and health."""
    labels = {name: record["scores"] for name, record in samples.labels.items()}
    written = score_table(labels, samples.outcomes, written=True)
    written_metrics = score_error_metrics(written.predictions[arm], written.labels)
    return {
        "format": _plain(measured.formats[arm]),
        "scores": score_error_metrics(table.predictions[arm], table.labels),
        "written_scores": {key: written_metrics[key] for key in SHOWN_METRICS},
        "health": health_metrics.health_summary(table, samples.outcomes, arm, samples.training),
    }


def _format(outcomes: Sequence[EvaluationOutcome]) -> dict[str, Any]:
    return _plain(format_statistics(outcomes))


def _plain(counts: FormatStatistics) -> dict[str, Any]:
    return {**asdict(counts), "rate": counts.rate, "bounds": counts.bounds, "repair_rate": counts.repair_rate}


def _advisor_by_heart(samples: EvaluationSamples) -> float | None:
    """Share (0-1) of the advisor's own test critiques that repeat training critiques; a reference for the arms."""
    critiques = [record["critique"] for record in samples.labels.values() if record.get("critique")]
    return verbatim_overlap_share(critiques, samples.training)


def _folds(folds: CrossValidationSamples, measured: GateMeasurements, recipe: Recipe) -> dict[str, Any] | None:
    """Results of cross-validation; None where there was none."""
    if not folds.outcomes:
        return None
    whole = _fold_table(folds)
    shown = {arm: rows for arm, rows in whole.predictions.items() if arm not in (CHAMPION, BEST_CHAMPION)}
    table = replace(whole, predictions=shown)
    fold_of = folds.folds_of(table.photographs)
    baselines = {
        "fold_mean": score_error_metrics(other_fold_means(folds.labels, folds.fold_of), table.labels, fold_of),
        **baseline_metrics(
            table, None, _calibrated_by_folds(folds, recipe), seed=recipe.evaluate.seed, fold_of=fold_of
        ),
    }
    shuffled = measured.dependence_by_folds.shuffled if measured.dependence_by_folds else None
    return {
        "count": len(set(folds.fold_of.values())),
        "photographs": len(table.photographs),
        "against_base": asdict(measured.by_folds) if measured.by_folds else None,
        "calibrations": asdict(measured.calibrations_by_folds) if measured.calibrations_by_folds else None,
        "against_champion": asdict(measured.champion_by_folds) if measured.champion_by_folds else None,
        "against_best": asdict(measured.best_by_folds) if measured.best_by_folds else None,
        "champion_saw": measured.champion_saw if measured.has_champion else None,
        "health": {
            "dependence": asdict(measured.dependence_by_folds) if measured.dependence_by_folds else None,
            "arms": {
                arm: health_metrics.health_summary(table, folds.outcomes, arm, folds=fold_of)
                for arm in table.predictions
            },
        },
        "arms": {
            arm: _shown(score_error_metrics(rows, table.labels, fold_of), "dimensions")
            for arm, rows in table.predictions.items()
        },
        "rivals": {
            **{name: _shown(metrics) for name, metrics in baselines.items()},
            "candidate_shuffled": {**dict.fromkeys(SHOWN_METRICS), "mse": shuffled},
        },
        "by_fold": [
            {"fold": int(fold), "n": int((fold_of == fold).sum())} | _mean_errors(table, fold_of == fold)
            for fold in np.unique(fold_of)
        ],
        "per_photograph": errors_by_photograph(table),
    }


def _shown(metrics: Mapping[str, Any], *more: str) -> dict[str, Any]:
    return {key: metrics[key] for key in (*SHOWN_METRICS, *more)}


def _mean_errors(table: ScoreTable, kept: NDArray[np.bool_]) -> dict[str, float | None]:
    """Mean squared error by arm over the photographs where `kept` (N,) is true; None where no answer could be read."""
    errors = {arm: table.squared_errors(arm).mean(axis=1)[kept] for arm in table.predictions}
    return {arm: None if np.isnan(row).all() else float(np.nanmean(row)) for arm, row in errors.items()}


def _fold_table(folds: CrossValidationSamples) -> ScoreTable:
    """Scores of the photographs in the folds, in the order of the labels."""
    return score_table(folds.labels, folds.outcomes)


def photograph_counts(samples: EvaluationSamples) -> dict[str, int]:
    """How many photographs were asked about: labelled ones, others, and among the latter each origin."""
    others = {outcome.photograph for outcome in samples.outcomes} - set(samples.labels)
    found = Counter(samples.origin(name) for name in others)
    counts = {f"unlabelled_{origin}": found[origin] for origin in PhotographOrigin}
    return {"labelled": len(samples.labels), "unlabelled": len(others), **counts}


def errors_by_photograph(table: ScoreTable) -> list[dict[str, Any]]:
    """Each labelled photograph with its squared error by arm, averaged over dimensions; None where unreadable."""
    errors = {arm: table.squared_errors(arm).mean(axis=1) for arm in table.predictions}
    return [
        {"photograph": name} | {arm: None if math.isnan(row[k]) else float(row[k]) for arm, row in errors.items()}
        for k, name in enumerate(table.photographs)
    ]


def _finite(value: Any) -> Any:
    """Replace infinite numbers and NaN by None, which JSON can't represent."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
