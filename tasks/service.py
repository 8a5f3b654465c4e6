"""The service as a process of its own that outlives the run: started when it isn't there, replaced when it is not well.

A flow that answered requests itself would hold a slot of the worker for months and be Running for ever once that stops.
"""

from __future__ import annotations

import os
import sys
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

from mondrian_core.errors import BadInput, Broken
from mondrian_core.files import read_json, write_json
from mondrian_core.markdown import plain, table
from mondrian_core.settings import Settings
from tasks import pages, processes
from tasks.processes import Process
from tasks.telling import artifact_key, leave_page

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300.0  # a base of several gigabytes takes its time to load
NAME = "service"
SMOKE = "smoke-"  # begins the idempotency key of the smoke set's jobs


@dataclass(frozen=True)
class Wanted:
    """What the service is told when it starts."""

    host: str = "127.0.0.1"
    port: int = 5100
    model_mode: str = "base"
    ab_test_split: float = 0.5
    lora_path: str | None = None
    fallback: bool = True

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    def command(self) -> list[str]:
        """`mondrian serve` with these options."""
        words = [sys.executable, "-m", "mondrian_core.cli", "serve", "--host", self.host, "--port", str(self.port)]
        words += ["--model-mode", self.model_mode, "--ab-test-split", str(self.ab_test_split)]
        words += ["--fallback", "base"] if self.fallback else []
        return [*words, "--lora-path", self.lora_path] if self.lora_path else words


def record_of(settings: Settings) -> Path:
    """The file that says which process serves this workspace."""
    return settings.root / "runs" / NAME / "process.json"


def recorded(settings: Settings) -> tuple[Process, Wanted] | None:
    """The process that was started last for this workspace and what it was told; it may be gone."""
    try:
        record = read_json(record_of(settings))
        return Process(**record["process"]), Wanted(**record["wanted"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def stop_service(settings: Settings) -> bool:
    """Stop the service that was started here; True when it ran."""
    known = recorded(settings)
    ran = known is not None and processes.stop(known[0], patience=30.0)
    record_of(settings).unlink(missing_ok=True)
    return ran


@task(name="service", cache_policy=NO_CACHE)
def ensure_service(settings: Settings, wanted: Wanted, *, restart: bool = False) -> str:
    """Have a healthy service with these options; gives the sentence that says what was done.

    Raises:
        Broken: when it doesn't become healthy; then it is stopped again.
        BadInput: when it refused what it was told.
    """
    settings.require_workspace()
    known = recorded(settings)
    if known and known[0].alive and known[1] == wanted and not restart and (figures := healthy(wanted)):
        return _told(wanted, figures, "serves already")
    if known and known[0].alive:
        stop_service(settings)
    process = _start(settings, wanted)
    try:
        figures = _wait(process, wanted)
    except BaseException:
        stop_service(settings)
        raise
    return _told(wanted, figures, "serves now")


def _start(settings: Settings, wanted: Wanted) -> Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    ours = {
        "MONDRIAN_WORKSPACE": str(settings.root),
        "MONDRIAN_ADAPTERS": str(settings.adapters_root),
        "MONDRIAN_BASE_MODEL": settings.base,
    }
    log = record_of(settings).with_name("service.log")
    process = processes.start(NAME, wanted.command(), environment={**kept, **ours}, folder=ROOT, log=log)
    write_json(record_of(settings), {"process": asdict(process), "wanted": asdict(wanted)})
    return process


def _wait(process: Process, wanted: Wanted) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE
    while process.alive and time.monotonic() < until:
        if figures := healthy(wanted):
            return figures
        time.sleep(0.5)
    lines = [line for line in Path(process.log).read_text(errors="replace").splitlines() if line.strip()]
    if process.alive:
        raise Broken(f"The service did not become healthy in {PATIENCE:.0f} s.", f"Its log: {process.log}.")
    raise BadInput(
        f"The service did not start: {lines[-1] if lines else 'it said nothing'}", f"Its log: {process.log}."
    )


@dataclass(frozen=True)
class Tried:
    """One photograph of the smoke set: what was asked for and what became of it; `seconds` of the answer."""

    photograph: str
    advisor: str
    expected: str | None
    version: str | None = None
    mode: str | None = None
    seconds: float | None = None
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Answered, and by the version that is promoted where there is one."""
        return self.error is None and self.version == self.expected


@task(name="smoke set", cache_policy=NO_CACHE)
def smoke_set(settings: Settings, wanted: Wanted, count: int) -> str:
    """Ask the running service about photographs of each advisor with a champion; the verdict in a sentence.

    Raises:
        Broken: a photograph got no critique, or another version than the promoted one answered.
    """
    tried = [_try(wanted, advisor, expected, photograph)
             for advisor, expected in _expected(settings, wanted).items()
             for photograph in _photographs(settings, advisor, count)]  # fmt: skip
    failed = [each for each in tried if not each.passed]
    versions = sorted({f"{each.advisor} {each.version or 'base'}" for each in tried})
    if failed:
        first = failed[0]
        why = first.error or f"{first.version or 'the base'} answered, not {first.expected or 'the base'}"
        sentence = f"Smoke set: {len(failed)} of {len(tried)} photographs failed ({first.photograph}: {why})."
    elif tried:
        sentence = f"Smoke set: {len(tried)} of {len(tried)} photographs answered ({', '.join(versions)})."
    else:
        sentence = "Smoke set: the workspace has no photograph to try."
    rows = [_row(each) for each in tried]
    head = ("photograph", "advisor", "promoted", "answered by", "mode", "time", "verdict")
    leave_page(artifact_key("smoke set"), pages.page(f"## {plain(sentence)}", table(head, rows)), sentence)
    if failed:
        raise Broken(sentence, "The service keeps running with what passed; its log says more.")
    return sentence


def _row(tried: Tried) -> tuple[str, ...]:
    seconds = "" if tried.seconds is None else f"{tried.seconds:.1f} s"
    return (tried.photograph, tried.advisor, tried.expected or "base", tried.version or "base", tried.mode or "",
            seconds, tried.error or "ok")  # fmt: skip


def _expected(settings: Settings, wanted: Wanted) -> dict[str, str | None]:
    """The version that must answer, by advisor; the base (None) of one advisor where nobody has a champion."""
    from mondrian_core.registry import Registry
    from mondrian_core.store import Store

    with Store(settings.database, read_only=True) as store:
        known = [voice.advisor for voice in store.advisors()]
    registry = Registry(settings.adapters_root)
    champions = {advisor: registry.current(advisor) for advisor in known} if wanted.lora_path is None else {}
    found: dict[str, str | None] = {advisor: version for advisor, version in champions.items() if version}
    return found or dict.fromkeys(known[:1])


def _photographs(settings: Settings, advisor: str, count: int) -> list[str]:
    """Paths under the workspace, the advisor's own portfolio first."""
    from mondrian_core.images import PHOTOGRAPH_SUFFIXES

    files = [path.relative_to(settings.root) for path in sorted((settings.root / "source").rglob("*"))
             if path.suffix.lower() in PHOTOGRAPH_SUFFIXES and path.is_file()]  # fmt: skip
    files.sort(key=lambda path: advisor not in path.parts)
    return [path.as_posix() for path in files[:count]]


def _try(wanted: Wanted, advisor: str, expected: str | None, photograph: str) -> Tried:
    body = {"path": photograph, "advisor": advisor, "mode": "lora" if expected else "baseline"}
    headers = {"Prefer": "wait=300", "Idempotency-Key": f"{SMOKE}{uuid.uuid4().hex}"}
    try:
        with httpx.Client(timeout=330.0, trust_env=False) as client:
            answer = client.post(f"{wanted.address}/analyze", json=body, headers=headers)
        told = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return Tried(photograph, advisor, expected, error=f"no answer ({type(error).__name__})")
    if answer.status_code != 200:
        return Tried(photograph, advisor, expected, error=f"{answer.status_code} {told.get('title', '')}".strip())
    return Tried(photograph, advisor, expected, told["adapter_version"], told["mode"], told["seconds"])


@contextmanager
def kept_inside(settings: Settings) -> Iterator[None]:
    """However this is left, by a cancellation in the middle of the smoke set too, the service is stopped."""
    try:
        yield
    finally:
        stop_service(settings)


def stay(settings: Settings) -> None:
    """Wait as long as the service runs.

    Raises:
        Broken: it ended by itself.
    """
    known = recorded(settings)
    while known is not None and known[0].alive:
        time.sleep(1.0)
    raise Broken("The service ended by itself.", f"Its log: {record_of(settings).with_name('service.log')}.")


def healthy(wanted: Wanted) -> dict[str, Any] | None:
    """What `/health` says when it is well; None otherwise."""
    with suppress(httpx.HTTPError, ValueError), httpx.Client(timeout=5.0, trust_env=False) as client:
        answer = client.get(f"{wanted.address}/health")
        if answer.status_code == 200:
            figures: dict[str, Any] = answer.json()
            return figures
    return None


def _told(wanted: Wanted, figures: dict[str, Any], what: str) -> str:
    sentence = f"{wanted.address} {what} ({figures.get('model_mode', wanted.model_mode)})."
    shown = [(name, value) for name, value in figures.items() if not isinstance(value, dict)]
    adapters = [(f"adapter of {advisor}", version) for advisor, version in figures.get("adapters", {}).items()]
    leave_page(artifact_key(NAME), pages.page(f"## {plain(sentence)}", table(("", ""), [*shown, *adapters])), sentence)
    return sentence
