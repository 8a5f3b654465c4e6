"""`python -m bench.rollout_simulation`: exposure to a worse adapter, delay of a good one, and broken promises.

Simulated traffic is decided on by the rollout's decision function. The rival is a common canary: the same steps, with
fixed-sample tests of failures and latency (p < 0.05) repeated at every check. A second table compares the false
rollbacks that each guardrail promises with those measured at its limit.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bench.guardrail_error_rates import guardrail_rows, guardrail_table_markdown
from mondrian_core.rollout import (
    Hold,
    RollBack,
    Rollout,
    RolloutDecision,
    RolloutObservations,
    RolloutPlan,
    decide_rollout,
    default_rollout_plan,
    rollout_after_decision,
)
from mondrian_core.rollout.plan import LIVE_STEPS, ArmCounts, PairCounts, ShareStratum

REQUESTS_PER_DAY = (50, 1_000, 100_000)
MAX_DAYS = 45
START_TIME = datetime(2026, 1, 1, tzinfo=UTC)
DecisionRule = Callable[["SimulatedTraffic", datetime], RolloutDecision]


@dataclass(frozen=True, kw_only=True)
class SimulatedAdapter:
    """A candidate relative to the control: failure ratio (control: 1 %), latency ratio, rating shift in deviations."""

    name: str
    failures: float = 1.0
    latency: float = 1.0
    rating: float = 0.0
    rate: float = 0.01
    spread: float = 0.25  # standard deviation of log seconds between photographs
    spread_paired: float = 0.10  # the same, for one photograph
    rated: float = 0.2  # fraction of the answers that users rate

    @property
    def worse(self) -> bool:
        """True when a rollback is the correct decision."""
        return self.failures > 1 or self.latency > 1


SIMULATED_ADAPTERS = (
    SimulatedAdapter(name="the same"),
    SimulatedAdapter(name="2 x failures", failures=2.0),
    SimulatedAdapter(name="10 x failures", failures=10.0),
    SimulatedAdapter(name="20 % slower", latency=1.2),
    SimulatedAdapter(name="better ratings", rating=0.3),
)


@dataclass(kw_only=True)
class SimulatedTraffic:
    """One rollout under simulated requests, as counts."""

    adapter: SimulatedAdapter
    rollout: Rollout
    rng: np.random.Generator
    counts: dict[float, list[int]] = field(default_factory=dict)  # share -> candidate n, failed, control n, failed
    pairs: dict[str, list[int]] = field(
        default_factory=lambda: {"shadow": [0, 0], "latency": [0, 0], "ratings": [0, 0]}
    )
    in_step: int = 0
    run: int = 0
    longest_run: int = 0
    seen: int = 0  # answers of the candidate that users received

    def arrive(self, requests: int) -> None:
        """Simulate requests at the current traffic share."""
        if requests == 0:
            return
        share, rate = self.rollout.share, self.adapter.rate
        if self.rollout.in_shadow:
            failed = self.rng.random(requests) < rate * self.adapter.failures
            control_failed = self.rng.random(requests) < rate
            self._sign("shadow", int((failed & ~control_failed).sum()), int((control_failed & ~failed).sum()))
            self._latency(requests, self.adapter.spread_paired / math.sqrt(2))
            self.in_step += requests
            return
        ours = int(self.rng.binomial(requests, share))
        failed = self.rng.random(ours) < rate * self.adapter.failures
        row = self.counts.setdefault(share, [0, 0, 0, 0])
        theirs = requests - ours
        for index, value in enumerate((ours, int(failed.sum()), theirs, int(self.rng.binomial(theirs, rate)))):
            row[index] += value
        self._runs(failed)
        paired = min(ours, theirs)
        self._latency(paired, self.adapter.spread)
        rated = int(self.rng.binomial(paired, self.adapter.rated**2))
        difference = self.rng.normal(self.adapter.rating, math.sqrt(2), rated)
        self._sign("ratings", int((difference < 0).sum()), int((difference > 0).sum()))
        self.in_step += ours
        self.seen += ours

    def observed(self) -> RolloutObservations:
        """The observations for the decision."""
        strata = tuple(
            ShareStratum(s, ArmCounts(*row[:2]), ArmCounts(*row[2:])) for s, row in sorted(self.counts.items())
        )
        pairs = {name: PairCounts(*values) for name, values in self.pairs.items()}
        return replace(
            RolloutObservations(strata=strata, in_step=self.in_step, longest_run=self.longest_run),
            **pairs,  # type: ignore[arg-type]
        )

    def _latency(self, pairs: int, spread: float) -> None:
        shift = math.log(self.adapter.latency / self.rollout.plan.latency_ratio)
        slower = int((self.rng.normal(shift, spread * math.sqrt(2), pairs) > 0).sum())
        self._sign("latency", slower, pairs - slower)

    def _sign(self, name: str, worse: int, better: int) -> None:
        self.pairs[name][0] += worse
        self.pairs[name][1] += better

    def _runs(self, failed: np.ndarray) -> None:
        if not failed.any():
            self.run = 0 if failed.size else self.run
            return
        for value in failed:
            self.run = self.run + 1 if value else 0
            self.longest_run = max(self.longest_run, self.run)


def decide_by_mondrian(traffic: SimulatedTraffic, now: datetime) -> RolloutDecision:
    """Decide with Mondrian's sequential tests."""
    return decide_rollout(traffic.rollout, traffic.observed(), now)


def decide_by_fixed_tests(traffic: SimulatedTraffic, now: datetime) -> RolloutDecision:
    """Decide as a common canary does: fixed-sample tests, repeated at every check."""
    observed = traffic.observed()
    a, b = observed.candidate, observed.control
    if a.requests and b.requests:
        pooled = (a.failures + b.failures) / (a.requests + b.requests)
        error = math.sqrt(max(pooled * (1 - pooled), 1e-9) * (1 / a.requests + 1 / b.requests))
        if (a.failures / a.requests - b.failures / b.requests) / error > 1.645 and a.failures > 1:
            return RollBack("failures", "p < 0.05")
    worse, better = traffic.pairs["latency"]
    if worse + better >= 10 and (worse - better) / math.sqrt(worse + better) > 1.645:
        return RollBack("latency", "p < 0.05")
    return decide_rollout(
        replace(traffic.rollout, plan=PLAN_WITHOUT_SHADOW), RolloutObservations(in_step=traffic.in_step), now
    )


PLAN_WITHOUT_SHADOW = RolloutPlan(steps=LIVE_STEPS)


def simulate_rollout(
    adapter: SimulatedAdapter, per_day: int, decide: DecisionRule, plan: RolloutPlan, rng: np.random.Generator
) -> dict[str, Any]:
    """Simulate one rollout.

    Args:
        adapter: the candidate.
        per_day: requests per day.
        decide: the decision rule.
        plan: steps of the rollout.
        rng: random generator.

    Returns:
        end: the final status; days: its duration; seen: answers of the candidate that users received.
    """
    rollout = Rollout(
        advisor="a",
        version="v0002",
        control="v0001",
        salt="salt",
        plan=plan,
        started_at=START_TIME.isoformat(),
        step_started_at=START_TIME.isoformat(),
    )
    traffic, now = SimulatedTraffic(adapter=adapter, rollout=rollout, rng=rng), START_TIME
    interval = timedelta(minutes=15) if per_day > 10_000 else timedelta(hours=1)
    while traffic.rollout.status == "running" and now < START_TIME + timedelta(days=MAX_DAYS):
        now += interval
        traffic.arrive(int(rng.poisson(per_day * interval / timedelta(days=1))))
        decision = decide(traffic, now)
        if not isinstance(decision, Hold):
            traffic.rollout, traffic.in_step = rollout_after_decision(traffic.rollout, decision, now), 0
    return {"end": traffic.rollout.status, "days": (now - START_TIME) / timedelta(days=1), "seen": traffic.seen}


def simulated_rollouts_row(adapter: SimulatedAdapter, per_day: int, name: str, runs: int, seed: int) -> dict[str, Any]:
    """Simulate `runs` rollouts as one row of the table: median days, and median and 90th percentile of requests.

    Args:
        adapter: the candidate.
        per_day: requests per day.
        name: "mondrian" or the name of the rival.
        runs: number of rollouts.
        seed: seed of the simulation.
    """
    decide, plan = (
        (decide_by_mondrian, default_rollout_plan(per_day))
        if name == "mondrian"
        else (decide_by_fixed_tests, PLAN_WITHOUT_SHADOW)
    )
    rng = np.random.default_rng([seed, per_day, SIMULATED_ADAPTERS.index(adapter), name == "mondrian"])
    results = [simulate_rollout(adapter, per_day, decide, plan, rng) for _ in range(runs)]
    back = [result for result in results if result["end"] == "rolled_back"]
    done = [result for result in results if result["end"] == "finished"]
    return {
        "requests a day": per_day,
        "adapter": adapter.name,
        "way": name,
        "rolled back": len(back) / runs,
        "seen": float(np.median([result["seen"] for result in back])) if back else None,
        "seen, 90 %": float(np.quantile([result["seen"] for result in back], 0.9)) if back else None,
        "days to rollback": float(np.median([result["days"] for result in back])) if back else None,
        "at 100 %": len(done) / runs,
        "days to 100 %": float(np.median([result["days"] for result in done])) if done else None,
        "runs": runs,
    }


COLUMNS = ("requests a day", "adapter", "way", "rolled back", "seen", "seen, 90 %", "at 100 %", "days to 100 %")


def rollout_simulation_markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        cells = []
        for column in COLUMNS:
            value = row[column]
            if value is None:
                cells.append("-")
            elif column in ("rolled back", "at 100 %"):
                cells.append(f"{value:.1%}")
            elif isinstance(value, float):
                cells.append(f"{value:.1f}" if "days" in column else f"{value:,.0f}")
            else:
                cells.append(f"{value:,}" if isinstance(value, int) else str(value))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _plot_rollout_simulations(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot the fraction rolled back, and the requests before a rollback, by adapter and traffic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    names = [adapter.name for adapter in SIMULATED_ADAPTERS]
    for index, (way, mark) in enumerate((("mondrian", "o"), ("usual canary", "x"))):
        for shade, volume in enumerate(REQUESTS_PER_DAY):
            chosen = {row["adapter"]: row for row in rows if row["way"] == way and row["requests a day"] == volume}
            at = [names.index(name) + 0.13 * shade + 0.4 * index - 0.3 for name in chosen]
            color = f"C{shade}"
            label = f"{way}, {volume:,} a day"
            left.plot(at, [row["rolled back"] for row in chosen.values()], mark, color=color, label=label)
            seen = [math.nan if row["seen"] is None else max(0.5, row["seen"]) for row in chosen.values()]
            right.plot(at, seen, mark, color=color)
    left.axhline(0.05, color="grey", linewidth=0.8, linestyle=":")
    left.set(ylabel="fraction of rollouts rolled back", title="dotted: 5 %, the limit for adapters that are not worse")
    right.set(
        yscale="log",
        ylabel="candidate's answers seen by users",
        title="before a rollback (median; 0 is plotted as 0.5)",
    )
    for axes in (left, right):
        axes.set_xticks(range(len(names)), names, rotation=15)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """Simulate and print both tables.

    Exit status 1 if an equal adapter is rolled back in over 5 % of the runs, or a guardrail exceeds its promise.
    """
    parser = argparse.ArgumentParser(prog="bench.rollout_simulation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=400, help="rollouts per row (default 400)")
    parser.add_argument("--guardrail-runs", type=int, default=1000, help="rollouts per guardrail (default 1000)")
    parser.add_argument("--guardrails-only", action="store_true", help="leave the first table out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--plot", type=Path, help="PNG file for the plot")
    options = parser.parse_args(arguments)
    guardrails = list(guardrail_rows(options.guardrail_runs, options.seed))
    print(guardrail_table_markdown(guardrails), flush=True)
    exceeding = any(row["exceeds"] for row in guardrails)
    if options.guardrails_only:
        return int(exceeding)
    rows = [
        simulated_rollouts_row(adapter, volume, way, options.runs, options.seed)
        for volume in REQUESTS_PER_DAY
        for adapter in SIMULATED_ADAPTERS
        for way in ("mondrian", "usual canary")
    ]
    print(f"\n{rollout_simulation_markdown(rows)}")
    if options.out:
        found = {"seed": options.seed, "rows": rows, "guardrails": guardrails}
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        _plot_rollout_simulations(rows, options.plot)
    acceptable = {adapter.name for adapter in SIMULATED_ADAPTERS if not adapter.worse}
    false = [row["rolled back"] for row in rows if row["way"] == "mondrian" and row["adapter"] in acceptable]
    return int(exceeding or max(false) > 0.05)


if __name__ == "__main__":
    sys.exit(main())
