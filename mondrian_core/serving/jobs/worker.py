"""The thread that works on jobs, one at a time, with a bounded queue in front."""

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
from mondrian_core.serving.jobs.job_events import FINAL_STATUSES, JobEventBroker
from mondrian_core.serving.jobs.job_runner import JobRunner
from mondrian_core.serving.jobs.shadow_jobs import add_next_shadow_job
from mondrian_core.store import QUEUED, Job

IDLE_SECONDS = 1.0


class QueueFull(Broken):
    """As many jobs wait as may."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"{waiting} photographs are waiting already.", f"Try again in {retry_after} s.")


class JobWorker:
    """Takes queued jobs in the order they came. Start it once; `stop` leaves what waits for the next start."""

    def __init__(
        self,
        job_runner: JobRunner,
        model: ModelProcess,
        job_events: JobEventBroker,
        *,
        longest_queue: int = 32,
        done: Callable[[Job], None] = lambda job: None,
        listen: EventListener = ignore_events,
    ) -> None:
        self._job_runner, self._model, self._job_events, self._done, self._listen = (
            job_runner,
            model,
            job_events,
            done,
            listen,
        )
        self.longest_queue = longest_queue
        self.current: str | None = None
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._canceled: set[str] = set()
        self._stopping = threading.Event()
        self._seconds = 5.0  # a moving mean of what a job takes, for Retry-After
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._queue.qsize()

    def start(self) -> int:
        """Take up what an earlier service left, then begin; gives the number of jobs found."""
        store = self._job_runner.store
        store.requeue_running()
        left = [job.id for job in store.jobs(status=QUEUED)]
        for job_id in left:
            self._queue.put(job_id)
        self._thread.start()
        return len(left)

    def stop(self) -> None:
        """End after ending the model process; the job at work goes back into the queue of the jobs table."""
        self._stopping.set()
        self._queue.put(None)
        self._model.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def require_room(self) -> None:
        """Refuse while the queue is full.

        Raises:
            QueueFull: with the seconds after which to try again.
        """
        if self.waiting >= self.longest_queue:
            raise QueueFull(self.waiting, max(1, round(self._seconds * self.waiting / 2)))

    def submit(self, job_id: str) -> None:
        """Put a job, whose row is there already, into the queue."""
        self._job_events.publish(job_id, "queued", position=self.waiting + 1)
        self._queue.put(job_id)

    def cancel(self, job_id: str) -> None:
        """Take a job out of the queue, or stop it while it is worked on."""
        self._canceled.add(job_id)
        if self.current == job_id:
            self._model.cancel()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                job_id = self._queue.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self._attempt(self._idle)
                continue
            if job_id is not None:
                self._attempt(lambda job_id=job_id: self._work(job_id))  # type: ignore[misc]

    def _attempt(self, act: Callable[[], None]) -> None:
        """This thread must outlive every error: without it nothing is answered any more."""
        try:
            act()
        except MondrianError as error:
            self._listen(StageNotice("worker", str(error)))
        except Exception as error:  # noqa: BLE001
            self._listen(StageNotice("worker", f"{type(error).__name__}: {error}"))

    def _idle(self) -> None:
        self._job_runner.adapters.refresh()
        if self._model.recycle():
            self._listen(StageNotice("worker", "The model process was replaced after many jobs."))
        shadow = add_next_shadow_job(self._job_runner.store, self._job_runner.adapters)
        if shadow is not None:
            self.submit(shadow.id)

    def _work(self, job_id: str) -> None:
        try:
            self._do(job_id)
        except Exception as error:
            # whoever waits looks at the row now, and finds that it ended, that it is gone, or that it must wait on
            self._job_events.publish(job_id, "failed", error=str(error))
            raise

    def _do(self, job_id: str) -> None:
        store = self._job_runner.store
        if job_id in self._canceled:
            self._canceled.discard(job_id)
            self._end(store.cancel_job(job_id))
            return
        job = store.claim_job(job_id)
        if job is None:  # it ended, or its row went, while it waited
            found = store.job(job_id)
            if found is None or found.status in FINAL_STATUSES:
                self._job_events.publish(job_id, (found and found.status) or "failed")
            return
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
            return  # the service is stopping; the next one takes it up
        self._end(finished)

    def _end(self, job: Job) -> None:
        seconds = job.details.get("seconds")
        if isinstance(seconds, int | float):
            self._seconds += 0.2 * (seconds - self._seconds)
        self._done(job)
        facts: dict[str, Any] = {"model_used": job.model_used, "mode": job.mode, "adapter_version": job.adapter_version}
        if job.error:
            facts = {"error": job.error}
        self._job_events.publish(job.id, job.status or "failed", **facts)

    def _progress_publisher(self, job_id: str) -> Callable[[StrategyProgress], None]:
        at: list[str] = []

        def on_progress(progress: StrategyProgress) -> None:
            if job_id in self._canceled:
                if not progress.phase:
                    raise Canceled
                self._model.cancel()
            if not progress.phase:
                if not at:
                    self._job_events.publish(job_id, "started", strategy=progress.strategy)
                elif at[-1] == progress.strategy:
                    self._job_events.publish(job_id, "tried_again", strategy=progress.strategy)
                else:
                    self._job_events.publish(job_id, "fallback", **{"from": at[-1], "to": progress.strategy})
                at.append(progress.strategy)
            elif progress.tokens:
                self._job_events.publish(job_id, "tokens", at=progress.phase, tokens=progress.tokens)
            else:
                self._job_events.publish(job_id, progress.phase, **progress.detail)

        return on_progress
