"""`python -m bench.orchestration`: what Prefect costs a retraining, how long `mondrian up` takes, and runs a minute.

- **retraining**: the time from the creation of a run of `retrain/scheduled` until its final state, against the time of
  `mondrian retrain` with the same recipe and seed, in alternating pairs; and the parts of the difference.
- **startup**: the steps of `mondrian up`, in a new workspace and in one whose database exists.
- **throughput**: runs of `rollback/manual` a minute with two workers, which is the smallest run that there is. With
  `--database` on PostgreSQL, otherwise on SQLite.

Everything happens in a temporary folder, with a server, a worker and a service of its own, all on free ports. Seconds
by the clock say little on a machine with other work; the processor seconds of each side stay comparable. The machine's
load is printed, and `--most-load 0.5 --pairs 1` measures in a few minutes, or says that the machine isn't idle.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from mondrian_core import ports
from mondrian_core.settings import Settings
from tests.small_recipe import small_recipe

ADVISOR = "ansel"
PHOTOGRAPHS = 12
RECIPE = small_recipe("smallest", data={"test_from": 8})
STEPS = {  # of `mondrian up`, by the message with which they begin
    "starting the Prefect server": "server",
    "applying prefect.yaml": "deployments",
    "starting the worker": "worker",
    "starting the service": "service",
}
RUN_PARTS = ("pick-up", "process start", "before the first task", "between tasks", "after the last task")
PROCESS_EXIT = "process exit, after the final state"
RUNS_AT_ONCE = 10


class PrefectRetraining:
    """Retrain by a run of `retrain/scheduled`; keeps the parts of each run in seconds."""

    def __init__(self, place: Any, settings: Settings, recipe: dict[str, Any]) -> None:
        self._place, self._settings, self._recipe = place, settings, recipe
        self._seeds = count(1)
        self.parts: list[dict[str, float]] = []

    def __call__(self) -> float:
        """One retraining, from the creation of its run to its final state; its processor seconds."""
        from deployments.prefect_setup import prefect_client
        from deployments.run_watcher import start_deployment_run

        parameters = {"advisor": ADVISOR, "recipe": {**self._recipe, "train": self._with_seed()}, "force": True}
        before = processor_seconds(self._settings)
        run = start_deployment_run(self._place, "retrain/scheduled", parameters)
        with prefect_client(self._place) as client:
            while not ((state := client.read_flow_run(run).state) and state.is_final()):
                time.sleep(0.1)
            if not state.is_completed():
                raise SystemExit(f"the run ended {state.name}: {state.message}")
        self._read_parts(run)
        return processor_seconds(self._settings) - before

    def _with_seed(self) -> dict[str, Any]:
        return {**self._recipe["train"], "seed": next(self._seeds)}

    def _read_parts(self, run: UUID) -> None:
        """Append the parts of a run, once its process has ended and the server knows the end of each task."""
        from tasks import liveness

        self.ended = time.perf_counter()
        while liveness.is_run_alive(self._place.home, run):
            time.sleep(0.05)
        gone = time.perf_counter()
        self.parts.append({**run_parts(self._place, run), PROCESS_EXIT: gone - self.ended})


def run_parts(place: Any, run: UUID) -> dict[str, float]:
    """The time of a completed run outside its tasks, in seconds by part, and the seconds of each task.

    Args:
        place: the `PrefectInstance` of the run's server.
        run: its ID.
    """
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    from deployments.prefect_setup import prefect_client

    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
    with prefect_client(place) as client:
        while not all(task.end_time for task in client.read_task_runs(flow_run_filter=chosen)):
            time.sleep(0.2)
        tasks = sorted(client.read_task_runs(flow_run_filter=chosen), key=lambda task: str(task.start_time))
        moments = {state.type.value: state.timestamp for state in client.read_flow_run_states(run)}
    begun, ended = [task.start_time for task in tasks], [task.end_time for task in tasks]
    marks = [moments["SCHEDULED"], moments["PENDING"], moments["RUNNING"], begun[0]]
    spans = [_seconds(*pair) for pair in pairwise(marks)]
    gaps = sum(_seconds(*pair) for pair in zip(ended, begun[1:], strict=False))
    parts = dict(zip(RUN_PARTS, [*spans, gaps, _seconds(ended[-1], moments["COMPLETED"])], strict=True))
    return parts | {f"task {task.name.rpartition('-')[0]}": _seconds(task.start_time, task.end_time) for task in tasks}


def _seconds(begin: Any, end: Any) -> float:
    if not (isinstance(begin, datetime) and isinstance(end, datetime)):
        raise SystemExit("the server doesn't know the times of a run")
    return (end - begin).total_seconds()


class RetrainingInOneProcess:
    """Retrain with `mondrian retrain`, into a registry of its own; keeps the seconds of each stage."""

    def __init__(self, settings: Settings, recipe_file: Path) -> None:
        self._settings, self._recipe_file = settings, recipe_file
        self._seeds = count(1)

    def __call__(self) -> float:
        """One retraining, from the start of its process to its end; its processor seconds."""
        before = os.times()
        options = ["--advisor", ADVISOR, "--recipe", str(self._recipe_file), "--seed", str(next(self._seeds))]
        run_mondrian("retrain", *options, "--force", "--json", settings=self._settings, accepted=(0, 1))
        self.ended, after = time.perf_counter(), os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system


def run_mondrian(*words: str, settings: Settings, accepted: Sequence[int] = (0,)) -> str:
    """Run a command of `mondrian` on a workspace and return its standard output.

    Raises:
        SystemExit: it ended with a status that is not accepted.
    """
    where = ["--workspace", str(settings.root), "--adapters", str(settings.adapters_root), "--base-model", "mini"]
    done = subprocess.run(
        [sys.executable, "-m", "mondrian", *words, *where], capture_output=True, text=True, check=False
    )
    if done.returncode not in accepted:
        raise SystemExit(f"mondrian {words[0]} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


@contextmanager
def sample_settings() -> Iterator[Settings]:
    """Settings of a sample workspace in a temporary folder."""
    from mondrian_core.data.sample_workspace import create_workspace

    with tempfile.TemporaryDirectory(prefix="mondrian-bench-") as folder:
        workspace = Path(folder) / "workspace"
        create_workspace(workspace, sample=True, photographs=PHOTOGRAPHS)
        yield Settings(workspace=workspace, adapters=Path(folder) / "adapters", base_model="mini")


def measure_retraining_overhead(pairs: int) -> dict[str, Any]:
    """Pairs of a retraining under Prefect and one in a process: medians, the difference with its range, the parts."""
    from deployments.bootstrap import bring_up, take_down
    from deployments.prefect_instance import set_prefect_home

    with sample_settings() as settings:
        set_prefect_home(settings)
        recipe_file = settings.root.parent / "smallest.toml"
        recipe_file.write_text(recipe_as_toml(RECIPE), encoding="utf-8")
        alone = RetrainingInOneProcess(
            settings.model_copy(update={"adapters": settings.root.parent / "other"}), recipe_file
        )
        running = bring_up(settings, port=ports.find_free_port())
        prefect = PrefectRetraining(running.place, settings, RECIPE)
        seconds: dict[str, list[float]] = {"prefect": [], "alone": []}
        processor: dict[str, list[float]] = {"prefect": [], "alone": []}
        try:
            for number in range(pairs + 1):  # the first pair warms the caches of both
                order: list[tuple[str, Any]] = [("prefect", prefect), ("alone", alone)]
                for name, work in order if number % 2 else reversed(order):
                    began = time.perf_counter()
                    processor[name].append(work())
                    seconds[name].append(work.ended - began)
        finally:
            take_down(settings)
    parts = prefect.parts[1:]
    return {
        "pairs": pairs,
        "seconds": retraining_overhead(seconds["prefect"][1:], seconds["alone"][1:]),
        "processor": retraining_overhead(processor["prefect"][1:], processor["alone"][1:]),
        "parts": {name: spread([part[name] for part in parts]) for name in parts[0]},
    }


def retraining_overhead(prefect: Sequence[float], alone: Sequence[float]) -> dict[str, dict[str, float]]:
    """Both sides of pairs of retrainings and the differences of the pairs, each as a spread."""
    added = [ours - other for ours, other in zip(prefect, alone, strict=True)]
    return {"under Prefect": spread(prefect), "`mondrian retrain`": spread(alone), "added by Prefect": spread(added)}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest value."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def recipe_as_toml(recipe: dict[str, Any]) -> str:
    """A recipe as TOML; numbers, booleans and strings are spelled as in JSON."""
    lines = [f"name = {json.dumps(recipe['name'])}"]
    for table, values in recipe.items():
        if isinstance(values, dict):
            lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def measure_startup(rounds: int) -> dict[str, Any]:
    """Steps of `mondrian up` in seconds: in new workspaces, and in those same workspaces a second time."""
    steps: dict[str, list[dict[str, float]]] = {"new workspace": [], "existing workspace": []}
    for _ in range(rounds):
        with sample_settings() as settings:
            for seen in steps.values():
                try:
                    seen.append(startup_steps(settings))
                finally:
                    run_mondrian("down", settings=settings)
    return {
        "rounds": rounds,
        **{name: {step: spread([each[step] for each in seen]) for step in seen[0]} for name, seen in steps.items()},
    }


def startup_steps(settings: Settings) -> dict[str, float]:
    """Run `mondrian up` once: seconds by step, and the processor seconds of all processes that it started."""
    command = [sys.executable, "-m", "mondrian", "up", "--workspace", str(settings.root)]
    command += ["--adapters", str(settings.adapters_root), "--base-model", "mini"]
    command += ["--port", str(ports.find_free_port()), "--service-port", str(ports.find_free_port())]
    began = time.perf_counter()
    moments = {"command": 0.0}
    before = os.times()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line
            step = next((name for message, name in STEPS.items() if line.startswith(message)), None)
            if step:
                moments[step] = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"mondrian up ended with {process.returncode}:\n{output[-2000:]}")
    ends = [*list(moments.values())[1:], time.perf_counter() - began]
    steps = {name: end - begin for (name, begin), end in zip(moments.items(), ends, strict=True)}
    after = os.times()
    command_seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return {**steps, "together": ends[-1], "processor": command_seconds + processor_seconds(settings)}


def processor_seconds(settings: Settings) -> float:
    """Processor seconds, user and system, of the running processes of a workspace and of the ended ones below them."""
    total = 0.0
    for process in psutil.process_iter():
        try:
            if process.environ().get("MONDRIAN_WORKSPACE") == str(settings.root):
                times = process.cpu_times()
                total += times.user + times.system
                total += sum(getattr(times, name, 0.0) for name in ("children_user", "children_system"))
        except psutil.Error:
            continue
    return total


def measure_throughput(rounds: int, database: str | None = None) -> dict[str, Any]:
    """Runs a minute with two workers, `RUNS_AT_ONCE` created at once, by round.

    Args:
        rounds: how often the runs are created.
        database: address of an empty PostgreSQL database; None: SQLite.
    """
    from deployments.bootstrap import bring_up, take_down
    from deployments.prefect_instance import set_prefect_home

    with sample_settings() as settings:
        settings = settings.model_copy(update={"prefect_database": database})
        set_prefect_home(settings)
        other = settings.model_copy(update={"workspace": settings.root.parent / "other"})
        running = bring_up(settings, port=ports.find_free_port())
        try:
            password = settings.root.parent / "auth-string"
            password.write_text(running.place.auth, encoding="ascii")
            joining = ["--name", "other", "--role", "control", "--auth-file", str(password)]
            run_mondrian("join", running.place.ui, *joining, settings=other)
            found = [runs_a_minute(running.place) for _ in range(rounds)]
        finally:
            take_down(other)
            take_down(settings)
    return {"rounds": rounds, "database": "PostgreSQL" if database else "SQLite", "runs a minute": spread(found)}


def runs_a_minute(place: Any) -> float:
    """Create `RUNS_AT_ONCE` runs of `rollback/manual` and wait until all have ended."""
    from deployments.prefect_setup import prefect_client
    from deployments.run_watcher import start_deployment_run

    began = time.perf_counter()
    runs = [start_deployment_run(place, "rollback/manual", {"advisor": "nobody"}) for _ in range(RUNS_AT_ONCE)]
    with prefect_client(place) as client:
        for run in runs:
            while not ((state := client.read_flow_run(run).state) and state.is_final()):
                time.sleep(0.2)
    return RUNS_AT_ONCE / (time.perf_counter() - began) * 60


def spread_table(title: str, values: dict[str, dict[str, float]]) -> str:
    """A Markdown table of medians with their ranges."""
    lines = [f"| {title} | median | least | greatest |", "|---|---|---|---|"]
    for name, of in values.items():
        lines.append(f"| {name} | {of['median']:.1f} | {of['least']:.1f} | {of['greatest']:.1f} |")
    return "\n".join(lines)


def orchestration_text(name: str, result: dict[str, Any]) -> str:
    """The tables of a measurement."""
    if name == "throughput":
        return spread_table(f"two workers, {result['database']}", {"runs a minute": result["runs a minute"]})
    titles = {
        "seconds": "a retraining: seconds",
        "processor": "a retraining: processor seconds",
        "parts": "parts of a run under Prefect: seconds",
        "new workspace": "`mondrian up` in a new workspace: seconds",
        "existing workspace": "`mondrian up` in an existing workspace: seconds",
    }
    return "\n\n".join(spread_table(titles[key], values) for key, values in result.items() if key in titles)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables of the named measurements; the default is all."""
    parser = argparse.ArgumentParser(prog="bench.orchestration", description=(__doc__ or "").splitlines()[0])
    names = ("retraining", "startup", "throughput")
    parser.add_argument("names", nargs="*", choices=[[], *names], metavar="NAME", help="default: all")
    parser.add_argument("--pairs", type=int, default=5, help="pairs, or rounds (default 5)")
    parser.add_argument("--most-load", type=float, help="measure nothing at a higher load average of the last minute")
    parser.add_argument("--database", help="address of an empty PostgreSQL database, for throughput")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args(arguments)
    measurements: dict[str, Callable[[int], dict[str, Any]]] = {
        "retraining": measure_retraining_overhead,
        "startup": measure_startup,
        "throughput": lambda rounds: measure_throughput(rounds, options.database),
    }
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if options.most_load is not None and load > options.most_load:
        print(f"The load is {load:.1f}; nothing was measured.", file=sys.stderr)
        return 1
    print(f"Load before: {load:.1f} on {cores} cores.\n")
    results: dict[str, Any] = {"load": load, "cores": cores}
    for name in options.names or names:
        results[name] = measurements[name](options.pairs)
        print(orchestration_text(name, results[name]), end="\n\n", flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
