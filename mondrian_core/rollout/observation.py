"""Count the observations of a rollout from the jobs. A photograph counts once, with its first answer under a share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from mondrian_core.rollout.faults import is_external_fault
from mondrian_core.rollout.plan import ArmCounts, PairCounts, Rollout, RolloutObservations, ShareStratum
from mondrian_core.store import COMPLETED, FAILED, Job

SHADOW_KEY = "shadow"


@dataclass(frozen=True, kw_only=True)
class RolloutRequest:
    """One answered request, as a rollout counts it.

    Attributes:
        unit: SHA-256 of the photograph, which determines its arm.
        share: the share when it was assigned (0-1).
        candidate: True when it was assigned to the candidate, even if another strategy answered.
        failed: True when the assigned adapter gave no valid answer: broken schema, fallback or error.
        seconds: time of the answer; None when there is none.
        scores: of the answer (0-10), one per dimension.
        rating: by a user, higher is better.
        rated_at: time of the first rating, in a form that sorts; None: unknown.
        crashed: number of times the model process died while the assigned adapter answered.
        shadow: True when it was answered for comparison only.
        job: identifies the request.
        machine: which answered it; "" where only one does.
    """

    unit: str
    share: float
    candidate: bool
    failed: bool = False
    seconds: float | None = None
    scores: tuple[float, ...] | None = None
    rating: float | None = None
    rated_at: str | None = None
    crashed: int = 0
    shadow: bool = False
    job: str = ""
    machine: str = ""


def rollout_requests(jobs: Iterable[Job], rollout: Rollout) -> list[RolloutRequest]:
    """The jobs that belong to this rollout, in the order in which they ended.

    The service marks each job that it assigns with `details["rollout"] = {"salt", "share", "candidate", "shadow"}`. A
    request with an explicit mode isn't assigned and doesn't count, nor does a failure that neither arm caused
    (`faults`). `details` may also hold "seconds", "rating", "crashed", and "repairs": the lenient reader's corrections
    of an answer that broke the schema.
    """
    requests = []
    for job in jobs:
        mark = job.details.get("rollout") or {}
        if mark.get("salt") != rollout.salt or job.explicit_mode or job.status not in (COMPLETED, FAILED):
            continue
        if is_external_fault(job):
            continue
        answered_by = (rollout.version if mark["candidate"] else rollout.control) or None
        request = RolloutRequest(
            unit=job.photograph_sha256 or job.id,
            share=float(mark["share"]),
            candidate=bool(mark["candidate"]),
            failed=is_failed_answer(job, answered_by),
            seconds=job.details.get("seconds"),
            scores=_scores(job),
            rating=job.details.get("rating"),
            rated_at=job.details.get("rated_at"),
            crashed=int(job.details.get("crashed") or 0),
            shadow=bool(mark.get(SHADOW_KEY)),
            job=job.id,
        )
        requests.append((job.completed_at or "", request))
    return [request for _, request in sorted(requests, key=lambda ended: ended[0])]


def is_failed_answer(job: Job, assigned: str | None) -> bool:
    """True when the assigned adapter (None: the base) gave an ended job no valid answer: schema, fallback or error."""
    fell_back = job.mode is not None and job.requested_mode is not None and job.mode != job.requested_mode
    return (
        job.status != COMPLETED
        or job.answer is None
        or fell_back
        or job.adapter_version != assigned
        or bool(job.details.get("repairs"))
    )


def _scores(job: Job) -> tuple[float, ...] | None:
    analysis = (job.answer or {}).get("dimensional_analysis")
    if not isinstance(analysis, dict):
        return None
    return tuple(float(part["score"]) for part in analysis.values())


def count_observations(requests: Sequence[RolloutRequest], rollout: Rollout) -> RolloutObservations:
    """The observations that a decision is based on. Pure.

    Later requests and ratings only add to the counts: an e-process may be checked at any time because what it has
    counted never changes. Times and failures in a row are compared within a machine: machines differ in speed, and the
    order of answers of different machines is that in which they were recorded.
    """
    live = _first_of_each([request for request in requests if not request.shadow])
    shadow = [request for request in requests if request.shadow]
    pairs = _by_photograph(shadow)
    ours = [request for request in live if request.candidate]
    shadow_ours = _first_of_each([request for request in shadow if request.candidate])
    score_pairs = [*_disjoint_score_pairs(shadow_ours), *_disjoint_score_pairs(ours)]
    ratio = rollout.plan.latency_ratio
    slower = [(a.seconds, b.seconds * ratio) for a, b in pairs if a.seconds is not None and b.seconds is not None]
    for answered in _by_machine(live):
        slower += _independent_pairs([(r.candidate, r.seconds) for r in answered], ratio)
    rated = _independent_pairs([(r.candidate, r.rating) for r in sorted(live, key=lambda r: r.rated_at or "")])
    share = rollout.share
    in_step = len(pairs) if rollout.in_shadow else sum(request.share == share for request in ours)
    return RolloutObservations(
        strata=_strata(live),
        in_step=in_step,
        shadow=_pair_counts([(float(a.failed), float(b.failed)) for a, b in pairs]),
        shadow_candidate=_arm_counts(shadow_ours),
        shadow_control=_arm_counts(_first_of_each([request for request in shadow if not request.candidate])),
        latency=_pair_counts(slower),
        ratings=_pair_counts([(-a, -b) for a, b in rated]),
        repeated=sum(a == b for a, b in score_pairs),
        neighbours=len(score_pairs),
        longest_run=max(map(_longest_run, _by_machine(ours)), default=0),
        crashes=sum(request.crashed for request in requests if request.candidate),
        control_crashes=sum(request.crashed for request in requests if not request.candidate),
    )


def _disjoint_score_pairs(
    answers: Sequence[RolloutRequest],
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """The scores of the first and second answer, of the third and fourth, and so on.

    No answer is in two pairs. Overlapping pairs depend on each other: where one answer is frequent, an equal pair makes
    the next one likelier, and an e-value multiplied over them exceeds its limit far too often.
    """
    scores = [answer.scores for answer in answers if answer.scores is not None]
    return list(zip(scores[::2], scores[1::2], strict=False))


def _first_of_each(requests: Sequence[RolloutRequest]) -> list[RolloutRequest]:
    """The first request of each photograph."""
    seen: set[str] = set()
    first = []
    for request in requests:
        if request.unit not in seen:
            seen.add(request.unit)
            first.append(request)
    return first


def _by_machine(requests: Sequence[RolloutRequest]) -> list[list[RolloutRequest]]:
    """The requests of each machine, in their order."""
    groups: dict[str, list[RolloutRequest]] = {}
    for request in requests:
        groups.setdefault(request.machine, []).append(request)
    return list(groups.values())


def _longest_run(requests: Sequence[RolloutRequest]) -> int:
    """Most failures in a row."""
    return max((len(list(run)) for failed, run in groupby(each.failed for each in requests) if failed), default=0)


def _by_photograph(shadow: Sequence[RolloutRequest]) -> list[tuple[RolloutRequest, RolloutRequest]]:
    """(candidate, control) pairs on the same photograph and machine, the first of each photograph."""
    waiting: dict[tuple[str, str, bool], RolloutRequest] = {}
    pairs: dict[str, tuple[RolloutRequest, RolloutRequest]] = {}
    for request in shadow:
        unit, machine = request.unit, request.machine
        waiting.setdefault((unit, machine, request.candidate), request)
        candidate, control = waiting.get((unit, machine, True)), waiting.get((unit, machine, False))
        if candidate is not None and control is not None:
            pairs.setdefault(unit, (candidate, control))
    return list(pairs.values())


def _strata(live: Sequence[RolloutRequest]) -> tuple[ShareStratum, ...]:
    """Counts of both arms, by share."""

    def counts(share: float, candidate: bool) -> ArmCounts:
        return _arm_counts([r for r in live if r.share == share and r.candidate == candidate])

    shares = sorted({request.share for request in live})
    return tuple(ShareStratum(share, counts(share, True), counts(share, False)) for share in shares)


def _arm_counts(requests: Sequence[RolloutRequest]) -> ArmCounts:
    return ArmCounts(len(requests), sum(request.failed for request in requests))


def _independent_pairs(values: Sequence[tuple[bool, float | None]], ratio: float = 1.0) -> list[tuple[float, float]]:
    """Independent pairs (candidate, control * ratio): each candidate value with the newest unpaired control value."""
    unpaired: list[float] = []
    pairs = []
    for candidate, value in values:
        if value is None:
            continue
        if not candidate:
            unpaired.append(value)
        elif unpaired:
            pairs.append((value, unpaired.pop() * ratio))
    return pairs


def _pair_counts(pairs: Sequence[tuple[float, float]]) -> PairCounts:
    """Pairs in which the candidate's value is higher (worse), and lower (better)."""
    return PairCounts(sum(a > b for a, b in pairs), sum(a < b for a, b in pairs))
