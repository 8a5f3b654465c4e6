"""False alarms of the drift watch in simulated years, and the requests until it finds a change.

A year has 50 requests a day. Its values pass through the watch's own martingale, signals and limit; what doesn't count
(later photographs of a series) is left out before, as the watch does. The first table also counts every request of a
series, to show what that rule is for. In the second one, a change begins after some quiet requests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom

from mondrian_core.drift.signals import ALARM_EVIDENCE, BINS, KINDS, LENGTH, REFUSED, REPAIRED, SIGNALS
from mondrian_core.markdown import markdown_table
from mondrian_core.statistics.conformal_martingale import BetKind, add_values, start_martingale

DAYS, REQUESTS_PER_DAY = 365, 50
PROMISED, CONFIDENCE = 0.05, 0.999
SERIES = 10  # requests of a simulated series
WITHIN = 100
LOST = 500  # requests after which a change counts as not found
Values = NDArray[np.float64]
_SCORES = slice(0, 8)


@dataclass(frozen=True, kw_only=True)
class SimulatedYear:
    """A kind of data without any drift.

    Attributes:
        name: of the kind, for people.
        reference: photographs of the evaluation.
        whole: scores are whole numbers.
        per_shoot: requests that share half of the variance of their scores.
        days: days on which a shoot continues, with as many requests on each.
        counting: the watch's rule, or a laxer one for comparison.
        champions: watches of the year; each has a reference and a mean of its own.
    """

    name: str
    reference: int = 30
    whole: bool = False
    per_shoot: int = 1
    days: int = 1
    counting: Literal["once a shoot", "once a day", "every request"] = "once a shoot"
    champions: int = 1

    @property
    def values(self) -> int:
        """Values that count in a year."""
        per_value = {"once a shoot": self.per_shoot * self.days, "once a day": self.per_shoot, "every request": 1}
        return DAYS * REQUESTS_PER_DAY // per_value[self.counting]


SIMULATED_YEARS: tuple[SimulatedYear, ...] = (
    SimulatedYear(name="independent requests"),
    SimulatedYear(name="whole scores, and a new champion every month", whole=True, champions=12),
    SimulatedYear(name="series of ten from one shoot", per_shoot=SERIES),
    SimulatedYear(name="shoots that go on for three days", per_shoot=SERIES, days=3),
    SimulatedYear(name="the same, counted once a day", per_shoot=SERIES, days=3, counting="once a day"),
    SimulatedYear(name="series of ten, every request counted", per_shoot=SERIES, counting="every request"),
)


@dataclass(frozen=True, kw_only=True)
class SimulatedChange:
    """A change of one signal.

    Attributes:
        name: for people.
        signal: name of the signal.
        deviation: standard deviation of its values before and after, unless `after` says otherwise.
        after: draws values after the change; None: shifted by one point.
        reference: photographs of the evaluation.
        quiet: requests before the change.
        whole: scores are whole numbers.
    """

    name: str
    signal: str = "lighting"
    deviation: float = 1.0
    after: Callable[[np.random.Generator, tuple[int, ...]], Values] | None = None
    reference: int = 60
    quiet: int = 200
    whole: bool = False


def _rate(share: float) -> Callable[[np.random.Generator, tuple[int, ...]], Values]:
    return lambda rng, shape: (rng.random(shape) < share).astype(np.float64)


SIMULATED_CHANGES: tuple[SimulatedChange, ...] = (
    *(
        SimulatedChange(name="one point", deviation=deviation, reference=reference, quiet=quiet)
        for deviation in (1.0, 1.5, 2.0)
        for reference, quiet in ((20, 0), (30, 0), (60, 0), (200, 0), (30, 200), (60, 200), (60, 1000))
    ),
    SimulatedChange(name="one point, whole scores", whole=True),
    SimulatedChange(name="half of the spread", deviation=1.5, after=lambda rng, shape: rng.normal(6.0, 0.75, shape)),
    SimulatedChange(name="every score is 6", deviation=1.5, after=lambda _, shape: np.full(shape, 6.0)),
    SimulatedChange(name="answers a tenth longer", signal=LENGTH, after=lambda rng, shape: rng.normal(275, 15, shape)),
    *(SimulatedChange(name=f"{share:.0%} repaired", signal=REPAIRED, after=_rate(share)) for share in (0.1, 0.2)),
    SimulatedChange(name="every request refused", signal=REFUSED, after=_rate(1.0)),
)


def simulate_year(year: SimulatedYear, runs: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(runs,) True where any signal raised an alarm in a year without drift."""
    alarmed = np.zeros(runs, dtype=bool)
    capital: Values | float = 1.0
    shoots = _Shoots(year, runs, rng)
    steps = year.values // year.champions
    for _ in range(year.champions):
        mean = rng.normal(6.0, 1.0, (runs, 1)) if year.champions > 1 else np.full((runs, 1), 6.0)
        reference = np.stack([_bins_of(_scored(year, mean, None, rng), None) for _ in range(year.reference)], axis=-1)
        state = start_martingale(_count_bins(reference), KINDS, capital)
        for _ in range(steps):
            bins = _bins_of(_scored(year, mean, shoots.next(), rng), None)
            state = add_values(state, KINDS, bins, rng.random(bins.shape))
            alarmed |= (state.evidence >= ALARM_EVIDENCE).any(axis=-1)
            if alarmed.all():
                return alarmed
        capital = np.minimum(state.evidence, 1.0)
    return alarmed


class _Shoots:
    """The part of the scores that requests of one shoot share, for each value that counts."""

    def __init__(self, year: SimulatedYear, runs: int, rng: np.random.Generator) -> None:
        self._year, self._rng, self._count, self._shape = year, rng, 0, (runs, 8)
        self._running: list[Values] = []

    def next(self) -> Values | None:
        """(runs, 8) for the next value; None where the values that count share nothing."""
        year = self._year
        if year.per_shoot == 1 or year.counting == "once a shoot":
            return None
        lasting, at_once = (
            (year.per_shoot, 1) if year.counting == "every request" else (year.days, REQUESTS_PER_DAY // year.per_shoot)
        )
        place = self._count % at_once
        if self._count // at_once % lasting == 0:
            self._running = [*self._running[:place], self._rng.normal(0.0, 1.0, self._shape)]
        self._count += 1
        return self._running[place]


def _scored(year: SimulatedYear, mean: Values, shared: Values | None, rng: np.random.Generator) -> Values:
    """(runs, S) values of one request. A quarter of a score's variance is common to all dimensions."""
    runs = len(mean)
    own = rng.normal(0.0, 1.0, (runs, 8)) if shared is None else (shared + rng.normal(0.0, 1.0, (runs, 8))) / 2**0.5
    scores = np.clip(mean + 1.2 * (0.5 * rng.normal(0.0, 1.0, (runs, 1)) + 0.75**0.5 * own), 0.0, 10.0)
    values = np.empty((runs, len(SIGNALS)))
    values[:, _SCORES] = np.round(scores) if year.whole else scores
    rest = (rng.random(runs) < 0.02, rng.normal(250, 15, runs), rng.random(runs) < 0.01, rng.gamma(4.0, 0.02, runs))
    for place, column in zip(range(8, len(SIGNALS)), rest, strict=True):
        values[:, place] = column
    return values


def _bins_of(values: Values, signal: int | None) -> NDArray[np.int64]:
    """The bins of values (..., S), or of values (..., 1) of one signal; as `DriftSignal.bin`, for arrays."""
    chosen = SIGNALS if signal is None else (SIGNALS[signal],)
    share = np.clip(values / [each.highest for each in chosen], 0.0, 1.0)
    rooted = np.where([each.root for each in chosen], share**0.5, share)
    return np.rint(rooted * (BINS - 1)).astype(np.int64)


def _count_bins(bins: NDArray[np.int64]) -> NDArray[np.int64]:
    """(..., S, n) bins as (..., S, B) counts."""
    counts = np.zeros((*bins.shape[:-1], BINS), dtype=np.int64)
    for place in range(bins.shape[-1]):
        np.put_along_axis(
            counts, bins[..., place : place + 1], np.take_along_axis(counts, bins[..., place : place + 1], -1) + 1, -1
        )
    return counts


def simulate_change(change: SimulatedChange, runs: int, rng: np.random.Generator) -> Values:
    """(runs,) requests from the change to the alarm; inf where it wasn't found, NaN where it came before the change."""
    place = next(number for number, signal in enumerate(SIGNALS) if signal.name == change.signal)
    kinds: tuple[BetKind, ...] = (SIGNALS[place].kind,)

    def draw(shape: tuple[int, ...], changed: bool) -> NDArray[np.int64]:
        if changed and change.after is not None:
            values = change.after(rng, shape)
        elif change.signal in (REPAIRED, REFUSED):
            values = np.zeros(shape)
        elif change.signal == LENGTH:
            values = rng.normal(250, 15, shape)
        else:
            values = rng.normal(7.0 if changed else 6.0, change.deviation, shape)
        return _bins_of(np.round(values) if change.whole else values, place)

    reference = draw((runs, change.reference, 1), False)
    state = start_martingale(_count_bins(np.swapaxes(reference, -1, -2)), kinds)
    found = np.full(runs, np.inf)
    for number in range(change.quiet + LOST):
        state = add_values(state, kinds, draw((runs, 1), number >= change.quiet), rng.random((runs, 1)))
        new = np.isinf(found) & (state.evidence[:, 0] >= ALARM_EVIDENCE)
        found[new] = number + 1 - change.quiet if number >= change.quiet else np.nan
        if not np.isinf(found).any():
            break
    return found


def drift_year_row(year: SimulatedYear, runs: int, seed: int) -> dict[str, Any]:
    """name, reference, values, measured (share of years with an alarm), upper (its 95 % limit), exceeds."""
    rng = np.random.default_rng([seed, SIMULATED_YEARS.index(year)])
    alarms = int(simulate_year(year, runs, rng).sum())
    return {
        "name": year.name,
        "reference": year.reference,
        "values": year.values,
        "measured": alarms / runs,
        "upper": float(beta.ppf(0.95, alarms + 1, runs - alarms)) if alarms < runs else 1.0,
        "exceeds": alarms > int(binom.ppf(CONFIDENCE, runs, PROMISED)),
        "promised": year.counting == "once a shoot",
    }


def drift_change_row(change: SimulatedChange, runs: int, seed: int) -> dict[str, Any]:
    """name, deviation, reference, quiet, median and late (90 %) in requests, within (share found in 100)."""
    found = simulate_change(change, runs, np.random.default_rng([seed, SIMULATED_CHANGES.index(change)]))
    counted = np.sort(found[~np.isnan(found)])
    return {
        "name": change.name,
        "deviation": change.deviation if change.signal == "lighting" else None,
        "reference": change.reference,
        "quiet": change.quiet,
        "median": float(counted[int(0.5 * len(counted))]),
        "late": float(counted[int(0.9 * len(counted))]),
        "within": float((counted <= WITHIN).mean()),
    }


def drift_year_table(rows: list[dict[str, Any]]) -> str:
    """The rows of `drift_year_row` as a Markdown table."""
    return markdown_table(
        ("a year without drift", "reference", "values that count", "years with an alarm", "upper limit (95 %)"),
        [
            (row["name"], row["reference"], f"{row['values']:,}", f"{row['measured']:.1%}", f"{row['upper']:.1%}")
            for row in rows
        ],
    )


def drift_change_table(rows: list[dict[str, Any]]) -> str:
    """The rows of `drift_change_row` as a Markdown table."""

    def requests(value: float) -> str:
        return f"{value:.0f}" if np.isfinite(value) else f"over {LOST:,}"

    return markdown_table(
        ("change", "deviation", "reference", "quiet before", "found after: median", "90 %", f"found within {WITHIN}"),
        [
            (
                row["name"],
                "" if row["deviation"] is None else f"{row['deviation']:g}",
                row["reference"],
                row["quiet"],
                requests(row["median"]),
                requests(row["late"]),
                f"{row['within']:.0%}",
            )
            for row in rows
        ],
    )


def main(arguments: list[str] | None = None) -> int:
    """Simulate and print both tables; exit status 1 when a kind of year has more alarms than promised."""
    parser = argparse.ArgumentParser(prog="bench.drift_simulation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--years", type=int, default=100, help="years per kind (default 100)")
    parser.add_argument("--runs", type=int, default=200, help="changes per row (default 200)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    changes: Iterator[dict[str, Any]] = (
        drift_change_row(change, options.runs, options.seed) for change in SIMULATED_CHANGES
    )
    print(drift_change_table(list(changes)), flush=True)
    years = [drift_year_row(year, options.years, options.seed) for year in SIMULATED_YEARS]
    print(f"\n{drift_year_table(years)}", flush=True)
    return int(any(row["exceeds"] and row["promised"] for row in years))


if __name__ == "__main__":
    sys.exit(main())
