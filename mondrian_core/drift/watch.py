"""One watch: the state of all signals since one moment, and the pure function that adds requests to it.

A photograph counts once, with its first answer. Of a series only the first photograph is evidence: pictures of one
shoot resemble each other, and a hundred of them are not a hundred independent answers. A series is what comes from one
folder within three days, or is uploaded without a pause of more than ten minutes. What doesn't count is counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mondrian_core.drift.observations import DriftObservation
from mondrian_core.drift.signals import ALARM_EVIDENCE, BINS, KINDS, SIGNALS, SignalValues
from mondrian_core.statistics.conformal_martingale import MartingaleState, add_values, start_martingale

FOLDER_SPAN = timedelta(days=3)  # a folder is taken for one shoot, which may be sent in on several days
UPLOAD_GAP = timedelta(minutes=10)
UPLOADS = "."  # the folder of uploads
FEWEST_REFERENCES = 10  # values of a reference; with fewer a signal is not watched
WATCH_YEAR = timedelta(days=365)
MOST_POINTS = 200  # of the drawn evidence; beyond that every other one is left out
_KEPT_DIGITS = 16  # of a photograph's digest: enough to recognize it


@dataclass(frozen=True)
class DriftAlarm:
    """The moment at which a signal's evidence reached the limit.

    Attributes:
        signal: its name.
        job: the request that made it full.
        at: time of that request, ISO 8601.
        counted: requests that counted until then.
        evidence: the e-value.
    """

    signal: str
    job: str
    at: str
    counted: int
    evidence: float


@dataclass(kw_only=True)
class DriftState:
    """The state of a watch after some requests; `add_observation` changes it.

    Attributes:
        martingale: of all signals.
        last_row: number of the last row of the jobs table that was read.
        requests: for the version, also those that don't count.
        repeated: photographs that had an answer before.
        in_series: photographs of a series after its first.
        counted: the rest, which is evidence.
        year_began: since when the year's capital is spent, ISO 8601.
        photographs: digests of those that had an answer.
        series: by folder the time of its last series; of uploads that of the last request.
        points: (counted, time, e-value by signal) for the chart, every `stride`-th.
        alarms: by signal.
    """

    martingale: MartingaleState
    last_row: int = 0
    requests: int = 0
    repeated: int = 0
    in_series: int = 0
    counted: int = 0
    year_began: str = ""
    photographs: set[str] = field(default_factory=set)
    series: dict[str, str] = field(default_factory=dict)
    points: list[tuple[int, str, tuple[float, ...]]] = field(default_factory=list)
    stride: int = 1
    alarms: dict[str, DriftAlarm] = field(default_factory=dict)


def count_values(values: Iterable[SignalValues]) -> NDArray[np.int64]:
    """(S, B) how many values of each signal are in each bin."""
    counts = np.zeros((len(SIGNALS), BINS), dtype=np.int64)
    for each in values:
        for place, signal in enumerate(SIGNALS):
            if signal.name in each:
                counts[place, signal.bin(each[signal.name])] += 1
    return counts


def start_watch(
    reference: NDArray[np.int64], year_began: str, capital: NDArray[np.float64] | float = 1.0
) -> DriftState:
    """The state before the first request.

    Args:
        reference: (S, B) counts; a signal with fewer than `FEWEST_REFERENCES` values is not watched.
        year_began: since when the capital of this year is spent.
        capital: (S,), what earlier watches of the year left.
    """
    return DriftState(martingale=start_martingale(reference, KINDS, capital), year_began=year_began)


def watched_signals(reference: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(S,) True for signals with enough values in the reference."""
    return np.asarray(reference.sum(axis=-1) >= FEWEST_REFERENCES)


def left_capital(state: DriftState) -> NDArray[np.float64]:
    """(S,) what a watch leaves to the next one of its year: at most what it began with, so no evidence goes along."""
    return np.minimum(state.martingale.evidence, 1.0)


def add_observation(state: DriftState, seen: DriftObservation, watched: NDArray[np.bool_]) -> None:
    """Add one more request to the state.

    Args:
        state: changes.
        seen: the request.
        watched: (S,), of `watched_signals`.
    """
    _begin_year_if_due(state, seen.at)
    state.requests += 1
    key = hashlib.sha256(seen.photograph.encode()).hexdigest()[:_KEPT_DIGITS]
    if key in state.photographs:
        state.repeated += 1
        return
    state.photographs.add(key)
    if _continues_series(state, seen):
        state.in_series += 1
        return
    known = np.array([signal.name in seen.values for signal in SIGNALS]) & watched
    bins = [signal.bin(seen.values.get(signal.name, 0.0)) for signal in SIGNALS]
    state.martingale = add_values(state.martingale, KINDS, bins, _ties(seen.job), known)
    state.counted += 1
    _record_evidence(state, seen)


def _record_evidence(state: DriftState, seen: DriftObservation) -> None:
    evidence = tuple(float(value) for value in state.martingale.evidence)
    new = [
        DriftAlarm(signal.name, seen.job, seen.at, state.counted, value)
        for signal, value in zip(SIGNALS, evidence, strict=True)
        if value >= ALARM_EVIDENCE and signal.name not in state.alarms
    ]
    state.alarms |= {alarm.signal: alarm for alarm in new}
    if state.counted % state.stride == 0 or new:
        state.points.append((state.counted, seen.at, evidence))
    if len(state.points) > MOST_POINTS:
        state.points, state.stride = state.points[1::2], state.stride * 2


def _begin_year_if_due(state: DriftState, at: str) -> None:
    """A new year has its own false alarms to spend: the capital starts again, and so does the evidence."""
    if at and state.year_began and _is_later(at, state.year_began, WATCH_YEAR):
        bag = np.diff(state.martingale.bag, axis=-1, prepend=0)
        state.martingale, state.year_began = start_martingale(bag, KINDS), at


def _continues_series(state: DriftState, seen: DriftObservation) -> bool:
    """True for a later photograph of a series; the state notes the request."""
    last, uploaded = state.series.get(seen.folder), seen.folder == UPLOADS
    goes_on = last is not None and not _is_later(seen.at, last, UPLOAD_GAP if uploaded else FOLDER_SPAN)
    if uploaded or not goes_on:
        state.series = {name: at for name, at in state.series.items() if not _is_later(seen.at, at, FOLDER_SPAN)}
        state.series[seen.folder] = seen.at
    return goes_on


def _is_later(at: str, than: str, span: timedelta) -> bool:
    try:
        return datetime.fromisoformat(at) - datetime.fromisoformat(than) > span
    except ValueError:  # a job without a time stands alone
        return True


def _ties(job: str) -> NDArray[np.float64]:
    """(S,) numbers in (0, 1) that depend on the job alone, so that the same jobs always give the same evidence."""
    words = np.frombuffer(hashlib.shake_256(job.encode()).digest(8 * len(SIGNALS)), dtype="<u8")
    return np.asarray(((words >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53)


# --- as plain values --------------------------------------------------------------------------------------------------


def state_as_dict(state: DriftState) -> dict[str, Any]:
    """Plain values for the database; numbers come back equal to the last bit."""
    return {
        "bag": counts_as_rows(np.diff(state.martingale.bag, axis=-1, prepend=0)),
        "reserve": state.martingale.reserve.tolist(),
        "stakes": state.martingale.stakes.tolist(),
        "last_row": state.last_row,
        "requests": state.requests,
        "repeated": state.repeated,
        "in_series": state.in_series,
        "counted": state.counted,
        "year_began": state.year_began,
        "photographs": sorted(state.photographs),
        "series": dict(state.series),
        "points": [list(point) for point in state.points],
        "stride": state.stride,
        "alarms": [alarm.__dict__ for alarm in state.alarms.values()],
    }


def state_from_dict(values: Mapping[str, Any]) -> DriftState:
    """The state that `state_as_dict` wrote."""
    plain = ("last_row", "requests", "repeated", "in_series", "counted", "year_began", "series", "stride")
    return DriftState(
        martingale=MartingaleState(
            bag=counts_from_rows(values["bag"]).cumsum(axis=-1, dtype=np.int32),
            reserve=np.array(values["reserve"], dtype=np.float64),
            stakes=np.array(values["stakes"], dtype=np.float64),
        ),
        photographs=set(values["photographs"]),
        points=[(counted, at, tuple(evidence)) for counted, at, evidence in values["points"]],
        alarms={alarm["signal"]: DriftAlarm(**alarm) for alarm in values["alarms"]},
        **{name: values[name] for name in plain},
    )


def counts_as_rows(counts: NDArray[np.integer[Any]]) -> list[dict[str, int]]:
    """(S, B) counts as a row of {bin: count} per signal."""
    return [{str(place): int(row[place]) for place in np.flatnonzero(row)} for row in counts]


def counts_from_rows(rows: Sequence[Mapping[str, int]]) -> NDArray[np.int64]:
    """The counts that `counts_as_rows` wrote.

    Raises:
        ValueError: they are of other signals or bins.
    """
    if len(rows) != len(SIGNALS):
        raise ValueError("the rows are of other signals")
    counts = np.zeros((len(SIGNALS), BINS), dtype=np.int64)
    for row, given in zip(counts, rows, strict=True):
        for place, count in given.items():
            row[int(place)] = count
    return counts
