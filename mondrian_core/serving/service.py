"""The parts of a running service, put together once."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mondrian_core.serving.board import Board
from mondrian_core.serving.critic import Critic
from mondrian_core.serving.lookup import Adapters
from mondrian_core.serving.metrics import Metrics
from mondrian_core.serving.problems import KeyReused, UnknownJob
from mondrian_core.serving.routing import Policy, Route, in_rollout, route
from mondrian_core.serving.supervisor import ModelProcess
from mondrian_core.serving.uploads import Received
from mondrian_core.serving.worker import Worker
from mondrian_core.settings import Settings
from mondrian_core.store import Job, Store

STUCK_SECONDS = 60.0


@dataclass
class Service:
    """What the routes of the app work with."""

    root: Path
    store: Store
    policy: Policy
    model: ModelProcess
    adapters: Adapters
    critic: Critic
    worker: Worker
    board: Board
    metrics: Metrics
    base: str
    token: str | None = None
    boot: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _adding: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Figures that are read on demand."""
        self.metrics.gauge("queue_length", "Jobs that wait", lambda: float(self.worker.waiting))
        self.metrics.gauge(
            "model_process_starts", "Times the model process was started", lambda: float(self.model.starts)
        )
        self.metrics.gauge(
            "model_process_up", "1 while the model process runs", lambda: float(self.model.pid is not None)
        )

    def accept(self, received: Received, advisor: str, mode: str | None, key: str | None) -> tuple[Job, bool]:
        """Make the row, then queue the job: (job, True), or (the job of the same key, False).

        Raises:
            QueueFull: too many wait.
            KeyReused: the key came with another photograph, advisor or mode before.
        """
        sha256 = received.photograph.sha256
        promoted = not self.policy.base_until_promoted or self.adapters.promoted(advisor)
        way = route(self.policy, mode, advisor, sha256, promoted=promoted)
        with self._adding:
            earlier = self.store.job_of_key(key) if key else None
            if earlier is not None:
                return _same(earlier, advisor, sha256, way, mode), False
            self.worker.require_room()
            way, mark = in_rollout(way, self.adapters.rollout(advisor), sha256)
            job, _ = self.store.add_job(advisor, received.filename, requested_mode=way.mode, explicit_mode=way.explicit,
                                        arm=way.arm, idempotency_key=key, photograph_sha256=sha256,
                                        details={"rollout": mark} if mark else None)  # fmt: skip
            self.worker.submit(job.id)
        return job, True

    @property
    def model_mode(self) -> str:
        """The mode in force: base as long as nobody has a promoted version to answer with."""
        waits = self.policy.base_until_promoted and not any(map(self.adapters.promoted, self.adapters.known()))
        return "base" if waits else self.policy.model_mode

    def job(self, job_id: str) -> Job:
        """One job.

        Raises:
            UnknownJob: there is none.
        """
        job = self.store.job(job_id)
        if job is None:
            raise UnknownJob(job_id)
        return job

    def health(self) -> tuple[bool, dict[str, Any]]:
        """(able to answer, figures). Able is: the process is there, and a job in flight has given a sign of life."""
        silence, pid = self.model.silence, self.model.pid
        status = "ok"
        if pid is None:
            status = "starting"
        elif silence is not None and silence > STUCK_SECONDS:
            status = "stuck"
        elif self.model.pinned:
            status = "pinned_to_base"
        return status in ("ok", "pinned_to_base"), {
            "status": status,
            "workspace": Settings(workspace=self.root).workspace_id,
            "boot": self.boot,
            "base": self.base,
            "base_fingerprint": self.model.fingerprint,
            "model_mode": self.model_mode,
            "ab_test_split": self.policy.split if self.model_mode == "ab_test" else None,
            "adapters": self.adapters.serving,
            "model_process": {
                "pid": pid,
                "starts": self.model.starts,
                "crashes": self.model.crashes,
                "seconds_since_last_token": None if silence is None else round(silence, 3),
            },
            "queue": {
                "waiting": self.worker.waiting,
                "longest": self.worker.longest_queue,
                "working_on": self.worker.current,
            },
        }


def _same(earlier: Job, advisor: str, sha256: str, way: Route, mode: str | None) -> Job:
    same_mode = earlier.requested_mode == way.mode and earlier.explicit_mode == bool(mode)
    if (earlier.advisor, earlier.photograph_sha256) != (advisor, sha256) or not same_mode:
        raise KeyReused("This idempotency key was used with another request.", "Use a new key for a new request.")
    return earlier
