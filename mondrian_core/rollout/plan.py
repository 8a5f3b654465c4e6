"""A rollout as data: the plan, where it stands, what was seen, and the three decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Literal

from mondrian_core.errors import BadInput

RolloutStatus = Literal["running", "finished", "rolled_back"]


@dataclass(frozen=True)
class RolloutStep:
    """A share of the traffic (0..1; 0: shadow, users are not affected) and what it takes to leave it.

    Attributes:
        requests: photographs the candidate has answered in this step; pairs in the shadow.
        hours: time since the step began.
    """

    share: float
    requests: int
    hours: float


LIVE_STEPS = (
    RolloutStep(0.05, 50, 6.0),
    RolloutStep(0.10, 100, 12.0),
    RolloutStep(0.25, 200, 24.0),
    RolloutStep(0.50, 400, 24.0),
    RolloutStep(1.0, 0, 0.0),
)
# At 50 requests a day a share of 5 % is 2.5: compare both on the same photographs first, then go in one step.
LOW_TRAFFIC_STEPS = (RolloutStep(0.0, 100, 12.0), RolloutStep(0.50, 30, 24.0), RolloutStep(1.0, 0, 0.0))


@dataclass(frozen=True, kw_only=True)
class RolloutPlan:
    """Steps and guardrails.

    Attributes:
        failure_alpha, latency_alpha, collapse_alpha, rating_alpha: how often, over the whole rollout, an adapter that
            is no worse may be rolled back by each guardrail. They add up, with `run_alpha`, to at most 5 %.
        run_alpha: the same for `run` failures in a row, judged by the control's own failure rate.
        latency_ratio: a candidate up to this much slower is not slower.
        collapse_limit: share of neighbouring answers about different photographs with the same eight scores that is
            still no collapse.
        ratio_alpha: of the sample-ratio check, which holds and never rolls back.
        watch: an e-value from which on a guardrail holds the rollout where it is, without rolling back.
        crashes: deaths of the model process while it answered with the candidate.
        cool_down_hours: after a rollback, until the same version may begin again.
    """

    steps: tuple[RolloutStep, ...] = LIVE_STEPS
    failure_alpha: float = 0.02
    latency_alpha: float = 0.01
    collapse_alpha: float = 0.005
    rating_alpha: float = 0.01
    run_alpha: float = 0.005
    ratio_alpha: float = 0.001
    latency_ratio: float = 1.10
    collapse_limit: float = 0.2
    watch: float = 5.0
    run: int = 3
    crashes: int = 2
    cool_down_hours: float = 24.0

    def __post_init__(self) -> None:
        shares = [step.share for step in self.steps]
        grows = all(a < b for a, b in pairwise(shares))
        if not shares or not grows or shares[0] < 0.0 or shares[-1] != 1.0:
            raise BadInput(f"The shares {shares} are no rollout.", "Let them grow, and end with 1.0.")

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RolloutPlan:
        """A plan from plain values, such as a flow's parameter.

        Raises:
            BadInput: for unknown keys and shares that don't grow.
        """
        values = dict(value)
        try:
            if "steps" in values:
                values["steps"] = tuple(
                    step if isinstance(step, RolloutStep) else RolloutStep(**step) for step in values["steps"]
                )
            return cls(**values)
        except TypeError as error:
            raise BadInput(f"The plan of the rollout is wrong: {error}.", "See docs/rollout.md for its keys.") from None


def default_rollout_plan(requests_per_day: float, quiet_below: float = 1000.0) -> RolloutPlan:
    """The default plan: in shares when there is traffic, else in the shadow first."""
    return RolloutPlan(steps=LIVE_STEPS if requests_per_day >= quiet_below else LOW_TRAFFIC_STEPS)


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Where a rollout stands. It is in force only while the registry's pointer stems from it (`book.active`).

    Attributes:
        control: the champion before; None is the base alone.
        salt: names the rollout, and decides who is in the share.
        step: index into `plan.steps`.
        revision: counts changes, so that two schedulers can't advance twice.
        why, evidence: of the change that led here.
    """

    advisor: str
    version: str
    control: str | None
    salt: str
    plan: RolloutPlan
    started_at: str
    step_started_at: str
    step: int = 0
    status: RolloutStatus = "running"
    revision: int = 0
    why: str = ""
    evidence: Mapping[str, float] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Share of users' requests that the candidate answers now."""
        return self.plan.steps[self.step].share if self.status == "running" else 1.0

    @property
    def in_shadow(self) -> bool:
        """True while the candidate only answers for comparison."""
        return self.status == "running" and self.share == 0.0

    @property
    def position(self) -> str:
        """Where it stands, for people."""
        if self.status != "running":
            return self.status.replace("_", " ")
        return "in the shadow" if self.in_shadow else f"at {self.share:.0%}"

    @property
    def started(self) -> datetime:
        """When it began."""
        return datetime.fromisoformat(self.started_at)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Rollout:
        """A rollout from plain values."""
        return cls(**{**value, "plan": RolloutPlan.from_dict(value["plan"])})

    def hours_in_step(self, now: datetime) -> float:
        """Hours since the step began; 0 when the clock has gone back since."""
        return max(0.0, (now - datetime.fromisoformat(self.step_started_at)).total_seconds() / 3600.0)


@dataclass(frozen=True)
class ArmCounts:
    """What an arm has done under one share: photographs, and those that failed (schema, fallback, error)."""

    requests: int = 0
    failures: int = 0


@dataclass(frozen=True)
class ShareStratum:
    """Both arms under one share."""

    share: float
    candidate: ArmCounts = ArmCounts()
    control: ArmCounts = ArmCounts()


@dataclass(frozen=True)
class PairCounts:
    """Pairs of one answer each in which the candidate was the worse, and the better. Ties are left out."""

    worse: int = 0
    better: int = 0


@dataclass(frozen=True, kw_only=True)
class RolloutObservations:
    """Everything a decision rests on, as counts since the rollout began.

    Attributes:
        strata: the arms, share by share.
        in_step: photographs (in the shadow: pairs) the candidate has answered in the present step.
        shadow: the same photographs answered by both; failed or not.
        latency: seconds, candidate against `latency_ratio` times control.
        ratings: of users, candidate against control.
        repeated, neighbours: neighbouring answers of the candidate with the same eight scores, of how many.
        longest_run: failures of the candidate in a row, at most.
        crashes, control_crashes: deaths of the model process, by the arm that was answering.
    """

    strata: tuple[ShareStratum, ...] = ()
    in_step: int = 0
    shadow: PairCounts = PairCounts()
    latency: PairCounts = PairCounts()
    ratings: PairCounts = PairCounts()
    repeated: int = 0
    neighbours: int = 0
    longest_run: int = 0
    crashes: int = 0
    control_crashes: int = 0

    @property
    def candidate(self) -> ArmCounts:
        """The candidate over all shares."""
        counts = [stratum.candidate for stratum in self.strata]
        return ArmCounts(sum(c.requests for c in counts), sum(c.failures for c in counts))

    @property
    def control(self) -> ArmCounts:
        """The control over all shares."""
        counts = [stratum.control for stratum in self.strata]
        return ArmCounts(sum(c.requests for c in counts), sum(c.failures for c in counts))


@dataclass(frozen=True)
class Advance:
    """Go to the next share."""

    share: float
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Hold:
    """Stay: too early, or not sure."""

    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RollBack:
    """Go back to the control at once. `guardrail` names what gave way."""

    guardrail: str
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)


RolloutDecision = Advance | Hold | RollBack
