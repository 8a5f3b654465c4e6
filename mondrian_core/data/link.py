"""Joining critiques with their photographs. Every record ends as used, or left out with one reason.

The rule that chooses among several critiques of one photograph (same bytes, wherever they lie):

1. a critique by a person over one that a model drafted and a person accepted, and that over one by a model;
2. a complete one over one that needed a repair (a grade that can't be read, a fence, an older form);
3. the newest: by the moment of `created_at` where all that are left have one, else by the order in which the rows were
   inserted.

The others are left out as `duplicate_of` when scores and comments are the same, else as `superseded`. Critiques by a
model are used only when there is none by a person at all; otherwise they are `model_written`, so that ground truth is
never mixed in silence. What the index made for retrieval is never used, whatever else there is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mondrian_core.corrections import corrected_job
from mondrian_core.data.encodings import UnknownEncoding, decoded
from mondrian_core.data.paths import How, SourceIndex
from mondrian_core.data.photographs import reason_of
from mondrian_core.data.records import (
    HUMAN,
    INDEX,
    MODEL,
    SYNTHETIC,
    Candidate,
    LeftOut,
    LinkedRecord,
    LinkManifest,
    Reason,
)
from mondrian_core.drafts import CORRECTED, DISCARDED, WAITING, Draft, Drafts, UnreadableDraft
from mondrian_core.errors import BadPhotograph
from mondrian_core.events import Advanced, Listener, Noticed, ignore
from mondrian_core.files import sha256_of
from mondrian_core.images import Facts, photograph_facts
from mondrian_core.portable_paths import hidden_path
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, MIN_SCORE, Critique, Unparsable, read_lenient, taught
from mondrian_core.store import COMPLETED, Job, Profile, Store

__all__ = ["LeftOut", "LinkManifest", "LinkedRecord", "Reason", "link"]

ANALYSES = "analysis_md"
EVERY = 500
MAX_ANALYSIS_BYTES = 1_000_000
_PLACEHOLDER = re.compile(
    r"\W*(ok|okay|fine|good|bad|nice|great|yes|no|none|n/?a|null|todo|tbd|test|x+|comment|placeholder|\.*)\W*",
    re.IGNORECASE,
)
_PATH_REASONS = {
    How.MISSING: Reason.MISSING_PHOTOGRAPH,
    How.BROKEN_LINK: Reason.BROKEN_LINK,
    How.AMBIGUOUS: Reason.AMBIGUOUS_PHOTOGRAPH,
    How.OUTSIDE: Reason.OUTSIDE_WORKSPACE,
}
_UNUSED_DRAFTS = {WAITING: Reason.DRAFT_WAITING, DISCARDED: Reason.DRAFT_DISCARDED}
_TRUST = {HUMAN: 2, SYNTHETIC: 1, MODEL: 0}
_OWNER = ("advisor_id",)
_PROFILE_CELLS = ("image_path", "origin", *(f"{name}_{kind}" for name in DIMENSIONS for kind in ("score", "comment")))
_ODD = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
_ANSWER_REASONS = {
    "missing_dimensions": Reason.MISSING_DIMENSIONS,
    "score_out_of_range": Reason.SCORE_OUT_OF_RANGE,
    "no_comment": Reason.NO_COMMENTS,
}


class _Refused(Exception):
    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason.value)


def link(store: Store, workspace: Path, advisor: str, listen: Listener = ignore) -> LinkManifest:
    """Join the profiles, completed jobs and reviewed drafts of one advisor with their photographs.

    Reads only; of photographs the headers, and the bytes of those that are used. The module's docstring has the rule
    that chooses among several critiques of one photograph.
    """
    linker = _Linker(workspace, advisor)
    candidates: list[Candidate] = []
    left_out: list[LeftOut] = []
    done = 0
    for record, outcome in linker.outcomes(store):
        if isinstance(outcome, Candidate):
            candidates.append(outcome)
        else:
            left_out.append(LeftOut(record, outcome.reason, linker.detail_for_others(outcome.detail)))
        done += 1
        if done % EVERY == 0:
            listen(Advanced("link", done, detail=f"{len(candidates)} usable"))
    chosen, passed_over = choose(candidates, linker.content_keys(candidates))
    chosen, models = _prefer_people(chosen)
    used = tuple(linker.with_hash(each.linked) for each in chosen)
    listen(Advanced("link", done, done, f"{len(used)} used"))
    if used and not any(record.origin == HUMAN for record in used):
        by_model = sum(record.origin == MODEL for record in used)
        listen(Noticed("link", f"No critique of '{advisor}' was written by a person; {by_model} by a model are used."))
    return LinkManifest(advisor, used, (*left_out, *passed_over, *models), store.version)


def choose(candidates: Sequence[Candidate], keys: Sequence[str]) -> tuple[list[Candidate], list[LeftOut]]:
    """One critique per photograph (equal `keys` are equal photographs), by the module's rule; order is kept."""
    by_photograph: dict[str, list[Candidate]] = {}
    for candidate, key in zip(candidates, keys, strict=True):
        by_photograph.setdefault(key, []).append(candidate)
    chosen, left_out = [], []
    for group in by_photograph.values():
        best = _best(group)
        chosen.append(best)
        left_out += [_passed_over(other, best) for other in group if other is not best]
    return chosen, left_out


def _best(group: Sequence[Candidate]) -> Candidate:
    def standing(each: Candidate) -> tuple[int, bool]:
        return _TRUST[each.linked.origin], not each.problems

    highest = max(standing(each) for each in group)
    tied = [each for each in group if standing(each) == highest]
    dated = all(each.linked.created_at for each in tied)
    return max(tied, key=lambda each: ((each.linked.created_at or "") if dated else "", each.order))


def _passed_over(other: Candidate, best: Candidate) -> LeftOut:
    mine, theirs = other.linked, best.linked
    if mine.scores == theirs.scores and mine.comments == theirs.comments:
        return LeftOut(mine.record, Reason.DUPLICATE_OF, theirs.record)
    if mine.origin != theirs.origin:
        rule = "a person's critique comes before a model's or a draft"
    elif bool(other.problems) != bool(best.problems):
        rule = "the complete one comes first"
    else:
        rule = "the newest comes first"
    return LeftOut(mine.record, Reason.SUPERSEDED, f"{theirs.record}: {rule}")


def _prefer_people(chosen: list[Candidate]) -> tuple[list[Candidate], list[LeftOut]]:
    if not any(each.linked.origin == HUMAN for each in chosen):
        return chosen, []
    models = [each.linked.record for each in chosen if each.linked.origin == MODEL]
    kept = [each for each in chosen if each.linked.origin != MODEL]
    return kept, [LeftOut(record, Reason.MODEL_WRITTEN) for record in models]


class _Linker:
    """The workspace's files, each looked at once."""

    def __init__(self, workspace: Path, advisor: str) -> None:
        self.workspace, self.advisor = workspace, advisor
        self.index = SourceIndex(workspace)
        self._facts: dict[str, Facts | _Refused] = {}
        self._hashes: dict[str, str] = {}
        self._store: Store | None = None

    def outcomes(self, store: Store) -> Iterable[tuple[str, Candidate | _Refused]]:
        """Every record of the database with what became of it."""
        self._store = store
        for profile in store.profiles():
            yield f"profile:{profile.id}", self._judged(self._profile, profile)
        for order, job in enumerate(store.jobs()):
            yield f"job:{job.id}", self._judged(self._job, job, order)
        for order, draft in enumerate(Drafts(store).every()):
            yield f"draft:{draft.id}", self._judged(self._draft, draft, order)

    def detail_for_others(self, detail: str) -> str:
        """A reason's detail without folders outside the workspace: the manifest is shown and passed on."""
        return hidden_path(detail, self.index.homes) if "/" in detail or "\\" in detail else detail

    def _judged(self, judge: Any, *arguments: Any) -> Candidate | _Refused:
        try:
            candidate: Candidate = judge(*arguments)
        except _Refused as refused:
            return refused.with_traceback(None)
        except _ODD as error:  # of one record; it must not cost the others
            return _Refused(Reason.UNREADABLE_RECORD, f"{type(error).__name__}: {error}")
        return candidate

    def _profile(self, profile: Profile) -> Candidate:
        _refuse_unreadable(profile.unreadable, _OWNER)
        if profile.advisor != self.advisor:
            raise _Refused(Reason.OTHER_ADVISOR, profile.advisor)
        _refuse_unreadable(profile.unreadable, _PROFILE_CELLS)
        if profile.origin == INDEX:
            raise _Refused(Reason.INDEX_MADE, profile.image_path)
        photograph, found = self._photograph(profile.image_path)
        scores, comments = _profile_scores(profile), _profile_comments(profile)
        readable_grade = bool(re.fullmatch(r"\s*\d+(\.\d+)?\s*", profile.overall_grade or ""))
        problems = () if readable_grade else ("grade_computed",)
        linked = self._linked(
            f"profile:{profile.id}",
            photograph,
            found,
            HUMAN if profile.origin == HUMAN else MODEL,
            scores,
            comments,
            profile.overall_grade if readable_grade else None,
            profile.created_at,
            problems,
        )
        return Candidate(replace(linked, corrects=self._corrected(profile)), profile.order, problems)

    def _corrected(self, profile: Profile) -> str | None:
        """What the model had said where the profile is a person's correction of it; None where that can't be read."""
        job_id = corrected_job(profile.id)
        job = self._store.job(job_id) if job_id and self._store else None
        if job is None or job.status != COMPLETED:
            return None
        try:
            return taught(self._critique(job)[0])
        except _Refused:
            return None

    def _job(self, job: Job, order: int) -> Candidate:
        _refuse_unreadable(job.unreadable, ("advisor",))
        if job.advisor != self.advisor:
            raise _Refused(Reason.OTHER_ADVISOR, job.advisor or "none")
        _refuse_unreadable(job.unreadable, ("status", "filename", "analysis_markdown"))
        if job.status != COMPLETED:
            raise _Refused(Reason.JOB_NOT_COMPLETED, job.status or "no status")
        photograph, found = self._photograph(job.filename)
        critique, repairs = self._critique(job)
        comments = {name: critique.assessments[name].comment for name in DIMENSIONS}
        _refuse_placeholders(comments)
        linked = self._linked(
            f"job:{job.id}",
            photograph,
            found,
            MODEL,
            critique.scores,
            comments,
            critique.overall_grade or None,
            job.completed_at or job.created_at,
            repairs,
        )
        return Candidate(linked, order, repairs)

    def _draft(self, draft: Draft | UnreadableDraft, order: int) -> Candidate:
        if isinstance(draft, UnreadableDraft):
            raise _Refused(Reason.UNREADABLE_RECORD, draft.why)
        if draft.advisor != self.advisor:
            raise _Refused(Reason.OTHER_ADVISOR, draft.advisor)
        if draft.state in _UNUSED_DRAFTS or draft.decided is None:
            raise _Refused(_UNUSED_DRAFTS.get(draft.state, Reason.DRAFT_WAITING), draft.image_path)
        photograph, found = self._photograph(draft.image_path)
        comments = {name: draft.decided.assessments[name].comment for name in DIMENSIONS}
        _refuse_placeholders(comments)
        linked = self._linked(
            f"draft:{draft.id}",
            photograph,
            found,
            SYNTHETIC,
            draft.decided.scores,
            comments,
            draft.decided.overall_grade,
            draft.decided_at,
            (),
        )
        proposed = taught(draft.proposal) if draft.state == CORRECTED else None
        return Candidate(replace(linked, corrects=proposed), order)

    def _linked(
        self,
        record: str,
        photograph: str,
        found: How,
        origin: str,
        scores: dict[str, float],
        comments: dict[str, str],
        grade: str | None,
        created: str | None,
        repairs: tuple[str, ...],
    ) -> LinkedRecord:
        facts = self._facts[photograph]
        assert isinstance(facts, Facts)
        return LinkedRecord(
            record=record,
            photograph=photograph,
            sha256="",
            width=facts.width,
            height=facts.height,
            found=found.value,
            origin=origin,
            scores=scores,
            comments=comments,
            overall_grade=grade,
            created_at=created,
            repairs=repairs,
        )

    def _photograph(self, text: str | None) -> tuple[str, How]:
        if not text or not text.strip():
            raise _Refused(Reason.NO_PATH)
        if self.index.is_temporary(text):
            raise _Refused(Reason.TEMPORARY_FILE, text)
        resolved = self.index.resolve(text)
        if resolved.path is None:
            raise _Refused(_PATH_REASONS[resolved.how], text)
        if resolved.path not in self._facts:
            self._facts[resolved.path] = self._look_at(resolved.path)
        facts = self._facts[resolved.path]
        if isinstance(facts, _Refused):
            raise _Refused(facts.reason, facts.detail)
        return resolved.path, resolved.how

    def _look_at(self, path: str) -> Facts | _Refused:
        try:
            return photograph_facts(self.workspace / path)
        except BadPhotograph as error:
            return _Refused(reason_of(error), path)

    def _critique(self, job: Job) -> tuple[Critique, tuple[str, ...]]:
        text, decoding = self._analysis(job)
        try:
            reading = read_lenient(text)
        except Unparsable as error:
            reason = _ANSWER_REASONS.get(error.reason, Reason.UNPARSABLE_ANSWER)
            raise _Refused(reason, error.detail or error.reason) from None
        return reading.critique, (*decoding, *reading.repairs)

    def _analysis(self, job: Job) -> tuple[str, tuple[str, ...]]:
        """The text of a job's analysis file and how it was decoded; the answer in the row where there is no file."""
        import json

        name = Path((job.analysis_markdown or "").replace("\\", "/")).name
        data = self._analysis_bytes(name) if name else None
        if data is None:
            if job.answer is not None:
                return json.dumps(job.answer), ()
            raise _Refused(Reason.MISSING_ANALYSIS, name or "the job names none")
        try:
            text, repair = decoded(data)
        except UnknownEncoding as error:
            raise _Refused(Reason.UNPARSABLE_ANSWER, f"{name}: {error}") from None
        return text, (repair,) if repair else ()

    def _analysis_bytes(self, name: str) -> bytes | None:
        """The file's bytes, its name composed or decomposed; None where there is none."""
        for form in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
            path = self.workspace / ANALYSES / form
            try:
                if path.stat().st_size > MAX_ANALYSIS_BYTES:
                    raise _Refused(Reason.UNPARSABLE_ANSWER, f"{name} is larger than {MAX_ANALYSIS_BYTES:,} bytes")
                return path.read_bytes()
            except (OSError, ValueError):
                continue
        return None

    def content_keys(self, candidates: Sequence[Candidate]) -> list[str]:
        """A key per candidate, equal for photographs with equal bytes; only files of the same size are read."""
        paths = {each.linked.photograph for each in candidates}
        by_size: dict[int, list[str]] = {}
        for path in sorted(paths):
            facts = self._facts[path]
            assert isinstance(facts, Facts)
            by_size.setdefault(facts.bytes, []).append(path)
        keys = {path: self._hash(path) if len(same) > 1 else path for same in by_size.values() for path in same}
        return [keys[each.linked.photograph] for each in candidates]

    def with_hash(self, linked: LinkedRecord) -> LinkedRecord:
        """The record with the SHA-256 of its photograph."""
        return replace(linked, sha256=self._hash(linked.photograph))

    def _hash(self, path: str) -> str:
        if path not in self._hashes:
            self._hashes[path] = sha256_of(self.workspace / path)
        return self._hashes[path]


def _refuse_unreadable(unreadable: Mapping[str, str], columns: Sequence[str]) -> None:
    found = [f"{column}: {why}" for column, why in unreadable.items() if column in columns]
    if found:
        raise _Refused(Reason.UNREADABLE_RECORD, "; ".join(found))


def _profile_scores(profile: Profile) -> dict[str, float]:
    given = {name: value for name, value in profile.scores.items() if value is not None and str(value).strip() != ""}
    if not given:
        raise _Refused(Reason.NO_SCORES)
    if missing := [name for name in DIMENSIONS if name not in given]:
        raise _Refused(Reason.MISSING_DIMENSIONS, ", ".join(missing))
    scores = {}
    for name in DIMENSIONS:
        try:
            score = float(given[name])
        except ValueError:
            raise _Refused(Reason.UNPARSABLE_ANSWER, f"{name}: {given[name]!r} is not a number") from None
        if not MIN_SCORE <= score <= MAX_SCORE:  # also true of a NaN
            raise _Refused(Reason.SCORE_OUT_OF_RANGE, f"{name}: {given[name]}")
        scores[name] = score
    return scores


def _profile_comments(profile: Profile) -> dict[str, str]:
    comments = {name: (profile.comments.get(name) or "").strip() for name in DIMENSIONS}
    if empty := [name for name in DIMENSIONS if not comments[name]]:
        raise _Refused(Reason.NO_COMMENTS, ", ".join(empty))
    _refuse_placeholders(comments)
    return comments


def _refuse_placeholders(comments: dict[str, str]) -> None:
    """Words such as "ok" in most dimensions say nothing about the photograph and would teach empty comments."""
    empty = [name for name, comment in comments.items() if _PLACEHOLDER.fullmatch(comment)]
    if len(empty) > len(DIMENSIONS) // 2:
        raise _Refused(Reason.PLACEHOLDER_COMMENTS, f"{len(empty)} of {len(DIMENSIONS)} say nothing")
