"""A shared Prefect server for tests: PostgreSQL, Redis, the server on them, and machines with homes of their own.

`shared_prefect(folder)` starts all of it on free ports and stops it again. `postgres` and `redis` can be stopped and
started in between; they keep their port and their data. `add_machine` starts one more machine: its own home,
workspace and checkout, in folders of its own, with the workers that `mondrian join` starts there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deployments.bootstrap import RunningPrefect, bring_up, recorded_processes, take_down
from deployments.prefect_instance import PrefectInstance
from mondrian_core.ports import find_free_port
from mondrian_core.settings import Settings
from tasks import processes
from tasks.processes import ManagedProcess
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("mondrian", "mondrian_core", "tasks", "flows", "deployments")
POSTGRES_FOLDERS = ("/usr/lib/postgresql/15/bin", "/usr/local/bin", "/opt/homebrew/opt/postgresql@15/bin")
POSTGRES_USER = "postgres"  # it refuses to run as root


def find_program(name: str) -> str:
    """The path of a program; skips the test, naming it, where it isn't installed."""
    found = shutil.which(name, path=os.pathsep.join([*POSTGRES_FOLDERS, os.environ.get("PATH", os.defpath)]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


class PostgresServer:
    """A PostgreSQL server with an empty database `prefect`, on a free port; `stop` and `start` keep its data."""

    def __init__(self) -> None:
        self._initdb, self._program = find_program("initdb"), find_program("postgres")
        self._ready, self._create = find_program("pg_isready"), find_program("createdb")
        self.folder = Path(tempfile.mkdtemp(prefix="mondrian-postgres-"))  # as another user: not below pytest's folder
        self.port = find_free_port()
        if os.geteuid() == 0:
            shutil.chown(self.folder, POSTGRES_USER)
        self._run(self._initdb, "-D", "data", "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()
        self._run(self._create, "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "prefect")

    @property
    def url(self) -> str:
        """Address of the database, as MONDRIAN_PREFECT_DATABASE wants it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/prefect"

    def start(self) -> None:
        """Start it, or start it again, at its port; it answers when this returns."""
        command = [self._program, "-D", str(self.folder / "data"), "-p", str(self.port), "-k", "", "-F"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*_as_postgres(), *command, "-h", "127.0.0.1"], cwd="/", stdout=log, stderr=subprocess.STDOUT
            )
        asked = [self._ready, "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_until(lambda: subprocess.run(asked, check=False).returncode == 0, "PostgreSQL")

    def stop(self) -> None:
        """Stop it at once, as a restart of its machine does: open connections break."""
        assert self.process is not None
        # SIGINT: fast shutdown; runuser passes signals on
        self.process.send_signal(signal.SIGTERM)
        children = processes.child_processes(self.process.pid)
        for child in children[:1] if os.geteuid() == 0 else []:
            os.kill(child.pid, signal.SIGINT)
        self.process.wait()
        wait_until(lambda: not any(child.alive for child in children), "PostgreSQL to end")

    def close(self) -> None:
        """Stop it and remove its data."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *command: str) -> None:
        done = subprocess.run([*_as_postgres(), *command], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _as_postgres() -> list[str]:
    return ["runuser", "-u", POSTGRES_USER, "--"] if os.geteuid() == 0 else []


class RedisServer:
    """A Redis server on a free port, with an append-only file; `stop` and `start` keep its data."""

    def __init__(self, folder: Path) -> None:
        self._program = find_program("redis-server")
        self.folder, self.port = folder, find_free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Its address, as MONDRIAN_PREFECT_REDIS wants it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, or start it again, at its port; it answers when this returns."""
        import redis

        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--appendonly", "yes", "--dir", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([self._program, *options], stdout=log, stderr=subprocess.STDOUT)

        def answers() -> bool:
            try:
                with redis.Redis(port=self.port) as client:
                    return bool(client.ping())
            except redis.ConnectionError:
                return False

        wait_until(answers, "Redis")

    def stop(self) -> None:
        """Stop it; it saves what it was sent."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait()


@dataclass(frozen=True, kw_only=True)
class SharedMachine:
    """A second machine.

    Attributes:
        name: of the machine and its worker.
        folder: has its `home`, `workspace` and `checkout`.
        environment: what its shell has.
    """

    name: str
    folder: Path
    environment: Mapping[str, str]

    @property
    def settings(self) -> Settings:
        """Its workspace and registry."""
        return Settings(
            workspace=self.folder / "workspace",
            adapters=Path(self.environment["MONDRIAN_ADAPTERS"]),
            base_model="mini",
            shared=Path(self.environment["MONDRIAN_SHARED"]),
        )

    @property
    def home(self) -> Path:
        """Its Prefect home: run locks and logs."""
        return self.folder / "workspace" / ".prefect"

    @property
    def workers(self) -> list[ManagedProcess]:
        """Its running workers."""
        return [process for process in recorded_processes(self.settings) if process.alive]

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `mondrian WORDS` on this machine, from its checkout."""
        done = subprocess.run(
            [sys.executable, "-m", "mondrian", *words],
            cwd=self.folder / "checkout",
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done


@dataclass(kw_only=True)
class SharedPrefect:
    """PostgreSQL, Redis and a Prefect server on them; `running` is the server's own machine."""

    folder: Path
    postgres: PostgresServer
    redis: RedisServer
    settings: Settings
    running: RunningPrefect
    machines: list[SharedMachine] = field(default_factory=list)

    @property
    def place(self) -> PrefectInstance:
        """The server, for clients."""
        return self.running.place

    def add_machine(
        self,
        name: str,
        roles: Sequence[str] = ("accelerator",),
        more: Mapping[str, str] | None = None,
        *,
        address: str | None = None,
        profile: str = "",
    ) -> SharedMachine:
        """Start one more machine: `mondrian join` from its own checkout, home and workspace.

        Args:
            name: of the machine, and of its folder.
            roles: of the machine.
            more: further environment variables of its shell.
            address: under which it reaches the server; None: the server's own.
            profile: Prefect's profiles.toml in its home.
        """
        folder = self.folder / name
        for source in SOURCES:
            shutil.copytree(ROOT / source, folder / "checkout" / source, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "prefect.yaml", folder / "checkout")
        for empty in ("home", "workspace"):
            (folder / empty).mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MONDRIAN_"))}
        machine = SharedMachine(
            name=name,
            folder=folder,
            environment={
                **kept,
                "HOME": str(folder / "home"),
                "PYTHONPATH": str(folder / "checkout"),
                "PYTHONDONTWRITEBYTECODE": "1",
                "MONDRIAN_WORKSPACE": str(folder / "workspace"),
                "MONDRIAN_ADAPTERS": str(self.settings.adapters_root),
                "MONDRIAN_BASE_MODEL": "mini",
                "MONDRIAN_SHARED": str(self.settings.shared),
                # every machine has an accelerator of its own
                "MONDRIAN_ACCELERATOR_LOCK": str(folder / "accelerator.lock"),
                **(more or {}),
            },
        )
        self.machines.append(machine)
        password = folder / "auth-string"
        password.write_text(self.place.auth)
        chosen = [word for role in roles for word in ("--role", role)]
        if profile:
            machine.home.mkdir()
            (machine.home / "profiles.toml").write_text(profile)
        machine.run(
            "join", address or self.place.ui, "--name", name, "--auth-file", str(password), "--no-service", *chosen
        )
        return machine

    def stop_machines(self) -> None:
        """Stop the workers of all machines, then everything of the server's machine."""
        for machine in self.machines:
            take_down(machine.settings)
        take_down(self.settings)


@contextmanager
def shared_prefect(folder: Path, **more: Any) -> Iterator[SharedPrefect]:
    """Start PostgreSQL, Redis and a Prefect server on them inside the block; skips where a program is missing.

    Args:
        folder: for workspace, registry and logs; short, because it becomes part of paths of sockets.
        more: further settings of the server's machine.
    """
    find_program("redis-server")
    postgres = PostgresServer()
    redis_server = None
    settings = None
    try:
        redis_server = RedisServer(folder / "redis")
        for needed in ("server/workspace", "shared"):
            (folder / needed).mkdir(parents=True)
        settings = Settings(
            workspace=folder / "server" / "workspace",
            adapters=folder / "adapters",
            base_model="mini",
            prefect_database=postgres.url,
            prefect_redis=redis_server.url,
            shared=folder / "shared",
            **more,
        )
        shared = SharedPrefect(
            folder=folder, postgres=postgres, redis=redis_server, settings=settings, running=bring_up(settings)
        )
        try:
            yield shared
        finally:
            shared.stop_machines()
    finally:
        if redis_server is not None:
            redis_server.stop()
        postgres.close()
