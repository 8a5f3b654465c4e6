"""The interactive part of `mondrian write`. Answers come from the function `ask`, so tests need no terminal.

Every answer is stored at once, as on the page: a session that ends at any moment continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from mondrian_core.cli.review_session import AskFunction, image_as_text_blocks
from mondrian_core.critique_parsing import parse_score
from mondrian_core.errors import BadInput, BadPhotograph
from mondrian_core.images import open_photograph
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, MAX_COMMENT_CHARACTERS, grade_from_scores, int_if_whole
from mondrian_core.writing.critique_entry import SCORE_STEP, CritiqueEntry
from mondrian_core.writing.unfinished_critiques import ChangedElsewhere, WritingState
from mondrian_core.writing.writing_desk import WritingDesk

HELP = (
    "Type a score from 0 to 10, half points allowed, then the comment. Enter keeps what is there. "
    "o: open the photograph, s: skip it, n: not this one, u: undo the last save, q: quit; all of it is stored."
)
_COMMANDS = ("o", "s", "n", "u", "q", "?")


class _LeftPhotographError(Exception):
    """The person left the photograph: skipped it, excluded it, or went back to another (`to`)."""

    def __init__(self, to: str | None = None) -> None:
        self.to = to


class _SessionEndedError(Exception):
    """The person ended the session."""


class WriteSession:
    """Shows photographs and asks for scores and comments.

    Args:
        make_desk: makes the desk as the workspace is now.
        console: where photographs are shown.
        ask: prints a question and returns the line that was typed; `EOFError` ends the session.
        show: opens a photograph in another window.
    """

    def __init__(
        self, make_desk: Callable[[], WritingDesk], console: Console, ask: AskFunction, show: Callable[[Path], None]
    ) -> None:
        self._make_desk, self._console, self._ask, self._show = make_desk, console, ask, show
        self.desk = make_desk()
        self._last_saved: str | None = None

    def run(self, sha256: str) -> int:
        """Ask about this photograph, then about the next ones; returns how many critiques were saved."""
        saved = 0
        wanted: str | None = sha256
        try:
            self._console.print(HELP)
            while wanted is not None:
                try:
                    saved += self._write_about(wanted)
                    left_for = None
                except _LeftPhotographError as left:
                    left_for = left.to
                self.desk = self._make_desk()
                found = self.desk.next_photograph()
                wanted = left_for or (found.sha256 if found else None)
        except (_SessionEndedError, EOFError, KeyboardInterrupt):
            self._console.print()
        return saved

    def _write_about(self, sha256: str) -> int:
        """Returns 1 when the critique was saved."""
        self._print_photograph(sha256)
        for name in DIMENSIONS:
            self._ask_score(sha256, name)
            self._ask_text(sha256, name)
        while True:
            entry = self.desk.current(sha256).entry
            try:
                entry.require_complete()
            except BadInput as error:
                self._console.print(f"{escape(error.problem)} It is stored; it counts when it is complete.")
                return self._ask_again(sha256)
            grade = grade_from_scores(entry.scores)
            answer = self._answer(sha256, f"Save it, grade {grade}? (y)es, (r)epeat, or a command: ").lower()
            if answer.startswith("y"):
                self.desk.save(sha256, entry, self.desk.current(sha256).revision, "terminal")
                self._last_saved = sha256
                self._console.print(f"Saved. {self._make_desk().progress().sentence}")
                return 1
            if answer.startswith("r"):
                return self._write_about(sha256)

    def _ask_again(self, sha256: str) -> int:
        if self._answer(sha256, "Complete it now? (y)es or (s)kip: ").lower().startswith("y"):
            return self._write_about(sha256)
        self.desk.set_state(sha256, WritingState.SKIPPED)
        raise _LeftPhotographError

    def _print_photograph(self, sha256: str) -> None:
        photograph = self.desk.photograph(sha256)
        found = self.desk.next_photograph()
        self._console.rule(escape(photograph.image_path), align="left")
        try:
            image = open_photograph(self.desk.root / photograph.image_path).image
        except BadPhotograph as error:
            self._console.print(f"[bold red]{escape(error.problem)}[/]")
        else:
            if self._console.is_terminal and self._console.color_system:
                self._console.print(image_as_text_blocks(image))
        if found is not None and found.sha256 == sha256:
            self._console.print(escape(found.why))

    def _ask_score(self, sha256: str, name: str) -> None:
        while True:
            score = self.desk.current(sha256).entry[name].score
            kept = "" if score is None else f" [{int_if_whole(score)}]"
            answer = self._answer(sha256, f"{DIMENSION_TITLES[name]}, score{kept}: ")
            if not answer:
                return
            given = parse_score(answer.replace(",", "."))
            if given is not None and self._store(sha256, name, {"score": float(given)}):
                return
            self._console.print(f"A score is a number from 0 to 10 in steps of {SCORE_STEP:g}.")

    def _ask_text(self, sha256: str, name: str) -> None:
        for part in ("comment", "recommendation"):
            while True:
                text = getattr(self.desk.current(sha256).entry[name], part)
                kept = f" [{text[:40]}{'...' if len(text) > 40 else ''}]" if text else ""
                optional = " (optional)" if part == "recommendation" else ""
                answer = self._answer(sha256, f"  {part}{optional}{kept}: ")
                if not answer or self._store(sha256, name, {part: answer}):
                    break
                self._console.print(f"At most {MAX_COMMENT_CHARACTERS} characters.")

    def _answer(self, sha256: str, question: str) -> str:
        """The typed line, after any commands in it were carried out."""
        while True:
            answer = self._ask(question).strip()
            if answer.lower() not in _COMMANDS:
                return answer
            self._command(sha256, answer.lower())

    def _command(self, sha256: str, command: str) -> None:
        match command:
            case "o":
                self._show((self.desk.root / self.desk.photograph(sha256).image_path).resolve())
            case "s":
                self.desk.set_state(sha256, WritingState.SKIPPED)
                raise _LeftPhotographError
            case "n":
                self.desk.set_state(sha256, WritingState.EXCLUDED)
                raise _LeftPhotographError
            case "u":
                self._undo()
            case "q":
                raise _SessionEndedError
            case _:
                self._console.print(HELP)

    def _undo(self) -> None:
        undone, self._last_saved = self._last_saved, None
        if undone is None:
            self._console.print("Nothing was saved in this session.")
            return
        self.desk.undo(undone)
        raise _LeftPhotographError(undone)

    def _store(self, sha256: str, name: str, part: dict[str, object]) -> bool:
        """Store one answer; False when it is not valid. What another window stored meanwhile is kept."""
        while True:
            now = self.desk.current(sha256)
            values = now.entry.model_dump()
            values["dimensions"][name] |= part
            try:
                self.desk.store_entry(sha256, CritiqueEntry.model_validate(values), now.revision)
            except ValidationError:
                return False
            except ChangedElsewhere:
                continue  # only this one part is changed, so the other window's parts stay
            return True
