"""`mondrian serve`: check the options, start the model process, serve HTTP, stop in order."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mondrian_core.errors import AdapterNotLoadable, BadInput, PortInUse
from mondrian_core.events import EventListener, StageNotice
from mondrian_core.files import make_private_folder, restrict_to_owner
from mondrian_core.models.base_download import fetch_base
from mondrian_core.pixel_files import PixelFileCache
from mondrian_core.ports import port_owner
from mondrian_core.registry import Registry
from mondrian_core.rollout import activate_rollout_schedule, is_failed_answer
from mondrian_core.service_address import SERVICE_LOCK, record_service_address
from mondrian_core.serving.critique.active_adapters import ActiveAdapters, require_adapter
from mondrian_core.serving.critique.adapter_smoke_check import AdapterSmokeCheck
from mondrian_core.serving.critique.adapter_source import ServedAdapter, find_adapter_source
from mondrian_core.serving.critique.routing import ModelMode, RoutingPolicy, resolve_model_mode, startup_notices
from mondrian_core.serving.critique.store_follower import (
    FETCH_RUNS_SECONDS,
    FOLLOW_SECONDS,
    ChampionUpdates,
    RunUpdates,
    StoreFollower,
)
from mondrian_core.serving.critique.strategies import all_strategies
from mondrian_core.serving.engine.supervisor import ModelProcess, ModelProcessLimits, model_command
from mondrian_core.serving.http import json_log
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.metrics import ServiceMetrics
from mondrian_core.serving.http.security import is_local_host
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.jobs.adapter_warm_up import AdapterWarmUp
from mondrian_core.serving.jobs.background_recording import BackgroundRecording
from mondrian_core.serving.jobs.event_relay import ServiceEventRelay
from mondrian_core.serving.jobs.job_events import JobEventBroker
from mondrian_core.serving.jobs.job_runner import JobRunner
from mondrian_core.serving.jobs.observation_publisher import ObservationPublisher
from mondrian_core.serving.jobs.rollback_guard import RollbackGuard
from mondrian_core.serving.jobs.worker import JobWorker
from mondrian_core.settings import AnalysisMode, Settings
from mondrian_core.shared_storage.publication import open_shared
from mondrian_core.store import Job, Store

MODEL_MODES: tuple[ModelMode, ...] = ("base", "fine_tuned", "ab_test")
MODEL_LOG = "runs/service/model_process.log"
PIXEL_FOLDER = "runs/service/decoded"
EXTRA_PIXEL_FILES = 16  # for the job in progress, the smoke test of a new adapter, and canceled jobs
SHUTDOWN_SECONDS = 5
PRIVATE_FOLDERS = ("analysis_md", "datasets", "runs", ".prefect")  # workspace folders that only Mondrian writes


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The options of `mondrian serve`.

    Attributes:
        model_mode: base, fine_tuned or ab_test; None follows ANALYSIS_MODE.
        lora_path: an adapter instead of the promoted ones (see `find_adapter_source`).
        ab_test_split: share of photographs in the adapter's arm, 0-1.
        fallback: "base": start without an adapter too.
        longest_queue: jobs that may wait.
        limits: deadlines of the model process.
        command: of the model process; None: the real one.
        quiet: no log.
    """

    host: str = "127.0.0.1"
    port: int = 5100
    model_mode: str | None = "base"
    lora_path: str | None = None
    ab_test_split: float = 0.5
    fallback: str | None = None
    longest_queue: int = 32
    limits: ModelProcessLimits = field(default_factory=ModelProcessLimits)
    command: tuple[str, ...] | None = None
    quiet: bool = False


def run_server(settings: Settings, options: ServerOptions, *, ready: Callable[[int], None] | None = None) -> None:
    """Answer requests until SIGINT or SIGTERM.

    Args:
        settings: workspace, registry and base model.
        options: of the command.
        ready: called with the port once requests are accepted.

    Raises:
        NoWorkspace, NoDatabase, BaseModelUnavailable: exit status 2.
        PortInUse: with the process that listens there; exit status 3.
        AdapterNotLoadable: the mode needs an adapter, there is none, and `fallback` is not "base"; exit status 1.
    """
    policy = routing_policy(settings, options)
    root = settings.require_workspace()
    _restrict_files(root)
    token = settings.service_token
    if not is_local_host(options.host) and not token:
        raise BadInput(
            f"Binding to {options.host} lets other machines connect.",
            "Set MONDRIAN_SERVICE_TOKEN to a long random string, or bind to 127.0.0.1.",
        )
    listen = json_log.json_log_listener(settings.log_level, quiet=options.quiet)
    for sentence in startup_notices(policy, options.model_mode, _explicit_analysis_mode(settings)):
        listen(StageNotice("serve", sentence))
    if options.command is None:
        fetch_base(settings.base, listen)  # the model process has a deadline
    with (
        listening_socket(options.host, options.port) as listening,
        Store(settings.database) as store,
        _workspace_lock(settings),
    ):
        command = options.command or model_command(settings.base, settings.adapter_cache_bytes)
        model = ModelProcess(command, root / MODEL_LOG, limits=options.limits, listen=listen)
        try:
            model.start()
            service = build_service(settings, options, policy, store, model, listen)
            try:
                _run_http_server(service, listening, ready, listen)
            finally:
                service.pixel_files.clear()
        finally:
            model.stop()


def _restrict_files(root: Path) -> None:
    """Make what this process and the model process write private to the owner; not the folder of photographs."""
    os.umask(os.umask(0o077) | 0o077)
    for name in PRIVATE_FOLDERS:
        restrict_to_owner(root / name)
    make_private_folder(root / Path(MODEL_LOG).parent)


def routing_policy(settings: Settings, options: ServerOptions) -> RoutingPolicy:
    """The routing policy that the options and settings ask for.

    Raises:
        BadInput: unknown mode, or a share outside 0-1.
    """
    model_mode = next(
        (
            mode
            for mode in MODEL_MODES
            if mode == resolve_model_mode(options.model_mode, _explicit_analysis_mode(settings))
        ),
        None,
    )
    if model_mode is None:
        raise BadInput(f"'{options.model_mode}' is not a model mode.", f"Use one of {', '.join(MODEL_MODES)}.")
    if not 0.0 <= options.ab_test_split <= 1.0:
        raise BadInput(f"--ab_test_split {options.ab_test_split} is not a share.", "Give a number from 0 to 1.")
    return RoutingPolicy(model_mode=model_mode, split=options.ab_test_split, analysis_mode=settings.analysis_mode)


def _explicit_analysis_mode(settings: Settings) -> AnalysisMode | None:
    return settings.analysis_mode if settings.is_analysis_mode_set else None


def build_service(
    settings: Settings,
    options: ServerOptions,
    policy: RoutingPolicy,
    store: Store,
    model: ModelProcess,
    listen: EventListener,
) -> Service:
    """Assemble the service, with an adapter where the mode needs one.

    Raises:
        AdapterNotLoadable: the mode needs an adapter, there is none, and `--fallback base` was not given.
    """
    registry = Registry(settings.adapters_root, listen=listen)
    pixel_files = PixelFileCache(settings.root / PIXEL_FOLDER, options.longest_queue + EXTRA_PIXEL_FILES)
    smoke_check = AdapterSmokeCheck(model, store, settings.root, pixel_files)
    adapters, policy = _adapters(settings, options, policy, registry, smoke_check, listen)
    job_events, metrics = JobEventBroker(), ServiceMetrics()
    job_runner = JobRunner(
        store=store,
        root=settings.root,
        engine=model,
        adapters=adapters,
        strategies=all_strategies(),
        embed=settings.embeddings_enabled,
        exif=settings.exif_enabled,
        pixel_files=pixel_files,
    )

    guard = RollbackGuard(store, adapters, listen, lambda: activate_rollout_schedule(settings))
    event_relay = ServiceEventRelay(settings, listen)

    def on_finished(job: Job) -> None:
        metrics.record_job(job)
        listen(json_log.job_finished_event(job))
        guard.check_finished_job(job)
        if is_failed_answer(job, job.adapter_version):
            event_relay.advisor_changed(job.advisor)

    worker = JobWorker(
        job_runner,
        model,
        job_events,
        longest_queue=options.longest_queue,
        on_finished=on_finished,
        listen=listen,
    )
    if policy.model_mode != "base":  # there, requests that name no mode use no adapter
        worker.warm_up = AdapterWarmUp(adapters, model, smoke_check.advisors, listen)
    return Service(
        settings=settings,
        root=settings.root,
        workspace=settings.workspace_id,
        store=store,
        policy=policy,
        model=model,
        adapters=adapters,
        job_runner=job_runner,
        worker=worker,
        job_events=job_events,
        metrics=metrics,
        pixel_files=pixel_files,
        base=settings.base,
        recording=BackgroundRecording(store, settings.root, settings.max_pixels),
        followers=_followers(settings, registry, adapters, store, listen),
        event_relay=event_relay,
        token=settings.service_token,
    )


def _followers(
    settings: Settings, registry: Registry, adapters: ActiveAdapters, store: Store, listen: EventListener
) -> tuple[StoreFollower, ...]:
    """What follows other machines; nothing for a registry in a folder and without shared storage."""
    found = []
    if registry.url is not None:
        champions = ChampionUpdates(registry, adapters.known_advisors)
        observations = ObservationPublisher(store, adapters)
        found += [
            StoreFollower(champions.update, "The registry", FOLLOW_SECONDS, listen),
            StoreFollower(observations.publish, "The log of a rollout", FOLLOW_SECONDS, listen),
        ]
    if (storage := open_shared(settings.shared_root)) is not None:
        runs = RunUpdates(storage, settings.root, listen)
        found.append(StoreFollower(runs.update, "Shared storage", FETCH_RUNS_SECONDS, listen))
    return tuple(found)


def _adapters(
    settings: Settings,
    options: ServerOptions,
    policy: RoutingPolicy,
    registry: Registry,
    smoke_check: AdapterSmokeCheck,
    listen: EventListener,
) -> tuple[ActiveAdapters, RoutingPolicy]:
    may_fall_back = options.fallback == "base"
    try:
        source = find_adapter_source(options.lora_path or _optional_text(settings.lora_adapter_dir), registry)
    except AdapterNotLoadable as error:
        if not may_fall_back and (policy.model_mode != "base" or options.lora_path):
            raise
        listen(StageNotice("serve", f"{error.problem} The base answers."))
        return ActiveAdapters(registry, None, smoke_check, listen), replace(policy, model_mode="base")
    adapters = ActiveAdapters(registry, source, smoke_check, listen)
    # an A/B test without a promoted adapter has nothing to compare yet; an adapter that was named must load
    may_fall_back = may_fall_back or (policy.model_mode == "ab_test" and not isinstance(source, ServedAdapter))
    if policy.model_mode != "base":
        try:
            require_adapter(adapters, source, smoke_check.advisors(), settings.overlooked_registry)
        except AdapterNotLoadable as error:
            if not may_fall_back:
                raise
            listen(StageNotice("serve", f"{error.problem} The base answers where no version is promoted."))
            if isinstance(source, ServedAdapter):  # the adapter that was named; no promotion replaces it
                policy = replace(policy, model_mode="base")
    return adapters, replace(policy, base_until_promoted=may_fall_back)


def _optional_text(path: object) -> str | None:
    return str(path) if path else None


def _run_http_server(
    service: Service, listening: socket.socket, ready: Callable[[int], None] | None, listen: EventListener
) -> None:
    from mondrian_core.serving.http.connections import HttpServer, uvicorn_config

    port = listening.getsockname()[1]

    class AnnouncingServer(HttpServer):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            record_service_address(service.settings, listening.getsockname()[0], port)
            listen(StageNotice("serve", f"http://{listening.getsockname()[0]}:{port} ({service.model_mode})"))
            if ready is not None:
                ready(port)

    config = uvicorn_config(create_app(service), leave_seconds=SHUTDOWN_SECONDS)
    try:
        AnnouncingServer(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # uvicorn has stopped in order and raises the signal again


@contextmanager
def listening_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket, bound before the model is loaded, so that a port in use is reported at once.

    Raises:
        PortInUse: another process listens there.
        BadInput: host or port can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(128)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(port, port_owner(port, host)) from error
            raise BadInput(
                f"{host}:{port} can't be bound: {error.strerror}.", "Choose another --host or --port."
            ) from error
        except OverflowError:
            raise BadInput(f"{port} is not a port.", "Give a number from 1 to 65535.") from None
        yield listening


@contextmanager
def _workspace_lock(settings: Settings) -> Iterator[None]:
    """One service per workspace: two would each run the other's jobs as unfinished ones."""
    from filelock import FileLock, Timeout

    path = settings.root / SERVICE_LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)  # whoever looks whether a service runs holds it for a moment
    except Timeout:
        raise BadInput(f"Another service is using {settings.root}.", "Stop it first.") from None
    try:
        yield
    finally:
        lock.release()
