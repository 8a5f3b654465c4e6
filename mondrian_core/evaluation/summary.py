"""From samples to a report: measure, judge, and say what to do next. No model, no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mondrian_core.evaluation import health
from mondrian_core.evaluation.gates import judge
from mondrian_core.evaluation.latency import Overhead, overhead
from mondrian_core.evaluation.metrics import ScoreTable, accuracy, compare, format_of, rivals, score_table
from mondrian_core.evaluation.outcomes import BASE, CANDIDATE, CHAMPION, Outcome
from mondrian_core.evaluation.report import Report
from mondrian_core.evaluation.samples import Samples
from mondrian_core.evaluation.verdicts import FAIL, INCONCLUSIVE, PASS, GateResult, Measured, verdict_of
from mondrian_core.recipes import Recipe

RIVALS: Mapping[str, str] = {
    "training_mean": "always the mean of the training scores",
    "always_8": "always 8",
    "base_shifted": "the base shifted to the advisor's mean",
    "candidate_shuffled": "itself with the photographs exchanged",
}
ARMS = (BASE, CHAMPION, CANDIDATE)


def report_of(samples: Samples, recipe: Recipe) -> Report:
    """Everything again from what was measured; the same samples and recipe give the same report."""
    labels = {name: record["scores"] for name, record in samples.labels.items()}
    table = score_table(labels, samples.outcomes)
    measured = measure(samples, table, recipe)
    gates = judge(measured, recipe.gates)
    verdict = verdict_of(gates)
    about = {
        **samples.identity,
        **{key: samples.facts.get(key) for key in ("advisor", "split")},
        "recipe": recipe.digest,
    }
    metrics = describe(samples, table, measured, recipe)
    return Report(verdict, gates, _finite(metrics), about, next_steps(gates, measured, warnings(metrics)))


def measure(samples: Samples, table: ScoreTable, recipe: Recipe) -> Measured:
    """The numbers that the gates look at."""
    facts, seed = samples.facts, recipe.evaluate.seed
    by_arm = {arm: [outcome for outcome in samples.outcomes if outcome.arm == arm] for arm in ARMS}
    candidate, leaked = by_arm[CANDIDATE], facts.get("leaked")
    margin, wanted = recipe.gates.non_inferiority_margin, recipe.gates.score_improvement

    def against(arm: str) -> Any:
        if not candidate or arm not in table.predictions or not table.photographs:
            return None
        return compare(table, arm, margin=margin, wanted=wanted, seed=seed)

    return Measured(
        problems=tuple(facts.get("integrity_problems", ())),
        formats={arm: format_of(outcomes) for arm, outcomes in by_arm.items() if outcomes},
        divergences=tuple(samples.divergences.values()),
        same_answers=_same_answers(by_arm[BASE], candidate),
        against_base=against(BASE),
        against_champion=against(CHAMPION),
        has_champion=bool(facts.get("has_champion")),
        overhead=_overhead(samples, recipe),
        collapse=health.collapse(candidate, table.labels) if candidate else None,
        dependence=health.dependence(table, seed=seed),
        stuttering=_stuttering(candidate),
        leaked=None if leaked is None else tuple(leaked),
        metal=bool(facts.get("metal")),
    )  # fmt: skip


def _stuttering(candidate: Sequence[Outcome]) -> tuple[int, int] | None:
    ran = [outcome for outcome in candidate if outcome.ran]
    return (sum(health.stutters(outcome.text) for outcome in ran), len(ran)) if ran else None


def _overhead(samples: Samples, recipe: Recipe) -> Overhead | None:
    if not samples.pairs:
        return None
    return overhead(samples.pairs, recipe.evaluate.latency_pairs, recipe.gates.overhead_ratio)


def _same_answers(base: Sequence[Outcome], candidate: Sequence[Outcome]) -> float | None:
    texts = {outcome.photograph: outcome.text for outcome in base if outcome.ran}
    pairs = [(texts[o.photograph], o.text) for o in candidate if o.ran and o.photograph in texts]
    return sum(first == second for first, second in pairs) / len(pairs) if pairs else None


def describe(samples: Samples, table: ScoreTable, measured: Measured, recipe: Recipe) -> dict[str, Any]:
    """All numbers for the JSON and the page."""
    written = score_table({n: record["scores"] for n, record in samples.labels.items()}, samples.outcomes, written=True)
    arms = {}
    for arm in ARMS:
        if arm not in table.predictions:
            continue
        arms[arm] = {
            "format": {**asdict(measured.formats[arm]), "rate": measured.formats[arm].rate},
            "scores": accuracy(table.predictions[arm], table.labels),
            "written_scores": {
                key: accuracy(written.predictions[arm], written.labels)[key] for key in ("mse", "mae", "bias")
            },
            "health": health.describe(table, samples.outcomes, arm),
        }
    shuffled = measured.dependence.shuffled if measured.dependence else None
    others = rivals(table, samples.facts.get("training_mean")) if table.photographs else {}
    return {
        "photographs": {"labelled": len(table.photographs), "unlabelled": _unlabelled(samples)},
        "arms": arms,
        "rivals": {
            **{name: {key: found[key] for key in ("mse", "mae", "bias")} for name, found in others.items()},
            "candidate_shuffled": {"mse": shuffled, "mae": None, "bias": None},
        },
        "against_base": asdict(measured.against_base) if measured.against_base else None,
        "against_champion": asdict(measured.against_champion) if measured.against_champion else None,
        "effect": {"nats_per_token": list(measured.divergences), "same_answers": measured.same_answers},
        "overhead": asdict(measured.overhead) if measured.overhead else None,
        "health": {"collapse": asdict(measured.collapse) if measured.collapse else None,
                   "dependence": asdict(measured.dependence) if measured.dependence else None},
        "per_photograph": per_photograph(table),
        "advisor_spread": float(np.var(table.labels, axis=0).mean()) if len(table.photographs) > 1 else None,
        "seed": recipe.evaluate.seed,
    }  # fmt: skip


def _unlabelled(samples: Samples) -> int:
    return len({outcome.photograph for outcome in samples.outcomes} - set(samples.labels))


def per_photograph(table: ScoreTable) -> list[dict[str, Any]]:
    """Each labelled photograph with its squared error (mean of eight) by arm, None where unreadable."""
    errors = {arm: table.squared(arm).mean(axis=1) for arm in table.predictions}
    return [
        {"photograph": name} | {arm: None if math.isnan(row[k]) else float(row[k]) for arm, row in errors.items()}
        for k, name in enumerate(table.photographs)
    ]


def warnings(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Rivals that cost nothing and do as well: no gate, but worth knowing."""
    own = metrics["arms"].get(CANDIDATE, {}).get("scores", {}).get("mse")
    if own is None:
        return ()
    return tuple(
        f"The candidate doesn't beat {title} ({found['mse']:.3g} against its {own:.3g}): look whether it sees anything."
        for name, title in RIVALS.items()
        if (found := metrics["rivals"].get(name)) and found["mse"] is not None and found["mse"] <= own
    )


def next_steps(gates: Sequence[GateResult], measured: Measured, unbeaten: Sequence[str] = ()) -> tuple[str, ...]:
    """What to do now, for every gate that didn't pass; then what rivals say."""
    verdict = verdict_of(gates)
    if verdict == PASS:
        return ("Nothing stands in the way of a promotion.", *unbeaten)
    advice = [_ADVICE[gate.name, gate.verdict] for gate in gates if (gate.name, gate.verdict) in _ADVICE]
    comparison = measured.against_base
    if (
        comparison
        and comparison.detectable
        and any(g.name == "score_error" and g.verdict == INCONCLUSIVE for g in gates)
    ):
        advice.append(f"With {comparison.n} photographs of this spread, a drop of the error below "
                      f"{comparison.detectable:.0%} usually can't be told from chance.")  # fmt: skip
    return tuple(dict.fromkeys([*advice, *unbeaten]))


_ADVICE: Mapping[tuple[str, str], str] = {
    ("integrity", FAIL): "Don't use these files: train again on this base, or fetch the version anew.",
    ("effect", FAIL): "Check that training ran at all (loss curve) and that the adapter's scale isn't close to 0.",
    ("effect", INCONCLUSIVE): "Measure the effect: it needs at least one photograph that the base answers.",
    (
        "format_compliance",
        FAIL,
    ): "Read the unparsable answers below; longer training, or a higher token limit where they are cut.",
    (
        "format_compliance",
        INCONCLUSIVE,
    ): "Evaluate on more photographs (evaluate.compliance_photographs); they need no labels.",
    ("latency_overhead", FAIL): "Train with fewer modules or a lower rank.",
    ("latency_overhead", INCONCLUSIVE): "Evaluate again on a quiet machine, or raise evaluate.latency_pairs.",
    (
        "score_error",
        FAIL,
    ): "The base is at least as close to the advisor: more critiques or other training settings are needed.",
    ("score_error", INCONCLUSIVE): "More critiques of this advisor make the comparison surer.",
    ("champion", FAIL): "The champion stays.",
    (
        "champion",
        INCONCLUSIVE,
    ): "The champion stays unless a person decides otherwise; look at the photographs below side by side.",
    ("health", FAIL): "Mend what the health check names before anything else; the averages can't be trusted.",
    ("health", INCONCLUSIVE): "Look at the critiques below for what the health check names.",
    ("seconds_per_photograph", FAIL): "A smaller base or shorter answers are needed to answer in time.",
}


def _finite(value: Any) -> Any:
    """Infinite numbers and NaN become None, so that the JSON is JSON."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
