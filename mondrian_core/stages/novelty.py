"""Whether a retraining has anything new to learn from, found out before a dataset is built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from mondrian_core.errors import NothingNew, UnknownVersion
from mondrian_core.events import Listener, Noticed, ignore
from mondrian_core.files import read_json, write_json
from mondrian_core.prompts import prompt_digest
from mondrian_core.recipes import SMALL_SET, SMALL_SET_BELOW, recipe_named
from mondrian_core.settings import check_advisor
from mondrian_core.stages.context import Context
from mondrian_core.stages.summaries import LinkSummary, PromoteSummary, summary_of

TAUGHT = ("sha256", "origin", "scores", "comments", "overall_grade", "corrects")  # of a linked record


def suited_to_size(context: Context, listen: Listener = ignore) -> Context:
    """For a retraining that was given no recipe: `small-set` while there are few critiques, and a word about it."""
    used = summary_of(context, "link", LinkSummary).used
    if used >= SMALL_SET_BELOW:
        return context
    listen(Noticed("retrain", f"{used} critiques, fewer than {SMALL_SET_BELOW}: the recipe '{SMALL_SET}' is used."))
    recipe = recipe_named(SMALL_SET)
    train = recipe.train.model_copy(update={"seed": context.recipe.train.seed})
    chosen = replace(context, recipe=recipe.model_copy(update={"train": train}))
    chosen.save(context.run_folder / "context.json")
    return chosen


def retraining_lock(context: Context) -> FileLock:
    """The lock under which an advisor is retrained: two at once could only get in each other's way."""
    path = _record_of(context).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def require_something_new(context: Context) -> None:
    """Refuse a retraining that could only repeat the last one of this advisor.

    New are another set of critiques, a changed one, another base, recipe (its seed included), prompt or registry, and
    a last version that is gone.

    Raises:
        NothingNew: names the version that was made of the same.
    """
    try:
        last: dict[str, Any] = read_json(_record_of(context))
        known, version = last["material"] == material_digest(context), str(last["version"])
        if known:
            context.registry.get(context.advisor, version)
    except (OSError, ValueError, KeyError, TypeError, UnknownVersion):
        return
    if known:
        raise NothingNew(context.advisor, version)


def remember(context: Context) -> None:
    """Keep what the version that this run registered was made of."""
    version = summary_of(context, "promote", PromoteSummary).version
    write_json(_record_of(context), {"run": context.run, "version": version, "material": material_digest(context)})


def material_digest(context: Context) -> str:
    """SHA-256 over all that decides what a retraining of the linked critiques learns, hexadecimal."""
    from mondrian_core.models.base import fingerprint

    linked = summary_of(context, "link", LinkSummary)
    used = read_json(Path(linked.manifest))["used"]
    material = {
        "critiques": sorted(json.dumps({name: each.get(name) for name in TAUGHT}, sort_keys=True) for each in used),
        "base": fingerprint(context.base_model),
        "recipe": context.recipe.digest,
        "prompt": prompt_digest(context.store().voice(context.advisor)),
        "registry": context.adapters,
    }
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()


def _record_of(context: Context) -> Path:
    return context.root / "runs" / "retrained" / f"{check_advisor(context.advisor)}.json"
