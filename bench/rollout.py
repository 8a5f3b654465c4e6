"""`python -m bench.rollout`: what a staged rollout costs users when an adapter is worse, and delays when it is not.

Simulated traffic goes through the rollout's own decisions. The rival is the canary one writes first: the same steps,
and at each look a test at p < 0.05 of failures and of latency, begun anew with every look.
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

from mondrian_core.rollout import Decision, Hold, Observed, Plan, RollBack, Rollout, after, decide_rollout, plan_for
from mondrian_core.rollout.plan import LIVE, Counts, Pairs, Stratum

VOLUMES = (50, 1_000, 100_000)
LONGEST_DAYS = 45
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
Decide = Callable[["Traffic", datetime], Decision]


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """How a candidate differs: failures against the control's 1 %, times as slow, ratings in standard deviations."""

    name: str
    failures: float = 1.0
    latency: float = 1.0
    rating: float = 0.0
    rate: float = 0.01
    spread: float = 0.25  # of the logarithm of seconds, between photographs
    spread_paired: float = 0.10  # on the same photograph
    rated: float = 0.2  # share of the answers that users rate

    @property
    def worse(self) -> bool:
        """True when rolling it back is right."""
        return self.failures > 1 or self.latency > 1


ADAPTERS = (
    Adapter(name="the same"),
    Adapter(name="2 x failures", failures=2.0),
    Adapter(name="10 x failures", failures=10.0),
    Adapter(name="20 % slower", latency=1.2),
    Adapter(name="better ratings", rating=0.3),
)


@dataclass(kw_only=True)
class Traffic:
    """One rollout under simulated requests; counts only, as `observe` would give them."""

    adapter: Adapter
    rollout: Rollout
    rng: np.random.Generator
    counts: dict[float, list[int]] = field(default_factory=dict)  # share -> candidate n, failed, control n, failed
    pairs: dict[str, list[int]] = field(
        default_factory=lambda: {"shadow": [0, 0], "latency": [0, 0], "ratings": [0, 0]}
    )
    in_step: int = 0
    run: int = 0
    longest_run: int = 0
    seen: int = 0  # answers of the candidate that users got

    def arrive(self, requests: int) -> None:
        """Let requests come in under the present share."""
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
        for place, value in enumerate((ours, int(failed.sum()), theirs, int(self.rng.binomial(theirs, rate)))):
            row[place] += value
        self._runs(failed)
        paired = min(ours, theirs)
        self._latency(paired, self.adapter.spread)
        rated = int(self.rng.binomial(paired, self.adapter.rated**2))
        difference = self.rng.normal(self.adapter.rating, math.sqrt(2), rated)
        self._sign("ratings", int((difference < 0).sum()), int((difference > 0).sum()))
        self.in_step += ours
        self.seen += ours

    def observed(self) -> Observed:
        """What the decision gets to see."""
        strata = tuple(Stratum(s, Counts(*row[:2]), Counts(*row[2:])) for s, row in sorted(self.counts.items()))
        pairs = {name: Pairs(*values) for name, values in self.pairs.items()}
        return Observed(strata=strata, in_step=self.in_step, **pairs, longest_run=self.longest_run)

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


def ours(traffic: Traffic, now: datetime) -> Decision:
    """Mondrian's decision."""
    return decide_rollout(traffic.rollout, traffic.observed(), now)


def usual(traffic: Traffic, now: datetime) -> Decision:
    """The usual canary: tests of fixed size, looked at again and again."""
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
    return decide_rollout(replace(traffic.rollout, plan=BLIND), Observed(in_step=traffic.in_step), now)


BLIND = Plan(steps=LIVE)


def simulate(adapter: Adapter, per_day: int, decide: Decide, plan: Plan, rng: np.random.Generator) -> dict[str, Any]:
    """One rollout: how it ended, after how many days, and what users saw of the candidate on the way."""
    rollout = Rollout(
        advisor="a",
        version="v0002",
        control="v0001",
        salt="salt",
        plan=plan,
        started_at=BEGAN.isoformat(),
        step_started_at=BEGAN.isoformat(),
    )
    traffic, now = Traffic(adapter=adapter, rollout=rollout, rng=rng), BEGAN
    look = timedelta(minutes=15) if per_day > 10_000 else timedelta(hours=1)
    while traffic.rollout.status == "running" and now < BEGAN + timedelta(days=LONGEST_DAYS):
        now += look
        traffic.arrive(int(rng.poisson(per_day * look / timedelta(days=1))))
        decision = decide(traffic, now)
        if not isinstance(decision, Hold):
            traffic.rollout, traffic.in_step = after(traffic.rollout, decision, now), 0
    return {"end": traffic.rollout.status, "days": (now - BEGAN) / timedelta(days=1), "seen": traffic.seen}


def row_of(adapter: Adapter, per_day: int, name: str, runs: int, seed: int) -> dict[str, Any]:
    """Many rollouts as one row of the table; days and requests are medians, with the 90 % point of the latter."""
    decide, plan = (ours, plan_for(per_day)) if name == "mondrian" else (usual, BLIND)
    rng = np.random.default_rng([seed, per_day, ADAPTERS.index(adapter), name == "mondrian"])
    results = [simulate(adapter, per_day, decide, plan, rng) for _ in range(runs)]
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


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
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


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Share rolled back, and requests seen before it, by adapter and volume."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    names = [adapter.name for adapter in ADAPTERS]
    for place, (way, mark) in enumerate((("mondrian", "o"), ("usual canary", "x"))):
        for shade, volume in enumerate(VOLUMES):
            chosen = {row["adapter"]: row for row in rows if row["way"] == way and row["requests a day"] == volume}
            at = [names.index(name) + 0.13 * shade + 0.4 * place - 0.3 for name in chosen]
            color = f"C{shade}"
            label = f"{way}, {volume:,} a day"
            left.plot(at, [row["rolled back"] for row in chosen.values()], mark, color=color, label=label)
            seen = [math.nan if row["seen"] is None else max(0.5, row["seen"]) for row in chosen.values()]
            right.plot(at, seen, mark, color=color)
    left.axhline(0.05, color="grey", linewidth=0.8, linestyle=":")
    left.set(ylabel="share of rollouts rolled back", title="dotted: 5 %, the limit for adapters that are no worse")
    right.set(
        yscale="log", ylabel="candidate's answers seen by users", title="before a rollback (median; 0 drawn as 0.5)"
    )
    for axes in (left, right):
        axes.set_xticks(range(len(names)), names, rotation=15)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """Simulate, print the table; 1 when an adapter that is no worse is rolled back in more than 5 % of the runs."""
    parser = argparse.ArgumentParser(prog="bench.rollout", description=__doc__)
    parser.add_argument("--runs", type=int, default=400, help="rollouts per row (default 400)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--plot", type=Path, help="PNG file for the picture")
    options = parser.parse_args(arguments)
    rows = [
        row_of(adapter, volume, way, options.runs, options.seed)
        for volume in VOLUMES
        for adapter in ADAPTERS
        for way in ("mondrian", "usual canary")
    ]
    print(table(rows))
    if options.out:
        options.out.write_text(json.dumps({"seed": options.seed, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(rows, options.plot)
    fine = {adapter.name for adapter in ADAPTERS if not adapter.worse}
    false = [row["rolled back"] for row in rows if row["way"] == "mondrian" and row["adapter"] in fine]
    return int(max(false) > 0.05)


if __name__ == "__main__":
    sys.exit(main())
