"""Critiques that a model drafted and a person decides on: the table `drafts`.

A draft waits until a person accepts, corrects or discards it, in the terminal or on a page. The first decision holds
until it is reopened. Only accepted and corrected drafts are linked (data/linking), marked as synthetic.

All writes are single transactions; `AlreadyDecided` means that somebody else decided first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.errors import BadInput, NegativeOutcome
from mondrian_core.rubric import DIMENSIONS, Critique, canonical_answer, has_visible_character
from mondrian_core.store import Cells, Store, utc_timestamp

WAITING, ACCEPTED, CORRECTED, DISCARDED = "waiting", "accepted", "corrected", "discarded"
STATES = (WAITING, ACCEPTED, CORRECTED, DISCARDED)
_COLUMNS = (
    "id",
    "advisor_id",
    "sha256",
    "image_path",
    "base",
    "prompt_digest",
    "raw",
    "proposal",
    "state",
    "decided",
    "decided_by",
    "decided_at",
    "created_at",
)


class AlreadyDecided(NegativeOutcome):
    """Somebody has already decided on the draft."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A row of `drafts`.

    Attributes:
        id: of the draft.
        advisor: whose critique it would be.
        sha256: of the photograph's bytes; an advisor has one draft of a photograph.
        image_path: below the workspace, with "/".
        base: fingerprint of the model that drafted it.
        prompt_digest: SHA-256 of the prompt messages.
        raw: the model's own scores (0-10) by dimension, before calibration.
        proposal: the critique that a person reviews.
        state: one of `STATES`.
        decided: the critique as accepted or corrected; None while it waits or when it was discarded.
        decided_by: who decided.
        decided_at: ISO 8601, UTC.
        created_at: ISO 8601, UTC.
    """

    id: str
    advisor: str
    sha256: str
    image_path: str
    base: str
    prompt_digest: str
    raw: Mapping[str, float]
    proposal: Critique
    state: str = WAITING
    decided: Critique | None = None
    decided_by: str | None = None
    decided_at: str | None = None
    created_at: str = field(default_factory=utc_timestamp)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.id,
            "advisor": self.advisor,
            "photograph": self.image_path,
            "state": self.state,
            "raw_scores": dict(self.raw),
            "proposal": self.proposal.as_dict(),
            "decided": self.decided.as_dict() if self.decided else None,
            "decided_by": self.decided_by,
            "decided_at": self.decided_at,
            "created_at": self.created_at,
        }


@dataclass(frozen=True)
class UnreadableDraft:
    """A row of `drafts` with an unreadable cell; `why` names the column."""

    id: str
    advisor: str
    why: str


class DraftStore:
    """The drafts of a workspace. Everything but decisions works with a store that was opened for reading.

    Raises (all methods): what `Store` raises.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, drafts: Iterable[Draft]) -> int:
        """Insert waiting drafts in one transaction; existing drafts are kept. Returns how many are new."""
        added = 0
        statement = f"INSERT OR IGNORE INTO drafts ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
        with self._store.transaction() as connection:
            for draft in drafts:
                added += connection.execute(statement, _cells(draft)).rowcount
        return added

    def find(self, advisor: str | None = None, states: Iterable[str] = STATES) -> list[Draft]:
        """Drafts of an advisor (None: of all) in these states, in order of creation."""
        wanted = tuple(states)
        where, values = f"state IN ({', '.join('?' * len(wanted))})", wanted
        if advisor is not None:
            where, values = f"{where} AND advisor_id = ?", (*wanted, advisor)
        return self._read(where, values)

    def waiting(self, advisor: str | None = None) -> list[Draft]:
        """Drafts that nobody has decided on."""
        return self.find(advisor, (WAITING,))

    def get(self, draft_id: str) -> Draft:
        """One draft.

        Raises:
            BadInput: when there is no such draft.
        """
        for found in self._rows("id = ?", (draft_id,)):
            if isinstance(found, Draft):
                return found
            raise BadInput(
                f"The draft {draft_id} can't be read: {found.why}.", "Correct its row in the table `drafts`."
            )
        raise BadInput(f"There is no draft {draft_id}.", "`mondrian review --advisor A --list` shows the drafts.")

    def counts(self, advisor: str) -> dict[str, int]:
        """Drafts of an advisor by state; every state has an entry."""
        held = [draft.state for draft in self.find(advisor)]
        return {state: held.count(state) for state in STATES}

    def accept(self, draft_id: str, by: str) -> Draft:
        """Accept the proposal unchanged.

        Raises:
            BadInput: when there is no such draft.
            AlreadyDecided: when it doesn't wait.
        """
        return self._decide(draft_id, ACCEPTED, self.get(draft_id).proposal, by)

    def correct(self, draft_id: str, critique: Critique, by: str) -> Draft:
        """Save the critique that a person made from the proposal.

        Raises:
            BadInput: as `accept`, and when the critique is not complete.
            AlreadyDecided: as `accept`.
        """
        _require_complete(critique)
        return self._decide(draft_id, CORRECTED, critique, by)

    def discard(self, draft_id: str, by: str) -> Draft:
        """Discard the proposal; the photograph isn't drafted for this advisor again.

        Raises:
            BadInput: as `accept`.
            AlreadyDecided: as `accept`.
        """
        return self._decide(draft_id, DISCARDED, None, by)

    def reopen(self, draft_id: str) -> Draft:
        """Revert a decision: the draft waits again with its original proposal."""
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE drafts SET state = ?, decided = NULL, decided_by = NULL, decided_at = NULL WHERE id = ?",
                (WAITING, draft_id),
            )
            return self.get(draft_id)

    def all_including_unreadable(self) -> list[Draft | UnreadableDraft]:
        """Drafts of all advisors in order of creation, including unreadable ones."""
        return self._rows("1", ())

    def unreadable(self) -> list[UnreadableDraft]:
        """Unreadable rows, with the reason."""
        return [row for row in self.all_including_unreadable() if isinstance(row, UnreadableDraft)]

    def _read(self, where: str, values: tuple[str, ...]) -> list[Draft]:
        return [row for row in self._rows(where, values) if isinstance(row, Draft)]

    def _rows(self, where: str, values: tuple[str, ...]) -> list[Draft | UnreadableDraft]:
        if not self._store.has_table("drafts"):
            return []
        query = f"SELECT {', '.join(_COLUMNS)} FROM drafts WHERE {where} ORDER BY rowid"
        return [_draft(dict(zip(_COLUMNS, row, strict=True))) for row in self._store.select(query, values)]

    def _decide(self, draft_id: str, state: str, critique: Critique | None, by: str) -> Draft:
        with self._store.transaction() as connection:
            changed = connection.execute(
                "UPDATE drafts SET state = ?, decided = ?, decided_by = ?, decided_at = ? WHERE id = ? AND state = ?",
                (state, canonical_answer(critique) if critique else None, by, utc_timestamp(), draft_id, WAITING),
            ).rowcount
            now = self.get(draft_id)
        if not changed:
            raise AlreadyDecided(
                f"The draft {draft_id} was already {now.state} by {now.decided_by}.",
                "See it with `mondrian review --advisor A --list`; `--reopen ID` reverts a decision.",
            )
        return now


def _require_complete(critique: Critique) -> None:
    empty = [name for name in DIMENSIONS if not has_visible_character(critique.assessments[name].comment)]
    wrong = [name for name in DIMENSIONS if not 0 <= critique.assessments[name].score <= 10]
    if empty or wrong:
        what = f"no comment on {', '.join(empty)}" if empty else f"a score outside 0-10 for {', '.join(wrong)}"
        raise BadInput(f"The critique has {what}.", "Give every dimension a score from 0 to 10 and a comment.")


def _cells(draft: Draft) -> tuple[Any, ...]:
    decided = canonical_answer(draft.decided) if draft.decided else None
    return (
        draft.id,
        draft.advisor,
        draft.sha256,
        draft.image_path,
        draft.base,
        draft.prompt_digest,
        json.dumps(dict(draft.raw)),
        canonical_answer(draft.proposal),
        draft.state,
        decided,
        draft.decided_by,
        draft.decided_at,
        draft.created_at,
    )


def _draft(row: dict[str, Any]) -> Draft | UnreadableDraft:
    cells = Cells(row)
    labels = {name: cells.label(name) or "" for name in ("id", "advisor_id", "sha256", "image_path", "base", "state")}
    decided, raw, proposal = cells.text("decided"), cells.json_object("raw"), cells.text("proposal")
    proposed: Critique | None = None
    final: Critique | None = None
    try:
        proposed = parse_critique_lenient(proposal or "").critique
        final = parse_critique_lenient(decided).critique if decided else None
    except CritiqueParseError as error:
        cells.unreadable.setdefault("decided" if proposed else "proposal", f"a critique that can't be parsed ({error})")
    if cells.unreadable or proposed is None or raw is None:
        column, why = next(iter(cells.unreadable.items()), ("raw", "nothing"))
        return UnreadableDraft(cells.display_text("id") or "", labels["advisor_id"], f"{column}: {why}")
    scores = {name: float(value) for name, value in raw.items() if isinstance(value, int | float)}
    return Draft(
        id=labels["id"],
        advisor=labels["advisor_id"],
        sha256=labels["sha256"],
        image_path=labels["image_path"],
        base=labels["base"],
        prompt_digest=cells.label("prompt_digest") or "",
        raw=scores,
        proposal=proposed,
        state=labels["state"],
        decided=final,
        decided_by=cells.display_text("decided_by"),
        decided_at=cells.timestamp("decided_at"),
        created_at=cells.timestamp("created_at") or "",
    )
