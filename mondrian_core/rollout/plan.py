"""The values of a rollout: its plan, its state, the observations, and the decisions to advance, hold or roll back."""

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
    """One step of a plan.

    Attributes:
        share: of the traffic that the candidate answers (0-1); 0 is the shadow, which users don't notice.
        requests: photographs that the candidate must answer in this step; in the shadow, pairs.
        hours: minimum duration of the step.
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
# At 50 requests a day a share of 5 % is 2.5: first compare both arms on the same photographs, then take one step.
LOW_TRAFFIC_STEPS = (RolloutStep(0.0, 100, 12.0), RolloutStep(0.50, 30, 24.0), RolloutStep(1.0, 0, 0.0))


@dataclass(frozen=True, kw_only=True)
class RolloutPlan:
    """Steps and guardrails.

    Attributes:
        steps: of growing share, up to 1.
        failure_alpha: chance, over the whole rollout, that the failure guardrail rolls back an adapter that is
            not worse; at most 5 % for all guardrails together.
        latency_alpha: the same for the latency guardrail.
        collapse_alpha: the same for the score-collapse guardrail.
        rating_alpha: the same for the ratings guardrail.
        run_alpha: the same for `run` failures in a row, whatever the failure rate of both is.
        crash_alpha: the same for the crash guardrail.
        crash_limit: tolerated share of the candidate's answers during which the model process dies (0-1).
        ratio_alpha: of the sample-ratio check, which holds a rollout and never rolls it back.
        latency_ratio: a candidate slower by no more than this factor doesn't count as slower.
        collapse_limit: tolerated share of consecutive answers about different photographs with equal scores (0-1).
        watch: e-value from which a guardrail holds the rollout without rolling it back.
        run: least number of failures in a row that rolls back.
        crashes: least number of deaths of the model process during the candidate's answers that rolls back.
        cool_down_hours: after a rollback, time until the same version may be rolled out again.
    """

    steps: tuple[RolloutStep, ...] = LIVE_STEPS
    failure_alpha: float = 0.02
    latency_alpha: float = 0.01
    collapse_alpha: float = 0.005
    rating_alpha: float = 0.005
    run_alpha: float = 0.005
    crash_alpha: float = 0.005
    ratio_alpha: float = 0.001
    latency_ratio: float = 1.10
    collapse_limit: float = 0.2
    crash_limit: float = 0.001
    watch: float = 5.0
    run: int = 3
    crashes: int = 2
    cool_down_hours: float = 24.0

    def __post_init__(self) -> None:
        shares = [step.share for step in self.steps]
        grows = all(a < b for a, b in pairwise(shares))
        if not shares or not grows or shares[0] < 0.0 or shares[-1] != 1.0:
            raise BadInput(f"The shares {shares} are not a valid rollout.", "They must grow and end with 1.0.")

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
            raise BadInput(
                f"The rollout plan is invalid: {error}.", "See docs/explanation/rollout.md for its keys."
            ) from None


def default_rollout_plan(requests_per_day: float, quiet_below: float = 1000.0) -> RolloutPlan:
    """The default plan: growing shares with enough traffic, otherwise the shadow first."""
    return RolloutPlan(steps=LIVE_STEPS if requests_per_day >= quiet_below else LOW_TRAFFIC_STEPS)


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """The state of a rollout. It is active only while its promotion set the registry's pointer (`active_rollout`).

    Attributes:
        advisor: whose adapter is rolled out.
        version: the candidate.
        control: the previous champion; None is the base model.
        salt: identifies the rollout, and determines which photographs are in the share.
        plan: its steps and guardrails.
        started_at: ISO time.
        step_started_at: ISO time.
        step: index into `plan.steps`.
        status: running, finished or rolled_back.
        revision: counts changes, so that two schedulers can't advance twice.
        why: reason of the last change.
        evidence: e-values at the last change, by guardrail.
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
        """Share of users' requests that the candidate answers now (0-1)."""
        return self.plan.steps[self.step].share if self.status == "running" else 1.0

    @property
    def in_shadow(self) -> bool:
        """True while the candidate only answers for comparison."""
        return self.status == "running" and self.share == 0.0

    @property
    def position(self) -> str:
        """The state in words, for people."""
        if self.status != "running":
            return self.status.replace("_", " ")
        return "in the shadow" if self.in_shadow else f"at {self.share:.0%}"

    @property
    def started(self) -> datetime:
        """When the rollout started."""
        return datetime.fromisoformat(self.started_at)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Rollout:
        """A rollout from plain values."""
        return cls(**{**value, "plan": RolloutPlan.from_dict(value["plan"])})

    def hours_in_step(self, now: datetime) -> float:
        """Hours since the step started; 0 when the clock was set back since."""
        return max(0.0, (now - datetime.fromisoformat(self.step_started_at)).total_seconds() / 3600.0)


@dataclass(frozen=True)
class ArmCounts:
    """Photographs of an arm under one share, and those that failed (schema, fallback, error)."""

    requests: int = 0
    failures: int = 0


@dataclass(frozen=True)
class ShareStratum:
    """Counts of both arms under one share."""

    share: float
    candidate: ArmCounts = ArmCounts()
    control: ArmCounts = ArmCounts()


@dataclass(frozen=True)
class PairCounts:
    """Pairs of answers in which the candidate was worse, and better. Ties are left out."""

    worse: int = 0
    better: int = 0


@dataclass(frozen=True, kw_only=True)
class RolloutObservations:
    """Counts since the rollout started: everything that a decision is based on.

    Attributes:
        strata: counts of both arms, by share.
        in_step: photographs that the candidate has answered in the current step; in the shadow, pairs.
        shadow: failures on photographs that both arms answered.
        shadow_candidate, shadow_control: the answers of each arm in the shadow.
        latency: seconds of the candidate compared with `latency_ratio` times those of the control.
        ratings: by users, candidate compared with control.
        repeated: pairs of consecutive answers of the candidate with equal scores; no answer is in two pairs.
        neighbours: all such pairs.
        longest_run: most failures of the candidate in a row.
        crashes: deaths of the model process while the candidate answered.
        control_crashes: the same for the control.
    """

    strata: tuple[ShareStratum, ...] = ()
    in_step: int = 0
    shadow: PairCounts = PairCounts()
    shadow_candidate: ArmCounts = ArmCounts()
    shadow_control: ArmCounts = ArmCounts()
    latency: PairCounts = PairCounts()
    ratings: PairCounts = PairCounts()
    repeated: int = 0
    neighbours: int = 0
    longest_run: int = 0
    crashes: int = 0
    control_crashes: int = 0

    @property
    def candidate(self) -> ArmCounts:
        """Counts of the candidate over all shares."""
        counts = [stratum.candidate for stratum in self.strata]
        return ArmCounts(sum(c.requests for c in counts), sum(c.failures for c in counts))

    @property
    def control(self) -> ArmCounts:
        """Counts of the control over all shares."""
        counts = [stratum.control for stratum in self.strata]
        return ArmCounts(sum(c.requests for c in counts), sum(c.failures for c in counts))


@dataclass(frozen=True)
class Advance:
    """Move to the next share."""

    share: float
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Hold:
    """Stay at the current share: too early, or undecided."""

    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RollBack:
    """Return to the control at once; `guardrail` names the reason."""

    guardrail: str
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)


RolloutDecision = Advance | Hold | RollBack
