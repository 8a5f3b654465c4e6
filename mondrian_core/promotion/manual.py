"""A person's request to promote a version: reviewed, inspected and carried out, for command line, flow and page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mondrian_core import rollout
from mondrian_core.errors import AlreadyChampion, BadAdapter, Broken, UnknownVersion
from mondrian_core.promotion.evaluation_conditions import conditions_in_force
from mondrian_core.promotion.objections import check_manual_promotion, deciding_evaluation, promotion_objections
from mondrian_core.registry import OBJECTIONS, AdapterVersion, ChampionReference, Registry
from mondrian_core.rollout import RolloutPlan
from mondrian_core.settings import Settings

MANUAL_REASON = "promoted manually"
INSPECTION_SECONDS = 600.0  # the fingerprint of a large base is a hash of all its bytes
_IMPORT_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class ManualPromotion:
    """A person's request to promote a version.

    Attributes:
        settings: of the registry, and of the base, prompt and switches that would serve the version.
        expected: the champion that the version replaces; another champion by then stops the promotion.
        force: promote although the gates speak against it; needs a reason.
        reason: for the registry's history.
    """

    settings: Settings
    advisor: str
    version: str
    expected: ChampionReference
    force: bool = False
    reason: str = ""


def review_manual_promotion(request: ManualPromotion) -> tuple[str, ...]:
    """Check a person's request; gives what speaks against it and was overridden, for the history.

    Raises:
        AlreadyChampion: it has the champion's weights.
        GateFailed: the gates or the conditions refuse the version and the request is not forced.
        BadInput: a reason is missing.
    """
    registry, advisor = Registry(request.settings.adapters_root), request.advisor
    version = registry.get(advisor, request.version)
    champion = registered_champion(registry, advisor, request.expected)
    if champion is not None and champion.version != version.version and champion.content == version.content:
        raise AlreadyChampion(
            f"{version.version} of '{advisor}' has exactly the weights of the champion {champion.version}.",
            "Nothing was changed.",
        )
    now = conditions_in_force(request.settings, advisor, version.answer_form)
    return check_manual_promotion(
        version,
        request.expected,
        force=request.force,
        reason=request.reason,
        objections=promotion_objections(version, champion, now),
        decides=deciding_evaluation(version, now),
    )


def require_change_of_champion(registry: Registry, advisor: str, version: str) -> None:
    """Refuse to promote the present champion, unless its pointer is damaged: the promotion then rewrites the pointer.

    Raises:
        AlreadyChampion: it is the champion.
    """
    try:
        champion = registry.champion(advisor)
    except BadAdapter:
        return
    if champion is not None and champion.version == version:
        raise AlreadyChampion(f"{version} is the champion of '{advisor}' already.", "Nothing was changed.")


@dataclass(frozen=True, kw_only=True)
class ManualPromotionOutcome:
    """A promotion that happened.

    Attributes:
        before: the champion before; None: the base alone.
        objections: what spoke against it and was overridden.
        rollout: the position of the rollout that it began, in words; "" without one.
    """

    before: str | None
    version: str
    objections: tuple[str, ...]
    rollout: str = ""


def promote_manually(
    request: ManualPromotion,
    *,
    actor: str,
    inspect: Callable[[AdapterVersion], Sequence[str]],
    plan: RolloutPlan | None = None,
) -> ManualPromotionOutcome:
    """Review a request and carry it out while the champion still is the expected one.

    Args:
        request: of the person.
        actor: who asks, for the history.
        inspect: gives the problems that a comparison of the version with its base finds.
        plan: begin with the first share of this plan; None: the version answers everything at once.

    Raises:
        AlreadyChampion: it is the champion, or has its weights.
        NothingToDo: a rollout is active.
        ChampionChanged: another writer was first; nothing has changed.
        GateFailed, BadInput: as `review_manual_promotion`.
        BadAdapter: it is damaged, and in quarantine now.
    """
    registry = Registry(request.settings.adapters_root)
    version = registry.get(request.advisor, request.version)
    rollout.require_no_active_rollout(registry, request.advisor)
    objections = review_manual_promotion(request)
    facts: dict[str, Any] = {
        "expected": request.expected,
        "actor": actor,
        "reason": request.reason or MANUAL_REASON,
        "forced": request.force,
        "problems": inspect(version),
    }
    before = request.expected.version
    if plan is None:
        detail = {OBJECTIONS: list(objections)} if objections else {}
        registry.promote(request.advisor, request.version, detail=detail, **facts)
        return ManualPromotionOutcome(before=before, version=request.version, objections=objections)
    start = rollout.RolloutStart(version=request.version, plan=plan, objections=objections, **facts)
    begun = rollout.start_rollout(registry, request.advisor, start)
    rollout.activate_rollout_schedule(request.settings)
    return ManualPromotionOutcome(before=before, version=request.version, objections=objections, rollout=begun.position)


def registered_champion(registry: Registry, advisor: str, champion: ChampionReference) -> AdapterVersion | None:
    """The champion as a version; None for the base alone, and for a champion whose files are gone."""
    try:
        return registry.get(advisor, champion.version) if champion.version else None
    except UnknownVersion:
        return None


def inspect_version_in_subprocess(version: AdapterVersion, base: str) -> dict[str, Any]:
    """The fields of an `AdapterInspection`, from a process of its own: the caller's process holds no model.

    Raises:
        Broken: when that process fails.
    """
    named = (version.manifest.get("base") or {}).get("name")
    command = [
        sys.executable,
        "-m",
        "mondrian_core.models.lora.adapter_inspection",
        str(version.path),
        version.base_fingerprint or "",
        *filter(None, [named, base]),
    ]
    try:
        done = subprocess.run(
            command, cwd=_IMPORT_ROOT, capture_output=True, text=True, check=True, timeout=INSPECTION_SECONDS
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        output = error.stderr if isinstance(error.stderr, str) else ""
        raise Broken(
            f"{version.version} could not be compared with its base: "
            f"{(output.strip().splitlines() or [str(error)])[-1]}",
            f"`mondrian adapters verify --advisor {version.advisor} {version.version} --debug` shows more.",
        ) from error
    inspection: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return inspection
