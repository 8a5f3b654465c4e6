"""`mondrian write`: resumable prompts, one critique from a file, and what is next for scripts."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mondrian_core.cli import main
from mondrian_core.cli.write_session import WriteSession
from mondrian_core.data.linking.link import link_critiques
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import Store
from mondrian_core.writing.writing_desk import WritingDesk
from tests.writing.conftest import add_photograph, full_entry, make_desk, store, workspace

__all__ = ["add_photograph", "make_desk", "store", "workspace"]
Add = Callable[..., str]
MakeDesk = Callable[[], WritingDesk]
WORDS = [word for name in DIMENSIONS for word in ("7,5", f"The {name} holds.", "")]


def session(make_desk: MakeDesk, answers: list[str]) -> tuple[WriteSession, io.StringIO]:
    """A session in which these lines are typed, then the input ends."""
    lines: Iterator[str] = iter(answers)

    def ask(question: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    printed = io.StringIO()
    return WriteSession(
        make_desk, Console(file=printed, width=100), ask, lambda path: printed.write(f"open {path}")
    ), printed


def test_prompts_save_a_critique_that_is_linked(
    add_photograph: Add, make_desk: MakeDesk, store: Store, workspace: Path
) -> None:
    sha256 = add_photograph("one.jpg")
    typed, printed = session(make_desk, ["o", *WORDS, "y"])
    assert typed.run(sha256) == 1
    assert "open " in printed.getvalue() and "1 critique. 7 more" in printed.getvalue()
    (linked,) = link_critiques(store, workspace, "vera").used
    assert set(linked.scores.values()) == {7.5}


def test_a_session_that_ends_anywhere_continues_there(add_photograph: Add, make_desk: MakeDesk) -> None:
    sha256 = add_photograph("one.jpg")
    session(make_desk, WORDS[:7])[0].run(sha256)
    entry = make_desk().current(sha256).entry
    assert list(entry.scores) == list(DIMENSIONS[:3]) and entry["lighting"].comment == "The lighting holds."
    kept = [""] * 6 + [WORDS[6], *WORDS[7:], "y"]
    assert session(make_desk, kept)[0].run(sha256) == 1
    assert make_desk().count == 1


def test_wrong_scores_are_asked_again_and_commands_work(add_photograph: Add, make_desk: MakeDesk) -> None:
    first, second, third = (add_photograph(f"{number}.jpg", seed=number) for number in (1, 2, 3))
    typed, printed = session(make_desk, ["eleven", "11", "7.25", "-1", "6", "q"])
    typed.run(first)
    assert printed.getvalue().count("A score is a number from 0 to 10") == 4
    assert make_desk().current(first).entry.scores == {"composition": 6.0}
    typed, printed = session(make_desk, [*WORDS, "y", "n", "u", "q"])
    typed.run(second)
    desk = make_desk()
    assert sorted(desk.current(each).state for each in (first, third)) == ["excluded", "open"]
    assert desk.count == 0 and desk.current(second).entry.missing_parts == []


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = main(["write", *words])
    found = capsys.readouterr()
    return status, found.out + found.err


def test_scripts_ask_what_is_next_and_save_from_a_file(
    add_photograph: Add, make_desk: MakeDesk, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = add_photograph("one.jpg")
    named = ("--advisor", "vera", "--workspace", str(workspace), "--adapters", str(workspace / "adapters"))
    status, printed = run(capsys, "--next", "--json", *named)
    upcoming = json.loads(printed)
    assert (status, upcoming["sha256"], upcoming["photograph"]) == (0, sha256, "source/one.jpg")
    critique = workspace / "critique.json"
    critique.write_text(full_entry(6).model_dump_json())
    status, printed = run(capsys, "--from", str(critique), "--photograph", "one.jpg", "--json", *named)
    assert status == 0 and json.loads(printed)["progress"]["critiques"] == 1
    assert make_desk().critiqued[sha256].details == {"written_in": "file"}
    status, printed = run(capsys, "--next", *named)
    assert status == 1 and "mondrian retrain --advisor vera" in printed
    canonical = {"dimensional_analysis": full_entry(3).model_dump()["dimensions"], "overall_grade": "3.0"}
    critique.write_text(json.dumps(canonical))
    assert run(capsys, "--from", str(critique), "--photograph", sha256[:12], *named)[0] == 0
    assert make_desk().critiqued[sha256].scores["lighting"] == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"dimensions": {"lighting": {"score": 99}}}', "less than or equal to 10"),
        (b"{}", "a score for Composition"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b" " * 1_000_001, "larger than 1,000,000 bytes"),
    ],
)
def test_bad_files_get_one_paragraph(
    add_photograph: Add,
    make_desk: MakeDesk,
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    says: str,
) -> None:
    add_photograph("one.jpg")
    critique = workspace / "critique.json"
    critique.write_bytes(content)
    named = ("--advisor", "vera", "--workspace", str(workspace))
    status, printed = run(capsys, "--from", str(critique), "--photograph", "one.jpg", *named)
    assert status == 2 and says in printed and "Traceback" not in printed
    assert make_desk().count == 0


def test_unknown_photographs_and_missing_ones_say_what_to_do(
    workspace: Path, add_photograph: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ("--advisor", "vera", "--workspace", str(workspace))
    status, printed = run(capsys, "--next", *named)
    assert status == 1 and "mondrian import FOLDER --advisor vera" in printed
    add_photograph("one.jpg")
    critique = workspace / "critique.json"
    critique.write_text("{}")
    status, printed = run(capsys, "--from", str(critique), "--photograph", "../../etc/passwd", *named)
    assert status == 2 and "has no photograph" in printed
    status, printed = run(capsys, "--from", str(critique), *named)
    assert status == 2 and "--photograph" in printed
