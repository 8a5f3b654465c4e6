"""`mondrian index`, `synthesize` and `review`: what a person types and sees, without a terminal."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from mondrian_core.cli import main
from mondrian_core.cli.review_session import ReviewSession, image_as_text_blocks
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.rubric import DIMENSIONS, make_critique
from mondrian_core.store import Store
from mondrian_core.store.drafts import Draft, DraftStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with three drafts that wait."""
    folder = tmp_path / "workspace"
    (folder / "source").mkdir(parents=True)
    with Store.create(folder / "mondrian.db") as store:
        store.add_advisor(AdvisorPrompt("ansel", "Ansel Adams"))
        DraftStore(store).add(draft(folder, number) for number in range(3))
    return folder


def draft(folder: Path, number: int) -> Draft:
    path = folder / "source" / f"new_{number}.jpg"
    Image.new("RGB", (40, 30), (60 * number, 90, 120)).save(path)
    critique = make_critique(dict.fromkeys(DIMENSIONS, 7.0), dict.fromkeys(DIMENSIONS, f"Stone {number} [lies] there."))
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    return Draft(
        id=f"{number}abcdef0-id",
        advisor="ansel",
        sha256=sha,
        image_path=f"source/new_{number}.jpg",
        base="base",
        prompt_digest="prompt",
        raw=dict.fromkeys(DIMENSIONS, 5.0),
        proposal=critique,
    )


def session(root: Path, typed: list[str], *, colour: bool = False) -> tuple[ReviewSession, str]:
    """A review with these answers; gives it and what was on the screen."""
    answers, screen = iter(typed), io.StringIO()

    def ask(question: str) -> str:
        screen.write(question)
        try:
            return next(answers)
        except StopIteration:
            raise EOFError from None

    console = Console(file=screen, width=100, force_terminal=colour, color_system="truecolor" if colour else None)
    opened: list[Path] = []
    with Store(root / "mondrian.db") as store:
        drafts = DraftStore(store)
        review = ReviewSession(drafts, root, console, ask, "person:test", opened.append)
        review.run(drafts.waiting("ansel"))
    assert all(path.is_file() for path in opened)
    screen.write(f"opened {len(opened)}")
    return review, screen.getvalue()


def states(root: Path) -> list[str]:
    with Store(root / "mondrian.db", read_only=True) as store:
        return [each.state for each in DraftStore(store).find("ansel")]


def test_accept_discard_and_skip(root: Path) -> None:
    review, shown = session(root, ["a", "what?", "D", "s"])
    assert states(root) == ["accepted", "discarded", "waiting"]
    assert (review.done.accepted, review.done.discarded, review.done.corrected) == (1, 1, 0)
    assert "Stone 1 [lies] there." in shown and "Type one of the letters" in shown


def test_a_correction_changes_what_was_typed_and_keeps_the_rest(root: Path) -> None:
    session(root, ["c", "9", "2", "eleven", "11", "3,5", "The light is flat.", "8", "", "No calm in it.", "", "q"])
    with Store(root / "mondrian.db", read_only=True) as store:
        found = DraftStore(store).find("ansel")[0]
    assert found.state == "corrected" and found.decided is not None and found.decided_by == "person:test"
    assert found.decided.scores == {**dict.fromkeys(DIMENSIONS, 7.0), "lighting": 3.5}
    assert found.decided.assessments["lighting"].comment == "The light is flat."
    assert found.decided.assessments["emotional_impact"].comment == "No calm in it."
    assert found.decided.assessments["composition"].comment == "Stone 0 [lies] there."
    assert found.decided.overall_grade == "6.6"  # 52.5 / 8


def test_a_correction_that_changes_nothing_is_no_decision(root: Path) -> None:
    _, shown = session(root, ["c", "", "q"])
    assert states(root) == ["waiting"] * 3
    assert "Nothing was changed." in shown


def test_undo_goes_back_to_the_last_decision(root: Path) -> None:
    review, shown = session(root, ["u", "a", "s", "u", "d", "s", "q"])
    assert "Nothing was decided yet." in shown
    assert states(root) == ["discarded", "waiting", "waiting"]
    assert (review.done.accepted, review.done.discarded) == (0, 1)


def test_the_end_of_the_input_ends_the_review_and_keeps_what_was_decided(root: Path) -> None:
    session(root, ["a"])
    assert states(root) == ["accepted", "waiting", "waiting"]


def test_concurrent_decision_is_reported(root: Path) -> None:
    with Store(root / "mondrian.db") as other, Store(root / "mondrian.db") as store:
        drafts = DraftStore(store)
        waiting = drafts.waiting("ansel")
        DraftStore(other).discard(waiting[0].id, "page:visitor")
        screen, answers = io.StringIO(), iter(["a", "q"])
        review = ReviewSession(drafts, root, Console(file=screen), lambda question: next(answers), "person:test", print)
        assert review.run(waiting).accepted == 0
    assert "page:visitor" in screen.getvalue()


def test_photograph_is_shown_opened_or_reported_missing(root: Path) -> None:
    _, shown = session(root, ["o", "q"], colour=True)
    assert "▀" in shown and "opened 1" in shown
    (root / "source" / "new_0.jpg").unlink()
    assert "can't be used as a photograph" in " ".join(session(root, ["q"])[1].split())


def test_terminal_image_uses_half_blocks() -> None:
    image = Image.new("RGB", (4, 4), (255, 0, 0))
    image.paste((0, 0, 255), (0, 1, 4, 2))
    text = image_as_text_blocks(image)
    assert text.plain == "▀▀▀▀\n▀▀▀▀\n"
    assert str(text.spans[0].style) == "#ff0000 on #0000ff"


# --- the commands -----------------------------------------------------------------------------------------------------


def test_the_list_and_its_exit_status(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["review", "--advisor", "ansel", "--workspace", str(root)]
    assert main([*where, "--list"]) == 0
    assert "3 waiting" in capsys.readouterr().out
    assert main([*where, "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["counts"]["waiting"] == 3 and output["drafts"][0]["raw_scores"]["lighting"] == 5.0
    assert main([*where, "--discard", "0", "1", "2"]) == 0
    assert main([*where, "--list"]) == 1
    assert main(where) == 1
    assert "mondrian synthesize" in capsys.readouterr().err


def test_decisions_by_options(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["review", "--advisor", "ansel", "--workspace", str(root), "--json"]
    critique = make_critique(dict.fromkeys(DIMENSIONS, 2.0), dict.fromkeys(DIMENSIONS, "A stone, no more."))
    (tmp_path / "mine.json").write_text(json.dumps(critique.as_dict()))
    assert main([*where, "--accept", "0ab", "--correct", "1", str(tmp_path / "mine.json")]) == 0
    output = json.loads(capsys.readouterr().out)
    assert [each["state"] for each in output["decided"]] == ["accepted", "corrected"]
    assert main([*where, "--accept", "0ab"]) == 1  # decided already
    assert "was already accepted by" in capsys.readouterr().out
    assert main([*where, "--reopen", "0ab"]) == 0
    assert states(root) == ["waiting", "corrected", "waiting"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--accept", "zz"], "names no draft"),
        (["--discard", ""], "beginning of 3 drafts"),
        (["--correct", "0", "nowhere.json"], "can't be read"),
        (["--correct", "0", __file__], "not a complete critique"),
    ],
)
def test_invalid_decision_changes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    assert main(["review", "--advisor", "ansel", "--workspace", str(root), "--accept", "1", *given]) == 2
    assert message in capsys.readouterr().err
    assert states(root) == ["waiting"] * 3


def test_answers_are_read_from_piped_stdin(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\nd\n"))
    assert main(["review", "--advisor", "ansel", "--workspace", str(root)]) == 0
    assert "1 accepted, 0 corrected, 1 discarded; 1 waiting." in capsys.readouterr().out
    assert states(root) == ["accepted", "discarded", "waiting"]


@pytest.mark.parametrize("command", ["index", "synthesize", "review"])
def test_unknown_advisors_and_missing_workspaces(
    root: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--advisor", "nobody", "--workspace", str(root)]) == 2
    assert "ansel" in capsys.readouterr().err
    assert main([command, "--advisor", "ansel", "--workspace", str(tmp_path / "none")]) == 2
    assert "mondrian init" in capsys.readouterr().err


@pytest.mark.soak
@pytest.mark.mini
def test_reviewed_draft_reaches_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A photograph without a critique: index, draft, review, dataset."""
    where = ["--advisor", "ansel", "--workspace", str(tmp_path / "w"), "--base-model", "mini", "--json"]
    assert main(["init", "--sample", "--photographs", "12", *where[2:4]]) == 0
    capsys.readouterr()

    def run(*arguments: str) -> dict[str, object]:
        assert main([arguments[0], *where, *arguments[1:]]) == 0
        return dict(json.loads(capsys.readouterr().out))

    indexed = run("index")
    assert indexed["photographs"] == indexed["embedded"] == 14 and indexed["scored"] == 2
    assert run("index")["embedded"] == 0
    drafted = run("synthesize", "--count", "2")
    assert drafted["drafted"] == drafted["waiting"] == 2
    first = str(run("review")["drafts"][0]["id"])  # type: ignore[index]
    before = run("dataset")
    run("review", "--accept", first)
    after = run("dataset")
    assert after["photographs"]["train"] == before["photographs"]["train"] + 1  # type: ignore[index]
    manifest = json.loads((Path(str(after["path"])) / "manifest.json").read_text())
    held_out = {each["lineage"] for each in manifest["members"] if each["split"] != "train"}
    assert manifest["retrieval"]["indexed"] == 14
    assert held_out and not held_out & set(manifest["retrieval"]["for_evaluation"])
