"""The running service: its parts, accepting requests, health."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mondrian_core.errors import DatabaseReplaced
from mondrian_core.pixel_files import PixelFileCache
from mondrian_core.serving.critique.active_adapters import ActiveAdapters
from mondrian_core.serving.critique.answer_options import (
    DETAILS_KEY,
    AnswerOptions,
    answer_options_from_details,
)
from mondrian_core.serving.critique.routing import RoutingPolicy, StrategyRoute, route_in_rollout, route_request
from mondrian_core.serving.critique.store_follower import StoreFollower
from mondrian_core.serving.engine.supervisor import ModelProcess
from mondrian_core.serving.http.decode_queue import DecodeQueue
from mondrian_core.serving.http.metrics import ServiceMetrics
from mondrian_core.serving.http.problem_details import KeyReused, UnknownJob
from mondrian_core.serving.http.uploads import StoredPhotograph
from mondrian_core.serving.jobs.advisor_groups import group_of_job, member_job_id, new_group_id
from mondrian_core.serving.jobs.background_recording import BackgroundRecording
from mondrian_core.serving.jobs.event_relay import ServiceEventRelay
from mondrian_core.serving.jobs.job_events import JobEventBroker
from mondrian_core.serving.jobs.job_runner import JobRunner
from mondrian_core.serving.jobs.worker import JobWorker
from mondrian_core.settings import Settings
from mondrian_core.store import Job, Store

STUCK_SECONDS = 60.0


@dataclass(frozen=True)
class _WantedJob:
    """A job to add."""

    advisor: str
    mode: str | None
    key: str | None
    options: AnswerOptions | None = None
    job_id: str | None = None


@dataclass(kw_only=True)
class Service:
    """The parts of a service, for the routes.

    `workspace` and `boot` identify the service's workspace and this start of it.
    """

    settings: Settings
    root: Path
    workspace: str
    store: Store
    policy: RoutingPolicy
    model: ModelProcess
    adapters: ActiveAdapters
    job_runner: JobRunner
    worker: JobWorker
    job_events: JobEventBroker
    metrics: ServiceMetrics
    pixel_files: PixelFileCache
    base: str
    recording: BackgroundRecording
    event_relay: ServiceEventRelay
    followers: Sequence[StoreFollower] = ()
    token: str | None = None
    boot: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    decode_queue: DecodeQueue = field(default_factory=DecodeQueue)
    _adding: threading.Lock = field(default_factory=threading.Lock)
    _written: int | None = None  # 1 + jobs added since the start; the database keeps the same count
    _rows_lost: bool = False

    def __post_init__(self) -> None:
        """Register the metrics that are read on demand."""
        self.metrics.gauge("queue_length", "Jobs that wait", lambda: float(self.worker.waiting))
        self.metrics.gauge("model_process_starts", "Starts of the model process", lambda: float(self.model.starts))
        self.metrics.gauge(
            "model_process_up", "1 while the model process runs", lambda: float(self.model.pid is not None)
        )

        for name, field_name, text in (
            ("adapters", "adapters", "Adapters in memory"),
            ("bytes", "nbytes", "Bytes of the adapters in memory"),
            ("budget_bytes", "budget", "Bytes that adapters may take in memory"),
        ):
            self.metrics.gauge(f"adapter_cache_{name}", text, partial(self._cache_value, field_name))

    def _cache_value(self, name: str) -> float:
        return float(getattr(self.model.adapter_cache, name, 0))

    def register_start(self) -> None:
        """Start the write counter in the database, which detects a restored copy. Call it before the first request."""
        self.store.start_write_counter(self.boot)
        self._written = 1

    def accept(
        self,
        received: StoredPhotograph,
        advisor: str,
        mode: str | None,
        key: str | None,
        options: AnswerOptions | None = None,
    ) -> tuple[Job, bool]:
        """Add the row, then queue the job: (job, True), or (the earlier job with the same key, False).

        Args:
            received: the photograph.
            advisor: ID of an advisor.
            mode: the strategy that the request names; None: the service's choice.
            key: the idempotency key, if any.
            options: what a program asks of the answer.

        Raises:
            QueueFull: too many jobs wait.
            KeyReused: the key was used with another photograph, advisor or mode.
            DatabaseReplaced: the row would be lost.
            DiskFull: the decoded photograph can't be stored.
        """
        jobs, new = self._accept_all(received, [_WantedJob(advisor, mode, key, options)])
        return jobs[0], new

    def accept_group(
        self,
        received: StoredPhotograph,
        advisors: Sequence[str],
        mode: str | None,
        key: str | None,
        options: AnswerOptions | None = None,
    ) -> tuple[list[Job], bool]:
        """Like `accept`, for one photograph and several advisors: all rows are added, or none.

        Raises:
            QueueFull, KeyReused, DatabaseReplaced, DiskFull: as `accept`.
        """
        group = new_group_id()
        wanted = [
            _WantedJob(
                advisor, mode, f"{key}\n{advisor}" if key else None, options, job_id=member_job_id(group, number)
            )
            for number, advisor in enumerate(advisors, start=1)
        ]
        return self._accept_all(received, wanted)

    def _accept_all(self, received: StoredPhotograph, wanted: Sequence[_WantedJob]) -> tuple[list[Job], bool]:
        routes = [self._route(each, received.sha256) for each in wanted]
        with self._adding:
            earlier = self._earlier_jobs(received.sha256, wanted, routes)
            if earlier:
                return earlier, False
            self.worker.require_room(len(wanted))
            self._require_rows()
            self.pixel_files.put(received.sha256, received.image)
            with self.store.transaction():
                jobs = [self._add_row(received, *each) for each in zip(wanted, routes, strict=True)]
            self._written = None if self._written is None else self._written + len(jobs)
            for job in jobs:
                self.worker.submit(job.id)
        return jobs, True

    def _route(self, wanted: _WantedJob, sha256: str) -> StrategyRoute:
        promoted = not self.policy.base_until_promoted or self.adapters.has_promoted(wanted.advisor)
        return route_request(self.policy, wanted.mode, wanted.advisor, sha256, promoted=promoted)

    def _earlier_jobs(self, sha256: str, wanted: Sequence[_WantedJob], routes: Sequence[StrategyRoute]) -> list[Job]:
        """The jobs that the same request, with the same keys, added before; [] for a new request."""
        found = [self.store.job_by_idempotency_key(each.key) if each.key else None for each in wanted]
        earlier = [job for job in found if job is not None]
        group = group_of_job(earlier[0]) if earlier else None
        if len(earlier) not in (0, len(wanted)) or (group and len(self.store.jobs_of_group(group)) != len(wanted)):
            raise KeyReused(*_KEY_REUSED)
        for job, each, route in zip(earlier, wanted, routes, strict=False):
            _require_same_request(job, sha256, each, route)
        return earlier

    def _add_row(self, received: StoredPhotograph, wanted: _WantedJob, route: StrategyRoute) -> Job:
        route, mark = route_in_rollout(route, self.adapters.rollout(wanted.advisor), received.sha256)
        options = wanted.options.as_details() if wanted.options else {}
        job, _ = self.store.add_job(
            wanted.advisor,
            received.filename,
            requested_mode=route.mode,
            arm=route.arm,
            explicit_mode=route.explicit,
            idempotency_key=wanted.key,
            photograph_sha256=received.sha256,
            job_id=wanted.job_id,
            details={**({"rollout": mark} if mark else {}), **({DETAILS_KEY: options} if options else {})},
        )
        if self._written is not None:
            self.store.increment_write_counter(self.boot)
        return job

    @property
    def model_mode(self) -> str:
        """The effective mode: base as long as no advisor has a promoted version."""
        base_only = self.policy.base_until_promoted and not any(
            map(self.adapters.has_promoted, self.adapters.advisors())
        )
        return "base" if base_only else self.policy.model_mode

    def job(self, job_id: str) -> Job:
        """The row of a job.

        Raises:
            UnknownJob: there is none.
            DatabaseReplaced: there may have been one, in a database that is gone.
        """
        job = self.store.job(job_id)
        if job is None:
            self._require_rows()
            raise UnknownJob(job_id)
        return job

    def durable_job(self, job_id: str) -> Job:
        """The row of a job, checked to be in the database at the workspace's path.

        Raises:
            UnknownJob, DatabaseReplaced: as `job`.
        """
        job = self.job(job_id)
        self._require_rows()
        return job

    @property
    def database_problem(self) -> str | None:
        """ "database_replaced", or "database_restored" when rows that this service wrote are gone; else None.

        Both last until the service restarts, so that no job is accepted into a database of unknown state.
        """
        if self.store.replaced:
            return "database_replaced"
        if self._written is not None and not self._rows_lost:
            expected, counted = self._written, self.store.read_write_counter(self.boot)
            self._rows_lost = counted is not None and counted < expected
        return "database_restored" if self._rows_lost else None

    def _require_rows(self) -> None:
        problem = self.database_problem
        if problem == "database_replaced":
            raise DatabaseReplaced(self.store.path)
        if problem is not None:
            raise DatabaseReplaced(self.store.path, "lost rows while it was open: an older copy was restored")

    def health(self) -> tuple[bool, dict[str, Any]]:
        """(healthy, details). Healthy: the model process runs, a job in flight shows progress, and the database is
        the one that was opened. The details contain no path of this machine.
        """
        silence, pid = self.model.seconds_since_last_message, self.model.pid
        status = self.database_problem or "ok"
        if status != "ok":
            pass
        elif pid is None:
            status = "starting"
        elif silence is not None and silence > STUCK_SECONDS:
            status = "stuck"
        elif self.model.pinned:
            status = "pinned_to_base"
        return status in ("ok", "pinned_to_base"), {
            "status": status,
            "workspace": self.workspace,
            "boot": self.boot,
            "base": Path(self.base).name if Path(self.base).is_absolute() else self.base,
            "base_fingerprint": self.model.fingerprint,
            "model_mode": self.model_mode,
            "ab_test_split": self.policy.split if self.model_mode == "ab_test" else None,
            "adapters": self.adapters.active_versions,
            "model_process": {
                "pid": pid,
                "starts": self.model.starts,
                "crashes": self.model.crashes,
                "seconds_since_last_token": None if silence is None else round(silence, 3),
            },
            "adapter_cache": {
                "adapters": int(self._cache_value("adapters")),
                "bytes": int(self._cache_value("nbytes")),
                "budget_bytes": int(self._cache_value("budget")),
            },
            "queue": {
                "waiting": self.worker.waiting,
                "longest": self.worker.longest_queue,
                "working_on": self.worker.current,
            },
        }


_KEY_REUSED = ("This idempotency key was used with another request.", "Use a new key for a new request.")


def _require_same_request(earlier: Job, sha256: str, wanted: _WantedJob, route: StrategyRoute) -> None:
    same_mode = earlier.requested_mode == route.mode and earlier.explicit_mode == bool(wanted.mode)
    same_options = answer_options_from_details(earlier.details) == (wanted.options or AnswerOptions())
    same_photograph = (earlier.advisor, earlier.photograph_sha256) == (wanted.advisor, sha256)
    if not (same_photograph and same_mode and same_options):
        raise KeyReused(*_KEY_REUSED)
