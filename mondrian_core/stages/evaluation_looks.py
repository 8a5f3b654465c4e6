"""The look that an evaluation takes: counted before the verdict is known; what it measured is recorded after."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.lora_files import adapter_answer_form
from mondrian_core.prompts import prompt_digest
from mondrian_core.recipes import GateRecipe
from mondrian_core.registry import AdapterVersion, EvaluationLook, LookRequest, LookRules, earlier_differences
from mondrian_core.stages.context import StageContext

if TYPE_CHECKING:
    from mondrian_core.evaluation import EvaluationReport
    from mondrian_core.models.base_model import BaseVLM


def look_rules(gates: GateRecipe) -> LookRules:
    """The part of the recipe that the registry needs to count looks."""
    return LookRules(yearly_level=gates.yearly_level, first_level=gates.first_look_level, per_year=gates.looks_per_year)


def take_look(
    context: StageContext,
    base: BaseVLM,
    adapter: Path,
    registered: AdapterVersion | None,
    photographs: Sequence[str],
) -> EvaluationLook | None:
    """The look of this run; None for a folder that is neither a version nor the adapter that this run trained.

    Args:
        context: the run.
        base: the base model.
        adapter: folder of the adapter that is judged.
        registered: its version, when it is one.
        photographs: IDs of the photographs that decide about scores.
    """
    from mondrian_core.evaluation.measure.answer_cache import adapter_files_digest

    if context.adapter is not None and registered is None:
        return None
    asked = [
        base.identity.fingerprint,
        prompt_digest(replace(context.advisor_prompt(), form=adapter_answer_form(adapter))),
    ]
    request = LookRequest(
        run=context.run,
        candidate=adapter_files_digest(adapter),
        question=hashlib.sha256(json.dumps(asked).encode()).hexdigest(),
        photographs=photographs,
        rules=look_rules(context.recipe.gates),
        version=registered.version if registered else None,
    )
    return context.registry.take_look(context.advisor, request, actor=context.actor)


def look_values(context: StageContext, look: EvaluationLook | None) -> Mapping[str, Any] | None:
    """The look for the evaluation, with what the year's earlier candidates showed."""
    if look is None:
        return None
    earlier = earlier_differences(context.registry.history(context.advisor), look)
    return {**look.as_dict(), "earlier": [dict(differences) for differences in earlier]}


def record_result(context: StageContext, look: EvaluationLook | None, report: EvaluationReport) -> None:
    """Add what the look measured to the registry's history."""
    if look is None:
        return
    compared = _deciding(report, "against_base", context.recipe.gates)
    best = _deciding(report, "against_best", context.recipe.gates)
    context.registry.record_look_result(
        context.advisor,
        look,
        compared.get("differences", {}),
        better_than_best=best.get("p_better", 1.0) <= context.recipe.gates.p_value,
        actor=context.actor,
    )


def _deciding(report: EvaluationReport, key: str, gates: GateRecipe) -> Mapping[str, Any]:
    """The comparison that decided, as `deciding_comparison` chooses it; empty where there was none."""
    own, by_folds = report.metrics.get(key), (report.metrics.get("folds") or {}).get(key)
    few = own is None or own["n"] < gates.score_photographs
    return (by_folds if by_folds and few else own) or {}
