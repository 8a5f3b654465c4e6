"""The worker thread: runs jobs one at a time, from a bounded queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from mondrian_core.errors import BadInput, Broken, MondrianError
from mondrian_core.events import EventListener, StageNotice, ignore_events
from mondrian_core.serving.critique.strategies import StrategyProgress
from mondrian_core.serving.engine.interface import Canceled
from mondrian_core.serving.engine.supervisor import ModelProcess
from mondrian_core.serving.jobs.adapter_warm_up import AdapterWarmUp
from mondrian_core.serving.jobs.job_claims import claim_queued_job, requeue_abandoned_jobs
from mondrian_core.serving.jobs.job_events import FINAL_STATUSES, JobEventBroker
from mondrian_core.serving.jobs.job_runner import JobRunner
from mondrian_core.serving.jobs.shadow_jobs import add_next_shadow_job
from mondrian_core.store import QUEUED, Job

IDLE_SECONDS = 1.0


class QueueFull(Broken):
    """The queue has no free place."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"The queue is full: {waiting} photographs are waiting.", f"Try again in {retry_after} s.")


class JobWorker:
    """Runs queued jobs in order. Start it once; jobs that still wait at `stop` run after the next start.

    Args:
        job_runner: makes the critiques.
        model: the model process, for cancellation and recycling.
        job_events: receives the progress of jobs.
        longest_queue: jobs that may wait.
        on_finished: called with every job that ended.
        listen: receives notices for the log.
    """

    def __init__(
        self,
        job_runner: JobRunner,
        model: ModelProcess,
        job_events: JobEventBroker,
        *,
        longest_queue: int = 32,
        on_finished: Callable[[Job], None] = lambda job: None,
        listen: EventListener = ignore_events,
    ) -> None:
        self._job_runner, self._model, self._job_events, self._on_finished, self._listen = (
            job_runner,
            model,
            job_events,
            on_finished,
            listen,
        )
        self.longest_queue = longest_queue
        self.warm_up: AdapterWarmUp | None = None  # loads adapters between jobs; None: each at its first request
        self._warming = True
        self.current: str | None = None
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._canceled: set[str] = set()
        self._stopping = threading.Event()
        self._seconds = 5.0  # moving average of the seconds per job, for Retry-After
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._queue.qsize()

    def start(self) -> int:
        """Queue the unfinished jobs of an earlier service, then start; returns the number of these jobs."""
        store = self._job_runner.store
        requeue_abandoned_jobs(store)
        unfinished = [job.id for job in store.jobs(status=QUEUED)]
        for job_id in unfinished:
            self._queue.put(job_id)
        self._thread.start()
        return len(unfinished)

    def stop(self) -> None:
        """End the model process, then the thread; the job in progress is queued again in the jobs table."""
        self._stopping.set()
        self._queue.put(None)
        self._model.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def require_room(self, jobs: int = 1) -> None:
        """Refuse new jobs while the queue has no place for all of them.

        Raises:
            QueueFull: with the seconds after which to retry.
        """
        if self.waiting + jobs > self.longest_queue:
            raise QueueFull(self.waiting, max(1, round(self._seconds * self.waiting / 2)))

    def submit(self, job_id: str) -> None:
        """Queue a job whose row exists."""
        self._job_events.publish(job_id, "queued", position=self.waiting + 1)
        self._queue.put(job_id)

    def cancel(self, job_id: str) -> None:
        """Remove a job from the queue, or stop it while it is in progress."""
        self._canceled.add(job_id)
        if self.current == job_id:
            self._model.cancel()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                job_id = self._queue.get(timeout=0.0 if self._warming else IDLE_SECONDS)
            except queue.Empty:
                self._attempt(self._idle)
                continue
            if job_id is not None:
                self._attempt(lambda job_id=job_id: self._run_job(job_id))  # type: ignore[misc]

    def _attempt(self, act: Callable[[], None]) -> None:
        """Run `act` and log its errors: this thread must survive all of them, or no job is ever answered again."""
        try:
            act()
        except MondrianError as error:
            self._listen(StageNotice("worker", str(error)))
        except Exception as error:  # noqa: BLE001
            self._listen(StageNotice("worker", f"{type(error).__name__}: {error}"))

    def _idle(self) -> None:
        if self._warming:
            self._warming = False  # also when loading fails
            self._warming = self.warm_up is not None and self.warm_up.load_next()
            return
        self._job_runner.adapters.refresh()
        self._warming = self.warm_up is not None
        if self._model.recycle():
            self._listen(StageNotice("worker", "Replaced the model process after many jobs."))
        shadow = add_next_shadow_job(self._job_runner.store, self._job_runner.adapters)
        if shadow is not None:
            self.submit(shadow.id)

    def _run_job(self, job_id: str) -> None:
        try:
            self._claim_and_run(job_id)
        except Exception as error:
            # clients that wait read the row now: the job ended, the row is gone, or they must wait longer
            self._job_events.publish(job_id, "failed", error=str(error))
            raise

    def _claim_and_run(self, job_id: str) -> None:
        store = self._job_runner.store
        if job_id in self._canceled:
            self._canceled.discard(job_id)
            self._finish(store.cancel_job(job_id))
            return
        with claim_queued_job(store, job_id) as job:
            if job is not None:
                self._run_claimed(job)
                return
        row = store.job(job_id)  # it ended, its row was deleted, or another process took it while it waited
        if row is None or row.status in FINAL_STATUSES:
            self._job_events.publish(job_id, (row and row.status) or "failed")

    def _run_claimed(self, job: Job) -> None:
        store, job_id = self._job_runner.store, job.id
        self.current = job_id
        try:
            finished = self._job_runner.run(
                job, on_progress=self._progress_publisher(job_id), leaving=self._stopping.is_set
            )
        except BadInput as error:
            finished = store.fail_job(job_id, str(error))
        except Exception as error:
            finished = store.fail_job(job_id, f"{type(error).__name__}: {error}")
            raise
        finally:
            self.current = None
            self._canceled.discard(job_id)
        if finished.status == QUEUED:
            return  # the service is stopping; the next one runs it
        self._finish(finished)

    def _finish(self, job: Job) -> None:
        seconds = job.details.get("seconds")
        if isinstance(seconds, int | float):
            self._seconds += 0.2 * (seconds - self._seconds)
        self._on_finished(job)
        facts: dict[str, Any] = {"model_used": job.model_used, "mode": job.mode, "adapter_version": job.adapter_version}
        if job.error:
            facts = {"error": job.error}
        self._job_events.publish(job.id, job.status or "failed", **facts)

    def _progress_publisher(self, job_id: str) -> Callable[[StrategyProgress], None]:
        strategies: list[str] = []

        def on_progress(progress: StrategyProgress) -> None:
            if job_id in self._canceled:
                if not progress.phase:
                    raise Canceled
                self._model.cancel()
            if not progress.phase:
                if not strategies:
                    self._job_events.publish(job_id, "started", strategy=progress.strategy)
                elif strategies[-1] == progress.strategy:
                    self._job_events.publish(job_id, "tried_again", strategy=progress.strategy)
                else:
                    self._job_events.publish(job_id, "fallback", **{"from": strategies[-1], "to": progress.strategy})
                strategies.append(progress.strategy)
            elif progress.tokens:
                self._job_events.publish(job_id, "tokens", at=progress.phase, tokens=progress.tokens)
            else:
                self._job_events.publish(job_id, progress.phase, **progress.detail)

        return on_progress
