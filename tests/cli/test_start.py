"""`mondrian start`: it does what is missing, stops where a person is needed, and continues there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from rich.prompt import Confirm, Prompt

from mondrian_core import cli
from tests.plain_critiques import save_critiques

Answer = Callable[..., tuple[int, dict[str, Any], list[str]]]


@pytest.fixture
def begin(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Run `mondrian start --json`; gives status, result and the commands that it ran. Training is left out.

    `ends` has the exit status of commands that don't end with 0; one that is named is not run.
    """
    commands: list[str] = []
    left_out = dict.fromkeys(("retrain", "import", "write", "serve", "adapters"), 0)
    real = cli.main

    def act(*words: str, ends: Mapping[str, int] = MappingProxyType({})) -> tuple[int, dict[str, Any], list[str]]:
        statuses = {**left_out, **ends}

        def run_command(given: list[str]) -> int:
            commands.append(" ".join(given[: given.index("--workspace")]))
            return statuses[given[0]] if given[0] in statuses else real(given)

        commands.clear()
        capsys.readouterr()
        where = ["--workspace", str(tmp_path / "workspace"), "--adapters", str(tmp_path / "adapters")]
        monkeypatch.setattr(cli, "main", run_command)
        status = real(["start", *words, *where, "--json"])
        monkeypatch.setattr(cli, "main", real)
        return status, json.loads(capsys.readouterr().out), list(commands)

    return act


def test_script_goes_as_far_as_its_answers(begin: Answer, tmp_path: Path) -> None:
    status, way, commands = begin("--yes")
    assert (status, way["current"], commands) == (1, "advisor", ["init"])
    status, way, commands = begin("--yes", "--name", "Weegee")
    assert (status, way["current"], commands) == (1, "photographs", ["advisors add Weegee"])
    status, way, commands = begin("--yes", "--photographs", "/nowhere")
    assert status == 1 and commands == ["import /nowhere --advisor weegee"]
    save_critiques(tmp_path / "workspace", "weegee", 10)
    status, way, commands = begin("--yes", "--no-serve")
    assert way["current"] == "train" and commands == ["retrain --advisor weegee"]  # once, although nothing changed
    assert way["recipe"]["name"] == "small-set"


@pytest.mark.parametrize("status", [2, 3, 130])
def test_exit_status_is_that_of_the_command_that_failed(begin: Answer, tmp_path: Path, status: int) -> None:
    ended, answer, commands = begin("--yes", "--name", "Weegee", ends={"init": status})
    assert (ended, commands) == (3 if status == 130 else status, ["init"]) and "not created" in answer["error"]
    ended, way, _ = begin("--yes", "--name", "Weegee", ends={"advisors": status})
    assert (ended, way["current"]) == (status, "advisor")
    begin("--yes", "--name", "Weegee")
    ended, way, _ = begin("--yes", "--photographs", "/nowhere", ends={"import": status})
    assert (ended, way["current"]) == (status, "photographs")
    save_critiques(tmp_path / "workspace", "weegee", 10)
    ended, way, commands = begin("--yes", ends={"retrain": status})
    assert (ended, way["current"], commands) == (status, "train", ["retrain --advisor weegee"])
    assert begin("--yes", ends={"retrain": 1})[0] == 1  # nothing was promoted, which is an answer


def test_several_advisors_need_a_choice(begin: Answer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin("--yes", "--name", "Weegee")
    where = ["--workspace", str(tmp_path / "workspace"), "--adapters", str(tmp_path / "adapters")]
    assert cli.main(["advisors", "add", "Atget", *where]) == 0
    status, answer, _ = begin("--yes")
    assert status == 2 and "atget, weegee" in answer["error"]
    status, way, _ = begin("--yes", "--advisor", "atget")
    assert status == 1 and way["advisor"] == "atget"


def test_without_a_terminal_it_names_the_two_ways(begin: Answer) -> None:
    status, answer, commands = begin()
    assert status == 2 and commands == [] and "--page" in answer["next_step"] and "--yes" in answer["next_step"]


def test_a_person_is_asked_for_what_is_missing(begin: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[str] = iter(["Weegee", "~/street photographs", ""])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(Prompt, "ask", lambda *question, **options: next(answers))
    status, way, commands = begin()
    assert status == 1 and way["current"] == "photographs"
    folder = Path("~/street photographs").expanduser()
    assert commands == ["init", "advisors add Weegee", f"import {folder} --advisor weegee"]
    save_critiques(tmp_path / "workspace", "weegee", 10)
    monkeypatch.setattr(Confirm, "ask", lambda *question, **options: False)
    status, way, commands = begin()
    assert status == 1 and way["current"] == "train" and commands == []


def test_demo_answers_every_question_itself(begin: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mondrian_core.data import sample_workspace

    make = sample_workspace.create_workspace
    monkeypatch.setattr(
        sample_workspace, "create_workspace", lambda root, **options: make(root, **{**options, "photographs": 12})
    )
    status, way, commands = begin("--demo", "--no-serve")
    assert status == 1 and way["current"] == "train"  # which is left out here
    assert commands == ["init --sample", "retrain --advisor ansel --recipe demo"]
    status, answer, commands = begin("--demo", "--name", "Weegee")
    assert status == 2 and commands == [] and "--name" in answer["error"]


def test_demo_leaves_a_persons_workspace_alone(begin: Answer) -> None:
    begin("--yes", "--name", "Weegee")
    status, answer, commands = begin("--demo")
    assert status == 2 and commands == [] and "not a sample workspace" in answer["error"]
