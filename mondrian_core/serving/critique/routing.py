"""Pure routing decisions: the strategy of a request, its arm in an A/B test, its share in a rollout."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from mondrian_core.errors import BadInput
from mondrian_core.rollout import Rollout, is_in_share
from mondrian_core.settings import AnalysisMode

ModelMode = Literal["base", "fine_tuned", "ab_test"]
Arm = Literal["base", "fine_tuned"]
MODES: tuple[AnalysisMode, ...] = ("baseline", "rag", "lora")


@dataclass(frozen=True, kw_only=True)
class RoutingPolicy:
    """How the service was started.

    Attributes:
        split: share of photographs in the adapter's arm of an A/B test, 0-1.
        analysis_mode: the default strategy.
        base_until_promoted: serve an advisor without a promoted version as in the mode base (`--fallback base`).
    """

    model_mode: ModelMode = "base"
    split: float = 0.5
    analysis_mode: AnalysisMode = "lora"
    salt: str = "mondrian"
    base_until_promoted: bool = False


@dataclass(frozen=True)
class StrategyRoute:
    """The first strategy of a request, whether the request named it, and the request's arm in an A/B test."""

    mode: AnalysisMode
    explicit: bool
    arm: Arm | None = None


def resolve_model_mode(given: str | None, analysis_mode: AnalysisMode | None) -> str:
    """The model mode given at start, or else the one that ANALYSIS_MODE (None: not set) implies."""
    return given or ("fine_tuned" if analysis_mode == "lora" else "base")


def startup_notices(policy: RoutingPolicy, given: str | None, analysis_mode: AnalysisMode | None) -> list[str]:
    """Notices at start about the mode of requests that name none, where it may be unexpected."""
    notices = []
    if analysis_mode == "lora" and given is None:
        notices.append("ANALYSIS_MODE=lora: the model mode is fine_tuned.")
    if analysis_mode == "lora" and given == "base":
        notices.append("--model_mode base wins over ANALYSIS_MODE=lora: requests that name no mode get baseline.")
    if analysis_mode in ("rag", "baseline") and policy.model_mode == "fine_tuned":
        notices.append(f"ANALYSIS_MODE={analysis_mode}: requests that name no mode get {analysis_mode}, by the base.")
    if analysis_mode and policy.model_mode == "ab_test":
        notices.append(f"ANALYSIS_MODE={analysis_mode} has no effect: the A/B test compares lora with baseline.")
    if analysis_mode is None and policy.model_mode == "base":
        notices.append(
            "Requests that name no mode get baseline; the older service's default was rag: set ANALYSIS_MODE=rag."
        )
    return notices


def route_request(
    policy: RoutingPolicy, asked: str | None, advisor: str, photograph_sha256: str, *, promoted: bool = True
) -> StrategyRoute:
    """Route one request. A mode named by the request wins and is excluded from the A/B test.

    Args:
        policy: how the service was started.
        asked: the mode that the request names; None or "" for none.
        advisor: id of the advisor.
        photograph_sha256: of the file; the unit of assignment.
        promoted: whether an adapter could answer for this advisor.

    Raises:
        BadInput: the mode is not one of `MODES`.
    """
    if asked:
        return StrategyRoute(parse_mode(asked), explicit=True)
    if policy.model_mode == "base" or (policy.base_until_promoted and not promoted):
        return StrategyRoute("rag" if policy.analysis_mode == "rag" else "baseline", explicit=False)
    if policy.model_mode == "fine_tuned":
        return StrategyRoute(policy.analysis_mode, explicit=False)
    in_test = is_in_adapter_arm(policy.salt, advisor, photograph_sha256, policy.split)
    return StrategyRoute("lora", False, "fine_tuned") if in_test else StrategyRoute("baseline", False, "base")


def parse_mode(text: str) -> AnalysisMode:
    """The strategy of that name.

    Raises:
        BadInput: there is no such strategy.
    """
    for mode in MODES:
        if text == mode:
            return mode
    raise BadInput(f"'{text}' is not a mode.", f"Use one of {', '.join(MODES)}, or leave it out.")


def is_in_adapter_arm(salt: str, advisor: str, unit: str, split: float) -> bool:
    """True when the unit is in the adapter's arm. A larger split only moves units into it."""
    return is_in_share(f"{salt}:{advisor}", unit, split)


def route_in_rollout(
    route: StrategyRoute, rollout: Rollout | None, photograph_sha256: str
) -> tuple[StrategyRoute, dict[str, Any] | None]:
    """(route, rollout details for the job) while a new version gets only a share of the requests for the adapter.

    The other requests get the previous version, or the base when there was none.
    """
    if rollout is None or route.explicit or route.mode != "lora":
        return route, None
    candidate = is_in_share(rollout.salt, photograph_sha256, rollout.share)
    mark = {
        "salt": rollout.salt,
        "share": rollout.share,
        "candidate": candidate,
        "version": rollout.version if candidate else rollout.control,
    }
    return (route if mark["version"] else replace(route, mode="baseline")), mark


def model_used_label(arm: Arm | None, adapted: bool) -> str:
    """The value of `jobs.model_used` for what answered; the arm that it counts for is in `jobs.arm`."""
    answered = "fine_tuned" if adapted else "base"
    return f"ab_test_{answered}" if arm is not None else answered
