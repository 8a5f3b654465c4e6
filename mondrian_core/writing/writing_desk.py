"""The desk where critiques of one advisor are written: what is next, what is unfinished, saving, undoing, progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mondrian_core.errors import BadInput, BadPhotograph, NothingToDo
from mondrian_core.images import PhotographRejection
from mondrian_core.next_steps import import_photographs_step, retrain_step
from mondrian_core.recipes import Recipe
from mondrian_core.registry import Registry
from mondrian_core.retrieval.nearest_neighbors import path_below_source
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import DimensionalProfile, Store, utc_timestamp
from mondrian_core.store.critique_counts import count_critiqued_photographs, is_complete_critique
from mondrian_core.store.photographs import Photograph, Photographs
from mondrian_core.writing.adapter_errors import AdapterErrors, adapter_errors, present_version
from mondrian_core.writing.anchoring import (
    DRAFT,
    AnchoringMeasurement,
    base_scores_of_profiles,
    measure_anchoring,
)
from mondrian_core.writing.critique_entry import CritiqueEntry, entry_from_profile, untypable_details
from mondrian_core.writing.photograph_looks import PhotographVectors, photograph_vectors
from mondrian_core.writing.similar_photographs import SimilarPhotographs, similar_photographs
from mondrian_core.writing.sufficient_critiques import CritiqueSufficiency, sufficiency
from mondrian_core.writing.teaching_order import NextPhotograph, WritingQueue, choose_next
from mondrian_core.writing.unfinished_critiques import UnfinishedCritique, UnfinishedCritiques, WritingState

WITHDRAWN = "withdrawn"  # key of `details`: a version without scores, which undid the first one
RESTORES = "restores"  # key of `details`: the number of the earlier version, from 1, that an undo brought back
Known = TypeVar("Known")
_NOTHING_KNOWN = PhotographVectors(vectors={}, kind="", wanted=0)


@dataclass(frozen=True, kw_only=True)
class SavedCritique:
    """A critique that was saved: its profile, and the stored revision for the next change."""

    profile: DimensionalProfile
    unfinished: UnfinishedCritique


def written_critique_id(advisor: str, sha256: str) -> str:
    """The id of the profile that a person wrote about a photograph; saving again adds a version of it."""
    return f"written-{advisor}-{sha256}"


class WritingDesk:
    """The desk of one advisor, as the workspace is now: make a new one for every request.

    Args:
        store: the workspace's database.
        root: the workspace.
        advisor: id.
        registry: with the advisor's adapters; None leaves them out of order and progress.

    Raises:
        UnknownAdvisor: when there is no such advisor.
    """

    def __init__(self, store: Store, root: Path, advisor: str, registry: Registry | None = None) -> None:
        self.prompt = store.advisor(advisor)
        self.store, self.root, self.advisor, self._registry = store, root, advisor, registry
        self.unfinished = UnfinishedCritiques(store)
        self._known: dict[str, Any] = {}

    def _once(self, name: str, read: Callable[[], Known]) -> Known:
        """What `read` returned the first time.

        Not `cached_property`: until Python 3.12 all instances share its lock, so a request that reads and one inside a
        transaction would wait for each other.
        """
        if name not in self._known:
            self._known[name] = read()
        found: Known = self._known[name]
        return found

    # --- what there is ------------------------------------------------------------------------------------------------

    @property
    def photographs(self) -> dict[str, Photograph]:
        """The advisor's photographs by SHA-256, in the order of their paths."""
        return self._once(
            "photographs", lambda: {each.sha256: each for each in Photographs(self.store).find(advisor=self.advisor)}
        )

    @property
    def profiles(self) -> list[DimensionalProfile]:
        """The advisor's complete critiques by a person."""
        return self._once("profiles", self._read_profiles)

    def _read_profiles(self) -> list[DimensionalProfile]:
        return [each for each in self.store.profiles(self.advisor) if is_complete_critique(each)]

    @property
    def critiqued(self) -> dict[str, DimensionalProfile]:
        """The latest critique of each photograph that has one, by SHA-256."""
        return self._once("critiqued", self._match_profiles)

    def _match_profiles(self) -> dict[str, DimensionalProfile]:
        paths = {path_below_source(each.image_path): sha256 for sha256, each in self.photographs.items()}
        written = {written_critique_id(self.advisor, sha256): sha256 for sha256 in self.photographs}
        found = (
            (written.get(each.id) or paths.get(path_below_source(each.image_path)), each) for each in self.profiles
        )
        return {sha256: each for sha256, each in found if sha256 is not None}

    @property
    def count(self) -> int:
        """Photographs with a critique by a person, those that were not imported included."""
        return count_critiqued_photographs(self.profiles)

    def photograph(self, sha256: str) -> Photograph:
        """One of the advisor's photographs.

        Raises:
            BadPhotograph: the advisor has no such photograph.
        """
        found = self.photographs.get(sha256)
        if found is None:
            detail = f"'{self.advisor}' has no such photograph"
            raise BadPhotograph(sha256[:80], PhotographRejection.MISSING, detail, "Import it, then write about it.")
        return found

    def current(self, sha256: str) -> UnfinishedCritique:
        """What is stored about a photograph: the unfinished critique, or the saved one to change.

        Raises:
            BadPhotograph: the advisor has no such photograph.
        """
        photograph = self.photograph(sha256)
        found = self.unfinished.get(self.advisor, sha256, photograph.image_path)
        saved = self.critiqued.get(sha256)
        if saved is not None and (found.revision == 0 or found.state == WritingState.SAVED):
            return replace(found, entry=entry_from_profile(saved), state=WritingState.SAVED)
        return found

    def neighbors(self, sha256: str) -> tuple[str | None, str | None]:
        """The photographs before and after one, in the order of their paths."""
        names = list(self.photographs)
        place = names.index(sha256)
        return (names[place - 1] if place else None), (names[place + 1] if place + 1 < len(names) else None)

    # --- what is next -------------------------------------------------------------------------------------------------

    @property
    def adapter(self) -> AdapterErrors | None:
        """The errors of the advisor's present adapter; None without one."""
        return self._once("adapter", self._measure_adapter)

    def _measure_adapter(self) -> AdapterErrors | None:
        version = present_version(self._registry, self.advisor) if self._registry is not None else None
        if version is None:
            return None
        scores = {sha256: profile.scores for sha256, profile in self.critiqued.items()}
        return adapter_errors(version, self.store, self.root, scores)

    @property
    def vectors(self) -> PhotographVectors:
        """What the photographs are compared by."""
        return self._once("vectors", lambda: photograph_vectors(self.store, self.root, list(self.photographs.values())))

    def next_photograph(self, but: str | None = None) -> NextPhotograph | None:
        """The photograph that teaches most now, and why; None when none waits.

        Args:
            but: a photograph that is left out, such as the one that is on the screen.
        """
        rows = self.unfinished.find(self.advisor)
        excluded = {name for name, row in rows.items() if row.state == WritingState.EXCLUDED}
        waiting = [name for name in self.photographs if name not in self.critiqued and name not in excluded | {but}]
        among = {name: row for name, row in rows.items() if name in set(waiting)}
        queue = WritingQueue(
            waiting=waiting,
            begun=[name for name, row in among.items() if row.state == WritingState.OPEN and not row.entry.is_blank],
            skipped=[name for name, row in among.items() if row.state == WritingState.SKIPPED],
            critiqued=[name for name in self.photographs if name in self.critiqued],
        )
        if not waiting or queue.begun:
            return choose_next(queue, _NOTHING_KNOWN)
        return choose_next(queue, self.vectors, self.adapter)

    def require_next(self) -> NextPhotograph:
        """The next photograph.

        Raises:
            NothingToDo: the advisor has no photographs, or none waits.
        """
        found = self.next_photograph()
        if found is not None:
            return found
        if not self.photographs:
            raise NothingToDo(
                f"'{self.advisor}' has no photographs yet.",
                import_photographs_step(self.advisor),
            )
        raise NothingToDo(
            f"No photograph of '{self.advisor}' waits for a critique.",
            f"{retrain_step(self.advisor)} {import_photographs_step(self.advisor)}",
        )

    def similar(self, sha256: str) -> SimilarPhotographs:
        """The photographs of the advisor's portfolio that are most like one, with their critiques."""
        everything = list(self.photographs.values())
        return similar_photographs(self.store, self.root, self.photograph(sha256), self.profiles, everything)

    def progress(self, recipe: Recipe | None = None) -> CritiqueSufficiency:
        """What the critiques are enough for."""
        history = self._registry.history(self.advisor) if self._registry is not None else ()
        return sufficiency(self.count, recipe=recipe, history=history, measured=self.adapter)

    def anchoring(self) -> AnchoringMeasurement:
        """What seeing the base's draft did to the scores."""
        sha256_of = {profile.id: sha256 for sha256, profile in self.critiqued.items()}
        return measure_anchoring(self.critiqued.values(), base_scores_of_profiles(self.store, sha256_of))

    # --- writing ------------------------------------------------------------------------------------------------------

    def store_entry(self, sha256: str, entry: CritiqueEntry, revision: int) -> UnfinishedCritique:
        """Store what was typed so far. An entry that equals what is stored changes nothing.

        Raises:
            ChangedElsewhere: it was made from another revision than the stored one.
            BadPhotograph: the advisor has no such photograph.
        """
        with self.store.transaction():
            before = self.current(sha256)
            if before.revision == revision and before.entry == entry:
                return before
            state = before.state if before.state == WritingState.EXCLUDED else WritingState.OPEN
            return self.unfinished.write(replace(before, entry=entry, revision=revision, state=state))

    def set_state(self, sha256: str, state: WritingState) -> UnfinishedCritique:
        """Skip a photograph, exclude it, or put it back; what was typed is kept.

        Raises:
            BadPhotograph: the advisor has no such photograph.
        """
        with self.store.transaction():
            return self.unfinished.write(replace(self.current(sha256), state=state))

    def save(self, sha256: str, entry: CritiqueEntry, revision: int, written_in: str) -> SavedCritique:
        """Save a complete critique: a profile by a person, with its earlier versions kept.

        Args:
            sha256: of the photograph.
            entry: the critique.
            revision: that it was made from.
            written_in: "page", "terminal" or "file", for the details.

        Raises:
            BadInput: the critique is not complete.
            ChangedElsewhere: as `store_entry`.
            BadPhotograph: as `store_entry`.
        """
        entry.require_complete()
        with self.store.transaction():
            before = self.current(sha256)
            changed = self.unfinished.write(
                replace(before, entry=entry, revision=revision, state=WritingState.SAVED, draft=before.draft)
            )
            how: dict[str, Any] = {"written_in": written_in}
            if before.draft:
                how[DRAFT] = dict(before.draft)
            path = before.image_path
            if (saved := self.critiqued.get(sha256)) is not None:
                how = untypable_details(saved, entry) | how
            profile = entry.as_profile(written_critique_id(self.advisor, sha256), self.advisor, path, how)
            self.store.save_profile(profile)
        self._forget()
        return SavedCritique(profile=profile, unfinished=changed)

    def undo(self, sha256: str) -> UnfinishedCritique:
        """Undo the last save on this desk: the version before it counts again, or none, and the text stays to edit.

        Nothing is deleted: the earlier version is added once more.

        Raises:
            BadInput: nothing was saved here.
        """
        profile_id = written_critique_id(self.advisor, sha256)
        with self.store.transaction():
            versions = self.store.profile_versions(profile_id)
            if not versions or WITHDRAWN in versions[-1].details:
                raise BadInput("There is no saved critique to undo.", "Save one first.")
            row, saved = self.current(sha256), entry_from_profile(versions[-1])
            self.store.save_profile(_version_before(versions))
            changed = self.unfinished.write(replace(row, entry=saved, state=WritingState.OPEN))
        self._forget()
        return changed

    def record_draft(self, sha256: str, job_id: str, scores: Mapping[str, Any]) -> UnfinishedCritique:
        """Record that the base's draft is about to be shown, with the dimensions that were scored before.

        The first draft counts: what was scored before it can't have been drawn to it.
        """
        with self.store.transaction():
            row = self.current(sha256)
            if row.draft:
                return row
            draft = {
                "job": job_id,
                "seen_at": utc_timestamp(),
                "scored_before": [name for name in DIMENSIONS if name in row.entry.scores],
                "scores": {name: scores[name] for name in DIMENSIONS if name in scores},
            }
            return self.unfinished.write(replace(row, draft=draft))

    def _forget(self) -> None:
        """Read critiques again when they are next asked for."""
        for name in ("profiles", "critiqued", "adapter"):
            self._known.pop(name, None)


def _version_before(versions: Sequence[DimensionalProfile]) -> DimensionalProfile:
    """The version before the one that counts, as a new version; without scores when there was none before."""
    last = versions[-1]
    place = last.details.get(RESTORES, len(versions)) - 1  # of the earlier version, from 1
    if place < 1:
        nothing: dict[str, Any] = {"scores": {}, "comments": {}, "recommendations": {}, "overall_grade": None}
        return replace(last, **nothing, created_at=None, details={WITHDRAWN: True})
    earlier = versions[place - 1]
    return replace(earlier, created_at=None, details={**earlier.details, RESTORES: place})
