"""Prometheus metrics of one service."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mondrian_core.serving.jobs.shadow_jobs import is_shadow_job
from mondrian_core.store import COMPLETED, Job

LATENCY_BUCKETS = (0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120)


class ServiceMetrics:
    """Metrics of one service; two services in one process don't share them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._jobs = Counter(
            "mondrian_jobs", "Jobs that ended", ["status", "mode", "model_used"], registry=self._registry
        )
        self._fallbacks = Counter(
            "mondrian_fallbacks", "Jobs answered by a fallback strategy", ["requested"], registry=self._registry
        )
        self._seconds = Histogram(
            "mondrian_critique_seconds",
            "Seconds per critique",
            ["model_used"],
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._shadows = Counter(
            "mondrian_shadow_answers", "Shadow answers, made for a rollout's comparison", registry=self._registry
        )
        self._tokens = Counter("mondrian_tokens", "Tokens generated", registry=self._registry)
        self._drafted = Counter(
            "mondrian_tokens_drafted", "Tokens drafted from earlier answers", registry=self._registry
        )
        self._accepted = Counter("mondrian_tokens_accepted", "Drafted tokens that were right", registry=self._registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read at each scrape."""
        Gauge(f"mondrian_{name}", text, registry=self._registry).set_function(read)

    def record_job(self, job: Job) -> None:
        """Count a job that ended; a shadow job counts only as a shadow answer."""
        if is_shadow_job(job):
            self._shadows.inc()
            return
        self._jobs.labels(job.status or "", job.mode or "", job.model_used or "").inc()
        if job.status != COMPLETED:
            return
        if job.details.get("fell_back"):
            self._fallbacks.labels(job.requested_mode or "").inc()
        self._seconds.labels(job.model_used or "").observe(float(job.details.get("seconds", 0.0)))
        passes = job.details.get("passes", [])
        for name, counter in (("tokens", self._tokens), ("drafted", self._drafted), ("accepted", self._accepted)):
            counter.inc(sum(one_pass.get(name, 0) for one_pass in passes))

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)
