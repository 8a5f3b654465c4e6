"""Which strategy a request asks for, and to which arm of an A/B test it belongs. Values in, values out."""

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
        split: the adapter's share of photographs in an A/B test, 0-1.
        analysis_mode: the usual strategy.
        base_until_promoted: an advisor without a promoted version is served as in the mode base (`--fallback base`).
    """

    model_mode: ModelMode = "base"
    split: float = 0.5
    analysis_mode: AnalysisMode = "lora"
    salt: str = "mondrian"
    base_until_promoted: bool = False


@dataclass(frozen=True)
class StrategyRoute:
    """What a request gets: the strategy to begin with, whether it named that itself, and its arm in an A/B test."""

    mode: AnalysisMode
    explicit: bool
    arm: Arm | None = None


def resolve_model_mode(given: str | None, analysis_mode: AnalysisMode | None) -> str:
    """The model mode that was given, else the one that ANALYSIS_MODE (None: not set) asks for."""
    return given or ("fine_tuned" if analysis_mode == "lora" else "base")


def startup_notices(policy: RoutingPolicy, given: str | None, analysis_mode: AnalysisMode | None) -> list[str]:
    """What to say at start about requests without a mode, where it may not be what somebody expects."""
    told = []
    if analysis_mode == "lora" and given is None:
        told.append("ANALYSIS_MODE=lora: the model mode is fine_tuned.")
    if analysis_mode == "lora" and given == "base":
        told.append("--model_mode base wins over ANALYSIS_MODE=lora: requests that name no mode get baseline.")
    if analysis_mode in ("rag", "baseline") and policy.model_mode == "fine_tuned":
        told.append(f"ANALYSIS_MODE={analysis_mode}: requests that name no mode get {analysis_mode}, from the base.")
    if analysis_mode and policy.model_mode == "ab_test":
        told.append(f"ANALYSIS_MODE={analysis_mode} has no effect: the A/B test compares lora with baseline.")
    if analysis_mode is None and policy.model_mode == "base":
        told.append(
            "Requests that name no mode get baseline; the older service's default was rag: set ANALYSIS_MODE=rag."
        )
    return told


def route_request(
    policy: RoutingPolicy, asked: str | None, advisor: str, photograph_sha256: str, *, promoted: bool = True
) -> StrategyRoute:
    """Route one request. An explicit mode wins and takes no part in the A/B test.

    Args:
        promoted: whether there is an adapter that could answer for this advisor.

    Raises:
        BadInput: the mode is none of `MODES`.
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
        BadInput: there is none.
    """
    for mode in MODES:
        if text == mode:
            return mode
    raise BadInput(f"'{text}' is no mode.", f"Use one of {', '.join(MODES)}, or leave it out.")


def is_in_adapter_arm(salt: str, advisor: str, unit: str, split: float) -> bool:
    """True when the unit belongs to the adapter's arm. A growing split only moves units into it."""
    return is_in_share(f"{salt}:{advisor}", unit, split)


def route_in_rollout(
    way: StrategyRoute, rollout: Rollout | None, photograph_sha256: str
) -> tuple[StrategyRoute, dict[str, Any] | None]:
    """(route, mark for the job's details) while a new version gets only a share of the requests for the adapter.

    Who is not in the share gets the version from before; when that was none, the base, as if it had been asked for.
    """
    if rollout is None or way.explicit or way.mode != "lora":
        return way, None
    candidate = is_in_share(rollout.salt, photograph_sha256, rollout.share)
    mark = {
        "salt": rollout.salt,
        "share": rollout.share,
        "candidate": candidate,
        "version": rollout.version if candidate else rollout.control,
    }
    return (way if mark["version"] else replace(way, mode="baseline")), mark


def model_used_label(arm: Arm | None, adapted: bool) -> str:
    """The word of `jobs.model_used` for what really answered; the arm it counts for stands in `jobs.arm`."""
    answered = "fine_tuned" if adapted else "base"
    return f"ab_test_{answered}" if arm is not None else answered
