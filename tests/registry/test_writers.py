"""Many writers at once, and locks of the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mondrian_core.errors import BadAdapter, ChampionChanged, RegistryBusy
from mondrian_core.registry import Registry, advisor_store
from tests.registry.conftest import manifest, write_adapter

PROCESSES = 20
WON, LATE, BROKEN = 0, 3, 4


def at_once(works: list[Callable[[], object]]) -> list[int]:
    """Run each in a process of its own, all let go in the same moment; their exit statuses."""
    waiting, go = os.pipe()
    children = []
    for work in works:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the child only touches files
            child = os.fork()
        if child == 0:
            status = BROKEN
            try:
                os.close(go)
                os.read(waiting, 1)  # comes back when the last writing end is closed
                work()
                status = WON
            except ChampionChanged:
                status = LATE
            finally:
                os._exit(status)
        children.append(child)
    os.close(waiting)
    os.close(go)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_twenty_processes_promote_at_once_and_one_wins(registry: Registry, tmp_path: Path) -> None:
    for seed in range(PROCESSES):
        registry.register("ansel", write_adapter(tmp_path / "trained", seed), manifest())
    names = [version.version for version in registry.versions("ansel")]

    def promote(name: str, expected: str | None) -> object:
        return Registry(registry.root).promote("ansel", name, expected=expected, actor=f"person:{name}", reason="mine")

    champion: str | None = None
    for _ in range(5):
        rivals = [name for name in names if name != champion]
        statuses = at_once([partial(promote, name, champion) for name in rivals])
        assert sorted(statuses) == [WON, *[LATE] * (len(rivals) - 1)]
        champion = rivals[statuses.index(WON)]
        assert registry.current("ansel") == champion
        assert registry.history("ansel")[-1].actor == f"person:{champion}"
    moves = [entry for entry in registry.history("ansel") if entry.moves_pointer]
    assert len(moves) == 5 and [entry.before for entry in moves] == [None, *(entry.after for entry in moves[:-1])]
    assert registry.check("ansel") == ()


def test_twenty_processes_without_a_plan_leave_true_books(registry: Registry, adapter: Path) -> None:
    """Each registers, promotes against what it has just seen, and rolls back; some are overtaken."""

    def work() -> None:
        mine = Registry(registry.root)
        version = mine.register("ansel", adapter, manifest())
        mine.promote("ansel", version.version, expected=mine.current("ansel"), actor="a", reason="r")

    statuses = at_once([work] * PROCESSES)
    assert set(statuses) <= {WON, LATE} and WON in statuses
    moves = [entry for entry in registry.history("ansel") if entry.moves_pointer]
    assert len(moves) == statuses.count(WON)
    assert [entry.before for entry in moves] == [None, *(entry.after for entry in moves[:-1])]
    assert [version.number for version in registry.versions("ansel")] == list(range(1, PROCESSES + 1))
    assert registry.check("ansel") == ()


def test_threads_are_serialized_by_lock(filled: Registry) -> None:
    outcomes: list[str] = []

    def promote(name: str) -> None:
        try:
            Registry(filled.root).promote("ansel", name, expected="v0001", actor="a", reason="r")
            outcomes.append("won")
        except ChampionChanged:
            outcomes.append("late")

    threads = [threading.Thread(target=promote, args=(name,)) for name in ("v0002", "v0003") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["late"] * 7 + ["won"]


def test_readers_see_old_or_new_while_writers_write(filled: Registry) -> None:
    done = threading.Event()

    def write() -> None:
        other = Registry(filled.root)
        for _ in range(15):
            other.promote("ansel", "v0002", expected="v0001", actor="a", reason="r")
            other.rollback("ansel", actor="a", reason="r")
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        champion = filled.champion("ansel")  # raises when pointer and history don't fit together
        assert champion is not None
        seen.add(champion.version)
    writer.join()
    assert seen <= {"v0001", "v0002"}


def test_parallel_registrations_get_numbers_of_their_own(registry: Registry, adapter: Path) -> None:
    threads = [
        threading.Thread(target=lambda: Registry(registry.root).register("ansel", adapter, manifest()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [version.number for version in registry.versions("ansel")] == list(range(1, 9))
    assert registry.check("ansel") == ()


HOLD = """
import sys, time
from pathlib import Path
from mondrian_core.registry import Registry
with Registry(Path(sys.argv[1]))._store_of("ansel").writing():
    print("held", flush=True)
    time.sleep(60)
"""


def test_registry_lock_is_released_on_process_death(filled: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advisor_store, "LOCK_SECONDS", 0.05)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(filled.root)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(RegistryBusy):
            filled.rollback("ansel", actor="a", reason="r")
        champion = filled.champion("ansel")
        assert champion is not None and champion.version == "v0001"  # reading needs no lock
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    assert (filled.root / "ansel" / ".lock").exists()
    assert filled.rollback("ansel", actor="a", reason="r") is None


def test_rollback_takes_less_than_a_second_for_a_large_adapter(registry: Registry, tmp_path: Path) -> None:
    import time

    import numpy as np
    from safetensors.numpy import save_file

    folder = write_adapter(tmp_path / "large")
    name = "language_model.model.layers.0.mlp.up_proj"
    arrays = {
        f"{name}.lora_a": np.zeros((1 << 22, 4), np.float32),
        f"{name}.lora_b": np.zeros((4, 1 << 10), np.float32),
    }
    save_file(arrays, folder / "adapters.safetensors")  # 64 MB, as rank 8 on a base of 4 B parameters
    for version in ("v0001", "v0002"):
        registry.register("ansel", folder, manifest())
        registry.promote("ansel", version, expected=registry.current("ansel"), actor="a", reason="r")
    began = time.process_time()  # of this process: other work on the machine doesn't count
    registry.rollback("ansel", actor="a", reason="r")
    assert time.process_time() - began < 1.0
    with pytest.raises(BadAdapter):
        registry.promote("ansel", "v0002", expected="v0001", actor="a", reason="r", problems=["worse"])
