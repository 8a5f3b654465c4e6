"""The interactive part of `mondrian review`. Answers come from the function `ask`, so tests need no terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from mondrian_core.cli.terminal_output import rich_critique_table
from mondrian_core.errors import BadPhotograph
from mondrian_core.images import open_photograph
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, Critique, int_if_whole, make_critique
from mondrian_core.store.drafts import AlreadyDecided, Draft, DraftStore

COLUMNS, LINES = 60, 22
QUESTION = "(a)ccept, (c)orrect, (d)iscard, (s)kip, (o)pen the photograph, (u)ndo the last decision, (q)uit: "
AskFunction = Callable[[str], str]


@dataclass
class ReviewTally:
    """The number of decisions of a session, and the decided drafts in order (for undo)."""

    accepted: int = 0
    corrected: int = 0
    discarded: int = 0
    history: list[Draft] = field(default_factory=list)

    def count(self, draft: Draft, by: int) -> None:
        """Count a decision (`by` 1) or revert it (-1)."""
        setattr(self, draft.state, getattr(self, draft.state) + by)


class _QuitError(Exception):
    """The user ended the session."""


class ReviewSession:
    """Shows drafts and asks for a decision on each. Every decision is stored at once.

    Args:
        drafts: the store that records decisions.
        workspace: the folder that the drafts' image paths are relative to.
        console: where drafts are printed.
        ask: prints a question and returns the line that the user typed; `EOFError` ends the session.
        by: the user, as recorded with each decision.
        show: opens a photograph in another window.
    """

    def __init__(
        self,
        drafts: DraftStore,
        workspace: Path,
        console: Console,
        ask: AskFunction,
        by: str,
        show: Callable[[Path], None],
    ) -> None:
        self._drafts, self._workspace, self._console = drafts, workspace, console
        self._ask, self._by, self._show = ask, by, show
        self.done = ReviewTally()

    def run(self, drafts: Sequence[Draft]) -> ReviewTally:
        """Ask about the drafts in order; a skipped draft stays waiting."""
        queue = list(drafts)
        position = 0
        try:
            while position < len(queue):
                self._print_draft(queue[position], position + 1, len(queue))
                position = self._decide(queue, position)
        except (_QuitError, EOFError, KeyboardInterrupt):
            self._console.print()
        return self.done

    def _print_draft(self, draft: Draft, number: int, total: int) -> None:
        path = self._workspace / draft.image_path
        self._console.rule(f"{number} of {total}: {escape(draft.image_path)}", align="left")
        try:
            image = open_photograph(path).image
        except BadPhotograph as error:
            self._console.print(f"[bold red]{escape(error.problem)}[/]")
        else:
            if self._console.is_terminal and self._console.color_system:
                self._console.print(image_as_text_blocks(image))
        title = f"drafted for {draft.advisor}, grade {draft.proposal.overall_grade}"
        self._console.print(rich_critique_table([(title, draft.proposal)]))

    def _decide(self, queue: list[Draft], position: int) -> int:
        """Ask until there is a decision; returns the position to continue at."""
        draft = queue[position]
        next_position: int | None = None
        while next_position is None:
            choice = self._ask(QUESTION).strip().lower()[:1]
            try:
                next_position = self._apply(choice, draft, queue, position)
            except AlreadyDecided as error:
                self._console.print(escape(error.problem))
                return position + 1
        return next_position

    def _apply(self, choice: str, draft: Draft, queue: list[Draft], position: int) -> int | None:
        """Carry out one choice; returns the position to continue at, None to ask again."""
        match choice:
            case "a":
                self._record(self._drafts.accept(draft.id, self._by))
            case "d":
                self._record(self._drafts.discard(draft.id, self._by))
            case "c":
                critique = self._ask_correction(draft.proposal)
                if critique is None:
                    self._console.print("Nothing was changed.")
                    return None
                self._record(self._drafts.correct(draft.id, critique, self._by))
            case "o":
                self._show(self._workspace / draft.image_path)
                return None
            case "u":
                return self._undo(queue)
            case "q":
                raise _QuitError
            case "s":
                pass
            case _:
                self._console.print("Type one of the letters a, c, d, s, o, u, q.")
                return None
        return position + 1

    def _record(self, draft: Draft) -> None:
        self.done.count(draft, 1)
        self.done.history.append(draft)

    def _undo(self, queue: list[Draft]) -> int | None:
        """Revert the last decision; returns the position of its draft, None if there was no decision."""
        if not self.done.history:
            self._console.print("Nothing was decided yet.")
            return None
        last = self.done.history.pop()
        self.done.count(last, -1)
        position = next(index for index, draft in enumerate(queue) if draft.id == last.id)
        queue[position] = self._drafts.reopen(last.id)
        return position

    def _ask_correction(self, proposal: Critique) -> Critique | None:
        """The proposal with the user's changes; None if nothing was changed."""
        scores = dict(proposal.scores)
        comments = {name: assessment.comment for name, assessment in proposal.assessments.items()}
        listed = ", ".join(f"{number} {DIMENSION_TITLES[name]}" for number, name in enumerate(DIMENSIONS, 1))
        while answer := self._ask(f"Which one ({listed}; Enter when done): ").strip():
            if not answer.isdigit() or not 1 <= int(answer) <= len(DIMENSIONS):
                self._console.print(f"Type a number from 1 to {len(DIMENSIONS)}.")
                continue
            name = DIMENSIONS[int(answer) - 1]
            scores[name] = self._ask_score(DIMENSION_TITLES[name], scores[name])
            comments[name] = (
                self._ask(f"{DIMENSION_TITLES[name]}, comment (Enter keeps it): ").strip() or comments[name]
            )
        made = make_critique(scores, comments)
        return None if made.scores == proposal.scores and made.assessments == proposal.assessments else made

    def _ask_score(self, title: str, score: float) -> float:
        while True:
            answer = self._ask(f"{title}, score from 0 to 10 (Enter keeps {int_if_whole(score)}): ").strip()
            if not answer:
                return score
            try:
                given = float(answer.replace(",", "."))
            except ValueError:
                given = -1.0
            if 0 <= given <= 10:
                return given
            self._console.print("A score is a number from 0 to 10.")


def image_as_text_blocks(image: Image.Image, columns: int = COLUMNS, lines: int = LINES) -> Text:
    """The photograph as terminal characters; each character shows two pixels, one above the other."""
    small = image.copy()
    small.thumbnail((columns, 2 * lines), Image.Resampling.LANCZOS)
    pixels = np.asarray(small)
    text = Text(no_wrap=True)
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=False):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", f"#{bytes(above).hex()} on #{bytes(below).hex()}")
        text.append("\n")
    return text
