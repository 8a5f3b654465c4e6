"""Two machines with one registry: rivals in processes of their own, each with a workspace, a cache and a clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mondrian_core.registry import Registry
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from tests.registry.conftest import manifest, write_adapter
from tests.registry.test_remote_advisor_store import history_is_true
from tests.waiting import LIMIT_SECONDS

ROOT = Path(__file__).resolve().parents[2]
FAKETIME = shutil.which("faketime")
WON, LATE = "promoted", "ChampionChanged"
RIVAL = """
import sys
from mondrian_core.errors import MondrianError
from mondrian_core.promotion import ManualPromotion, promote_manually
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings

settings = Settings()
expected = Registry(settings.adapters_root).reference("ansel")
request = ManualPromotion(
    settings=settings, advisor="ansel", version=sys.argv[1], expected=expected, force=True, reason="mine"
)
print("ready", flush=True)
for _ in sys.stdin:
    try:
        promote_manually(request, actor=f"person:{sys.argv[1]}", inspect=lambda version: ())
        print("promoted", flush=True)
    except MondrianError as error:
        print(type(error).__name__, flush=True)
"""


def machine(folder: Path, place: str, clock: str = "") -> dict[str, str]:
    """The environment of a machine with an empty workspace, and its clock: `+1h` is an hour ahead."""
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    Store.create(workspace / "mondrian.db").close()
    shown = {"MONDRIAN_WORKSPACE": str(workspace), "MONDRIAN_ADAPTERS": place, "MONDRIAN_CACHE": str(folder / "cache")}
    shifted = {"MONDRIAN_TEST_CLOCK": clock} if clock else {}
    return {**os.environ, **shown, **shifted, "MONDRIAN_BASE_MODEL": "mini"}


@contextmanager
def rival(environment: dict[str, str], version: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has read the champion and waits for a line before it promotes `version`, on that machine."""
    clock = environment.get("MONDRIAN_TEST_CLOCK")
    shifted: Sequence[str] = (str(FAKETIME), "-f", clock) if clock else ()
    command = [*shifted, sys.executable, "-c", RIVAL, version]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            if process.stdin is not None and not process.stdin.closed:
                process.stdin.close()
            process.wait(LIMIT_SECONDS)


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def outcome(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture(params=["folder", "S3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A registry that several machines share."""
    return str(request.getfixturevalue("url")) if request.param == "S3" else str(tmp_path / "adapters")


@pytest.fixture
def mine(place: str, tmp_path: Path) -> Registry:
    """The registry as a third machine sees it: v0001 is the champion of three versions."""
    registry = Registry(Settings(adapters=place, cache=tmp_path / "third").adapters_root)
    for seed in range(3):
        registry.register("ansel", write_adapter(tmp_path / "trained", seed), manifest(), actor="person:test")
    registry.promote("ansel", "v0001", expected=None, actor="person:test", reason="first")
    return registry


def test_of_two_promotions_at_once_on_two_machines_one_wins(mine: Registry, place: str, tmp_path: Path) -> None:
    """Both have seen the champion that both would replace; the one that is late changes nothing."""
    one, other = (machine(tmp_path / name, place) for name in ("one", "other"))
    with rival(one, "v0002") as first, rival(other, "v0003") as second:
        for process in (first, second):
            let_go(process)
        outcomes = {"v0002": outcome(first), "v0003": outcome(second)}
        assert sorted(outcomes.values()) == sorted([WON, LATE])
        [winner] = [version for version, said in outcomes.items() if said == WON]
        for process in (first, second):  # each sends its request again, as a retry of its run does
            let_go(process)
        assert {outcome(first), outcome(second)} <= {LATE, "NothingToDo"}
    moves = [entry for entry in mine.history("ansel") if entry.moves_pointer]
    assert [(entry.after, entry.actor) for entry in moves[1:]] == [(winner, f"person:{winner}")]
    assert mine.current("ansel") == winner
    history_is_true(mine)


@pytest.mark.skipif(FAKETIME is None, reason="faketime is not installed")
def test_clocks_an_hour_apart_change_nothing_about_the_order(mine: Registry, place: str, tmp_path: Path) -> None:
    """The machine that is an hour ahead promotes; then one that is an hour behind, which comes later all the same."""
    ahead, behind = machine(tmp_path / "ahead", place, "+1h"), machine(tmp_path / "behind", place, "-1h")
    with rival(ahead, "v0002") as first:
        let_go(first)
        assert outcome(first) == WON
    with rival(behind, "v0003") as second:
        let_go(second)
        assert outcome(second) == WON
    moves = [entry for entry in mine.history("ansel") if entry.moves_pointer]
    assert [entry.after for entry in moves] == ["v0001", "v0002", "v0003"]
    times = [datetime.fromisoformat(entry.at).replace(tzinfo=UTC) for entry in moves]
    assert times[2] < times[0] < times[1], "the clocks were not apart"
    assert moves[-1].detail["clock"] == "behind the line before"
    assert mine.rollback("ansel", actor="person:test", reason="no") is not None
    assert mine.current("ansel") == "v0002", "a rollback follows the order of the lines, not their times"
    history_is_true(mine)
