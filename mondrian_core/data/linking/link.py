"""Linking: join critiques with their photographs. Every record is used, or excluded for exactly one reason.

Of several critiques of one photograph (equal bytes, in any folder) one is chosen:

1. a critique by a person, then a draft that a person accepted or corrected, then one by a model;
2. a complete critique before one that needed a repair (an unreadable grade, a fence, an older form);
3. the newest: by `created_at` where all remaining critiques have it, otherwise by insertion order.

The others are excluded as `duplicate_of` when scores and comments are equal, otherwise as `superseded`. Critiques by a
model are used only when there is none by a person; otherwise they are excluded as `model_written`, so that ground truth
is never mixed silently. Critiques that the retrieval index made are never used.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mondrian_core.critique_parsing import CritiqueParseError, parse_answer_object, parse_critique_lenient
from mondrian_core.data.linking.advice_preferences import Judgements, advice_preferences
from mondrian_core.data.linking.advice_reading import (
    Advice,
    advice_counts,
    advice_of_answer,
    advice_of_critique,
    advice_of_profile,
)
from mondrian_core.data.linking.critique_choice import choose_critiques, prefer_people
from mondrian_core.data.linking.link_manifest import (
    HUMAN,
    INDEX,
    MODEL,
    SYNTHETIC,
    AdvicePreference,
    CritiqueCandidate,
    ExcludedRecord,
    ExclusionReason,
    LinkedRecord,
    LinkManifest,
)
from mondrian_core.data.linking.photograph_files import exclusion_reason
from mondrian_core.errors import BadPhotograph
from mondrian_core.events import EventListener, StageNotice, StageProgressed, ignore_events
from mondrian_core.files import file_sha256
from mondrian_core.images import PhotographHeader, read_photograph_header
from mondrian_core.photograph_paths import PathResolution, SourceTree
from mondrian_core.portable_paths import redacted_path
from mondrian_core.rubric import DIMENSIONS, MAX_SCORE, MIN_SCORE, AnswerForm, Critique, has_visible_character
from mondrian_core.store import COMPLETED, DimensionalProfile, Job, Store
from mondrian_core.store.advice_judgements import judgements_of
from mondrian_core.store.corrections import corrected_job_id
from mondrian_core.store.drafts import CORRECTED, DISCARDED, WAITING, Draft, DraftStore, UnreadableDraft
from mondrian_core.text_decoding import UnknownEncodingError, decode_text
from mondrian_core.text_quality import is_placeholder_comment
from mondrian_core.training_target import training_target

__all__ = ["ExcludedRecord", "ExclusionReason", "LinkManifest", "LinkedRecord", "link_critiques"]

ANALYSIS_FOLDER = "analysis_md"
PROGRESS_INTERVAL = 500
MAX_ANALYSIS_BYTES = 1_000_000
_PATH_REASONS = {
    PathResolution.MISSING: ExclusionReason.MISSING_PHOTOGRAPH,
    PathResolution.BROKEN_LINK: ExclusionReason.BROKEN_LINK,
    PathResolution.AMBIGUOUS: ExclusionReason.AMBIGUOUS_PHOTOGRAPH,
    PathResolution.OUTSIDE: ExclusionReason.OUTSIDE_WORKSPACE,
}
_UNUSED_DRAFTS = {WAITING: ExclusionReason.DRAFT_WAITING, DISCARDED: ExclusionReason.DRAFT_DISCARDED}
_OfPhotograph = TypeVar("_OfPhotograph", LinkedRecord, AdvicePreference)
_OWNER = ("advisor_id",)
_PROFILE_CELLS = ("image_path", "origin", *(f"{name}_{kind}" for name in DIMENSIONS for kind in ("score", "comment")))
_MALFORMED_CELL_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
_ANSWER_REASONS = {
    "missing_dimensions": ExclusionReason.MISSING_DIMENSIONS,
    "score_out_of_range": ExclusionReason.SCORE_OUT_OF_RANGE,
    "no_comment": ExclusionReason.NO_COMMENTS,
}


class _ExcludedError(Exception):
    """A record is not used, for this reason."""

    def __init__(self, reason: ExclusionReason, detail: str = "", parts: Mapping[str, int] | None = None) -> None:
        self.reason, self.detail, self.parts = reason, detail, parts or {}
        super().__init__(reason.value)


def link_critiques(store: Store, workspace: Path, advisor: str, listen: EventListener = ignore_events) -> LinkManifest:
    """Join the profiles, completed jobs and reviewed drafts of one advisor with their photographs.

    Nothing is written. Of photographs the headers are read, and the bytes of those that are used. The module docstring
    has the rule that chooses among several critiques of one photograph.
    """
    linker = _Linker(workspace, advisor)
    candidates: list[CritiqueCandidate] = []
    left_out: list[ExcludedRecord] = []
    done = 0
    for record, outcome in linker.outcomes(store):
        if isinstance(outcome, CritiqueCandidate):
            candidates.append(outcome)
        else:
            detail = linker.detail_for_others(outcome.detail)
            left_out.append(ExcludedRecord(record, outcome.reason, detail, outcome.parts))
        done += 1
        if done % PROGRESS_INTERVAL == 0:
            listen(StageProgressed("link", done, detail=f"{len(candidates)} usable"))
    keys = linker.content_keys(candidates)
    chosen, passed_over = choose_critiques(candidates, keys)
    chosen, models = prefer_people(chosen)
    used = tuple(linker.with_hash(each.linked) for each in chosen)
    listen(StageProgressed("link", done, done, f"{len(used)} used"))
    if used and not any(record.origin == HUMAN for record in used):
        by_model = sum(record.origin == MODEL for record in used)
        listen(
            StageNotice("link", f"No critique for '{advisor}' was written by a person; {by_model} by a model are used.")
        )
    preferences = tuple(map(linker.with_hash, advice_preferences(candidates, keys, linker.judgements)))
    return LinkManifest(advisor, used, (*left_out, *passed_over, *models), store.version, preferences)


class _Linker:
    """Links the records of one workspace; each file is examined once."""

    def __init__(self, workspace: Path, advisor: str) -> None:
        self.workspace, self.advisor = workspace, advisor
        self.index = SourceTree(workspace)
        self._headers: dict[str, PhotographHeader | _ExcludedError] = {}
        self._hashes: dict[str, str] = {}
        self.judgements: dict[str, Judgements] = {}  # by record, of the records that have some
        self._store: Store | None = None

    def outcomes(self, store: Store) -> Iterable[tuple[str, CritiqueCandidate | _ExcludedError]]:
        """Every record of the database with its outcome."""
        self._store = store
        for profile in store.profiles():
            outcome = self._result_or_exclusion(self._profile, profile)
            if isinstance(outcome, _ExcludedError) and profile.advisor == self.advisor:
                outcome.parts = advice_counts(advice_of_profile(profile))
            yield f"profile:{profile.id}", outcome
        for order, job in enumerate(store.jobs()):
            outcome = self._result_or_exclusion(self._job, job, order)
            if isinstance(outcome, _ExcludedError) and job.advisor == self.advisor:
                outcome.parts = self._parts_of_job(job)
            yield f"job:{job.id}", outcome
        for order, draft in enumerate(DraftStore(store).all_including_unreadable()):
            yield f"draft:{draft.id}", self._result_or_exclusion(self._draft, draft, order)

    def detail_for_others(self, detail: str) -> str:
        """The detail without folders outside the workspace, because the manifest is shown to others."""
        return redacted_path(detail, self.index.workspace_roots) if "/" in detail or "\\" in detail else detail

    def _result_or_exclusion(self, judge: Any, *arguments: Any) -> CritiqueCandidate | _ExcludedError:
        try:
            candidate: CritiqueCandidate = judge(*arguments)
        except _ExcludedError as refused:
            return refused.with_traceback(None)
        except _MALFORMED_CELL_ERRORS as error:  # one malformed record must not stop the others
            return _ExcludedError(ExclusionReason.UNREADABLE_RECORD, f"{type(error).__name__}: {error}")
        return candidate

    def _profile(self, profile: DimensionalProfile) -> CritiqueCandidate:
        _refuse_unreadable(profile.unreadable, _OWNER)
        if profile.advisor != self.advisor:
            raise _ExcludedError(ExclusionReason.OTHER_ADVISOR, profile.advisor)
        _refuse_unreadable(profile.unreadable, _PROFILE_CELLS)
        if profile.origin == INDEX:
            raise _ExcludedError(ExclusionReason.INDEX_MADE, profile.image_path)
        located = self._located(profile.image_path)
        scores, comments = _profile_scores(profile), _profile_comments(profile)
        readable_grade = bool(re.fullmatch(r"\s*\d+(\.\d+)?\s*", profile.overall_grade or ""))
        problems = () if readable_grade else ("grade_computed",)
        linked = replace(
            located,
            record=f"profile:{profile.id}",
            origin=HUMAN if profile.origin == HUMAN else MODEL,
            scores=scores,
            comments=comments,
            overall_grade=profile.overall_grade if readable_grade else None,
            created_at=profile.created_at,
            repairs=(*problems, *_unread_advice(profile)),
            corrects=self._corrected(profile),
            **advice_of_profile(profile),
        )
        return CritiqueCandidate(linked, profile.order, problems)

    def _corrected(self, profile: DimensionalProfile) -> str | None:
        """The model's critique that this profile corrects; None when there is none that can be read."""
        job_id = corrected_job_id(profile.id)
        job = self._store.job(job_id) if job_id and self._store else None
        if job is None or job.status != COMPLETED:
            return None
        try:
            return training_target(self._critique(job)[0], AnswerForm.ADVICE)
        except _ExcludedError:
            return None

    def _job(self, job: Job, order: int) -> CritiqueCandidate:
        _refuse_unreadable(job.unreadable, ("advisor",))
        if job.advisor != self.advisor:
            raise _ExcludedError(ExclusionReason.OTHER_ADVISOR, job.advisor or "none")
        _refuse_unreadable(job.unreadable, ("status", "filename", "analysis_markdown"))
        if job.status != COMPLETED:
            raise _ExcludedError(ExclusionReason.JOB_NOT_COMPLETED, job.status or "no status")
        located = self._located(job.filename)
        critique, repairs, advice = self._critique(job)
        comments = {name: critique.assessments[name].comment for name in DIMENSIONS}
        _refuse_placeholders(comments)
        linked = replace(
            located,
            record=f"job:{job.id}",
            origin=MODEL,
            scores=critique.scores,
            comments=comments,
            overall_grade=critique.overall_grade or None,
            created_at=job.completed_at or job.created_at,
            repairs=repairs,
            **advice,
        )
        if judged := judgements_of(job):
            self.judgements[linked.record] = judged
        return CritiqueCandidate(linked, order, repairs)

    def _draft(self, draft: Draft | UnreadableDraft, order: int) -> CritiqueCandidate:
        if isinstance(draft, UnreadableDraft):
            raise _ExcludedError(ExclusionReason.UNREADABLE_RECORD, draft.why)
        if draft.advisor != self.advisor:
            raise _ExcludedError(ExclusionReason.OTHER_ADVISOR, draft.advisor)
        if draft.state in _UNUSED_DRAFTS or draft.decided is None:
            raise _ExcludedError(_UNUSED_DRAFTS.get(draft.state, ExclusionReason.DRAFT_WAITING), draft.image_path)
        located = self._located(draft.image_path)
        comments = {name: draft.decided.assessments[name].comment for name in DIMENSIONS}
        _refuse_placeholders(comments)
        linked = replace(
            located,
            record=f"draft:{draft.id}",
            origin=SYNTHETIC,
            scores=draft.decided.scores,
            comments=comments,
            overall_grade=draft.decided.overall_grade,
            created_at=draft.decided_at,
            corrects=training_target(draft.proposal, AnswerForm.ADVICE) if draft.state == CORRECTED else None,
            **advice_of_critique(draft.decided),
        )
        return CritiqueCandidate(linked, order)

    def _located(self, text: str | None) -> LinkedRecord:
        """A record with the photograph that a path leads to, still without its critique."""
        if not text or not text.strip():
            raise _ExcludedError(ExclusionReason.NO_PATH)
        if self.index.is_temporary(text):
            raise _ExcludedError(ExclusionReason.TEMPORARY_FILE, text)
        resolved = self.index.resolve(text)
        if resolved.path is None:
            raise _ExcludedError(_PATH_REASONS[resolved.how], text)
        if resolved.path not in self._headers:
            self._headers[resolved.path] = self._read_header(resolved.path)
        header = self._headers[resolved.path]
        if isinstance(header, _ExcludedError):
            raise _ExcludedError(header.reason, header.detail)
        return LinkedRecord(
            record="",
            photograph=resolved.path,
            sha256="",
            width=header.width,
            height=header.height,
            found=resolved.how.value,
            origin="",
            scores={},
            comments={},
        )

    def _read_header(self, path: str) -> PhotographHeader | _ExcludedError:
        try:
            return read_photograph_header(self.workspace / path)
        except BadPhotograph as error:
            return _ExcludedError(exclusion_reason(error), path)

    def _parts_of_job(self, job: Job) -> dict[str, int]:
        """What an excluded job's answer holds besides scores and comments, even when it isn't complete."""
        try:
            return advice_counts(advice_of_answer(parse_answer_object(self._analysis(job)[0])[0]))
        except (_ExcludedError, CritiqueParseError, *_MALFORMED_CELL_ERRORS):
            return {}

    def _critique(self, job: Job) -> tuple[Critique, tuple[str, ...], Advice]:
        """The critique, what it took to read it, and what it says besides scores and comments."""
        text, decoding = self._analysis(job)
        try:
            reading = parse_critique_lenient(text)
            advice = advice_of_answer(parse_answer_object(text)[0])
        except CritiqueParseError as error:
            reason = _ANSWER_REASONS.get(error.reason, ExclusionReason.UNPARSABLE_ANSWER)
            raise _ExcludedError(reason, error.detail or error.reason) from None
        return reading.critique, (*decoding, *reading.repairs), advice

    def _analysis(self, job: Job) -> tuple[str, tuple[str, ...]]:
        """The text of a job's analysis file and how it was decoded; without a file, the answer stored in the row."""
        import json

        name = Path((job.analysis_markdown or "").replace("\\", "/")).name
        data = self._analysis_bytes(name) if name else None
        if data is None:
            if job.answer is not None:
                return json.dumps(job.answer), ()
            raise _ExcludedError(ExclusionReason.MISSING_ANALYSIS, name or "the job names no file")
        try:
            text, repair = decode_text(data)
        except UnknownEncodingError as error:
            raise _ExcludedError(ExclusionReason.UNPARSABLE_ANSWER, f"{name}: {error}") from None
        return text, (repair,) if repair else ()

    def _analysis_bytes(self, name: str) -> bytes | None:
        """The file's bytes, whether its name is composed or decomposed (NFC, NFD); None when it is missing."""
        for form in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
            path = self.workspace / ANALYSIS_FOLDER / form
            try:
                if path.stat().st_size > MAX_ANALYSIS_BYTES:
                    raise _ExcludedError(
                        ExclusionReason.UNPARSABLE_ANSWER, f"{name} is larger than {MAX_ANALYSIS_BYTES:,} bytes"
                    )
                return path.read_bytes()
            except (OSError, ValueError):
                continue
        return None

    def content_keys(self, candidates: Sequence[CritiqueCandidate]) -> list[str]:
        """A key per candidate, equal for photographs with equal bytes; only files of equal size are read."""
        paths = {each.linked.photograph for each in candidates}
        by_size: dict[int, list[str]] = {}
        for path in sorted(paths):
            header = self._headers[path]
            assert isinstance(header, PhotographHeader)
            by_size.setdefault(header.bytes, []).append(path)
        keys = {path: self._hash(path) if len(same) > 1 else path for same in by_size.values() for path in same}
        return [keys[each.linked.photograph] for each in candidates]

    def with_hash(self, linked: _OfPhotograph) -> _OfPhotograph:
        """The record or preference with the SHA-256 of its photograph."""
        return replace(linked, sha256=self._hash(linked.photograph))

    def _hash(self, path: str) -> str:
        if path not in self._hashes:
            self._hashes[path] = file_sha256(self.workspace / path)
        return self._hashes[path]


def _refuse_unreadable(unreadable: Mapping[str, str], columns: Sequence[str]) -> None:
    found = [f"{column}: {why}" for column, why in unreadable.items() if column in columns]
    if found:
        raise _ExcludedError(ExclusionReason.UNREADABLE_RECORD, "; ".join(found))


def _unread_advice(profile: DimensionalProfile) -> list[str]:
    """The columns of a profile's recommendations and notes that can't be read, for the record's repairs."""
    return [f"unreadable_{column}" for column in profile.unreadable if column not in (*_OWNER, *_PROFILE_CELLS)]


def _profile_scores(profile: DimensionalProfile) -> dict[str, float]:
    given = {name: value for name, value in profile.scores.items() if value is not None and str(value).strip() != ""}
    if not given:
        raise _ExcludedError(ExclusionReason.NO_SCORES)
    if missing := [name for name in DIMENSIONS if name not in given]:
        raise _ExcludedError(ExclusionReason.MISSING_DIMENSIONS, ", ".join(missing))
    scores = {}
    for name in DIMENSIONS:
        try:
            score = float(given[name])
        except ValueError:
            raise _ExcludedError(
                ExclusionReason.UNPARSABLE_ANSWER, f"{name}: {given[name]!r} is not a number"
            ) from None
        if not MIN_SCORE <= score <= MAX_SCORE:  # also true of a NaN
            raise _ExcludedError(ExclusionReason.SCORE_OUT_OF_RANGE, f"{name}: {given[name]}")
        scores[name] = score
    return scores


def _profile_comments(profile: DimensionalProfile) -> dict[str, str]:
    comments = {name: (profile.comments.get(name) or "").strip() for name in DIMENSIONS}
    if empty := [name for name in DIMENSIONS if not has_visible_character(comments[name])]:
        raise _ExcludedError(ExclusionReason.NO_COMMENTS, ", ".join(empty))
    _refuse_placeholders(comments)
    return comments


def _refuse_placeholders(comments: dict[str, str]) -> None:
    """Exclude placeholder comments such as "ok" in most dimensions: they would teach empty comments."""
    empty = [name for name, comment in comments.items() if is_placeholder_comment(comment)]
    if len(empty) > len(DIMENSIONS) // 2:
        raise _ExcludedError(
            ExclusionReason.PLACEHOLDER_COMMENTS, f"{len(empty)} of {len(DIMENSIONS)} are placeholders"
        )
