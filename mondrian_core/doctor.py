"""`mondrian doctor`: check machine, disk, base model, database and Prefect, with a next step for each problem."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from mondrian_core.advisors import counts_of_advisor, describe_counts, workspace_tally
from mondrian_core.base_checks import DoctorCheck, base_model_checks
from mondrian_core.errors import MondrianError
from mondrian_core.next_steps import AdvisorCounts, add_advisor_step, next_step_for
from mondrian_core.ports import port_owner
from mondrian_core.prefect_server import is_server_of, read_auth_string, read_join_record, recorded_api_url
from mondrian_core.settings import Settings, on_apple_silicon

POOL = "apple-silicon"
MIN_FREE_BYTES = 2_000_000_000


def run_doctor_checks(settings: Settings, api: str | None = None, *, deep: bool = False) -> list[DoctorCheck]:
    """All checks, in the order in which the commands need them."""
    return [
        _machine(),
        _disk(settings),
        *base_model_checks(settings.base, settings.adapter_cache_bytes, deep=deep),
        *_database(settings),
        *_prefect(settings, api),
        *_units(settings),
    ]


def _machine() -> DoctorCheck:
    name = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    if sys.version_info < (3, 11):  # noqa: UP036  (pip's check can be bypassed)
        return DoctorCheck("machine", False, name, "Install Python 3.11 or newer and run `make test` again.")
    try:
        import mondrian_core.models  # noqa: F401  (loads the CPU's BLAS before mlx)
        from mondrian_core.models.base_model import device_name
    except ImportError as error:
        return DoctorCheck(
            "machine", False, f"{name}: MLX can't be imported ({error})", "Run `make test` to install it."
        )
    platform_name = "Apple Silicon" if on_apple_silicon() else "no Metal: mini on the CPU"
    return DoctorCheck("machine", True, f"{name}; {platform_name}; MLX on {device_name()}")


def _disk(settings: Settings) -> DoctorCheck:
    place = settings.root if settings.root.is_dir() else Path.cwd()
    free = shutil.disk_usage(place).free
    return DoctorCheck(
        "disk",
        free > MIN_FREE_BYTES,
        f"{free / 1e9:.1f} GB free at {place}",
        "Free some space: training and datasets need at least 2 GB.",
    )


def _database(settings: Settings) -> list[DoctorCheck]:
    """The database; and for each advisor what is there and what comes next."""
    from mondrian_core.registry import Registry
    from mondrian_core.store import Store

    joined = read_join_record(settings)
    if joined is not None and not {"data", "serving"} & set(joined.roles):
        return [DoctorCheck("database", None, f"not on '{joined.machine}', which is an accelerator of {joined.url}")]
    try:
        settings.require_workspace()
        with Store(settings.database, read_only=True) as store:
            tally, registry = workspace_tally(store), Registry(settings.adapters_root)
            counted = [counts_of_advisor(tally, registry, each) for each in store.advisor_names()]
    except MondrianError as error:
        return [DoctorCheck("database", False, error.problem, error.next_step)]
    database = DoctorCheck("database", True, str(settings.database))
    if not counted:
        return [database, DoctorCheck("advisors", None, "none yet", add_advisor_step())]
    return [database, *map(_advisor, counted)]


def _advisor(counts: AdvisorCounts) -> DoctorCheck:
    found = describe_counts(counts)
    if counts.active_version:
        found += f"; {counts.active_version} answers"
    return DoctorCheck(
        f"advisor {counts.advisor}", counts.active_version is not None or None, found, next_step_for(counts)
    )


def prefect_api_url(settings: Settings, given: str | None = None) -> str | None:
    """URL of the Prefect API: `given`, the server that was joined, PREFECT_API_URL, or what `mondrian up` started."""
    joined = read_join_record(settings)
    return given or (joined and joined.api_url) or settings.prefect_api or recorded_api_url(settings)


def _authentication(settings: Settings, address: str) -> tuple[str, str] | None:
    """User and password for the API: from the environment; otherwise the workspace's, only for its own server."""
    auth = None if read_join_record(settings) else settings.prefect_auth
    if auth is None and address == recorded_api_url(settings):
        auth = read_auth_string(settings) if is_server_of(settings, address.removesuffix("/api")) else None
    user, _, password = (auth or "").partition(":")
    return (user, password) if auth else None


def _prefect(settings: Settings, given: str | None) -> list[DoctorCheck]:
    import httpx

    address = prefect_api_url(settings, given)
    if address is None:
        return [
            DoctorCheck(
                "prefect server", None, "no server is known", "`mondrian up` starts one with a worker on this machine."
            )
        ]
    try:
        with httpx.Client(base_url=address.rstrip("/"), timeout=5, auth=_authentication(settings, address)) as client:
            if client.get("/admin/version").status_code == httpx.codes.UNAUTHORIZED:
                return [
                    DoctorCheck(
                        "prefect server",
                        False,
                        f"{address} rejects the password",
                        f"It belongs to {port_owner(client.base_url.port or 80, client.base_url.host)}; "
                        "`mondrian up` starts one for this workspace, or set PREFECT_API_AUTH_STRING.",
                    )
                ]
            client.get("/health").raise_for_status()
            server = DoctorCheck("prefect server", True, address)
            return [server, _worker(settings, client), *_schedules(client)]
    except httpx.HTTPError as error:
        return [
            DoctorCheck(
                "prefect server",
                False,
                f"{address} doesn't answer ({type(error).__name__})",
                "Start it with `mondrian up`, or check PREFECT_API_URL.",
            )
        ]


def _worker(settings: Settings, client: Any) -> DoctorCheck:
    """Workers that are online; of a machine that has joined a shared server, its own."""
    answer = client.post(f"/work_pools/{POOL}/workers/filter", json={})
    workers = answer.json() if answer.status_code == 200 else []
    online = [worker["name"] for worker in workers if worker.get("status") == "ONLINE"]
    joined = read_join_record(settings)
    if joined is not None:
        online = [name for name in online if name in (joined.machine, f"{joined.machine}-accelerator")]
    if online:
        return DoctorCheck("prefect worker", True, f"{', '.join(online)} online in pool {POOL}")
    whose = f" of '{joined.machine}'" if joined else ""
    return DoctorCheck(
        "prefect worker",
        False,
        f"no worker{whose} is online in pool {POOL}",
        f"Run `mondrian up`, or `mondrian prefect worker start --pool {POOL}`." if not joined else "Run `mondrian up`.",
    )


def _units(settings: Settings) -> list[DoctorCheck]:
    """The services at login, if there are any; also when workspace or program have moved since."""
    from mondrian_core.service_units import installed_here, unit_states

    found = installed_here(settings)
    if found is None:
        return [DoctorCheck("services at login", None, "not installed", "`mondrian install-service` installs them.")]
    supervisor, installed = found
    if not installed.program.exists():
        text = f"{supervisor.name} starts {installed.program}, which is gone"
        return [DoctorCheck("services at login", False, text, "Run `mondrian install-service` again.")]
    states = unit_states(supervisor, installed)
    words = {True: "runs", False: "is stopped", None: "unknown"}
    finding = "; ".join(f"{state.name} {words[state.running]}" for state in states)
    stopped = [state for state in states if state.running is not True]
    advice = "`mondrian up` starts them; their logs: docs/how-to/unattended.md."
    return [DoctorCheck("services at login", not stopped, finding, advice)]


def _schedules(client: Any) -> list[DoctorCheck]:
    """Count upcoming runs: with mismatched packages a schedule can look active although it never creates a run."""
    deployments = client.post("/deployments/filter", json={}).json()
    checks = []
    for deployment in deployments:
        if not any(schedule.get("active") for schedule in deployment.get("schedules", [])):
            continue
        query = {
            "deployments": {"id": {"any_": [deployment["id"]]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        upcoming = client.post("/flow_runs/count", json=query).json()
        advice = "Compare the installed sqlalchemy and fastapi with the lock; run `make test` to fix it."
        checks.append(
            DoctorCheck(f"schedule of {deployment['name']}", upcoming > 0, f"{upcoming} upcoming runs", advice)
        )
    return checks
