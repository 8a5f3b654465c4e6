"""`mondrian advisors`, and the commands that errors name: each is run as it is written, from an empty folder on."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from mondrian_core.cli import main, parse_command
from mondrian_core.next_steps import (
    START_COMMAND,
    AdvisorCounts,
    continue_with_options,
    next_step_for,
    runnable_commands,
    unknown_advisor_step,
)
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import DimensionalProfile, Store
from mondrian_core.store.photographs import Photographs


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder; everything is given with options, so nothing may depend on the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "elsewhere" / "my photographs"


def run(words: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and everything that was printed, in one line."""
    capsys.readouterr()
    status = main([*words, "--workspace", str(place), "--adapters", str(place.parent / "adapters")])
    printed = capsys.readouterr()
    return status, " ".join((printed.out + printed.err).split())


def follow(text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the first command that a text names, exactly as it is written."""
    capsys.readouterr()
    status = main(runnable_commands(text)[0])
    printed = capsys.readouterr()
    return status, " ".join((printed.out + printed.err).split())


@pytest.mark.parametrize(
    "words",
    [
        ["link", "--advisor", "ansel"],
        ["dataset", "--advisor", "ansel"],
        ["train", "--advisor", "ansel"],
        ["retrain", "--advisor", "ansel"],
        ["index", "--advisor", "ansel"],
        ["synthesize", "--advisor", "ansel"],
        ["analyze", "x.jpg", "--advisor", "ansel"],
        ["evaluate", "--advisor", "ansel", "--adapter", "v0001"],
        ["advisors", "show", "ansel"],
        ["advisors", "list"],
        ["doctor"],
    ],
    ids=lambda words: "-".join(words[:2] if words[0] == "advisors" else words[:1]),
)
def test_named_commands_lead_from_an_empty_folder_to_an_advisor(
    words: list[str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words, "--base-model", "mini"]
    _, first = run(words, place, capsys)
    status, _ = follow(first, capsys)
    assert status == 0 and (place / "mondrian.db").is_file()
    _, second = run(words, place, capsys)
    assert "mondrian advisors add" in second
    status, third = follow(second, capsys)
    assert status == 0, third
    assert "mondrian import FOLDER --advisor ansel" in third


def test_named_commands_lead_from_photographs_to_a_training(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each answer of `advisors show` names the next command, which runs as it is written, FOLDER aside."""
    run(["init"], place, capsys)
    run(["advisors", "add", "ansel"], place, capsys)
    folder = tmp_path / "prints"
    folder.mkdir()
    Image.effect_noise((64, 48), 90).convert("RGB").save(folder / "one.jpg")
    _, said = run(["advisors", "show", "ansel"], place, capsys)
    status, said = follow(said.replace("FOLDER", shlex.quote(str(folder))), capsys)
    assert status == 0, said
    _, said = run(["advisors", "show", "ansel"], place, capsys)
    assert runnable_commands(said)[0][:3] == ["write", "--advisor", "ansel"]
    for command in runnable_commands(said):
        parse_command(command, lambda change: None)
    with Store(place / "mondrian.db") as store:
        store.save_profile(
            DimensionalProfile(
                id="1", advisor="ansel", image_path="source/x.jpg", scores={}, comments={}, overall_grade=None
            )
        )
    status, said = run(["dataset", "--advisor", "ansel"], place, capsys)
    assert status == 1
    assert follow(said, capsys)[0] == 1  # link, which says that the record is unusable
    _, said = run(["advisors", "show", "ansel"], place, capsys)
    assert runnable_commands(said)[0][:3] == ["write", "--advisor", "ansel"], "an incomplete critique doesn't count"
    with Store(place / "mondrian.db") as store:
        (photograph,) = Photographs(store).find(advisor="ansel")
        store.save_profile(
            DimensionalProfile(
                id="2",
                advisor="ansel",
                image_path=photograph.image_path,
                scores=dict.fromkeys(DIMENSIONS, 7.0),
                comments=dict.fromkeys(DIMENSIONS, "It holds."),
                overall_grade="7.0",
            )
        )
    _, said = run(["advisors", "show", "ansel"], place, capsys)
    assert runnable_commands(said)[0][:3] == ["retrain", "--advisor", "ansel"]


def test_every_worded_step_names_commands_that_exist() -> None:
    counts = [
        AdvisorCounts(
            advisor="a", photographs=photographs, critiques=critiques, versions=versions, active_version=active
        )
        for photographs in (0, 1)
        for critiques in (0, 1)
        for versions, active in ((0, None), (1, None), (1, "v0001"))
    ]
    texts = [*map(next_step_for, counts), unknown_advisor_step("a b", []), unknown_advisor_step("x", ["y"])]
    for text in [*texts, START_COMMAND]:
        commands = runnable_commands(text)
        assert commands
        for command in commands:
            parse_command(command, lambda change: None)


def test_options_are_carried_over_to_named_commands() -> None:
    words = ["link", "--advisor", "a", "--workspace", "my place", "--adapters=x", "--", "--base-model", "y"]
    text = continue_with_options("Run `mondrian doctor`, `make up` or `mondrian init --workspace z`.", words)
    assert text == (
        "Run `mondrian doctor --workspace 'my place' --adapters x`, `make up` or "
        "`mondrian init --workspace z --adapters x`."
    )
    assert continue_with_options("`mondrian prefect version`", words) == (
        "`mondrian prefect --workspace 'my place' version`"
    )


def test_advisors_are_added_listed_changed_and_removed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["init"], place, capsys)
    prompt = place.parent / "prompt.txt"
    prompt.write_text("\ufeffYou judge <b>prints</b> & light [bold].\n", encoding="utf-8")
    status, said = run(["advisors", "add", "Łódź [red]Eye[/]", "--prompt-file", str(prompt)], place, capsys)
    assert status == 0 and "Łódź [red]Eye[/] with the ID lodz-red-eye" in said
    status, said = run(["advisors", "show", "lodz-red-eye"], place, capsys)
    assert status == 0 and "You judge <b>prints</b> & light [bold]." in said
    status, said = run(["advisors", "edit", "lodz-red-eye", "--no-prompt", "--bio", "Light.", "--json"], place, capsys)
    assert json.loads(said)["system_message"] == "You are Łódź [red]Eye[/]. Light." and status == 0
    status, said = run(["advisors", "list", "--json"], place, capsys)
    assert [each["id"] for each in json.loads(said)] == ["lodz-red-eye"]
    status, said = run(["advisors", "remove", "lodz-red-eye"], place, capsys)
    assert status == 0 and "Kept: nothing yet" in said
    assert run(["advisors", "list"], place, capsys)[0] == 1


def test_bad_input_of_advisors_is_one_paragraph(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["init"], place, capsys)
    latin = place.parent / "latin.txt"
    latin.write_bytes("Schönes Licht".encode("latin-1"))
    for words, why in (
        (["add", "A", "--prompt-file", str(latin)], "not UTF-8"),
        (["add", "A", "--prompt-file", str(place)], "can't be read"),
        (["add", "A", "--prompt-file", "/dev/null"], "is empty"),
        (["add", "A", "--id", "../../etc"], "not a valid advisor ID"),
        (["edit", "a"], "Nothing to change"),
        (["edit", "a", "--bio", "x"], "no advisor 'a'"),
        (["remove", "a"], "no advisor 'a'"),
    ):
        status, said = run(["advisors", *words], place, capsys)
        assert status == 2 and why in said and not re.search("Traceback", said), said
