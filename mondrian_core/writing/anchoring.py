"""What seeing the base model's draft does to a person's scores: anchoring, measured from saved critiques.

A critique records whether a draft was shown while it was written, and which dimensions already had a score then. Its
scores given after that are compared with the draft, and so are scores given without any draft in view, wherever the
base has critiqued the same photograph. If people are pulled to the draft, the first distance is the smaller one. It
isn't an experiment: people may ask for a draft where they are unsure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.statistics.intervals import student_mean_interval
from mondrian_core.store import COMPLETED, DimensionalProfile, Store
from mondrian_core.writing.adapter_errors import Scores, answer_scores, score_distance

DRAFT = "draft"  # key of `DimensionalProfile.details`: the draft that was shown


@dataclass(frozen=True)
class DraftDistance:
    """Mean distance (points) of critiques from the base's draft, with its 95 % interval; None without critiques."""

    critiques: int
    mean: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class AnchoringMeasurement:
    """The distance to the draft of scores given with the draft seen, and without."""

    seen: DraftDistance
    unseen: DraftDistance

    @property
    def sentence(self) -> str:
        """For people."""
        if self.seen.mean is None or self.unseen.mean is None:
            return "Anchoring can't be measured yet: it takes critiques written with a draft seen, and others without."
        return (
            f"Scores given after seeing the base's draft are {self.seen.mean:.2f} points from it "
            f"({self.seen.critiques} critiques), others {self.unseen.mean:.2f} ({self.unseen.critiques})."
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "sentence": self.sentence}


def measure_anchoring(
    profiles: Iterable[DimensionalProfile], base_scores: Mapping[str, Scores]
) -> AnchoringMeasurement:
    """Compare scores with the base's, by whether its draft was seen before they were given.

    Args:
        profiles: critiques by people.
        base_scores: by id of a profile, what the base said about its photograph; for critiques without a draft.
    """
    seen: list[float] = []
    unseen: list[float] = []
    for profile in profiles:
        draft = profile.details.get(DRAFT)
        shown = draft if isinstance(draft, Mapping) else {}
        scores = shown.get("scores") or base_scores.get(profile.id) or {}
        before = set(shown.get("scored_before") or ()) if shown else set(DIMENSIONS)
        after = [name for name in DIMENSIONS if name not in before]
        for names, distances in ((after, seen), ([name for name in DIMENSIONS if name in before], unseen)):
            found = score_distance(profile.scores, scores, names)
            if found is not None:
                distances.append(found)
    return AnchoringMeasurement(_distance(seen), _distance(unseen))


def base_scores_of_profiles(store: Store, sha256_of: Mapping[str, str]) -> dict[str, Scores]:
    """What the base said about the photographs of profiles: id of a profile -> scores of its latest base job.

    Args:
        store: with the jobs.
        sha256_of: id of a profile -> SHA-256 of its photograph.
    """
    said = {
        job.photograph_sha256: answer_scores(job.answer or {})
        for job in store.jobs(status=COMPLETED)
        if job.photograph_sha256 and job.adapter_version is None and job.mode == "baseline"
    }
    return {profile: said[sha256] for profile, sha256 in sha256_of.items() if sha256 in said}


def _distance(values: list[float]) -> DraftDistance:
    mean = sum(values) / len(values) if values else None
    return DraftDistance(len(values), mean, student_mean_interval(values))
