"""`mondrian advisors`, and the commands that errors name: each is run as it is written, from an empty folder on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mondrian_core.cli import main
from mondrian_core.next_steps import continue_with_options, runnable_commands


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
