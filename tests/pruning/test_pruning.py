"""What a prune deletes and keeps, on run folders and a real registry; and kills in the middle of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from mondrian_core.errors import NothingToDo
from mondrian_core.files import USED_SECONDS, mark_as_used
from mondrian_core.pruning import PruneItem, PrunePlan, PrunePolicy, apply_prune, plan_prune
from mondrian_core.pruning.run_protection import UNREADABLE
from mondrian_core.registry import Registry
from mondrian_core.runs import RunCatalogue
from mondrian_core.settings import Settings
from mondrian_core.shared_storage import SharedStorage, fetch_run, publish_run
from tests.registry.conftest import gate_report, manifest, write_adapter

DAY = 86_400.0
NOW = 1_780_000_000.0
POLICY = PrunePolicy(keep_runs=0)


class Workspace:
    """A workspace of run folders whose files are as old as a test says."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "workspace"
        self.root.mkdir()
        self.settings = Settings(workspace=self.root, adapters=folder / "adapters")
        self.registry = Registry(self.settings.adapters_root)

    def run(self, name: str, days: float, *, last: str = "promote", adapter: str = "", dataset: str = "d1") -> Path:
        """A run that reached the stage `last` and whose files changed `days` ago."""
        folder = self.root / "runs" / name
        write_adapter(folder / "adapter", seed=len(name) + ord(name[-1]))
        stages: dict[str, object] = {
            "context": {"advisor": "ansel", "recipe": {"name": "r"}, "adapter": adapter or None},
            "link": {},
            "dataset": {"digest": dataset},
            "train": {"seconds": 5.0, "steps": 3},
            "evaluate": {"verdict": "FAIL"},
            "register": {"version": "v0001"},
            "promote": {"decision": "rejected"},
        }
        for stage, values in stages.items():
            (folder / f"{stage}.json").write_text(json.dumps(values))
            if stage == last:
                break
        for file in ("checkpoint.safetensors", "fold-1/adapter/adapters.safetensors", "report.html", "samples.jsonl"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(b"x" * 1000)
        self.age(folder, days)
        return folder

    def age(self, path: Path, days: float) -> Path:
        """Give a file, or all files of a folder, an age."""
        for each in [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]:
            os.utime(each, (NOW - days * DAY, NOW - days * DAY))
        return path

    def file(self, name: str, days: float, size: int = 1000) -> Path:
        """A file of that age."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        return self.age(path, days)

    def register(self, run: str, verdict: str = "PASS", *, promote: bool = False) -> str:
        """A version of the run's adapter, with the verdict of its evaluation."""
        values = manifest(run=run, dataset={"digest": f"of-{run}"}, gate_report=gate_report(verdict, self.champion()))
        version = self.registry.register("ansel", self.root / "runs" / run / "adapter", values, actor="test").version
        if promote:
            expected = self.champion()
            self.registry.promote("ansel", version, expected=expected, actor="test", reason="a test", verdicts={})
        return version

    def champion(self) -> str | None:
        """The present champion."""
        return self.registry.current("ansel") if "ansel" in self.registry.advisors() else None

    def plan(self, **policy: object) -> PrunePlan:
        """The plan of a policy that differs from `POLICY`."""
        return plan_prune(self.settings, PrunePolicy(**{**POLICY.model_dump(), **policy}), NOW)

    def names(self, kind: str, **policy: object) -> set[str]:
        """Names of the items of one type that are deleted."""
        return {item.path.name for item in self.plan(**policy).deleted if item.kind == kind}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def reasons(plan: PrunePlan) -> dict[str, str]:
    return {item.path.name: item.reason for item in plan.items if item.kind == "run weights" and not item.delete}


def test_weights_of_an_old_rejected_run_go_and_its_records_stay(workspace: Workspace) -> None:
    folder = workspace.run("old", 31)
    workspace.register("old", "FAIL")
    assert apply_prune(workspace.plan()) == 1
    left = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert {"report.html", "samples.jsonl", "train.json", "promote.json", "pruned.json"} <= left
    assert not [name for name in left if name.endswith(".safetensors") or "adapter" in name]
    (run,) = RunCatalogue(workspace.root).runs()
    assert run.pruned and run.state == "complete"
    assert not workspace.plan().deleted  # nothing is left to do


def test_runs_that_serve_or_may_serve_keep_their_weights(workspace: Workspace) -> None:
    for name in ("first", "second", "third", "candidate-1", "candidate-2"):
        workspace.run(name, 300)
    for name in ("first", "second", "third"):
        workspace.register(name, promote=True)
    for name in ("candidate-1", "candidate-2"):
        workspace.register(name, "INCONCLUSIVE")
    kept = reasons(workspace.plan())
    assert kept["third"] == "champion of ansel" and kept["second"] == "previous champion of ansel"
    assert kept["candidate-2"] == "newest candidate of ansel"
    assert "candidate-1" in workspace.names("run weights")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.age(w.root / "runs" / "mine", 29), "used in the last 30 days"),
        (lambda w: (w.root / "runs" / "mine" / "train.json").write_text("{"), "its files are damaged"),
        (lambda w: w.run("other", 300, adapter=str(w.root / "runs" / "mine" / "adapter")), "run other refers to it"),
        (
            lambda w: w.file("runs/service/process.json", 300).write_text(
                json.dumps({"wanted": {"lora_path": str(w.root / "runs" / "mine" / "adapter")}})
            ),
            "the service uses its adapter",
        ),
        (
            lambda w: (w.settings.adapters_root / "ansel" / "history.jsonl").write_text("{]\n{]\n"),
            UNREADABLE,
        ),
    ],
)
def test_a_needed_run_is_kept(workspace: Workspace, change: Callable[[Workspace], object], reason: str) -> None:
    workspace.run("mine", 300)
    workspace.register("mine", "FAIL")
    assert workspace.names("run weights") == {"mine"}
    change(workspace)
    assert reasons(workspace.plan())["mine"] == reason


def test_an_adapter_that_no_registry_has_is_kept_unless_asked(workspace: Workspace) -> None:
    workspace.run("trained", 300, last="train")
    assert reasons(workspace.plan())["trained"] == "its adapter is in no registry"
    assert workspace.names("run folders", run_days=200) == {"trained"}
    assert workspace.names("run folders", run_days=365) == set()


def test_the_newest_runs_keep_everything(workspace: Workspace) -> None:
    for day in range(1, 5):
        workspace.run(f"2026010{day}-000000-ansel", 300 - day)
        workspace.register(f"2026010{day}-000000-ansel", "FAIL")
    gone = workspace.names("run weights", keep_runs=3)
    assert gone == {"20260101-000000-ansel"}


def test_checkpoint_of_a_finished_run_goes_first(workspace: Workspace) -> None:
    workspace.run("finished", 2)
    workspace.run("unfinished", 2, last="dataset")
    plan = workspace.plan()
    assert [(item.kind, item.path.name) for item in plan.deleted] == [("checkpoints", "finished")]
    apply_prune(plan)
    assert (workspace.root / "runs" / "unfinished" / "checkpoint.safetensors").exists()
    assert not RunCatalogue(workspace.root).run("finished").pruned  # its adapter is still there


def test_an_abandoned_run_can_not_be_resumed_after_its_checkpoint_is_gone(workspace: Workspace) -> None:
    workspace.run("abandoned", 300, last="dataset")
    assert RunCatalogue(workspace.root).run("abandoned").resume_command
    apply_prune(workspace.plan())
    assert not RunCatalogue(workspace.root).run("abandoned").resume_command


def test_whole_runs_go_only_when_asked_and_only_after_a_backup(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("old", 300)
    workspace.register("old", "FAIL")
    assert workspace.names("run folders") == set()
    with_backup = workspace.settings.model_copy(update={"backup": tmp_path / "backup"})
    plan = plan_prune(with_backup, PrunePolicy(keep_runs=0, run_days=90), NOW)
    assert "run folders" not in {item.kind for item in plan.deleted}
    apply_prune(workspace.plan(run_days=90))
    assert not (workspace.root / "runs" / "old").exists()


def test_datasets_of_kept_runs_and_the_newest_one_are_kept(workspace: Workspace) -> None:
    for number, days in ((1, 400), (2, 300), (3, 200)):
        workspace.file(f"datasets/ansel/d{number}/train/rows.arrow", days)
    workspace.run("recent", 10, dataset="d1")
    workspace.run("old", 300, dataset="d2")
    assert workspace.names("datasets") == {"d2"}
    apply_prune(workspace.plan())
    assert sorted(each.name for each in (workspace.root / "datasets" / "ansel").iterdir()) == ["d1", "d3"]


def test_caches_are_bounded_by_age_and_size_but_a_training_at_work_keeps_its_files(workspace: Workspace) -> None:
    workspace.file("runs/cache/features/unused.safetensors", 61)
    workspace.file("runs/cache/features/used.safetensors", 10, 800_000)
    workspace.file("runs/cache/features/now.safetensors", 0.5, 800_000)
    workspace.file("runs/cache/answer.json", 61)
    workspace.file("thumbnails/320/ab/abc.jpg", 61)
    assert workspace.names("features") == {"unused.safetensors"}
    assert workspace.names("features", cache_gb=0.001) == {"unused.safetensors", "used.safetensors"}
    assert workspace.names("features", cache_gb=0) == {"unused.safetensors", "used.safetensors"}
    assert workspace.names("answers") == {"answer.json"} and workspace.names("thumbnails") == {"abc.jpg"}


def test_a_cached_file_that_is_read_counts_as_used(tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    path.touch()
    os.utime(path, (NOW - 10 * USED_SECONDS,) * 2)
    mark_as_used(path)
    assert path.stat().st_mtime > NOW - 10 * USED_SECONDS
    mark_as_used(tmp_path / "missing")  # a file that was deleted meanwhile isn't an error


def test_links_are_never_followed(workspace: Workspace, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    precious = workspace.age(Path(shutil.copy(__file__, elsewhere / "precious.safetensors")), 400)
    folder = workspace.run("old", 300)
    workspace.register("old", "FAIL")
    (folder / "linked").symlink_to(elsewhere)
    (workspace.root / "datasets").mkdir()
    (workspace.root / "datasets" / "ansel").symlink_to(elsewhere)
    (workspace.root / "runs" / "cache").mkdir()
    (workspace.root / "runs" / "cache" / "features").symlink_to(elsewhere)
    apply_prune(workspace.plan(run_days=90))
    assert precious.exists() and not folder.exists()


class Killed(BaseException):
    """Stands for a SIGKILL: nothing of the program runs after it."""


def test_a_kill_leaves_no_run_that_looks_whole_and_the_next_prune_finishes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each step in turn, of both ways to delete."""
    for policy in ({}, {"run_days": 90}):
        for step in range(1, 9):
            folder = workspace.run(f"run-{step}", 300)
            workspace.register(folder.name, "FAIL")
            _prune_killed_at(workspace.plan(**policy), step, monkeypatch)
            listed = {run.name: run for run in RunCatalogue(workspace.root).runs()}
            weights = list(folder.rglob("*.safetensors")) if folder.exists() else []
            assert folder.name not in listed or listed[folder.name].pruned or len(weights) == 3
            apply_prune(workspace.plan(**policy))
            assert not list(folder.rglob("*.safetensors"))
            assert not list((workspace.root / "runs").glob(".removed-*"))
            shutil.rmtree(folder, ignore_errors=True)


def _prune_killed_at(plan: PrunePlan, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*given: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls == step:
                raise Killed
            return function(*given, **named)

        return call

    with monkeypatch.context() as patched:
        for name in ("unlink", "rename", "replace", "rmdir"):
            patched.setattr(Path, name, counted(getattr(Path, name)))
        patched.setattr(os, "unlink", counted(os.unlink))
        patched.setattr(os, "rmdir", counted(os.rmdir))
        try:
            apply_prune(plan)
        except Killed:
            pass


def test_a_run_that_changed_since_the_plan_is_left_alone(workspace: Workspace) -> None:
    folder = workspace.run("resumed", 300)
    workspace.register("resumed", "FAIL")
    plan = workspace.plan()
    workspace.age(folder / "checkpoint.safetensors", -1)  # somebody resumed it
    assert apply_prune(plan, planned_at=NOW) == 0
    assert (folder / "adapter" / "adapters.safetensors").exists()


def test_two_prunes_do_not_run_at_once(workspace: Workspace) -> None:
    workspace.run("old", 300)
    with FileLock(workspace.root / "runs" / ".prune.lock"), pytest.raises(NothingToDo):
        apply_prune(workspace.plan())


def test_the_table_says_what_and_why(workspace: Workspace) -> None:
    plan = PrunePlan(
        workspace.root,
        (
            PruneItem("features", Path("a"), 10, True, "unused"),
            PruneItem("features", Path("b"), 20, True, "unused"),
            PruneItem("features", Path("c"), 40, False, "used"),
        ),
    )
    assert plan.freed_bytes == 30
    assert plan.rows() == [
        {
            "kind": "features",
            "deleted": 2,
            "deleted_bytes": 30,
            "why_deleted": {"unused": 2},
            "kept": 1,
            "kept_bytes": 40,
            "why_kept": {"used": 1},
        }
    ]


def test_objects_that_no_publication_names_leave_the_shared_storage(workspace: Workspace, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    workspace.settings = workspace.settings.model_copy(update={"shared": shared})
    storage, folder = SharedStorage(str(shared)), workspace.run("a", 1)
    (folder / "report.html").write_bytes(b"r" * 1000)
    publish_run(storage, folder)
    (folder / "report.html").write_bytes(b"another")
    publish_run(storage, folder)
    for path in shared.rglob("*"):
        os.utime(path, (NOW - 8 * DAY, NOW - 8 * DAY))
    before = {path for path in shared.rglob("*") if path.is_file()}
    plan = plan_prune(workspace.settings, POLICY)
    (item,) = [item for item in plan.items if item.kind == "shared objects"]
    assert item.delete and item.bytes == 1000
    assert {path for path in shared.rglob("*") if path.is_file()} == before  # a plan changes nothing
    apply_prune(plan)
    (gone,) = before - {path for path in shared.rglob("*") if path.is_file()}
    assert gone.is_relative_to(shared / "objects")
    assert fetch_run(storage, tmp_path / "other", folder.name) is not None


def test_a_share_that_is_not_mounted_stops_no_prune(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("a", 100, dataset="d9")
    workspace.settings = workspace.settings.model_copy(update={"shared": tmp_path / "missing"})
    plan = workspace.plan()
    (item,) = [item for item in plan.items if item.kind == "shared objects"]
    assert not item.delete and "Mount the share" in item.reason
    assert plan.deleted and apply_prune(plan) == len(plan.deleted)
