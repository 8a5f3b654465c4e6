"""A year of weekly retrainings: how often a worthless, a worse or a better recipe goes live, and how champions creep.

    python -m bench.gate_error_rates --year [--years 200] [--out FOLDER]

Every week another candidate of the same recipe is judged on a test set that grows by 0.25 photographs a week. All looks
of a year share the photographs and the base's errors; candidates differ. The decisions are those of the gates
`score_error`, `champion` and `best_champion`, at the levels of the registry's ledger; "one look" decides each week as
if it were the only one, and with the champion's 10 % margin alone. Errors have the structure of `gate_error_rates`:
eight dimensions with a shared part; base and candidates are correlated at 0.6, champions and candidates at 0.9 to 0.97.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from mondrian_core.evaluation.gates.comparison_gates import (
    BEST_CHAMPION_COMPARISON,
    CHAMPION_COMPARISON,
    SCORE_ERROR,
)
from mondrian_core.evaluation.gates.results import PASS, GateMeasurements
from mondrian_core.evaluation.measure.metrics import ArmComparison
from mondrian_core.evaluation.measure.pooled_evidence import LookEvidence
from mondrian_core.recipes import GateRecipe
from mondrian_core.registry import LookRules
from mondrian_core.statistics.permutation_tests import sign_flip_p_value

WEEKS, NEW_PER_WEEK = 52, 0.25
YEAR_SIZES = (8, 20, 40)
YEAR_GAINS = (-0.1, 0.0, 0.3, 0.5)
CHAMPION_CORRELATIONS = (0.9, 0.95, 0.97)
CREEPS = (0.03, 0.05)
RETRAINING_NOISE = 0.1
CREEP_LIMIT = 1.1  # times the first champion's error
_RECIPE = GateRecipe()
# What the gates promise about years: share that goes live at most, or at least, by true gain.
PROMISED_AT_MOST = {0.0: 0.05, -0.1: 0.01}
PROMISED_AT_LEAST = {0.3: 0.80, 0.5: 0.99}
PROMISED_CREEP = 0.02
_DRAWS = 2000  # enough for a level of 5 %; the looks' smaller levels are tested with the product's 20,000
_DIMENSIONS, _SHARED, _CORRELATION = 8, (0.7 / 1.3) ** 2, 0.6

ErrorsByPhotograph = NDArray[np.float64]


@dataclass(frozen=True)
class FirstPromotionRates:
    """Shares (0-1) of simulated years in which a recipe of this true gain goes live, with one look and with a ledger.

    `median_week` is the median week of the ledger's first promotion; None when fewer than half of the years had one.
    """

    photographs: int
    gain: float
    one_look: float
    ledger: float
    median_week: int | None


@dataclass(frozen=True, kw_only=True)
class ChampionRates:
    """A year of champions under one rule.

    Attributes:
        rule: "margin alone" or "observed and best".
        photographs: at the beginning of the year.
        correlation: of the errors of two versions.
        weekly_loss: how much worse each candidate is than the champion; None: candidates vary around the first one.
        replaced: share (0-1) of the weeks in which the champion is replaced.
        crept: share (0-1) of the years that end more than 10 % above the first champion's true error.
        quality: mean true error after the year, relative to the first champion's.
    """

    rule: str
    photographs: int
    correlation: float
    weekly_loss: float | None
    replaced: float
    crept: float
    quality: float


def _unit_errors(rng: np.random.Generator, n: int) -> ErrorsByPhotograph:
    """(n, 8) errors of variance 1 with a part that all dimensions share."""
    shared, own = rng.normal(size=(n, 1)), rng.normal(size=(n, _DIMENSIONS))
    return np.asarray(_SHARED**0.5 * shared + (1 - _SHARED) ** 0.5 * own)


def _sizes(photographs: int) -> list[int]:
    return [int(photographs + NEW_PER_WEEK * week) for week in range(WEEKS)]


def _comparison(ours: ErrorsByPhotograph, theirs: ErrorsByPhotograph, margin: float | None = None) -> ArmComparison:
    """The comparison of two arms by their squared errors (n,); without a margin only what `score_error` needs."""
    p_worse = p_not_inferior = 1.0
    if margin is not None:
        p_worse = sign_flip_p_value(ours - theirs, draws=_DRAWS)
        p_not_inferior = sign_flip_p_value((1 + margin) * theirs - ours, draws=_DRAWS)
    return ArmComparison(
        n=len(ours),
        error_ours=float(ours.mean()),
        error_theirs=float(theirs.mean()),
        reduction=1 - float(ours.mean() / theirs.mean()),
        interval=None,
        p_better=sign_flip_p_value(theirs - ours, draws=_DRAWS),
        detectable=None,
        needed=None,
        penalised=0,
        left_out=0,
        no_answer=0,
        p_worse=p_worse,
        p_not_inferior=p_not_inferior,
    )


def _first_promotion_weeks(photographs: int, gain: float, rng: np.random.Generator) -> tuple[int | None, int | None]:
    """The week of the first promotion with one look and with the ledger; None: not within the year."""
    sizes, rules = _sizes(photographs), _ledger_rules()
    most = sizes[-1]
    common = _CORRELATION**0.5 * _unit_errors(rng, most)
    own = (1 - _CORRELATION) ** 0.5
    base = ((common + own * _unit_errors(rng, most)) ** 2).mean(axis=1)
    total, counts, levels = np.zeros(most), np.zeros(most), list[float]()
    first: dict[str, int | None] = {"one look": None, "ledger": None}
    for week, n in enumerate(sizes):
        candidate = (1 - gain) * ((common + own * _unit_errors(rng, most)) ** 2).mean(axis=1)
        total[:n] += base[:n] - candidate[:n]
        counts[:n] += 1
        levels.append(rules.next_level(levels, same=week))
        compared = _comparison(candidate[:n], base[:n])
        evidence = LookEvidence(
            number=week + 1,
            level=levels[-1],
            spent=0.0,
            yearly_level=_RECIPE.yearly_level,
            photographs=n,
            fresh=0,
            candidates=week + 1,
            p_value=0.0,
        )
        if not _passes(compared, replace(evidence, level=1.0)):
            continue  # a look that fails alone fails with the ledger too
        first["one look"] = first["one look"] or week + 1
        if _passes(compared, replace(evidence, p_value=sign_flip_p_value(total[:n] / counts[:n]))):
            first["ledger"] = week + 1
        if None not in first.values():
            break
    return first["one look"], first["ledger"]


def _passes(compared: ArmComparison, look: LookEvidence) -> bool:
    return SCORE_ERROR.evaluate(GateMeasurements(against_base=compared, look=look), _RECIPE).verdict == PASS


def _ledger_rules() -> LookRules:
    return LookRules(
        yearly_level=_RECIPE.yearly_level, first_level=_RECIPE.first_look_level, per_year=_RECIPE.looks_per_year
    )


def first_promotion_rates(years: int, seed: int = 0, sizes: Sequence[int] = YEAR_SIZES) -> list[FirstPromotionRates]:
    """How often a recipe without a champion goes live within a year, by test photographs and true gain."""
    rng, cells = np.random.default_rng(seed), []
    for photographs in sizes:
        for gain in YEAR_GAINS:
            weeks = [_first_promotion_weeks(photographs, gain, rng) for _ in range(years)]
            ledger = sorted(WEEKS + 1 if week is None else week for _, week in weeks)
            median = ledger[(years - 1) // 2]
            cells.append(
                FirstPromotionRates(
                    photographs,
                    gain,
                    sum(week is not None for week, _ in weeks) / years,
                    sum(week <= WEEKS for week in ledger) / years,
                    median if median <= WEEKS else None,
                )
            )
    return cells


@dataclass
class _Version:
    """A version in a simulated year: its true error relative to the first champion's, and its squared errors (N,)."""

    quality: float
    errors: ErrorsByPhotograph


class _YearOfChampions:
    """One advisor's champion over a year; every rule sees the same photographs and draws of its own."""

    def __init__(self, photographs: int, correlation: float, rng: np.random.Generator) -> None:
        self.sizes, self.correlation, self.rng = _sizes(photographs), correlation, rng
        self.common = correlation**0.5 * _unit_errors(rng, self.sizes[-1])
        self.champion = self.best = self.retrained(1.0)
        self.replaced = 0

    def retrained(self, quality: float) -> _Version:
        own = (1 - self.correlation) ** 0.5 * _unit_errors(self.rng, self.sizes[-1])
        return _Version(quality, quality * ((self.common + own) ** 2).mean(axis=1))

    def run(self, weekly_loss: float | None, *, guarded: bool) -> None:
        for n in self.sizes:
            noise = float(np.exp(RETRAINING_NOISE * self.rng.normal()))
            candidate = self.retrained(noise if weekly_loss is None else self.champion.quality * (1 + weekly_loss))
            ours = candidate.errors[:n]
            present = _comparison(ours, self.champion.errors[:n], _RECIPE.non_inferiority_margin)
            if not guarded:
                passes = present.p_not_inferior <= _RECIPE.p_value
            elif passes := CHAMPION_COMPARISON.evaluate(_against_champion(present), _RECIPE).verdict == PASS:
                best = _comparison(ours, self.best.errors[:n], _RECIPE.best_champion_margin)
                passes = BEST_CHAMPION_COMPARISON.evaluate(_against_best(best), _RECIPE).verdict == PASS
                if passes and best.p_better <= _RECIPE.p_value:
                    self.best = candidate
            if passes:
                self.champion, self.replaced = candidate, self.replaced + 1


def _against_champion(compared: ArmComparison) -> GateMeasurements:
    return GateMeasurements(has_champion=True, against_champion=compared)


def _against_best(compared: ArmComparison) -> GateMeasurements:
    return GateMeasurements(has_champion=True, best_champion="v0001", against_best=compared)


def champion_rates(
    years: int, seed: int = 0, photographs: int = 20, correlations: Sequence[float] = CHAMPION_CORRELATIONS
) -> list[ChampionRates]:
    """How the champion changes in a year, by rule, correlation of errors and weekly loss."""
    cells = []
    for correlation in correlations:
        for weekly_loss in (*CREEPS, None):
            for rule, guarded in (("margin alone", False), ("observed and best", True)):
                rng = np.random.default_rng(seed)
                ended = [_YearOfChampions(photographs, correlation, rng) for _ in range(years)]
                for year in ended:
                    year.run(weekly_loss, guarded=guarded)
                cells.append(
                    ChampionRates(
                        rule=rule,
                        photographs=photographs,
                        correlation=correlation,
                        weekly_loss=weekly_loss,
                        replaced=sum(year.replaced for year in ended) / (years * WEEKS),
                        crept=sum(year.champion.quality > CREEP_LIMIT for year in ended) / years,
                        quality=sum(year.champion.quality for year in ended) / years,
                    )
                )
    return cells


def year_markdown(first: Sequence[FirstPromotionRates], champions: Sequence[ChampionRates]) -> str:
    """Both tables as Markdown."""
    gains = {-0.1: "10% worse", 0.0: "worthless", 0.3: "30% better", 0.5: "50% better"}
    lines = [f"| test photographs | {' | '.join(gains[gain] for gain in YEAR_GAINS)} |", "|---" * 5 + "|"]
    for photographs in dict.fromkeys(cell.photographs for cell in first):
        row = [cell for cell in first if cell.photographs == photographs]
        lines.append(f"| {photographs} | {' | '.join(_first_cell(cell) for cell in row)} |")
    lines += [
        "",
        "| candidates | correlation | rule | weeks with a new champion | years that end > 10% worse | mean error |",
        "|---" * 6 + "|",
    ]
    for cell in champions:
        what = "vary by 10%" if cell.weekly_loss is None else f"{cell.weekly_loss:.0%} worse than the champion"
        lines.append(
            f"| {what} | {cell.correlation:.2f} | {cell.rule} | {cell.replaced:.1%} | {cell.crept:.1%} | "
            f"{cell.quality:.2f} |"
        )
    return "\n".join(lines)


def _first_cell(cell: FirstPromotionRates) -> str:
    week = "" if cell.median_week is None else f", week {cell.median_week}"
    return f"{cell.one_look:.0%} -> {cell.ledger:.1%}{week}"


def broken_promises(first: Sequence[FirstPromotionRates], champions: Sequence[ChampionRates], years: int) -> list[str]:
    """What a year promises and the simulation does not show, beyond what chance explains in so many years (0.1 %)."""
    broken = []
    for cell in first:
        most, least = PROMISED_AT_MOST.get(cell.gain), PROMISED_AT_LEAST.get(cell.gain)
        where = f"{cell.photographs} photographs, true gain {cell.gain:.0%}: goes live in {cell.ledger:.1%} of years"
        if most is not None and cell.ledger * years > binom.ppf(0.999, years, most):
            broken.append(f"{where}, promised at most {most:.0%}")
        if least is not None and cell.ledger * years < binom.ppf(0.001, years, least):
            broken.append(f"{where}, promised at least {least:.0%}")
    for champion in champions:
        guarded = champion.rule == "observed and best"
        if guarded and champion.crept * years > binom.ppf(0.999, years, PROMISED_CREEP):
            broken.append(
                f"errors correlated at {champion.correlation}: {champion.crept:.1%} of years end more than 10% worse, "
                f"promised at most {PROMISED_CREEP:.0%}"
            )
    return broken


def run_year_simulation(years: int, out: Path | None, seed: int = 0) -> int:
    """Print the tables; 1 when a promise is broken."""
    first, champions = first_promotion_rates(years, seed), champion_rates(years, seed)
    print(f"Years of 52 weekly looks, {years} simulated; shares of years (one look -> ledger), and the median week\n")
    print(f"{year_markdown(first, champions)}\n")
    broken = broken_promises(first, champions, years)
    print("\n".join(f"BROKEN: {promise}" for promise in broken) or "Every promise about a year holds.")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        values: dict[str, Any] = {"years": years, "seed": seed, "first": [asdict(cell) for cell in first]}
        values["champions"] = [asdict(cell) for cell in champions]
        (out / "gates-year.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        plot_year(first, champions, out / "gates-year.png")
    return 1 if broken else 0


def plot_year(first: Sequence[FirstPromotionRates], champions: Sequence[ChampionRates], path: Path) -> None:
    """Both tables as one PNG: one look hatched, the ledger filled."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), dpi=80, layout="constrained")
    left, right = figure.subplots(1, 2)
    shades = {-0.1: "#7a1f1a", 0.0: "#b3372f", 0.3: "#8aa34a", 0.5: "#2e7d4f"}
    names = {-0.1: "10 % worse", 0.0: "worthless", 0.3: "30 % better", 0.5: "50 % better"}
    sizes = list(dict.fromkeys(cell.photographs for cell in first))
    for gain, shade in shades.items():
        row = [cell for cell in first if cell.gain == gain]
        left.plot(sizes, [cell.one_look for cell in row], "--", color=shade, linewidth=1)
        left.plot(sizes, [cell.ledger for cell in row], "o-", color=shade, label=names[gain])
    left.axhline(PROMISED_AT_MOST[0.0], color="#888888", linewidth=0.8, linestyle=":")
    left.set(title="goes live within a year (dashed: every look at 5 %)", xlabel="test photographs", ylim=(-0.02, 1.02))
    left.set_xticks(sizes)
    for rule, shade in (("margin alone", "#b3372f"), ("observed and best", "#1f5fbf")):
        for weekly_loss, style in zip(CREEPS, ("o--", "o-"), strict=True):
            row2 = [cell for cell in champions if (cell.rule, cell.weekly_loss) == (rule, weekly_loss)]
            label = f"{rule}, {weekly_loss:.0%} worse a week"
            right.plot(
                [cell.correlation for cell in row2], [cell.crept for cell in row2], style, color=shade, label=label
            )
    right.axhline(PROMISED_CREEP, color="#888888", linewidth=0.8, linestyle=":")
    right.set(title="years that end more than 10 % worse", xlabel="correlation of the errors", ylim=(-0.02, 1.02))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.savefig(path)
