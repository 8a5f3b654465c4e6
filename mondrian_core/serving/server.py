"""`mondrian serve`: checks, the model process, the app on its port, and leaving in order."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mondrian_core.errors import AdapterNotLoadable, BadInput, PortInUse
from mondrian_core.events import Listener, Noticed
from mondrian_core.files import keep_private, make_private_folder
from mondrian_core.ports import owner_of
from mondrian_core.registry import Registry
from mondrian_core.serving import journal
from mondrian_core.serving.app import create_app
from mondrian_core.serving.board import Board
from mondrian_core.serving.critic import Critic
from mondrian_core.serving.guard import Guard
from mondrian_core.serving.lookup import Adapters, require_adapter, source_of
from mondrian_core.serving.metrics import Metrics
from mondrian_core.serving.routing import ModelMode, Policy, at_start, mode_followed
from mondrian_core.serving.security import is_local
from mondrian_core.serving.service import Service
from mondrian_core.serving.strategies import Adapter, all_strategies
from mondrian_core.serving.supervisor import Limits, ModelProcess, model_command
from mondrian_core.serving.trial import Trial
from mondrian_core.serving.worker import Worker
from mondrian_core.settings import Mode, Settings
from mondrian_core.store import Job, Store

MODEL_MODES: tuple[ModelMode, ...] = ("base", "fine_tuned", "ab_test")
LOG = "runs/service/model_process.log"
LOCK = "runs/service/.lock"
LEAVE_SECONDS = 5
PRIVATE = ("analysis_md", "datasets", "runs", ".prefect")  # folders of the workspace that Mondrian itself fills


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `mondrian serve` was told."""

    host: str = "127.0.0.1"
    port: int = 5100
    model_mode: str | None = "base"  # None: as ANALYSIS_MODE says
    lora_path: str | None = None
    ab_test_split: float = 0.5
    fallback: str | None = None
    longest_queue: int = 32
    limits: Limits = field(default_factory=Limits)
    command: tuple[str, ...] | None = None
    quiet: bool = False


def run(settings: Settings, options: Options, *, ready: Callable[[int], None] | None = None) -> None:
    """Answer requests until SIGINT or SIGTERM; see `mondrian_core.serving.serve`."""
    policy = policy_of(settings, options)
    root = settings.require_workspace()
    _keep_private(root)
    token = settings.service_token
    if not is_local(options.host) and not token:
        raise BadInput(
            f"Binding to {options.host} lets other machines in.",
            "Set MONDRIAN_SERVICE_TOKEN to a long random text, or bind to 127.0.0.1.",
        )
    listen = journal.listener(settings.log_level, quiet=options.quiet)
    for sentence in at_start(policy, options.model_mode, _named(settings)):
        listen(Noticed("serve", sentence))
    with bound_socket(options.host, options.port) as listening, Store(settings.database) as store, _alone(settings):
        model = ModelProcess(
            options.command or model_command(settings.base), root / LOG, limits=options.limits, listen=listen
        )
        try:
            model.start()
            service = assemble(settings, options, policy, store, model, listen)
            _answer(service, listening, ready, listen)
        finally:
            model.stop()


def _keep_private(root: Path) -> None:
    """What this process and the model process write is the owner's alone; the photographs' folder is a person's."""
    os.umask(os.umask(0o077) | 0o077)
    for name in PRIVATE:
        keep_private(root / name)
    make_private_folder(root / Path(LOG).parent)


def policy_of(settings: Settings, options: Options) -> Policy:
    """The options as the routing needs them.

    Raises:
        BadInput: a mode or share that there isn't.
    """
    model_mode = next(
        (mode for mode in MODEL_MODES if mode == mode_followed(options.model_mode, _named(settings))), None
    )
    if model_mode is None:
        raise BadInput(f"'{options.model_mode}' is no model mode.", f"Use one of {', '.join(MODEL_MODES)}.")
    if not 0.0 <= options.ab_test_split <= 1.0:
        raise BadInput(f"--ab_test_split {options.ab_test_split} is no share.", "Give a number from 0 to 1.")
    return Policy(model_mode=model_mode, split=options.ab_test_split, analysis_mode=settings.analysis_mode)


def _named(settings: Settings) -> Mode | None:
    return settings.analysis_mode if settings.names_analysis_mode else None


def assemble(
    settings: Settings, options: Options, policy: Policy, store: Store, model: ModelProcess, listen: Listener
) -> Service:
    """Put the parts together, with an adapter that answers where the mode needs one.

    Raises:
        AdapterNotLoadable: there is none and no `--fallback base`.
    """
    registry = Registry(settings.adapters_root, listen=listen)
    trial = Trial(model, store, settings.root)
    adapters, policy = _adapters(settings, options, policy, registry, trial, listen)
    board, metrics = Board(), Metrics()
    critic = Critic(
        store,
        settings.root,
        model,
        adapters,
        all_strategies(),
        embed=settings.embeddings_enabled,
        exif=settings.exif_enabled,
    )

    guard = Guard(store, adapters, listen)

    def ended(job: Job) -> None:
        metrics.ended(job)
        listen(journal.ended(job))
        guard.ended(job)

    worker = Worker(critic, model, board, longest_queue=options.longest_queue, done=ended, listen=listen)
    return Service(
        root=settings.root,
        workspace=settings.workspace_id,
        store=store,
        policy=policy,
        model=model,
        adapters=adapters,
        critic=critic,
        worker=worker,
        board=board,
        metrics=metrics,
        base=settings.base,
        token=settings.service_token,
    )


def _adapters(
    settings: Settings, options: Options, policy: Policy, registry: Registry, trial: Trial, listen: Listener
) -> tuple[Adapters, Policy]:
    may_fall = options.fallback == "base"
    try:
        source = source_of(options.lora_path or _text(settings.lora_adapter_dir), registry)
    except AdapterNotLoadable as error:
        if not may_fall and (policy.model_mode != "base" or options.lora_path):
            raise
        listen(Noticed("serve", f"{error.problem} The base answers."))
        return Adapters(registry, None, trial, listen), replace(policy, model_mode="base")
    adapters = Adapters(registry, source, trial, listen)
    # an A/B test without an adapter has nothing to compare yet; one that was named must load
    may_fall = may_fall or (policy.model_mode == "ab_test" and not isinstance(source, Adapter))
    if policy.model_mode != "base":
        try:
            require_adapter(adapters, source, trial.advisors(), settings.overlooked_registry)
        except AdapterNotLoadable as error:
            if not may_fall:
                raise
            listen(Noticed("serve", f"{error.problem} The base answers where no version is promoted."))
            if isinstance(source, Adapter):  # the one adapter that was named; no promotion changes it
                policy = replace(policy, model_mode="base")
    return adapters, replace(policy, base_until_promoted=may_fall)


def _text(path: object) -> str | None:
    return str(path) if path else None


def _answer(service: Service, listening: socket.socket, ready: Callable[[int], None] | None, listen: Listener) -> None:
    from mondrian_core.serving.connections import Server, config_of

    port = listening.getsockname()[1]

    class Announced(Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            listen(Noticed("serve", f"http://{listening.getsockname()[0]}:{port} ({service.model_mode})"))
            if ready is not None:
                ready(port)

    config = config_of(create_app(service), leave_seconds=LEAVE_SECONDS)
    try:
        Announced(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # uvicorn has left in order and raises the signal again


@contextmanager
def bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket; bound before the model is loaded, so that a taken port is told at once.

    Raises:
        PortInUse: another process listens there.
        BadInput: the host is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(128)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(port, owner_of(port, host)) from error
            raise BadInput(
                f"{host}:{port} can't be bound: {error.strerror}.", "Choose another --host or --port."
            ) from error
        except OverflowError:
            raise BadInput(f"{port} is no port.", "Give a number from 1 to 65535.") from None
        yield listening


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """One service per workspace: two would take each other's jobs for ones that an earlier boot left."""
    from filelock import FileLock, Timeout

    path = settings.root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BadInput(f"Another service works on {settings.root} already.", "Stop that one first.") from None
    try:
        yield
    finally:
        lock.release()
