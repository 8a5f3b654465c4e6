"""Terminal output of `mondrian demo`: progress bars, the gate table, critiques side by side, and paths."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from deployments.run_watcher import FINAL_STATES, FlowRunStatus
from mondrian_core import accelerator_lock
from mondrian_core.cli.terminal_output import rich_critique_table, rich_gate_table
from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient, parse_critique_strict
from mondrian_core.events import EventListener, StageEvent, StageProgressed
from mondrian_core.files import read_json
from mondrian_core.registry import Registry
from mondrian_core.rubric import MAX_ANSWER_TOKENS, Critique
from mondrian_core.settings import Settings
from mondrian_core.stages import DatasetSummary, StageContext, read_stage_summary

STAGES = ("link", "dataset", "train", "evaluate", "register", "promote")
LINE_STEP = 25.0  # per cent of progress between two lines when the output is not a terminal


def print_demo_headline(console: Console, settings: Settings) -> None:
    """Print what the demo will do."""
    console.print("[bold]Mondrian[/]: link, dataset, train, evaluate, register, promote, all on this machine")
    console.print(f"base model {settings.base}, workspace {settings.root}", markup=False)


@contextmanager
def demo_progress_bar(console: Console, name: str) -> Iterator[EventListener]:
    """One progress bar that follows the events of a core function."""
    with _progress(console) as progress:
        row = progress.add_task(name, total=None, detail="")

        def listen(event: StageEvent) -> None:
            if isinstance(event, StageProgressed):
                progress.update(row, completed=event.done, total=event.total, detail=event.detail)

        yield listen


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("  {task.description:<11}"),
        BarColumn(30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def demo_stage_progress(console: Console) -> Iterator[Callable[[FlowRunStatus], None]]:
    """Show a run: one bar per stage on a terminal, otherwise one line per step."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with _progress(console) as progress:
        yield _Bars(progress)


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.rows: dict[str, TaskID] = {
            stage: progress.add_task(stage, total=100, start=False, detail="") for stage in STAGES
        }

    def __call__(self, seen: FlowRunStatus) -> None:
        for stage, state in seen.stages.items():
            if stage not in self.rows:
                continue
            row = self.rows[stage]
            if self.progress.tasks[row].start_time is None:
                self.progress.start_task(row)
            if state == "COMPLETED":
                self.progress.update(row, completed=100, detail="")
                self.progress.stop_task(row)
            elif state in FINAL_STATES:
                self.progress.update(row, detail=state.lower())
                self.progress.stop_task(row)
            else:
                self.progress.update(row, completed=seen.percent.get(stage, 0.0), detail=seen.detail.get(stage, ""))


class _Lines:
    def __init__(self, console: Console) -> None:
        self.console, self.began = console, time.monotonic()
        self.printed: set[tuple[str, str, str]] = set()

    def __call__(self, seen: FlowRunStatus) -> None:
        for stage, state in seen.stages.items():
            share = seen.percent.get(stage, 0.0) // LINE_STEP * LINE_STEP
            word = state.lower() if state in FINAL_STATES else f"{share:.0f} %" if share else "running"
            detail = seen.detail.get(stage, "")
            step = detail.partition(" ")[0] if not detail[:1].isdigit() else ""
            if (stage, step, word) not in self.printed:
                self.printed.add((stage, step, word))
                passed = time.monotonic() - self.began
                self.console.print(f"  {passed:4.0f} s  {stage:<9} {word} {detail}".rstrip())


def print_demo_gates(console: Console, evaluation: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
    """Print the gate table and the decision."""
    console.print()
    console.print(rich_gate_table(evaluation["gates"]))
    style = {"promoted": "bold green", "rejected": "bold red"}.get(outcome["decision"], "yellow")
    console.print(f"{outcome['version']}: {outcome['decision']}", style=style)
    console.print(outcome["sentence"], markup=False)
    if outcome.get("command"):
        console.print(f"Next: {outcome['command']}", markup=False)


def print_demo_critiques(console: Console, settings: Settings, advisor: str, run_folder: Path) -> None:
    """Print critiques of one held-out photograph: by the base model, by the champion, and by the advisor."""
    from mondrian_core.data.dataset.version import load_dataset_version
    from mondrian_core.data.linking.link import LinkManifest
    from mondrian_core.models.base_model import load_base
    from mondrian_core.models.inference.generation import generate
    from mondrian_core.models.lora.lora_layers import get_adapter_switch

    champion = Registry(settings.adapters_root).champion(advisor)
    built = read_stage_summary(StageContext.load(run_folder / "context.json"), "dataset", DatasetSummary)
    version = load_dataset_version(Path(built.path))
    row = version.rows(version.evaluation_split)[0]
    if champion is None:
        return
    with accelerator_lock.compute_turn():
        base = load_base(settings.base)
        mounted = get_adapter_switch(base)
    columns: list[tuple[str, Critique]] = []
    for title, adapter in (("base model", None), (f"{advisor} {champion.version}", champion.path)):
        with accelerator_lock.compute_turn():
            mounted.use(adapter)
            answer = generate(base, row.messages[:-1], row.image, max_tokens=MAX_ANSWER_TOKENS)
        try:
            columns.append((title, parse_critique_lenient(answer.text).critique))
        except CritiqueParseError as error:
            console.print(f"{title}: its answer could not be parsed ({error}).", markup=False)
    columns.append((f"{advisor}'s own", parse_critique_strict(row.answer)))
    linked = LinkManifest.from_dict(read_json(run_folder / "link_manifest.json"))
    names = {record.sha256: record.photograph for record in linked.used}
    console.print(f"\nA held-out photograph, {names.get(row.photo_id, row.photo_id)}:", markup=False)
    console.print(rich_critique_table(columns))


def print_demo_paths(
    console: Console, settings: Settings, advisor: str, outcome: Mapping[str, Any], run_folder: Path, seconds: float
) -> None:
    """Print files and commands for the next steps."""
    folder = settings.adapters_root / advisor / outcome["version"]
    lines = {
        "adapter": folder,
        "gate report": run_folder / "report.html",
        "loss curve": run_folder / "loss_curve.png",
        "the run in Prefect's UI": "mondrian up, then open the address that it prints",
        "all versions": f"mondrian adapters list --advisor {advisor}",
        "your own photograph": f"mondrian analyze PHOTO --advisor {advisor} --mode lora",
    }
    console.print("\n[bold]Next[/]")
    for name, value in lines.items():
        console.print(f"  {name:<24} {value}", markup=False, soft_wrap=True)
    console.print(f"\nDone in {seconds:.0f} s. Everything that the demo started has been stopped.")
