"""What several serving machines observed of a rollout, in one order that all of them agree on.

Each machine appends the answers of its own jobs table to one log in the registry's object store, next to the history:
`<advisor>/rollouts/<salt>/000000.jsonl`, in segments of `SEGMENT_LINES` lines. An append is a conditional write, so the
log has one order and its beginning never changes. That keeps the guarantee of the e-processes (docs/decisions/0141): a
photograph that two machines answered counts once, and what was counted stays counted.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from mondrian_core.errors import RegistryBusy
from mondrian_core.object_store import ObjectStore, WriteConflict, open_object_store, token_in_listing
from mondrian_core.registry import Registry
from mondrian_core.rollout.observation import RolloutRequest, count_observations, rollout_requests
from mondrian_core.rollout.plan import Rollout, RolloutObservations
from mondrian_core.store import Job

SEGMENT_LINES = 500  # about 150 kB, which an append writes again
MAX_TRIES = 20
MAX_DELAY_SECONDS = 1.0  # between two tries
_FIELDS = {field.name for field in fields(RolloutRequest)}


class ObservationLog:
    """The log of one rollout. An instance reads only the segments that have changed since it last read them."""

    def __init__(self, store: ObjectStore, rollout: Rollout, machine: str | None = None) -> None:
        """Name the log; nothing is read yet. `machine` is for tests; None: this one."""
        self._store, self._machine = store, machine or this_machine()
        self._place = f"{rollout.advisor}/rollouts/{rollout.salt}"
        self._segments: dict[str, tuple[str, list[bytes]]] = {}

    def append(self, requests: Sequence[RolloutRequest]) -> int:
        """Append what the log does not hold yet: answers, and ratings of known answers; gives the number of lines.

        Raises:
            Unreachable: the store does not answer; what was appended before stays.
            RegistryBusy: other machines were first in each of MAX_TRIES tries.
        """
        added = 0
        for attempt in range(MAX_TRIES):
            self._refresh()
            fresh = list(self._missing(requests))
            if not fresh:
                return added
            name, token, lines = self._last_segment()
            taken = fresh[: SEGMENT_LINES - len(lines)]
            data = b"".join(line + b"\n" for line in (*lines, *taken))
            try:
                self._store.write_if(f"{self._place}/{name}", data, token)
                added += len(taken)
            except WriteConflict:  # another machine was first, or our own write arrived twice
                time.sleep(random.uniform(0.0, min(MAX_DELAY_SECONDS, 0.02 * 2**attempt)))
        raise RegistryBusy(Path(self._place))

    def requests(self, pending: Sequence[RolloutRequest] = ()) -> list[RolloutRequest]:
        """Everything that was observed, in the order of the log, then what is `pending` on this machine."""
        self._refresh()
        lines = [*self._lines(), *self._missing(pending)]
        found: list[RolloutRequest] = []
        place: dict[str, int] = {}
        for number, values in enumerate(map(_values, lines)):
            known = place.get(values.get("job", ""))
            if known is not None and found[known].rating is None and values.get("rating") is not None:
                # the log's order of ratings, not that of the machines' clocks
                found[known] = replace(found[known], rating=values["rating"], rated_at=f"{number:09d}")
            elif known is None and (request := _request(values, number)) is not None:
                place[request.job] = len(found)
                found.append(request)
        return found

    def _missing(self, requests: Iterable[RolloutRequest]) -> Iterator[bytes]:
        """The lines that the log lacks."""
        known = {values.get("job"): False for values in map(_values, self._lines())}
        for values in map(_values, self._lines()):
            known[values.get("job")] |= values.get("rating") is not None
        for request in requests:
            if request.job not in known:
                yield _line({**asdict(request), "machine": self._machine})
            elif request.rating is not None and not known[request.job]:
                yield _line({"job": request.job, "rating": request.rating})

    def _lines(self) -> Iterator[bytes]:
        for name in sorted(self._segments):
            yield from self._segments[name][1]

    def _last_segment(self) -> tuple[str, str | None, list[bytes]]:
        """Name, token and lines of the segment to append to; the token of a new one is None."""
        if self._segments:
            name = max(self._segments)
            token, lines = self._segments[name]
            if len(lines) < SEGMENT_LINES:
                return name, token, lines
        return f"{len(self._segments):06d}.jsonl", None, []

    def _refresh(self) -> None:
        listing = self._store.listing(self._place)
        for name in sorted(listing):
            token = token_in_listing(listing, name) or ""
            if name not in self._segments or self._segments[name][0] != token:
                self._segments[name] = (token, self._store.read(f"{self._place}/{name}").splitlines())


def this_machine() -> str:
    """Tells machines apart without naming them: 12 hex digits of a hash of the network adapter's number."""
    return hashlib.sha256(f"mondrian {uuid.getnode()}".encode()).hexdigest()[:12]


def observe_rollout(
    registry: Registry, rollout: Rollout, jobs: Iterable[Job], *, publish: bool = True
) -> RolloutObservations:
    """Count what all machines observed: this machine's jobs, and with a registry in a store those of the others.

    Args:
        registry: of the adapters.
        rollout: which rollout.
        jobs: of this machine, oldest first.
        publish: append this machine's answers to the log first; otherwise they are only counted.

    Raises:
        Unreachable: the registry is in a store that does not answer.
    """
    own = rollout_requests(jobs, rollout)
    if registry.url is None:
        return count_observations(own, rollout)
    log = ObservationLog(open_object_store(registry.url), rollout)
    if publish:
        log.append(own)
    return count_observations(log.requests(own), rollout)


def _line(values: dict[str, Any]) -> bytes:
    told = {key: value for key, value in values.items() if value is not None and value != "" and value is not False}
    return json.dumps(told).encode()


def _values(line: bytes) -> dict[str, Any]:
    """The values of a line; {} for one that is damaged, which then counts for nobody."""
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) and isinstance(values.get("job"), str) else {}


def _request(values: dict[str, Any], number: int) -> RolloutRequest | None:
    """The answer in a line; None for a rating alone or a damaged line."""
    try:
        scores, known = values.get("scores"), {key: value for key, value in values.items() if key in _FIELDS}
        request = RolloutRequest(
            **{"candidate": False, **known, "scores": None if scores is None else tuple(map(float, scores))}
        )
    except (TypeError, ValueError):
        return None
    return replace(request, rated_at=None if request.rating is None else f"{number:09d}")
