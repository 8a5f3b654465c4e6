"""What an import does with each row: decided from values, without writing anything.

A row and a stored critique belong together when they have the same id, else when they say the same about the same
photograph, else the newest stored one of that photograph and origin counts. The rules are those of decision 0116.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from mondrian_core.critique_files.photographs import PhotographLookup
from mondrian_core.critique_files.records import (
    HUMAN,
    INDEX,
    CritiqueRecord,
    FileRow,
    RowProblem,
    record_from_profile,
)
from mondrian_core.photograph_paths import path_parts
from mondrian_core.store import DimensionalProfile, utc_timestamp


class RowOutcome(StrEnum):
    """What an import does with a row."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"
    SKIPPED = "skipped"
    CONFLICT = "conflict"
    REFUSED = "refused"


OUTCOME_MEANINGS = {
    RowOutcome.NEW: "a critique that the workspace doesn't have yet",
    RowOutcome.CHANGED: "replaces an earlier version, which stays in the database",
    RowOutcome.SAME: "the workspace already has it; nothing is written",
    RowOutcome.SKIPPED: "no critique yet, such as a task that nobody has annotated",
    RowOutcome.CONFLICT: "the workspace has a newer critique by a person, or one of unknown age",
    RowOutcome.REFUSED: "not a usable critique",
}
WRITTEN_OUTCOMES = (RowOutcome.NEW, RowOutcome.CHANGED)
BAD_OUTCOMES = (RowOutcome.CONFLICT, RowOutcome.REFUSED)


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """A row of a file with its outcome; `reason` says why, or what a person should know."""

    file: str
    place: str
    outcome: RowOutcome
    photograph: str = ""
    advisor: str = ""
    reason: str = ""

    @property
    def title(self) -> str:
        """The file and the place in it."""
        return f"{self.file}, {self.place}" if self.place else self.file

    def as_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return {
            "file": self.file,
            "row": self.place,
            "outcome": self.outcome.value,
            "photograph": self.photograph,
            "advisor": self.advisor,
            "reason": self.reason,
        }


@dataclass(slots=True)
class KnownCritique:
    """What planning must know of a stored critique: not its texts, so that many need little memory."""

    id: str
    advisor: str
    photograph: str
    origin: str
    created_at: str
    digest: str  # "" for one that is not complete
    source: str = ""  # the row of this import that wrote it; "" for one of the database


@dataclass(frozen=True, kw_only=True)
class PlanRules:
    """What planning may assume.

    Attributes:
        advisor: of rows that name none; None: the workspace's only one.
        advisors: ids of all advisors.
        replace: a row may replace a newer critique by a person.
        now: the time of the import.
    """

    advisor: str | None
    advisors: Collection[str]
    replace: bool = False
    now: str = field(default_factory=utc_timestamp)


class ImportPlanner:
    """Decides on rows in their order; what it decided counts for the rows that follow."""

    def __init__(self, rules: PlanRules, lookup: PhotographLookup, stored: Iterable[DimensionalProfile]) -> None:
        self._rules, self._lookup = rules, lookup
        self._by_id: dict[str, KnownCritique] = {}
        self._by_photograph: dict[tuple[str, str, str], list[KnownCritique]] = defaultdict(list)
        self.counts: Counter[RowOutcome] = Counter()
        for profile in stored:
            if profile.origin != INDEX:
                self._remember(_known(profile, self._photograph_of(profile.image_path)))

    def decide(self, file: str, row: FileRow) -> tuple[PlannedRow, DimensionalProfile | None]:
        """The row with its outcome, and the critique to save (None: nothing)."""
        planned, profile = self._decided(file, row)
        self.counts[planned.outcome] += 1
        return planned, profile

    def _decided(self, file: str, row: FileRow) -> tuple[PlannedRow, DimensionalProfile | None]:
        record = row.record
        if record is None:
            outcome = RowOutcome.SKIPPED if row.skipped else RowOutcome.REFUSED
            return PlannedRow(file, row.place, outcome, row.photograph, reason=row.problem), None
        try:
            advisor = self._advisor(record)
            photograph = self._photograph(record, advisor)
            counterpart = self._counterpart(record, advisor, photograph)
        except RowProblem as problem:
            named = record.photograph or record.sha256[:16]
            return PlannedRow(file, row.place, RowOutcome.REFUSED, named, record.advisor, str(problem)), None
        outcome, reason = self._outcome(record, counterpart)
        planned = PlannedRow(
            file, row.place, outcome, photograph, advisor, "; ".join(filter(None, (reason, record.notice)))
        )
        if outcome not in WRITTEN_OUTCOMES:
            return planned, None
        profile = self._profile(record, advisor, photograph, counterpart)
        known = _known(profile, photograph)
        known.source = planned.title
        self._remember(known)
        return planned, profile

    def _advisor(self, record: CritiqueRecord) -> str:
        wanted, known = self._rules.advisor, self._rules.advisors
        advisor = record.advisor or wanted
        if advisor is None:
            if len(known) != 1:
                raise RowProblem("it names no advisor; give one with --advisor")
            return next(iter(known))
        if wanted is not None and advisor != wanted:
            raise RowProblem(f"it is a critique by '{advisor[:64]}', but the import is for '{wanted}'")
        if advisor not in known:
            raise RowProblem(f"there is no advisor '{advisor[:64]}'; add it with `mondrian advisors add`")
        return advisor

    def _photograph(self, record: CritiqueRecord, advisor: str) -> str:
        """The photograph that the row names; for an exported critique whose photograph is gone, what is stored."""
        try:
            return self._lookup.find(record.photograph, record.sha256)
        except RowProblem:
            stored = self._by_id.get(record.id)
            if stored is None or stored.advisor != advisor or not record.photograph:
                raise
            if path_parts(stored.photograph)[-1:] != path_parts(record.photograph)[-1:]:
                raise
            return stored.photograph

    def _counterpart(self, record: CritiqueRecord, advisor: str, photograph: str) -> KnownCritique | None:
        """The stored critique that the row belongs to."""
        same_id = self._by_id.get(record.id) if record.id else None
        if same_id is not None:
            if same_id.advisor != advisor:
                raise RowProblem(f"its id is that of a critique by '{same_id.advisor}'")
            if same_id.photograph != photograph:
                raise RowProblem(f"its id is that of a critique of {same_id.photograph}")
            if same_id.source and same_id.digest != record.digest:
                raise RowProblem(f"{same_id.source} has the same id")
            return same_id
        others = self._by_photograph.get((advisor, photograph, record.origin), [])
        # rows with ids of their own may repeat one another, as the rows of a database do
        same = [each for each in others if each.digest == record.digest and not (record.id and each.source)]
        if same:
            return same[0]
        if not record.id and (earlier := next((each for each in others if each.source), None)):
            raise RowProblem(f"{earlier.source} is another critique of the same photograph")
        stored = [each for each in others if not each.source and each.digest]
        return max(stored, key=lambda each: each.created_at) if stored else None

    def _outcome(self, record: CritiqueRecord, counterpart: KnownCritique | None) -> tuple[RowOutcome, str]:
        if counterpart is None:
            return RowOutcome.NEW, ""
        if not counterpart.digest:
            return RowOutcome.NEW, "the stored critique with this id was not complete"
        if counterpart.digest == record.digest and counterpart.origin == record.origin:
            return RowOutcome.SAME, ""
        objection = "" if self._rules.replace else _objection(record, counterpart)
        if objection:
            return RowOutcome.CONFLICT, f"{objection}; to take the file's, allow it to replace newer ones (--replace)"
        return RowOutcome.CHANGED, f"replaces the critique of {_day(counterpart.created_at) or 'an unknown date'}"

    def _profile(
        self, record: CritiqueRecord, advisor: str, photograph: str, counterpart: KnownCritique | None
    ) -> DimensionalProfile:
        changed = counterpart is not None and bool(counterpart.digest)
        created_at = self._rules.now if record.created_at is None else record.created_at
        if changed and counterpart is not None and created_at <= counterpart.created_at:
            created_at = self._rules.now  # an edited copy has the date of its original, and would lose against it
        return DimensionalProfile(
            id=counterpart.id if counterpart is not None else record.id or str(uuid.uuid4()),
            advisor=advisor,
            image_path=photograph,
            scores=record.scores,
            comments=record.comments,
            recommendations=record.recommendations,
            overall_grade=record.overall_grade,
            origin=record.origin,
            created_at=created_at,
            details=record.details,
        )

    def _remember(self, known: KnownCritique) -> None:
        if earlier := self._by_id.get(known.id):
            self._by_photograph[earlier.advisor, earlier.photograph, earlier.origin].remove(earlier)
        self._by_photograph[known.advisor, known.photograph, known.origin].append(known)
        self._by_id[known.id] = known

    def _photograph_of(self, image_path: str) -> str:
        try:
            return self._lookup.by_path(image_path)
        except RowProblem:
            return image_path


def _objection(record: CritiqueRecord, stored: KnownCritique) -> str:
    """Why a row must not replace a stored critique; "" when it may, such as an edited copy of an export."""
    given = record.created_at or ""
    if stored.origin != HUMAN or (record.id == stored.id and given == stored.created_at):
        return ""
    if not stored.created_at:
        return "a person wrote another one, and nobody knows when"
    if not given:
        return f"a person wrote another one on {_day(stored.created_at)}, and the file has no date for its own"
    return f"a person wrote a newer one on {_day(stored.created_at)}" if given < stored.created_at else ""


def _day(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _known(profile: DimensionalProfile, photograph: str) -> KnownCritique:
    record = record_from_profile(profile)
    return KnownCritique(
        id=profile.id,
        advisor=profile.advisor,
        photograph=photograph,
        origin=record.origin if record else HUMAN if profile.origin == HUMAN else "model",
        created_at=profile.created_at or "",
        digest=record.digest if record else "",
    )
