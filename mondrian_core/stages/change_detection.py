"""Detect whether the inputs changed since an advisor's last retraining, before a dataset is built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from mondrian_core.errors import NothingNewToTrain, UnknownVersion
from mondrian_core.events import EventListener, StageNotice, ignore_events
from mondrian_core.files import read_json, write_json
from mondrian_core.prompts import prompt_digest
from mondrian_core.recipes import SMALL_SET_RECIPE, SMALL_SET_THRESHOLD, resolve_recipe
from mondrian_core.settings import validate_advisor_id
from mondrian_core.stages.context import StageContext
from mondrian_core.stages.summaries import LinkSummary, PromoteSummary, read_stage_summary

DIGESTED_FIELDS = ("sha256", "origin", "scores", "comments", "overall_grade", "corrects")  # of a linked record


def choose_recipe_by_size(context: StageContext, listen: EventListener = ignore_events) -> StageContext:
    """For a retraining without a chosen recipe: `small-set` while there are few critiques, with a notice."""
    used = read_stage_summary(context, "link", LinkSummary).used
    if used >= SMALL_SET_THRESHOLD:
        return context
    listen(
        StageNotice(
            "retrain", f"{used} critiques, fewer than {SMALL_SET_THRESHOLD}: the recipe '{SMALL_SET_RECIPE}' is used."
        )
    )
    recipe = resolve_recipe(SMALL_SET_RECIPE)
    train = recipe.train.model_copy(update={"seed": context.recipe.train.seed})
    chosen = replace(context, recipe=recipe.model_copy(update={"train": train}))
    chosen.save(context.run_folder / "context.json")
    return chosen


def retraining_lock(context: StageContext) -> FileLock:
    """The lock that allows one retraining of an advisor at a time."""
    path = _retraining_record_path(context).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def require_changed_inputs(context: StageContext) -> None:
    """Refuse a retraining that would only repeat the advisor's last one.

    A change is a critique added, removed or edited, another base, recipe (including its seed), prompt or registry, or
    a last version that no longer exists.

    Raises:
        NothingNewToTrain: names the version that was trained on the same inputs.
    """
    try:
        last: dict[str, Any] = read_json(_retraining_record_path(context))
        known, version = last["material"] == training_inputs_digest(context), str(last["version"])
        if known:
            context.registry.get(context.advisor, version)
    except (OSError, ValueError, KeyError, TypeError, UnknownVersion):
        return
    if known:
        raise NothingNewToTrain(context.advisor, version)


def record_retraining(context: StageContext) -> None:
    """Record the inputs of the version that this run registered, for the next retraining."""
    version = read_stage_summary(context, "promote", PromoteSummary).version
    write_json(
        _retraining_record_path(context),
        {"run": context.run, "version": version, "material": training_inputs_digest(context)},
    )


def training_inputs_digest(context: StageContext) -> str:
    """Hexadecimal SHA-256 of everything that determines what a retraining learns."""
    from mondrian_core.models.base_model import base_fingerprint

    linked = read_stage_summary(context, "link", LinkSummary)
    used = read_json(Path(linked.manifest))["used"]
    material = {
        "critiques": sorted(
            json.dumps({name: each.get(name) for name in DIGESTED_FIELDS}, sort_keys=True) for each in used
        ),
        "base": base_fingerprint(context.base_model),
        "recipe": context.recipe.digest,
        "prompt": prompt_digest(context.store().advisor(context.advisor)),
        "registry": context.adapters,
    }
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()


def _retraining_record_path(context: StageContext) -> Path:
    return context.root / "runs" / "retrained" / f"{validate_advisor_id(context.advisor)}.json"
