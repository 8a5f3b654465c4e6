"""What a promotion or a rollback would mean, for the page that asks for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mondrian_core import rollout
from mondrian_core.errors import BadAdapter, BadInput, GateFailed, MondrianError, NothingToDo
from mondrian_core.promotion import (
    ManualPromotion,
    conditions_in_force,
    deciding_evaluation,
    registered_champion,
    review_manual_promotion,
)
from mondrian_core.registry import AdapterVersion, ChampionReference, Registry
from mondrian_core.serving.http.registry_values import find_version, gate_rows, version_row
from mondrian_core.settings import Settings

_ANY_REASON = "-"  # a review with a reason lists what a person would have to override


@dataclass(frozen=True, kw_only=True)
class PromotionReview:
    """A promotion before it happens.

    Attributes:
        request: as the command line would send it, without the person's reason.
        row: the version for a table.
        gates: rows of the evaluation that decides.
        decided: that evaluation: {"verdict", "at", "run", "split", "look", "compared_with"}; {} without one.
        champion: the one that it would replace.
        against: what a person would override, one clause each.
        refusal: why the command line refuses it without --force; None when it doesn't.
        blocked: why it can't be promoted at all now; None when it can.
    """

    request: ManualPromotion
    row: Mapping[str, Any]
    gates: list[dict[str, Any]]
    decided: Mapping[str, Any]
    champion: ChampionReference
    against: tuple[str, ...] = ()
    refusal: GateFailed | None = None
    blocked: MondrianError | None = None

    @property
    def advisor(self) -> str:
        """Whose champion it would be."""
        return self.request.advisor

    @property
    def version(self) -> str:
        """Name of the version."""
        return self.request.version

    @property
    def needs_reason(self) -> bool:
        """A reason and a typed confirmation: unless every gate passed and nothing else speaks against it."""
        return self.refusal is not None or bool(self.against)

    @property
    def digest(self) -> str:
        """Identifies what the page showed; a form sends it back."""
        shown = [self.decided.get("verdict"), self.decided.get("at"), sorted(self.against)]
        shown += [None if self.refusal is None else self.refusal.problem]
        return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class RollbackReview:
    """A rollback before it happens.

    Attributes:
        champion: the one that would leave.
        target: the version that it returns to, if its files are intact; None: the base alone.
        rollout: the position of a rollout that it would end; "" without one.
    """

    champion: ChampionReference
    target: str | None
    rollout: str = ""


def review_promotion(settings: Settings, registry: Registry, advisor: str, name: str) -> PromotionReview:
    """What a promotion of a version would mean now.

    Raises:
        UnknownVersion: there is no such version.
    """
    version, champion = find_version(registry, advisor, name), registry.reference(advisor)
    request = ManualPromotion(settings=settings, advisor=advisor, version=name, expected=champion, reason=_ANY_REASON)
    review = PromotionReview(request=request, row=version_row(version), gates=[], decided={}, champion=champion)
    if (blocked := _blocked(registry, version, champion)) is not None:
        return replace(review, blocked=blocked)
    decides = deciding_evaluation(version, conditions_in_force(settings, advisor, version.answer_form))
    if decides is not None:
        report = decides.report
        decided = {
            "verdict": decides.verdict,
            "at": decides.at or version.manifest.get("created_at"),
            "run": report.get("run"),
            "split": report.get("split"),
            "look": (report.get("look") or {}).get("number"),
            "compared_with": (report.get("compared_with") or {}).get("version"),
        }
        review = replace(review, gates=gate_rows(report.get("gates") or []), decided=decided)
    try:
        return replace(review, against=review_manual_promotion(request))
    except GateFailed as refusal:
        return replace(review, refusal=refusal, against=review_manual_promotion(replace(request, force=True)))
    except NothingToDo as nothing:
        return replace(review, blocked=nothing)


def _blocked(registry: Registry, version: AdapterVersion, champion: ChampionReference) -> MondrianError | None:
    """Why a version can't be promoted, whatever a person writes; None when it can."""
    advisor, name = version.advisor, version.version
    if not version.managed:
        command = f"`mondrian adapters import --advisor {advisor} FOLDER`"
        return BadInput(f"'{name}' has an older layout and no manifest.", f"Import it first: {command}.")
    if version.state == "quarantined":
        command = f"`mondrian adapters verify --advisor {advisor} {name}`"
        return BadAdapter(f"{name} is in quarantine.", f"{command} says what is wrong with it.")
    if champion.version == name and registered_champion(registry, advisor, champion) is not None:
        return NothingToDo(f"{name} is the champion of '{advisor}' already.", "There is nothing to promote.")
    try:
        rollout.require_no_active_rollout(registry, advisor)
    except (NothingToDo, BadInput) as running:  # an active rollout, or one that can't be read
        return running
    return None


def review_rollback(registry: Registry, advisor: str) -> RollbackReview:
    """What a rollback would mean now. Damaged versions are passed over, as `Registry.rollback` does."""
    try:
        running = rollout.active_rollout(registry, advisor)
    except BadInput:  # a rollback is possible without knowing it
        running = None
    return RollbackReview(
        champion=registry.reference(advisor),
        target=registry.rollback_target(advisor),
        rollout=running.position if running else "",
    )
