"""A watch as values: each signal's state in a sentence, its band, its evidence, and what it could find."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mondrian_core.drift.monitor import EVALUATION, DriftWatch
from mondrian_core.drift.signals import ALARM_EVIDENCE, BINS, SIGNALS, DriftSignal
from mondrian_core.drift.watch import FEWEST_REFERENCES, DriftAlarm
from mondrian_core.statistics.conformal_martingale import STAKE_PER_VALUE

SignalStatus = Literal["alarm", "watching", "inconclusive", "no_reference"]
BAND = (0.05, 0.95)  # quantiles of the reference
HORIZON = 100  # requests within which a shift should be found
SHIFT_WANTED = 1.0  # points that should be found within the horizon
_MOST_EVIDENCE = 10_000  # that is written and drawn
_UNKNOWN_SHIFT = 1.15  # simulated: bets that know neither the size of the shift nor its beginning need so much more
_RESTAKED = 20  # values whose new stakes together bet on one change


@dataclass(frozen=True, kw_only=True)
class SignalReport:
    """One signal of a watch.

    Attributes:
        signal: what it is.
        status: alarm; watching; inconclusive, when the reference is too small to find a shift of one point within 100
            requests; or no_reference.
        sentence: the status in words.
        reference: number of values of the reference.
        band: its middle nine tenths, or None.
        reference_mean, live_mean: means; None without values.
        live: number of live values.
        evidence: the e-value; the alarm is at `ALARM_EVIDENCE`.
        detectable: the lasting shift that would be found within 100 requests, in the signal's unit; None for rates.
        alarm: when the evidence reached the limit.
        reference_counts, live_counts: (B,) values per bin.
    """

    signal: DriftSignal
    status: SignalStatus
    sentence: str
    reference: int
    band: tuple[float, float] | None
    reference_mean: float | None
    live_mean: float | None
    live: int
    evidence: float
    detectable: float | None
    alarm: DriftAlarm | None
    reference_counts: NDArray[np.int64]
    live_counts: NDArray[np.int64]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the counts."""
        return {
            "signal": self.signal.name,
            "title": self.signal.title,
            "unit": self.signal.unit,
            "status": self.status,
            "sentence": self.sentence,
            "reference": self.reference,
            "band": list(self.band) if self.band else None,
            "reference_mean": self.reference_mean,
            "live_mean": self.live_mean,
            "live": self.live,
            "evidence": self.evidence,
            "detectable": self.detectable,
            "alarm": self.alarm.__dict__ if self.alarm else None,
            "meaning": self.signal.meaning,
            "action": self.signal.action,
        }


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """A watch for people and programs.

    Attributes:
        status: alarm, watching, inconclusive or nothing_promoted.
        sentence: the status in words.
        signals: all signals; () while nothing is promoted.
    """

    advisor: str
    status: Literal["alarm", "watching", "inconclusive", "nothing_promoted"]
    sentence: str
    watch: DriftWatch | None = None
    signals: tuple[SignalReport, ...] = ()

    @property
    def alarms(self) -> tuple[SignalReport, ...]:
        """The signals with an alarm."""
        return tuple(each for each in self.signals if each.status == "alarm")

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        values: dict[str, Any] = {"advisor": self.advisor, "status": self.status, "sentence": self.sentence}
        if self.watch is not None:
            state = self.watch.state
            values |= {
                "version": self.watch.version,
                "watch": self.watch.number,
                "watching_since": self.watch.began_at,
                "begun_by": self.watch.begun_by,
                "reference": self.watch.source,
                "requests": state.requests,
                "counted": state.counted,
                "repeated": state.repeated,
                "in_series": state.in_series,
                "alarm_evidence": ALARM_EVIDENCE,
            }
        return {**values, "signals": [each.as_dict() for each in self.signals]}


def drift_report(advisor: str, watch: DriftWatch | None) -> DriftReport:
    """The report of a watch; None: nothing is promoted."""
    if watch is None:
        sentence = "No version is promoted, so there is no evaluation to compare live answers with."
        return DriftReport(advisor=advisor, status="nothing_promoted", sentence=sentence)
    signals = tuple(_signal_report(watch, place) for place in range(len(SIGNALS)))
    statuses = {each.status for each in signals}
    alarms = [each.signal.title for each in signals if each.status == "alarm"]
    counted = _requests_text(watch)
    if alarms:
        sentence = f"Drift of {watch.version}: {', '.join(alarms)}. {counted}"
        return DriftReport(advisor=advisor, status="alarm", sentence=sentence, watch=watch, signals=signals)
    if statuses == {"no_reference"}:
        sentence = f"{watch.version} has no recorded evaluation to compare live answers with."
        return DriftReport(advisor=advisor, status="inconclusive", sentence=sentence, watch=watch, signals=signals)
    if "inconclusive" in statuses:
        sentence = f"No drift of {watch.version} so far, but a shift of one point could be missed. {counted}"
        return DriftReport(advisor=advisor, status="inconclusive", sentence=sentence, watch=watch, signals=signals)
    sentence = f"No drift of {watch.version} so far. {counted}"
    return DriftReport(advisor=advisor, status="watching", sentence=sentence, watch=watch, signals=signals)


def next_drift_steps(report: DriftReport) -> tuple[str, ...]:
    """What a person can do now, as sentences with commands."""
    advisor, watch = report.advisor, report.watch
    if watch is None:
        return (f"Train and promote a version: `mondrian retrain --advisor {advisor}`.",)
    if report.alarms:
        return (
            f"See what changed: the latest critiques, and `mondrian runs list --advisor {advisor}`.",
            f"If the answers got worse: `mondrian adapters rollback --advisor {advisor}`.",
            f"If the photographs are of a new kind: critique some, then `mondrian retrain --advisor {advisor}`.",
            f"If all is well: `mondrian drift --advisor {advisor} --accept` watches from here on.",
        )
    missing = [each.signal.name for each in report.signals if each.status == "no_reference"]
    if len(missing) == len(report.signals):
        return (f"Evaluate it: `mondrian evaluate --advisor {advisor} --adapter {watch.version}`.",)
    if missing == ["distance"]:
        return (f"To watch the photographs too: `mondrian index --advisor {advisor}`, before the next promotion.",)
    return ()


def _requests_text(watch: DriftWatch) -> str:
    state = watch.state
    left_out = [
        f"{count} {text}"
        for count, text in ((state.repeated, "of known photographs"), (state.in_series, "later in a series"))
        if count
    ]
    if not left_out:
        return f"{state.requests} requests since {watch.began_at[:10]}."
    others = " or ".join(left_out)
    return f"{state.requests} requests since {watch.began_at[:10]}; {state.counted} count, the others are {others}."


def _signal_report(watch: DriftWatch, place: int) -> SignalReport:
    signal, state = SIGNALS[place], watch.state
    reference = watch.reference[place]
    live = np.diff(state.martingale.bag[place], prepend=0) - reference
    alarm = state.alarms.get(signal.name)
    known = bool(watch.watched[place])
    evidence = float(state.martingale.evidence[place]) if known else 1.0
    detectable = _detectable_shift(watch, place) if known and alarm is None else None
    too_coarse = signal.unit == "points" and detectable is not None and detectable > SHIFT_WANTED
    status: SignalStatus = (
        "alarm" if alarm else "no_reference" if not known else "inconclusive" if too_coarse else "watching"
    )
    return SignalReport(
        signal=signal,
        status=status,
        sentence=_signal_sentence(watch, signal, status, alarm, detectable),
        reference=int(reference.sum()),
        band=_band(signal, reference),
        reference_mean=_mean(signal, reference),
        live_mean=_mean(signal, live),
        live=int(live.sum()),
        evidence=evidence,
        detectable=detectable,
        alarm=alarm,
        reference_counts=reference,
        live_counts=np.asarray(live),
    )


def _signal_sentence(
    watch: DriftWatch, signal: DriftSignal, status: SignalStatus, alarm: DriftAlarm | None, detectable: float | None
) -> str:
    if alarm is not None:
        return f"{signal.meaning} Found on {alarm.at[:10]}, after {alarm.counted} requests. {signal.action}"
    if status == "no_reference":
        what = "indexed photographs" if signal.name == "distance" else "answers"
        since = "this watch began" if watch.begun_by != EVALUATION else "its evaluation"
        return f"Fewer than {FEWEST_REFERENCES} {what} were known at {since}, too few to compare with."
    if status == "inconclusive" and detectable is not None:
        return (
            f"Nothing found. A lasting shift of {detectable:.1f} points would be found within {HORIZON} requests in "
            "half of the cases; a smaller one takes longer, or is missed until more requests have counted."
        )
    if signal.unit == "points" and detectable is not None:
        return f"Nothing found. A lasting shift of {detectable:.1f} points would be found within {HORIZON} requests."
    return "Nothing found."


def _detectable_shift(watch: DriftWatch, place: int) -> float | None:
    """The shift whose evidence would reach the limit within `HORIZON` more requests, in half of the cases.

    n values shifted by d standard deviations give d^2/2 * n m / (n + m) nats of evidence against a bag of m; needed are
    the limit and what the best bet has lost or never had. An approximation; docs/experiments/drift.md compares it with
    simulations.
    """
    signal, martingale = SIGNALS[place], watch.state.martingale
    if signal.kind == "rate":
        return None
    bag = np.diff(martingale.bag[place], prepend=0)
    deviation = _deviation(signal, bag)
    if not deviation:
        return None
    shares = martingale.stakes[place][martingale.stakes[place] > 0]
    restaked = martingale.reserve[place] * STAKE_PER_VALUE * _RESTAKED / max(len(shares), 1)
    best = max(float(shares.max(initial=0.0)), float(restaked))
    needed = max(0.0, math.log(ALARM_EVIDENCE / best))
    size = int(bag.sum())
    return float(_UNKNOWN_SHIFT * deviation * math.sqrt(2.0 * needed * (HORIZON + size) / (HORIZON * size)))


def _values(signal: DriftSignal) -> NDArray[np.float64]:
    return np.array([signal.value(place) for place in range(BINS)])


def _mean(signal: DriftSignal, counts: NDArray[np.int64]) -> float | None:
    total = int(counts.sum())
    return float(_values(signal) @ counts / total) if total else None


def _deviation(signal: DriftSignal, counts: NDArray[np.int64]) -> float | None:
    mean, total = _mean(signal, counts), int(counts.sum())
    return None if mean is None else float(math.sqrt((_values(signal) - mean) ** 2 @ counts / total))


def _band(signal: DriftSignal, counts: NDArray[np.int64]) -> tuple[float, float] | None:
    total = int(counts.sum())
    if not total:
        return None
    ends = [int(np.searchsorted(counts.cumsum(), share * total)) for share in BAND]
    return signal.value(ends[0]), signal.value(ends[1])


def evidence_text(value: float) -> str:
    """An e-value for people; far beyond the limit its size says nothing more."""
    return f"over {_MOST_EVIDENCE:,}" if value > _MOST_EVIDENCE else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def alarm_key(watch: DriftWatch, alarm: DriftAlarm) -> str:
    """A key that is equal for the same alarm, however often it is found."""
    return f"{watch.advisor}/{watch.version}/{watch.number}/{alarm.signal}"


def evidence_points(watch: DriftWatch, place: int) -> Sequence[tuple[float, float]]:
    """(requests counted, log10 of the e-value up to `_MOST_EVIDENCE`) for the chart of a signal."""
    return [
        (float(counted), math.log10(min(max(values[place], 1e-3), _MOST_EVIDENCE)))
        for counted, _, values in watch.state.points
    ]
