"""Address, home folder, password and environment of a workspace's Prefect server."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mondrian_core import ports
from mondrian_core.errors import BadInput, PrefectUnavailable
from mondrian_core.prefect_server import prefect_client_variables, prefect_home, read_auth_string
from mondrian_core.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
POOL = "apple-silicon"
ACCELERATOR_LIMIT = "accelerator"
HOST = "127.0.0.1"
EVERY_INTERFACE = "0.0.0.0"  # only where MONDRIAN_PREFECT_HOST says that other machines come
ALLOWED_HOSTS = (HOST, "localhost")  # accepted Host headers
DEFAULT_PORT = 4200
KEPT_RUN_DAYS = 90  # flow runs in Prefect's database


@dataclass(frozen=True)
class PrefectInstance:
    """A workspace's Prefect: its home folder and the port of its server.

    `shared_url` is the address, without /api, of a server elsewhere that this workspace has joined.
    """

    settings: Settings
    port: int
    shared_url: str | None = None

    @property
    def home(self) -> Path:
        """Folder of Prefect's database, results, leases and logs."""
        return prefect_home(self.settings)

    @property
    def ui(self) -> str:
        """Address of the UI."""
        return self.shared_url or f"http://{HOST}:{self.port}"

    @property
    def api(self) -> str:
        """Address of the API."""
        return f"{self.ui}/api"

    @property
    def auth(self) -> str:
        """The server's password, `user:password`.

        Raises:
            PrefectUnavailable: the password file was removed.
        """
        auth = read_auth_string(self.settings)
        if auth is None:
            raise PrefectUnavailable(
                f"The password of the Prefect server is missing from {self.home}.",
                "Run `mondrian down`, then `mondrian up`.",
            )
        return auth

    @property
    def basic_auth(self) -> tuple[str, str]:
        """User and password, for HTTP basic authentication."""
        user, _, password = self.auth.partition(":")
        return user, password

    @property
    def origins(self) -> tuple[str, ...]:
        """The server's own origins, as a browser sends them."""
        return tuple(f"http://{host}:{self.port}" for host in allowed_hosts(self.settings))

    def environment(self) -> dict[str, str]:
        """Environment of the server, the worker and the runs, without the user's own Prefect settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return {**kept, **self._prefect(), **self._mondrian()}

    def _prefect(self) -> dict[str, str]:
        return {
            **prefect_client_variables(self.settings, self.api, self.auth, os.environ),
            # requests need the password, and pages of other sites are refused
            "PREFECT_SERVER_API_AUTH_STRING": self.auth,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(self.origins),
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            # nothing leaves the machine
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "DO_NOT_TRACK": "1",
            # leases in memory leak their slot when the server restarts
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # four times faster with SQLite and many task runs
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
            # events wait for a database that is being restarted: 60 times five seconds instead of five times
            "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_MAX_FLUSH_RETRIES": "60",
            # the server deletes old runs with their logs, pages and states; what they decided is in the registry
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(KEPT_RUN_DAYS * 86_400),
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "20",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            # a server that is unreachable for minutes must not end the worker or lose the end of a run
            "PREFECT_CLIENT_MAX_RETRIES": "8",
            # the answers of a server whose database is being restarted, and of a proxy whose server is
            "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500,504",
            "PREFECT_CLI_PROMPT": "false",
        }

    def server_environment(self) -> dict[str, str]:
        """Environment of the server: it alone learns where its database and Redis are, and their passwords."""
        host = {"MONDRIAN_PREFECT_HOST": self.settings.prefect_host} if self.settings.prefect_host else {}
        return {**self.environment(), **host, **server_storage_variables(self.settings)}

    def _mondrian(self) -> dict[str, str]:
        settings = self.settings
        return {
            "MONDRIAN_WORKSPACE": str(settings.root),
            "MONDRIAN_ADAPTERS": str(settings.adapters_root),
            "MONDRIAN_BASE_MODEL": settings.base,
            "MONDRIAN_ROLES": ",".join(settings.roles),
            **({"MONDRIAN_SHARED": str(settings.shared)} if settings.shared else {}),
            "MONDRIAN_MACHINE": settings.machine_name,
            "MONDRIAN_CHECKOUT": str(ROOT),  # prefect.yaml's pull step: each worker runs its own checkout
            # the interpreter's folder first, so that a worker finds `prefect` without an activated environment
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        }


def allowed_hosts(settings: Settings) -> tuple[str, ...]:
    """Host headers that the server accepts: this machine's, and MONDRIAN_PREFECT_HOST."""
    return (*ALLOWED_HOSTS, *([settings.prefect_host] if settings.prefect_host else []))


def server_storage_variables(settings: Settings) -> dict[str, str]:
    """Prefect's variables for PostgreSQL (MONDRIAN_PREFECT_DATABASE) and Redis (MONDRIAN_PREFECT_REDIS).

    Raises:
        BadInput: Redis is configured and prefect-redis isn't installed.
    """
    variables = {}
    if settings.prefect_database:
        address = settings.prefect_database.partition("://")[2]
        variables["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"postgresql+asyncpg://{address}"
    if settings.prefect_redis:
        if find_spec("prefect_redis") is None:
            raise BadInput(
                "MONDRIAN_PREFECT_REDIS is set, but prefect-redis is not installed.",
                "Install it with `pip install 'mondrian[redis]'`, in a checkout with `pip install -e '.[redis]'`.",
            )
        variables |= {
            "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
            "PREFECT_REDIS_MESSAGING_URL": settings.prefect_redis,
            "PREFECT_SERVER_DOCKET_URL": settings.prefect_redis,
        }
    return variables


def set_prefect_home(settings: Settings) -> None:
    """Make Prefect use the workspace instead of the user's home folder. Call this before Prefect is imported."""
    os.environ.update(PREFECT_HOME=str(prefect_home(settings)), DO_NOT_TRACK="1")


def choose_port(wanted: int | None, *, usual: int | None = DEFAULT_PORT) -> int:
    """The wanted port, or the usual one if it is free, or any free port.

    Raises:
        PortInUse: the wanted port is in use; the error names the process that listens there.
    """
    if wanted is not None:
        ports.require_free_port(wanted)
        return wanted
    return usual if usual is not None and ports.is_port_free(usual) else ports.find_free_port()
