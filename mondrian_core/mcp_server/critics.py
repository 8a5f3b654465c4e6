"""What makes the critiques: the workspace's running service, or else a model in this process, loaded when needed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mondrian_core.errors import BadInput, Broken
from mondrian_core.images import open_photograph
from mondrian_core.serving.batch_analyze import open_job_runner
from mondrian_core.serving.critique.strategies import StrategyProgress
from mondrian_core.serving.engine.interface import Canceled
from mondrian_core.serving.http.responses import job_json
from mondrian_core.serving.http.uploads import AnalyzeRequest, store_photograph
from mondrian_core.serving.jobs.job_claims import claim_new_job
from mondrian_core.serving.jobs.job_events import FINAL_STATUSES
from mondrian_core.serving.jobs.job_runner import JobRunner, job_filename
from mondrian_core.settings import Settings
from mondrian_core.store import COMPLETED

DEFAULT_SERVICE = "http://127.0.0.1:5100"
_HEALTH_SECONDS = 2.0
_ANSWER_SECONDS = 900.0
OnProgress = Callable[[int, str], Awaitable[None]]  # tokens so far, and what happens


@dataclass(frozen=True, kw_only=True)
class WantedCritique:
    """A critique to make: of a file, or of the bytes of one."""

    advisor: str
    mode: str | None
    path: Path | None = None
    data: bytes | None = None


@dataclass
class Critic:
    """Makes critiques with the running service of the workspace if there is one, else in this process.

    Attributes:
        settings: workspace, registry and base model.
        service: address of a service to use; None looks for the workspace's own at its usual port.
    """

    settings: Settings
    service: str | None = None
    _local: LocalCritic | None = field(default=None)

    async def critique(self, wanted: WantedCritique, on_progress: OnProgress) -> dict[str, Any]:
        """The completed job as JSON values.

        Raises:
            BadInput: the photograph, the advisor or the mode can't be used; or no service answers at `service`.
            Broken: no critique could be made.
        """
        address = await self._running_service()
        if address is not None:
            job = await ServiceCritic(address, self.settings).critique(wanted, on_progress)
        else:
            self._local = self._local or LocalCritic(self.settings)
            job = await self._local.critique(wanted, on_progress)
        if job.get("status") != COMPLETED:
            raise Broken(job.get("error") or f"The critique is {job.get('status')}.", "Try again, or another mode.")
        return job

    async def _running_service(self) -> str | None:
        address = (self.service or DEFAULT_SERVICE).rstrip("/")
        try:
            async with httpx.AsyncClient(timeout=_HEALTH_SECONDS, trust_env=False) as client:
                health = (await client.get(f"{address}/health")).json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            health = {}
        same = health.get("workspace") == self.settings.workspace_id
        if self.service is not None and not same:
            what = "serves another workspace" if "workspace" in health else "does not answer"
            raise BadInput(
                f"The service at {address} {what}.", "Start it with `mondrian serve`, or leave --service out."
            )
        return address if same else None

    def close(self) -> None:
        """Give up the model of this process."""
        if self._local is not None:
            self._local.close()


@dataclass(frozen=True)
class ServiceCritic:
    """Asks a running service."""

    address: str
    settings: Settings

    async def critique(self, wanted: WantedCritique, on_progress: OnProgress) -> dict[str, Any]:
        """The job as JSON values, in whatever status it ended; a cancellation cancels the job too.

        Raises:
            BadInput: the service refuses the request.
        """
        token = self.settings.service_token
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        async with httpx.AsyncClient(
            base_url=self.address, headers=headers, timeout=_ANSWER_SECONDS, trust_env=False
        ) as client:
            job = _read(
                await client.post("/analyze", headers={"Prefer": "respond-async"}, **_body(wanted, self.settings))
            )
            try:
                await self._follow(client, job, on_progress)
            except asyncio.CancelledError:
                await asyncio.shield(client.post(f"/jobs/{job['job_id']}/cancel"))
                raise
            return _read(await client.get(f"/jobs/{job['job_id']}"))

    async def _follow(self, client: httpx.AsyncClient, job: dict[str, Any], on_progress: OnProgress) -> None:
        if job["status"] in FINAL_STATUSES:
            return
        async with client.stream("GET", f"/jobs/{job['job_id']}/events") as events:
            async for kind, data in _server_sent_events(events.aiter_lines()):
                await on_progress(int(data.get("tokens", 0)), kind)
                if kind in FINAL_STATUSES:
                    return


def _body(wanted: WantedCritique, settings: Settings) -> dict[str, Any]:
    """The request: a path below the workspace's photographs as a path, anything else as an upload."""
    fields = {"advisor": wanted.advisor, **({"mode": wanted.mode} if wanted.mode else {})}
    if wanted.path is not None:
        source = (settings.root / "source").resolve()
        if wanted.path.is_relative_to(source):
            return {"json": {"path": f"source/{wanted.path.relative_to(source).as_posix()}", **fields}}
        return {"files": {"image": (wanted.path.name, wanted.path.read_bytes())}, "data": fields}
    return {"files": {"image": ("photograph", wanted.data or b"")}, "data": fields}


def _read(answer: httpx.Response) -> dict[str, Any]:
    """The job in a response.

    Raises:
        BadInput: it is a problem.
    """
    try:
        body = answer.json()
    except ValueError:
        body = {}
    if isinstance(body, dict) and "job_id" in body:
        return body
    raise BadInput(
        str(body.get("title") or f"The service answered with {answer.status_code}."), str(body.get("detail", ""))
    )


async def _server_sent_events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    kind, data = "message", ""
    async for line in lines:
        name, _, value = line.partition(":")
        if name == "event":
            kind = value.strip()
        elif name == "data":
            data += value.strip()
        elif not line and data:
            yield kind, json.loads(data)
            kind, data = "message", ""


class LocalCritic:
    """A model in this process, on a thread of its own: MLX belongs to the thread that loaded it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="critic")
        self._opened = ExitStack()
        self._job_runner: JobRunner | None = None

    async def critique(self, wanted: WantedCritique, on_progress: OnProgress) -> dict[str, Any]:
        """The job as JSON values, in whatever status it ended; the first call loads the model.

        Raises:
            BadInput: the photograph, the advisor, the mode or the base can't be used.
        """
        loop, progress, stop = asyncio.get_running_loop(), asyncio.Queue[StrategyProgress | None](), threading.Event()

        def tell(step: StrategyProgress | None) -> None:
            if stop.is_set():
                raise Canceled
            loop.call_soon_threadsafe(progress.put_nowait, step)

        if self._job_runner is None:
            await on_progress(0, f"loading {self._settings.base}")
        work = loop.run_in_executor(self._thread, self._run, wanted, tell)
        work.add_done_callback(lambda done: progress.put_nowait(None))
        try:
            while (step := await progress.get()) is not None:
                await on_progress(step.tokens, step.phase or step.strategy)
            return await work
        finally:
            stop.set()

    def _run(self, wanted: WantedCritique, tell: Callable[[StrategyProgress], None]) -> dict[str, Any]:
        if self._job_runner is None:
            self._job_runner = self._opened.enter_context(open_job_runner(self._settings))
        runner = self._job_runner
        runner.store.advisor(wanted.advisor)
        if wanted.path is not None:
            photograph = open_photograph(wanted.path)
            filename, sha256, image = job_filename(runner.root, wanted.path), photograph.sha256, photograph.image
        else:
            stored = store_photograph(runner.root, AnalyzeRequest(advisor=wanted.advisor, mode=None, data=wanted.data))
            filename, sha256, image = stored.filename, stored.sha256, stored.image
        with claim_new_job(
            runner.store,
            wanted.advisor,
            filename,
            requested_mode=wanted.mode or self._settings.analysis_mode,
            explicit_mode=True,
            photograph_sha256=sha256,
        ) as job:
            return job_json(runner.run(job, image, tell))

    def close(self) -> None:
        """Close the database; a critique in progress is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)
