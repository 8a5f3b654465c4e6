"""`mondrian review`: accept, correct or discard drafted critiques."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mondrian_core.cli.options import AdvisorOptions, command_line_actor, settings_from_options
from mondrian_core.cli.review_session import ReviewSession
from mondrian_core.cli.terminal_output import make_console, print_result
from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.errors import BadInput, NothingToDo
from mondrian_core.rubric import Critique
from mondrian_core.settings import Settings, validate_advisor_id
from mondrian_core.store import Store
from mondrian_core.store.drafts import Draft, DraftStore

SHORT_ID_LENGTH = 8


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ReviewOptions(AdvisorOptions):
    """Options of `mondrian review`. With any of them it asks no questions."""

    list: Annotated[bool, Parameter(help="print every draft and its state")] = False
    accept: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=1, help="accept these drafts unchanged")] = (
        None
    )
    discard: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=1, help="discard these drafts")] = None
    correct: Annotated[
        tuple[tuple[str, Path], ...] | None,
        Parameter(help="draft ID and a JSON file: accept the file's critique in place of the draft"),
    ] = None
    reopen: Annotated[
        tuple[str, ...] | None, Parameter(consume_multiple=1, help="revert the decision on these drafts")
    ] = None


def review_command(*, options: ReviewOptions) -> int:
    """Decide on drafts, by options or interactively; exit status 1 when no draft is waiting."""
    settings = settings_from_options(options)
    advisor = validate_advisor_id(options.advisor)
    settings.require_workspace()
    decisions = bool(options.accept or options.discard or options.reopen or options.correct)
    if (options.list or options.json) and not decisions:
        return _print_drafts(options, settings, advisor)
    with Store(settings.database) as store:
        store.advisor(advisor)
        drafts = DraftStore(store)
        if decisions:
            return _apply_decisions(options, drafts, advisor)
        return _review_interactively(drafts, settings, advisor)


def _review_interactively(drafts: DraftStore, settings: Settings, advisor: str) -> int:
    waiting = drafts.waiting(advisor)
    if not waiting:
        raise NothingToDo(
            f"No draft of '{advisor}' is waiting for review.",
            f"`mondrian synthesize --advisor {advisor}` creates some.",
        )
    screen = make_console()
    session = ReviewSession(drafts, settings.root, screen, screen.input, command_line_actor(), _open_in_browser)
    done = session.run(waiting)
    left = len(drafts.waiting(advisor))
    screen.print(f"{done.accepted} accepted, {done.corrected} corrected, {done.discarded} discarded; {left} waiting.")
    if done.accepted or done.corrected:
        screen.print(f"They are in the next dataset: mondrian dataset --advisor {advisor}")
    return 0


def _open_in_browser(path: Path) -> None:
    webbrowser.open(path.resolve().as_uri())


def _print_drafts(options: ReviewOptions, settings: Settings, advisor: str) -> int:
    with Store(settings.database, read_only=True) as store:
        store.advisor(advisor)
        drafts = DraftStore(store)
        found, counts = drafts.find(advisor), drafts.counts(advisor)
        unreadable = [row for row in drafts.unreadable() if row.advisor in (advisor, "")]

    def draw(screen: Console) -> None:
        table = Table(title=f"Drafts of {advisor}", title_justify="left")
        for heading in ("draft", "state", "photograph", "grade", "by", "when"):
            table.add_column(heading, overflow="fold")
        for draft in found:
            critique = draft.decided or draft.proposal
            when = (draft.decided_at or draft.created_at)[:16]
            table.add_row(
                draft.id[:SHORT_ID_LENGTH],
                draft.state,
                escape(draft.image_path),
                critique.overall_grade,
                escape(draft.decided_by or ""),
                when,
            )
        screen.print(table)
        screen.print(", ".join(f"{count} {state}" for state, count in counts.items()))
        for row in unreadable:
            screen.print(escape(f"left out: {row.id[:SHORT_ID_LENGTH]}, {row.why}"))

    left_out = [{"id": row.id, "reason": row.why} for row in unreadable]
    value = {"counts": counts, "drafts": [draft.as_dict() for draft in found], "left_out": left_out}
    print_result(options.json, value, draw)
    return 0 if counts["waiting"] else 1


def _apply_decisions(options: ReviewOptions, drafts: DraftStore, advisor: str) -> int:
    by = command_line_actor()
    held = drafts.find(advisor)
    acts: list[tuple[str, Callable[[str], Draft]]] = [
        *((given, lambda found: drafts.accept(found, by)) for given in options.accept or ()),
        *((given, lambda found: drafts.discard(found, by)) for given in options.discard or ()),
        *((given, drafts.reopen) for given in options.reopen or ()),
    ]
    for given, file in options.correct or ():
        critique = _load_critique(file)
        acts.append((given, lambda found, critique=critique: drafts.correct(found, critique, by)))  # type: ignore[misc]
    chosen = [
        (_resolve_draft_id(given, held), act) for given, act in acts
    ]  # all names are read before anything is decided
    done = [act(draft_id) for draft_id, act in chosen]

    def draw(screen: Console) -> None:
        for draft in done:
            screen.print(f"{draft.id[:SHORT_ID_LENGTH]} {draft.state}: {escape(draft.image_path)}")

    value: dict[str, Any] = {"decided": [draft.as_dict() for draft in done], "counts": drafts.counts(advisor)}
    print_result(options.json, value, draw)
    return 0


def _resolve_draft_id(given: str, held: list[Draft]) -> str:
    found = [draft.id for draft in held if draft.id.startswith(given)]
    if len(found) != 1:
        what = "names no draft" if not found else f"is the beginning of {len(found)} drafts"
        raise BadInput(f"'{given}' {what} of this advisor.", "`mondrian review --advisor A --list` shows them.")
    return found[0]


def _load_critique(file: Path) -> Critique:
    try:
        return parse_critique_lenient(file.read_text(encoding="utf-8")).critique
    except OSError as error:
        raise BadInput(f"{file} can't be read: {error.strerror}.", "Check --correct.") from error
    except (CritiqueParseError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{file} is not a complete critique ({error}).",
            "Start from the proposal that `mondrian review --json` shows.",
        ) from error
