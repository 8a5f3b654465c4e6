"""What a workspace holds of each photograph: who has it, and how many critiques there are, by people and by models.

A photograph is what was imported, and what was sent to be critiqued; its identity is the hash of its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mondrian_core.settings import ALL_ADVISORS
from mondrian_core.store.job_search import ASKED_FOR
from mondrian_core.store.photographs import Photographs, path_below_source
from mondrian_core.store.queries import Store
from mondrian_core.store.records import COMPLETED, DimensionalProfile


@dataclass(kw_only=True)
class PhotographSummary:
    """One photograph.

    Attributes:
        sha256: of its bytes.
        path: where it is, as the database has it.
        advisors: ids of those who have it or critiqued it; `ALL_ADVISORS` when every advisor has it.
        portfolio: True when it is an advisor's own work.
        model_critiques: critiques that a model gave and a person asked for.
        written_critiques: critiques by people, corrections included.
        latest: when it was imported or last critiqued by a model, ISO 8601 in UTC; "" when unknown.
    """

    sha256: str
    path: str
    advisors: set[str] = field(default_factory=set)
    portfolio: bool = False
    model_critiques: int = 0
    written_critiques: int = 0
    latest: str = ""

    @property
    def critiques(self) -> int:
        """All critiques."""
        return self.model_critiques + self.written_critiques


def photograph_summaries(store: Store) -> list[PhotographSummary]:
    """All photographs, the one with the latest import or critique first."""
    found: dict[str, PhotographSummary] = {}
    for each in Photographs(store).find():
        summary = found.setdefault(each.sha256, PhotographSummary(sha256=each.sha256, path=each.image_path))
        summary.advisors.add(each.advisor)
        summary.portfolio = summary.portfolio or each.portfolio
        summary.latest = max(summary.latest, each.imported_at or "")
    for summary in found.values():
        if summary.portfolio:
            summary.advisors.discard(ALL_ADVISORS)
    for sha256, filename, advisor, count, latest in _job_rows(store):
        summary = found.setdefault(sha256, PhotographSummary(sha256=sha256, path=filename))
        summary.advisors |= {advisor} if advisor else set()
        summary.model_critiques += count
        summary.latest = max(summary.latest, latest)
    by_path = {path_below_source(path): found[sha256] for sha256, path in _known_paths(store) if sha256 in found}
    for profile in filter(_is_written, store.profiles()):
        if (written := by_path.get(path_below_source(profile.image_path))) is not None:
            written.written_critiques += 1
            written.advisors |= {profile.advisor} if profile.advisor else set()
    return sorted(found.values(), key=lambda summary: (summary.latest, summary.path), reverse=True)


def critiques_of_photograph(store: Store, sha256: str) -> list[DimensionalProfile]:
    """The critiques of a photograph that people wrote, corrections included, in the order they were written."""
    spellings = {
        spelling
        for path in Photographs(store).paths(sha256)
        for spelling in (path, path_below_source(path), f"source/{path_below_source(path)}")
    }
    profiles = [profile for path in sorted(spellings) for profile in store.profiles(image_path=path)]
    written = {profile.id: profile for profile in profiles if _is_written(profile)}
    return sorted(written.values(), key=lambda profile: (profile.created_at or "", profile.order))


def _job_rows(store: Store) -> Iterator[tuple[str, str, str, int, str]]:
    rows = store.select(
        "SELECT photograph_sha256, filename, advisor, count(*), max(moment(CAST(completed_at AS BLOB))) FROM jobs "
        "WHERE status = ? AND typeof(photograph_sha256) = 'text' AND length(photograph_sha256) = 64 "
        f"AND {ASKED_FOR} GROUP BY photograph_sha256, filename, advisor",
        (COMPLETED,),
    )
    for sha256, filename, advisor, count, latest in rows:
        if isinstance(sha256, str):
            name = filename if isinstance(filename, str) else ""
            yield sha256, name, advisor if isinstance(advisor, str) else "", int(count), latest or ""


def _known_paths(store: Store) -> Iterable[tuple[str, str]]:
    queries = ["SELECT DISTINCT photograph_sha256, filename FROM jobs"]
    queries += [
        f"SELECT sha256, image_path FROM {name}" for name in ("photographs", "embeddings") if store.has_table(name)
    ]
    return [
        (sha256, path)
        for query in queries
        for sha256, path in store.select(query)
        if isinstance(sha256, str) and isinstance(path, str)
    ]


def _is_written(profile: DimensionalProfile) -> bool:
    """True for a critique by a person that has scores; one that was withdrawn has none."""
    return profile.origin == "human" and any(isinstance(score, int | float) for score in profile.scores.values())
