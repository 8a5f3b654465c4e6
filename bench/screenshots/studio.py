"""A studio for the pictures, from nothing: a recorded demo, a week of runs in Prefect, and a service with answers.

Everything that is shown really happened in the studio's folder; nothing is drawn into a page. The week is short: its
runs follow one another, and photographs come from folders with the dates of several shoots.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from PIL import Image

from bench.screenshots.terminal_recording import TerminalRecording, record_terminal
from deployments.prefect_instance import PrefectInstance
from deployments.prefect_setup import prefect_client
from deployments.run_watcher import POLL_SECONDS, follow_flow_run, start_deployment_run
from mondrian_core.data.sample_workspace import ADVISOR
from mondrian_core.errors import Broken
from mondrian_core.files import read_json
from mondrian_core.ports import find_free_port
from mondrian_core.prefect_server import prefect_record_path
from mondrian_core.registry import Registry
from mondrian_core.settings import MINI_BASE_MODEL, Settings

ROOT = Path(__file__).resolve().parents[2]
SHOOTS = (
    "2026-08-15",
    "2026-08-29",
    "2026-09-05",
    "2026-09-12",
    "2026-09-26",
    "2026-10-03",
    "2026-10-10",
    "2026-10-17",
)
RATINGS = (4, 5, 3, 4, 4, 5)  # of the latest critiques
SHEET_PHOTOGRAPHS = 8
# trained in a minute; with so few measurements the gates usually can't decide
SHORT_RECIPE: dict[str, Any] = {
    "name": "short",
    "data": {"variants": 0},
    "train": {"epochs": 2, "answered_photographs": 0},
    "evaluate": {"compliance_photographs": 12, "edited_photographs": 0, "constrained_photographs": 0, "rag": False},
}
LONGEST_SECONDS = 1800.0
TRAINED, MOST_RUNS = ("Promoted", "Candidate", "Rejected"), 200


@dataclass(kw_only=True)
class Studio:
    """The studio while it runs.

    Attributes:
        folder: everything is below it.
        settings: of its workspace.
        environment: of its commands: a home of its own.
        service: address of the service.
        prefect: the running server.
        runs: ids of flow runs by a short name.
        jobs: answers of the service, in order.
    """

    folder: Path
    settings: Settings
    environment: Mapping[str, str]
    service: str = ""
    prefect: PrefectInstance
    runs: dict[str, UUID] = field(default_factory=dict)
    jobs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def shown_job(self) -> str:
        """The job of the adapter's best critique of a photograph that is wider than high."""
        wide = [job for job in self.jobs if job["adapter_version"] and self._is_wide(job["photograph"])]
        return str(max(wide or self.jobs, key=lambda job: float(job["critique"]["overall_grade"]))["job_id"])

    def _is_wide(self, photograph: str) -> bool:
        with Image.open(self.settings.root / "source" / photograph) as image:
            return image.width > image.height

    @property
    def waiting_version(self) -> str:
        """The newest version that isn't the champion."""
        registry = Registry(self.settings.adapters_root)
        champion = registry.current(ADVISOR)
        names = [each.version for each in registry.versions(ADVISOR) if each.version != champion]
        return max(names)

    @property
    def sheet(self) -> Path:
        """The contact sheet."""
        return self.folder / "sheet.html"


def record_demo(folder: Path) -> TerminalRecording:
    """The recording of `mondrian demo` in the studio's folder; one that an earlier call left there is used.

    Raises:
        Broken: the demo promoted nothing, or failed.
    """
    home, project = folder / "home", folder / "mondrian"
    for each in (home, project):
        each.mkdir(parents=True, exist_ok=True)
    file = folder / "demo.json"
    if not file.exists():
        print("recording make demo", flush=True)
        recording = record_terminal([sys.executable, "-m", "mondrian", "demo"], project, _own_environment(folder))
        if recording.status != 0:
            raise Broken(f"The demo ended with status {recording.status}.", f"Look into {project / 'workspace'}.")
        recording.save(file)
    return TerminalRecording.load(file)


@contextmanager
def open_studio(folder: Path) -> Iterator[Studio]:
    """Make the studio below an empty folder, and stop its processes at the end. It trains twice."""
    record_demo(folder)
    home, project, environment = folder / "home", folder / "mondrian", _own_environment(folder)
    settings = Settings(
        workspace=project / "workspace", adapters=project / "adapters", base_model=MINI_BASE_MODEL, cache=home / "cache"
    )
    port = find_free_port()
    try:
        _mondrian(project, environment, "up", "--port", str(find_free_port()), "--service-port", str(port))
        record = read_json(prefect_record_path(settings))
        studio = Studio(
            folder=folder,
            settings=settings,
            environment=environment,
            service=f"http://127.0.0.1:{port}",
            prefect=PrefectInstance(settings, int(record["port"])),
        )
        _fill(studio, project)
        yield studio
    finally:
        _mondrian(project, environment, "down")


def _own_environment(folder: Path) -> dict[str, str]:
    """The environment of a fresh terminal in the studio: nobody's settings, and a lock that no other studio takes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MONDRIAN_"))}
    return {
        **kept,
        "HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
        "MONDRIAN_CACHE": str(folder / "home" / "cache"),
        "MONDRIAN_ACCELERATOR_LOCK": str(folder / "accelerator.lock"),
    }


def _mondrian(project: Path, environment: Mapping[str, str], *words: str) -> None:
    print(f"mondrian {' '.join(words)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "mondrian", *words],
        cwd=project,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode > 1:
        raise Broken(f"mondrian {' '.join(words)} ended with {done.returncode}.", (done.stdout + done.stderr)[-2000:])


def _fill(studio: Studio, project: Path) -> None:
    photographs = _dated_photographs(studio.settings.root)
    _answers(studio, photographs)
    sheet = [str(path.relative_to(project)) for path in photographs[:SHEET_PHOTOGRAPHS]]
    _mondrian(project, studio.environment, "analyze", *sheet, "--advisor", ADVISOR, "--html", str(studio.sheet))
    _week(studio)


def _dated_photographs(root: Path) -> list[Path]:
    """The sample's visitors, half of them moved into folders of several shoots; those that were moved."""
    source = root / "source"
    present = sorted(source.glob("shoots/*/*.jpg"))
    if present:
        return present
    visitors = sorted((source / "visitors").glob("*.jpg"))
    for file, shoot in zip(visitors[: len(visitors) // 2], itertools.cycle(SHOOTS), strict=False):
        place = source / "shoots" / shoot / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, place)
    return sorted(source.glob("shoots/*/*.jpg"))


def _answers(studio: Studio, photographs: list[Path]) -> None:
    """Critiques of the service: one by the base, the others by the adapter, one with a search for a crop; ratings."""
    source = studio.settings.root / "source"
    with httpx.Client(base_url=studio.service, timeout=LONGEST_SECONDS, trust_env=False) as client:
        for number, path in enumerate(photographs):
            asked = {"path": str(path.relative_to(source)), "advisor": ADVISOR}
            if number == 0:
                asked |= {"mode": "baseline"}
            answer = client.post("/analyze", json=asked).raise_for_status().json()
            studio.jobs.append(answer)
            if (left := len(photographs) - number - 1) < len(RATINGS):
                client.post(f"/jobs/{answer['job_id']}/rating", json={"rating": RATINGS[left]}).raise_for_status()
        cropped = {"path": str(photographs[-1].relative_to(source)), "advisor": ADVISOR, "crops": True}
        studio.jobs.append(client.post("/analyze", json=cropped).raise_for_status().json())


def _week(studio: Studio) -> None:
    """Runs of several kinds besides the demo's: a second training, the same without anything new, the drift watch."""
    _run(studio, "short", "retrain/scheduled", recipe=SHORT_RECIPE)
    _run(studio, "unchanged", "retrain/scheduled", recipe=SHORT_RECIPE)
    _run(studio, "drift", "drift/scheduled")
    studio.runs["trained"] = _latest_training(studio)
    _ask(studio)


def _latest_training(studio: Studio) -> UUID:
    """The latest retraining that registered a version; in a studio that was kept, one of an earlier call."""
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    retrainings = FlowFilter(name=FlowFilterName(any_=["retrain"]))
    with prefect_client(studio.prefect) as client:
        runs = client.read_flow_runs(
            flow_filter=retrainings, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=MOST_RUNS
        )
    return next(run.id for run in runs if run.state and run.state.name in TRAINED)


def _ask(studio: Studio) -> None:
    """Ask for a promotion that waits for an approval: of the newest version that isn't the champion."""
    print("promote/manual (ask)", flush=True)
    given = {"advisor": ADVISOR, "version": studio.waiting_version, "reason": "its words are sharper"}
    # `force`: the short training may have failed a gate, which the form then says
    run = start_deployment_run(studio.prefect, "promote/manual", {**given, "approve": True, "force": True})
    studio.runs["ask"] = run
    until = time.monotonic() + LONGEST_SECONDS
    with prefect_client(studio.prefect) as client:
        while not ((state := client.read_flow_run(run).state) and state.is_paused()):
            if (state and state.is_final()) or time.monotonic() > until:
                raise Broken(f"The promotion didn't ask: {state.message or state.name if state else ''}")
            time.sleep(POLL_SECONDS)


def _run(studio: Studio, name: str, deployment: str, **parameters: Any) -> None:
    """Start a run and wait for its end."""
    print(f"{deployment} ({name})", flush=True)
    studio.runs[name] = start_deployment_run(studio.prefect, deployment, {"advisor": ADVISOR, **parameters})
    print(f"  {follow_flow_run(studio.prefect, studio.runs[name], lambda _: None).state}", flush=True)
