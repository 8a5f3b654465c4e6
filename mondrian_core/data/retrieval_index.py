"""Building the retrieval index of an advisor: an embedding per photograph, and base-model scores where there are none.

A critique that the base model makes here is a profile of origin "index". It is for retrieval only: linking always
excludes it (`index_made`), so it is never trained on nor measured against. Each photograph is written in its own
transaction, so an interrupted run resumes where it stopped, and a second run has nothing to do.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mondrian_core.data.base_model_critic import BaseModelOutput, PhotographCritic
from mondrian_core.data.linking.link import link_critiques
from mondrian_core.data.linking.link_manifest import HUMAN, INDEX, SYNTHETIC
from mondrian_core.data.linking.photograph_files import (
    ExcludedFile,
    PhotographFile,
    excluded_photograph,
    hash_photograph_files,
    portfolio_paths,
)
from mondrian_core.errors import BadPhotograph, NothingToDo
from mondrian_core.events import EventListener, StageNotice, StageProgressed, ignore_events
from mondrian_core.image_alignment import comparison_thumbnail
from mondrian_core.images import downscale_to_fit, open_photograph
from mondrian_core.next_steps import import_photographs_step
from mondrian_core.perceptual_hash import perceptual_hash
from mondrian_core.store import DimensionalProfile, Store, utc_timestamp
from mondrian_core.store.embeddings import Embedding, EmbeddingStore


@dataclass(frozen=True, kw_only=True)
class IndexBuildResult:
    """The outcome of indexing an advisor's photographs.

    Attributes:
        photographs: distinct photographs in the index: those of the portfolio, and those critiqued elsewhere.
        known: those that were already in the index.
        embedded: entries written by this run.
        scored: those of them without a critique by a person, which the base model scored.
        left_out: files that could not be used, with the reason.
    """

    photographs: int
    known: int
    embedded: int
    scored: int
    left_out: tuple[ExcludedFile, ...]


def build_index(
    store: Store, workspace: Path, advisor: str, critic: PhotographCritic, listen: EventListener = ignore_events
) -> IndexBuildResult:
    """Bring the index of an advisor up to date with this base model.

    Args:
        store: opened for writing.
        workspace: folder that photographs are relative to.
        advisor: id.
        critic: the base model.
        listen: receives progress, and a notice for each file that is left out.

    Raises:
        NothingToDo: when the advisor has no photographs.
    """
    profiled = {
        record.sha256: record.photograph
        for record in link_critiques(store, workspace, advisor).used
        if record.origin in (HUMAN, SYNTHETIC)
    }
    left_out: list[ExcludedFile] = []
    files = list(hash_photograph_files(workspace, _paths(workspace, advisor, profiled), left_out))
    if not files:
        raise NothingToDo(
            f"'{advisor}' has no photographs to index.",
            import_photographs_step(advisor, portfolio=True),
        )
    complete = _complete(store, advisor, critic, profiled)
    todo = [each for each in files if each.sha256 not in complete]
    embedded = scored = 0
    for done, found in enumerate(todo, 1):
        outcome = _analyze_file(found, workspace, critic, critique=found.sha256 not in profiled)
        if isinstance(outcome, ExcludedFile):
            left_out.append(outcome)
            listen(StageNotice("index", f"{outcome.path} is left out: {outcome.reason}"))
        else:
            look, image = outcome
            entry = Embedding(
                advisor=advisor,
                sha256=found.sha256,
                image_path=found.path,
                base=critic.fingerprint,
                perceptual_hashes=perceptual_hash(image),
                thumbnail=comparison_thumbnail(image),
                vector=look.embedding,
            )
            profile = _profile(advisor, found, look)
            EmbeddingStore(store).save(entry, profile)
            embedded, scored = embedded + 1, scored + (profile is not None)
        listen(StageProgressed("index", done, len(todo), found.path))
    known = len(files) - len(todo)
    return IndexBuildResult(
        photographs=known + embedded, known=known, embedded=embedded, scored=scored, left_out=tuple(left_out)
    )


def index_profile_id(advisor: str, sha256: str) -> str:
    """The id of the profile that the index makes for a photograph; another base model replaces it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"mondrian index {advisor} {sha256}"))


def _paths(workspace: Path, advisor: str, profiled: Mapping[str, str]) -> Sequence[str]:
    return sorted({*portfolio_paths(workspace, advisor), *profiled.values()})


def _complete(store: Store, advisor: str, critic: PhotographCritic, profiled: Mapping[str, str]) -> frozenset[str]:
    """SHA-256 of photographs with an entry of this base model, and a critique by a person or by the index.

    Entries of an older release, without a thumbnail, are not complete: crops of theirs would not be recognized.
    """
    scored = {profile.id for profile in store.profiles(advisor) if profile.origin == INDEX}
    found = EmbeddingStore(store).find(advisor, critic.fingerprint)
    entries = {entry.sha256 for entry in found if entry.thumbnail is not None}
    return frozenset(sha for sha in entries if sha in profiled or index_profile_id(advisor, sha) in scored)


def _analyze_file(
    found: PhotographFile, workspace: Path, critic: PhotographCritic, *, critique: bool
) -> tuple[BaseModelOutput, Image.Image] | ExcludedFile:
    try:
        photograph = open_photograph(workspace / found.path)
    except BadPhotograph as error:
        return excluded_photograph(found.path, error)
    look = critic.analyze_photograph(downscale_to_fit(photograph.image), critique=critique)
    if look.problem is not None:
        return ExcludedFile(found.path, look.problem)
    return look, photograph.image


def _profile(advisor: str, found: PhotographFile, look: BaseModelOutput) -> DimensionalProfile | None:
    if look.critique is None:
        return None
    comments = {name: each.comment for name, each in look.critique.assessments.items()}
    return DimensionalProfile(
        id=index_profile_id(advisor, found.sha256),
        advisor=advisor,
        image_path=found.path,
        scores=look.critique.scores,
        comments=comments,
        overall_grade=look.critique.overall_grade,
        origin=INDEX,
        created_at=utc_timestamp(),
    )
