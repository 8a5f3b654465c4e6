"""`python -m bench.simulated_week`: how many runs a week leaves in Prefect's UI, by deployment.

The schedules of prefect.yaml are computed for one week, as Prefect's scheduler does. "always" keeps every schedule
that the program switches active all week, as releases before did. With --live FOLDER, a week's kinds of runs really
happen: a server and a worker in a new workspace, versions with sound files and invented gates, one small training.
It prints the list of runs as the UI shows it, and leaves everything running for a look (`mondrian down`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from mondrian_core.data.sample_workspace import ADVISOR, create_workspace
from mondrian_core.markdown import markdown_table
from mondrian_core.registry import Registry
from mondrian_core.settings import MINI_BASE_MODEL, Settings

if TYPE_CHECKING:
    from deployments.bootstrap import RunningPrefect

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
WEEK = timedelta(days=7)
ROLLOUT_DAYS = 3.2  # to 100 % at 50 requests a day, from the table of docs/explanation/rollout.md
GATES = ("integrity", "effect", "format_compliance", "latency_overhead", "score_error", "health")
SMALL_RECIPE: dict[str, Any] = {
    "name": "small",
    "data": {"variants": 0, "test_from": 8},
    "train": {"epochs": 1, "rank": 2, "answered_photographs": 0},
    "evaluate": {"compliance_photographs": 2, "effect_photographs": 1, "edited_photographs": 0, "rag": False},
}


def runs_in(schedule: dict[str, Any], begin: datetime, end: datetime) -> int:
    """Number of runs that a schedule of prefect.yaml makes from `begin` until before `end`."""
    from prefect.server.schemas.schedules import CronSchedule

    cron = CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    found: set[datetime] = set()
    while begin < end:  # hour by hour: Prefect lists at most a thousand dates at once
        until = min(begin + timedelta(hours=1), end)
        found |= set(asyncio.run(cron.get_dates(n=60, start=begin, end=until)))
        begin = until
    return sum(each < end for each in found)


def weekly_runs(rollout_days: float) -> list[tuple[str, int, int, int]]:
    """Per deployment with a schedule: runs a week if always active, without a rollout, and with one of some days."""
    from deployments.prefect_setup import declared_deployments

    rows = []
    for deployment in declared_deployments():
        always = idle = rolling = 0
        for schedule in deployment.get("schedules", []):
            if schedule.get("active") is False:
                continue
            week = runs_in(schedule, MONDAY, MONDAY + WEEK)
            switched = "active" not in schedule
            always += week
            idle += 0 if switched else week
            rolling += runs_in(schedule, MONDAY, MONDAY + timedelta(days=rollout_days)) if switched else week
        rows.append((deployment["full_name"], always, idle, rolling))
    return [row for row in rows if row[1]]


# --- a week for real --------------------------------------------------------------------------------------------------


def live_week(folder: Path) -> None:
    """Start Prefect in a new workspace below `folder`, let each kind of run happen, and print the list of runs."""
    from deployments.bootstrap import bring_up
    from deployments.run_watcher import follow_flow_run, start_deployment_run

    settings = Settings(workspace=folder / "workspace", adapters=folder / "adapters", base_model=MINI_BASE_MODEL)
    create_workspace(settings.root, sample=True, photographs=12)
    running = bring_up(settings, on_message=print)
    registry = Registry(settings.adapters_root)

    def run(name: str, **parameters: Any) -> None:
        begun = start_deployment_run(running.place, name, {"advisor": ADVISOR, **parameters})
        if parameters.get("approve"):
            _decline(running, begun)
        print(f"{name}: {follow_flow_run(running.place, begun, lambda _: None).state}")

    run("retrain/scheduled", recipe=SMALL_RECIPE)
    run("retrain/scheduled", recipe=SMALL_RECIPE)
    first, second, third = (_register(registry, folder / name, seed) for seed, name in enumerate("abc"))
    run("promote/manual", version=first, reason="the first")
    run("promote/manual", version=first)
    run("promote/manual", version=second, reason="sharper words", approve=True)
    run("promote/manual", version=third, reason="better light", rollout=True)
    run("rollout/advance")
    run("rollback/manual", reason="too kind")
    start_deployment_run(
        running.place, "promote/manual", {"advisor": ADVISOR, "version": second, "reason": "again", "approve": True}
    )
    print(_list_of_runs(running))
    print(f"{running.place.ui} (password: {running.place.auth}); stop with mondrian down --workspace {settings.root}")


def _register(registry: Registry, folder: Path, seed: int) -> str:
    """A version with random weights whose gates all passed, by its own account."""
    from safetensors.numpy import save_file

    folder.mkdir()
    draw = np.random.default_rng(seed)
    arrays = {
        f"layers.0.q_proj.{name}": draw.normal(size=shape).astype(np.float32)
        for name, shape in (("lora_a", (8, 2)), ("lora_b", (2, 8)))
    }
    save_file(arrays, folder / "adapters.safetensors")
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 2.0, "keys": ["layers.0.q_proj"]}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    facts = {"observed": 1.0, "threshold": "> 0", "n": 20, "interval": [0.5, 1.5]}
    gates = [{"name": name, "verdict": "PASS", "sentence": f"{name} passed.", **facts} for name in GATES]
    report = {"verdict": "PASS", "gates": gates}
    return registry.register(ADVISOR, folder, {"gate_report": report}, actor="person:bench").version


def _decline(running: RunningPrefect, run: UUID) -> None:
    import time

    from deployments.prefect_setup import prefect_client

    with prefect_client(running.place) as client:
        while not ((state := client.read_flow_run(run).state) and (state.is_paused() or state.is_final())):
            time.sleep(0.5)
        if state.is_paused():
            client.resume_flow_run(run, run_input={"approve": False, "name": "Ansel", "comment": "too harsh"})


def _list_of_runs(running: RunningPrefect) -> str:
    """State, name and tags of each run that was not left for later, newest first."""
    from deployments.prefect_setup import prefect_client

    with prefect_client(running.place) as client:
        runs = [each for each in client.read_flow_runs(limit=200) if each.state and not each.state.is_scheduled()]
    newest = sorted(runs, key=lambda each: str(each.created), reverse=True)
    rows = [(each.state.name if each.state else "", each.name, ", ".join(each.tags)) for each in newest]
    return markdown_table(("state", "run", "tags"), rows)


def main() -> None:
    """Print the table; with --live, make the runs first."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulated_week", description=__doc__)
    parser.add_argument("--rollout-days", type=float, default=ROLLOUT_DAYS, help="days of a rollout in that week")
    parser.add_argument("--live", type=Path, metavar="FOLDER", help="an empty folder: let the runs really happen")
    options = parser.parse_args()
    if options.live:
        live_week(options.live)
        return
    rows = weekly_runs(options.rollout_days)
    total = ("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:]))
    heading = ("deployment", "always active", "no rollout", f"a rollout of {options.rollout_days:g} days")
    print(markdown_table(heading, [*rows, total]))


if __name__ == "__main__":
    main()
