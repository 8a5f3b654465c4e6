"""Events of a workspace's database: critiques that came since the champion's dataset, and answers that fail."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any

from mondrian_core.domain_events.event import DATA_GROWN, SERVICE_DEGRADED, DomainEvent
from mondrian_core.errors import MondrianError
from mondrian_core.registry import HistoryEntry, Registry
from mondrian_core.rollout import active_rollout, is_external_fault, is_failed_answer, job_fault
from mondrian_core.settings import Settings
from mondrian_core.statistics.e_processes import log_e_rate_above
from mondrian_core.statistics.intervals import clopper_pearson_upper
from mondrian_core.store import COMPLETED, FAILED, Job, Store, utc_timestamp
from mondrian_core.store.critique_counts import count_critiqued_photographs

CRITIQUES = "critiques"  # key in a manifest's dataset: complete critiques when it was built
TOLERATED_FAILURES = 0.05  # share of an adapter's answers that may fail, whatever its predecessor did
FAILURE_ALPHA = 0.01  # chance of a false alarm in a champion's whole reign, however often it is checked
JUDGED_ANSWERS = 5_000
PREDECESSOR_PERIOD = timedelta(days=30)
PREDECESSOR_ANSWERS = 20  # fewer say too little about what the predecessor would do
RECENT = timedelta(hours=24)
RECENT_ANSWERS = 10  # the newest ones of the last day
SERVICE_FAULTS = 5  # of those, failures that no adapter caused


def data_events(settings: Settings, registry: Registry, advisor: str) -> list[DomainEvent]:
    """One event for each further `Settings.growth_step` critiques that the champion's dataset doesn't have.

    Without a champion the newest version counts; without any version there is nothing to grow from.
    """
    reference = registry.champion(advisor) or next(reversed(registry.versions(advisor)), None)
    if reference is None or not settings.database.exists():
        return []
    with closing(Store(settings.database, read_only=True)) as store:
        present = count_critiqued_photographs(store.profiles(advisor))
    known = _dataset_critiques(reference.manifest)
    steps = (present - known) // settings.growth_step if known is not None else 0
    if known is None or steps < 1:
        return []
    new = present - known
    return [
        DomainEvent(
            name=DATA_GROWN,
            advisor=advisor,
            key=f"{reference.manifest_sha256} {steps * settings.growth_step}",
            title=f"{advisor}: {new} new critiques since {reference.version}.",
            reason=f"{present} critiques now, {known} in the dataset of {reference.version}.",
            version=reference.version,
            link="/write",
            evidence={"new": new, "critiques": present, "in_dataset": known, "step": settings.growth_step},
        )
    ]


def _dataset_critiques(manifest: Mapping[str, Any]) -> int | None:
    """Critiques in a version's dataset; None for an imported version. Older manifests count photographs only."""
    dataset = manifest.get("dataset") or {}
    if isinstance(dataset.get(CRITIQUES), int):
        return int(dataset[CRITIQUES])
    photographs = dataset.get("photographs")
    return sum(photographs.values()) if isinstance(photographs, Mapping) and photographs else None


def service_events(
    settings: Settings, registry: Registry, advisor: str, entries: Sequence[HistoryEntry]
) -> list[DomainEvent]:
    """The service is degraded: by a champion whose answers fail, or by faults that no adapter causes.

    While a rollout is active its guardrails decide about the adapter, so that the two never act on the same answers.
    """
    if not settings.database.exists():
        return []
    moves = [entry for entry in entries if entry.moves_pointer]
    began = datetime.now(UTC) - RECENT
    with closing(Store(settings.database, read_only=True)) as store:
        events = _fault_events(advisor, list(store.jobs(advisor, since=began)))
        if moves and moves[-1].after is not None and active_rollout(registry, advisor) is None:
            events += _failure_events(advisor, moves[-1], store)
    return events


def _failure_events(advisor: str, move: HistoryEntry, store: Store) -> list[DomainEvent]:
    """The champion's answers fail more often than tolerated and than its predecessor's did, by an e-process.

    Ville's inequality bounds a false alarm over the whole reign by `FAILURE_ALPHA`, however often this is called. Only
    the first `JUDGED_ANSWERS` count: an adapter that was sound for so long is not what is wrong.
    """
    began = datetime.fromisoformat(move.at)
    ours = _failures(islice(store.jobs(advisor, since=began), JUDGED_ANSWERS), str(move.after))
    failed = sum(ours)
    if not failed:
        return []
    limit = TOLERATED_FAILURES
    if move.before:
        earlier = takewhile(
            lambda job: (job.created_at or "") < utc_timestamp(began),
            store.jobs(advisor, since=began - PREDECESSOR_PERIOD),
        )
        theirs = _failures(earlier, move.before)
        if len(theirs) >= PREDECESSOR_ANSWERS:
            limit = min(0.9, max(limit, clopper_pearson_upper(sum(theirs), len(theirs))))
    log_e = log_e_rate_above(failed, len(ours) - failed, limit)
    if log_e < -math.log(FAILURE_ALPHA):
        return []
    return [
        DomainEvent(
            name=SERVICE_DEGRADED,
            advisor=advisor,
            key=f"adapter {move.sha256}",
            title=f"{advisor}: the answers of {move.after} fail too often.",
            reason=f"{failed} of {len(ours)} answers of {move.after} failed; {limit:.0%} are tolerated "
            f"(e = {math.exp(min(log_e, 700.0)):.3g}, limit {1 / FAILURE_ALPHA:.0f}).",
            version=move.after,
            link=f"/registry/{advisor}/{move.after}",
            cause="adapter",
            evidence={
                "answers": len(ours),
                "failed": failed,
                "limit": round(limit, 4),
                "before": move.before,
                "promotion": move.sha256,
            },
        )
    ]


def _failures(jobs: Iterable[Job], version: str) -> list[bool]:
    """Whether each photograph's first answer failed, of those that were assigned to `version` alone."""
    first: dict[str, bool] = {}
    for job in jobs:
        mark = job.details.get("rollout") or {}
        assigned = job.requested_mode == "lora" and not job.explicit_mode and job.status in (COMPLETED, FAILED)
        if not assigned or mark.get("shadow") or mark.get("candidate") is False or is_external_fault(job):
            continue
        if job.adapter_version in (None, version):  # another one answered: the service had not switched yet
            first.setdefault(job.photograph_sha256 or job.id, is_failed_answer(job, version))
    return list(first.values())


def _fault_events(advisor: str, recent: Sequence[Job]) -> list[DomainEvent]:
    """Many recent requests failed by the disk, the database or the base model; at most one event a day."""
    ended = [job for job in recent if job.status in (COMPLETED, FAILED)][-RECENT_ANSWERS:]
    faults = [job for job in ended if job_fault(job) in ("shared", "service")]
    if len(faults) < SERVICE_FAULTS:
        return []
    return [
        DomainEvent(
            name=SERVICE_DEGRADED,
            advisor=advisor,
            key=f"service {(faults[0].created_at or '')[:10]}",
            title=f"{advisor}: {len(faults)} of the last {len(ended)} requests failed.",
            reason=f"No adapter caused it. The last error: {faults[-1].error or 'unknown'}",
            link="/history",
            cause="service",
            evidence={"requests": len(ended), "failed": len(faults)},
        )
    ]


def derive_workspace_events(
    settings: Settings, registry: Registry, advisor: str, entries: Sequence[HistoryEntry]
) -> list[DomainEvent]:
    """Both kinds; a database or registry that can't be read gives none, because its own commands report that."""
    try:
        return [*data_events(settings, registry, advisor), *service_events(settings, registry, advisor, entries)]
    except MondrianError:
        return []
