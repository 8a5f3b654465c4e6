"""Start, check, replace and stop the service, a process that outlives the flow run that started it.

A flow that answered requests itself would occupy the worker for months, and stay Running forever once that stops.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE

from mondrian_core import ports
from mondrian_core.errors import BadInput, Broken
from mondrian_core.events import EventListener, ignore_events
from mondrian_core.files import write_json
from mondrian_core.markdown import escape_markdown, markdown_table
from mondrian_core.models.base_download import fetch_base
from mondrian_core.settings import Settings
from tasks import artifact_pages, processes
from tasks.processes import ManagedProcess
from tasks.reporting import artifact_key, log_listener, publish_markdown_artifact
from tasks.service_record import SERVICE_NAME, ServeOptions, recorded_service, service_record_path

ROOT = Path(__file__).resolve().parent.parent
HEALTHY_TIMEOUT_SECONDS = 300.0  # loading a base of several gigabytes takes minutes
WARNED = "Warned"  # state of a run whose service runs but did not answer every smoke test photograph
MAX_LISTED_RECORDS = 50  # excluded records shown on the page
SMOKE_KEY_PREFIX = "smoke-"  # of the idempotency keys of smoke test jobs


def stop_service(settings: Settings) -> bool:
    """Stop the service that was started here; True when it ran."""
    known = recorded_service(settings)
    ran = known is not None and processes.stop_process(known[0], patience=30.0)
    service_record_path(settings).unlink(missing_ok=True)
    return ran


@task(name="service", cache_policy=NO_CACHE)
def ensure_service_task(settings: Settings, wanted: ServeOptions, *, restart: bool = False) -> str:
    """Ensure that a healthy service runs with these options; gives a sentence about what was done.

    Raises:
        PortInUse: something else listens on the port, such as the service of another workspace.
        Broken: it doesn't become healthy; it is stopped again.
        BadInput: it rejected its options.
    """
    fetch_base(settings.base, log_listener())  # starting has a deadline
    sentence, figures = _ensure_service(settings, wanted, restart=restart)
    return _report_service(wanted, figures, sentence)


def keep_service(settings: Settings, wanted: ServeOptions, listen: EventListener = ignore_events) -> str:
    """Ensure that a service runs, without Prefect: a running one stays, whatever its options.

    Raises:
        PortInUse, Broken, BadInput: as `ensure_service_task`.
    """
    known = recorded_service(settings)
    if known and known[0].alive:
        return f"{known[1].address} serves already."
    fetch_base(settings.base, listen)
    sentence, _ = _ensure_service(settings, wanted, restart=False)
    return f"{wanted.address} {sentence}."


def _ensure_service(settings: Settings, wanted: ServeOptions, *, restart: bool) -> tuple[str, dict[str, Any]]:
    """What was done, and the values of `/health`."""
    settings.require_workspace()
    known = recorded_service(settings)
    if (
        known
        and known[0].alive
        and known[1] == wanted
        and not restart
        and (figures := service_health(settings, wanted))
    ):
        return "serves already", figures
    if known and known[0].alive:
        stop_service(settings)
    ports.require_free_port(wanted.port, wanted.host)
    process = _start(settings, wanted)
    try:
        figures = _wait(settings, process, wanted)
    except BaseException:
        stop_service(settings)
        raise
    return "serves now", figures


def _start(settings: Settings, wanted: ServeOptions) -> ManagedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    ours = {
        "MONDRIAN_WORKSPACE": str(settings.root),
        "MONDRIAN_ADAPTERS": str(settings.adapters_root),
        "MONDRIAN_BASE_MODEL": settings.base,
    }
    log = service_record_path(settings).with_name("service.log")
    process = processes.start_process(
        SERVICE_NAME, wanted.command(), environment={**kept, **ours}, folder=ROOT, log=log
    )
    write_json(service_record_path(settings), {"process": asdict(process), "wanted": asdict(wanted)})
    return process


def _wait(settings: Settings, process: ManagedProcess, wanted: ServeOptions) -> dict[str, Any]:
    until = time.monotonic() + HEALTHY_TIMEOUT_SECONDS
    while process.alive and time.monotonic() < until:
        if (figures := service_health(settings, wanted)) and process.alive:
            return figures
        time.sleep(0.5)
    lines = [line for line in Path(process.log).read_text(errors="replace").splitlines() if line.strip()]
    if process.alive:
        raise Broken(
            f"The service did not become healthy in {HEALTHY_TIMEOUT_SECONDS:.0f} s.", f"Its log: {process.log}."
        )
    raise BadInput(f"The service did not start: {lines[-1] if lines else 'no output'}", f"Its log: {process.log}.")


@dataclass(frozen=True, kw_only=True)
class ServiceSmokeCase:
    """One photograph of the smoke test: expected version, actual version, mode and duration in seconds."""

    photograph: str
    advisor: str
    expected: str | None
    version: str | None = None
    mode: str | None = None
    seconds: float | None = None
    error: str | None = None

    @property
    def passed(self) -> bool:
        """True when the expected version answered (None: the base)."""
        return self.error is None and self.version == self.expected

    @property
    def adapter_failed(self) -> bool:
        """True when something else than the promoted version answered, so only the adapter failed."""
        return self.error is None and self.version != self.expected

    @property
    def service_failed(self) -> bool:
        """True when there was no answer and the request was valid."""
        return self.error is not None and not self.error.startswith("4")

    @property
    def why(self) -> str:
        """The problem in words."""
        return self.error or f"{self.version or 'the base'} answered, not {self.expected or 'the base'}"


@dataclass(frozen=True)
class ServiceSmokeResult:
    """Result of the smoke test: a sentence, and whether the expected version answered every photograph."""

    sentence: str
    passed: bool


@task(name="smoke set", cache_policy=NO_CACHE)
def service_smoke_task(settings: Settings, wanted: ServeOptions, count: int) -> ServiceSmokeResult:
    """Ask the running service about photographs of each advisor with a champion.

    Only photographs that `link` uses are tried: a failure of another one would say nothing about the service. A refused
    photograph, or one missing answer of several, does not make the service broken.

    Raises:
        Broken: another version than the promoted one answered, or the service answered nothing.
    """
    tried: list[ServiceSmokeCase] = []
    left_out: dict[str, str] = {}
    for advisor, expected in _expected_versions(settings, wanted).items():
        photographs, others = _smoke_photographs(settings, advisor, count)
        left_out |= others
        tried += [_run_smoke_case(settings, wanted, advisor, expected, photograph) for photograph in photographs]
    outcome = _verdict(tried, len(left_out))
    head = ("photograph", "advisor", "promoted", "answered by", "mode", "time", "verdict")
    publish_markdown_artifact(
        artifact_key("smoke set"),
        artifact_pages.join_markdown(
            f"## {escape_markdown(outcome.sentence)}",
            markdown_table(head, [_row(each) for each in tried]),
            markdown_table(("not tried", "why link leaves it out"), list(left_out.items())[:MAX_LISTED_RECORDS])
            if left_out
            else "",
        ),
        outcome.sentence,
    )
    if any(each.adapter_failed for each in tried) or (tried and all(each.service_failed for each in tried)):
        raise Broken(outcome.sentence, "The service keeps running with what passed; its log says more.")
    return outcome


def _verdict(tried: list[ServiceSmokeCase], left_out: int) -> ServiceSmokeResult:
    failed = sorted((each for each in tried if not each.passed), key=lambda each: not each.adapter_failed)
    others = f" Not tried, because link leaves them out: {left_out}." if left_out else ""
    if not tried:
        return ServiceSmokeResult(f"Smoke set: link uses no photograph that could be tried.{others}", True)
    if failed:
        first = f"{failed[0].photograph}: {failed[0].why}"
        return ServiceSmokeResult(
            f"Smoke set: {len(failed)} of {len(tried)} photographs failed ({first}).{others}", False
        )
    versions = sorted({f"{each.advisor} {each.version or 'base'}" for each in tried})
    return ServiceSmokeResult(
        f"Smoke set: {len(tried)} of {len(tried)} photographs answered ({', '.join(versions)}).{others}", True
    )


def _row(tried: ServiceSmokeCase) -> tuple[str, ...]:
    seconds = "" if tried.seconds is None else f"{tried.seconds:.1f} s"
    return (
        tried.photograph,
        tried.advisor,
        tried.expected or "base",
        tried.version or "base",
        tried.mode or "",
        seconds,
        "ok" if tried.passed else tried.why,
    )


def _expected_versions(settings: Settings, wanted: ServeOptions) -> dict[str, str | None]:
    """The expected version by advisor; the base (None) of one advisor when nobody has a champion."""
    from mondrian_core.registry import Registry
    from mondrian_core.store import Store

    with Store(settings.database, read_only=True) as store:
        known = [voice.advisor for voice in store.advisors()]
    registry = Registry(settings.adapters_root)
    champions = {advisor: registry.current(advisor) for advisor in known} if wanted.lora_path is None else {}
    found: dict[str, str | None] = {advisor: version for advisor, version in champions.items() if version}
    return found or dict.fromkeys(known[:1])


def _smoke_photographs(settings: Settings, advisor: str, count: int) -> tuple[list[str], dict[str, str]]:
    """Photographs that `link` uses, the advisor's own portfolio first; and the excluded records with reasons."""
    from mondrian_core.data.linking.link import link_critiques
    from mondrian_core.data.linking.link_manifest import ExclusionReason
    from mondrian_core.store import Store

    with Store(settings.database, read_only=True) as store:
        linked = link_critiques(store, settings.root, advisor)
    used = sorted(
        dict.fromkeys(record.photograph for record in linked.used), key=lambda name: f"/{advisor}/" not in name
    )
    others = {
        each.record: f"{each.reason.value} {each.detail}".strip()
        for each in linked.left_out
        if each.reason is not ExclusionReason.OTHER_ADVISOR
    }
    return used[:count], others


def _run_smoke_case(
    settings: Settings, wanted: ServeOptions, advisor: str, expected: str | None, photograph: str
) -> ServiceSmokeCase:
    body = {"path": photograph, "advisor": advisor, "mode": "lora" if expected else "baseline"}
    headers = {"Prefer": "wait=300", "Idempotency-Key": f"{SMOKE_KEY_PREFIX}{uuid.uuid4().hex}"}
    if settings.service_token:
        headers["Authorization"] = f"Bearer {settings.service_token}"
    try:
        with httpx.Client(timeout=330.0, trust_env=False) as client:
            answer = client.post(f"{wanted.address}/analyze", json=body, headers=headers)
        body_of_answer = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return ServiceSmokeCase(
            photograph=photograph, advisor=advisor, expected=expected, error=f"no answer ({type(error).__name__})"
        )
    if answer.status_code != 200:
        return ServiceSmokeCase(
            photograph=photograph,
            advisor=advisor,
            expected=expected,
            error=f"{answer.status_code} {body_of_answer.get('title', '')}".strip(),
        )
    return ServiceSmokeCase(
        photograph=photograph,
        advisor=advisor,
        expected=expected,
        version=body_of_answer["adapter_version"],
        mode=body_of_answer["mode"],
        seconds=body_of_answer["seconds"],
    )


@contextmanager
def stop_service_on_exit(settings: Settings) -> Iterator[None]:
    """Stop the service on exit, also after a cancellation during the smoke test."""
    try:
        yield
    finally:
        stop_service(settings)


def wait_for_service_exit(settings: Settings) -> None:
    """Wait until the service ends.

    Raises:
        Broken: the service ended by itself.
    """
    known = recorded_service(settings)
    while known is not None and known[0].alive:
        time.sleep(1.0)
    raise Broken("The service ended by itself.", f"Its log: {service_record_path(settings).with_name('service.log')}.")


def service_health(settings: Settings, wanted: ServeOptions) -> dict[str, Any] | None:
    """The values of `/health` of this workspace's healthy service; None otherwise, also for another workspace's."""
    with suppress(httpx.HTTPError, ValueError), httpx.Client(timeout=5.0, trust_env=False) as client:
        answer = client.get(f"{wanted.address}/health")
        figures: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        return figures if figures.get("workspace") == settings.workspace_id else None
    return None


def _report_service(wanted: ServeOptions, figures: dict[str, Any], what: str) -> str:
    sentence = f"{wanted.address} {what} ({figures.get('model_mode', wanted.model_mode)})."
    shown = [(name, value) for name, value in figures.items() if not isinstance(value, dict)]
    adapters = [(f"adapter of {advisor}", version) for advisor, version in figures.get("adapters", {}).items()]
    publish_markdown_artifact(
        artifact_key(SERVICE_NAME),
        artifact_pages.join_markdown(f"## {escape_markdown(sentence)}", markdown_table(("", ""), [*shown, *adapters])),
        sentence,
    )
    return sentence
