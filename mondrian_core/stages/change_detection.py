"""Detect whether the inputs changed since an advisor's last retraining, before a dataset is built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from mondrian_core.errors import NothingNewToTrain, NothingToDo
from mondrian_core.events import EventListener, StageNotice, ignore_events
from mondrian_core.files import read_json
from mondrian_core.models.base_download import fetch_base
from mondrian_core.prompts import prompt_digest
from mondrian_core.recipe_choice import choose_recipe_for
from mondrian_core.recipes import with_training_overrides
from mondrian_core.retraining_runs import retraining_lock_of
from mondrian_core.software_identity import training_code_digest, training_packages
from mondrian_core.stages.context import INPUTS_FILE, StageContext
from mondrian_core.stages.summaries import LinkSummary, read_stage_summary

# of a linked record: what every answer teaches, and what only answers with advice do
DIGESTED_FIELDS = ("sha256", "origin", "scores", "comments", "overall_grade", "corrects")
ADVICE_FIELDS = ("recommendations", "regions", "strengths", "priority_improvements")


def choose_recipe_by_size(context: StageContext, listen: EventListener = ignore_events) -> StageContext:
    """For a retraining without a chosen recipe: the one that fits the number of critiques, and a notice why.

    Settings of training that the run overrides, such as its seed, stay.
    """
    choice = choose_recipe_for(read_stage_summary(context, "link", LinkSummary).used)
    listen(StageNotice("retrain", choice.reason))
    if choice.name == context.recipe.name:
        return context
    overrides = context.recipe.train.model_dump(exclude_defaults=True)
    chosen = replace(context, recipe=with_training_overrides(choice.recipe, overrides))
    chosen.save(context.run_folder / "context.json")
    return chosen


def retraining_lock(context: StageContext) -> FileLock:
    """The lock that allows one retraining of an advisor at a time."""
    return retraining_lock_of(context.root, context.advisor)


def require_changed_inputs(context: StageContext, listen: EventListener = ignore_events) -> None:
    """Refuse a retraining that would only repeat one whose version is in the registry.

    A change is a critique added, removed or edited, or another base, recipe (including its seed), prompt, code or
    package. Workspace, registry and run folders may have moved: the registry's own records decide.

    Raises:
        NothingNewToTrain: names the version that was trained on the same inputs.
    """
    known: dict[str, str] = {}
    for version in context.registry.versions(context.advisor):
        if version.state != "quarantined":  # its files are damaged, so training again is worthwhile
            known |= dict.fromkeys(version.training_inputs, version.version)
    if known:
        fetch_base(context.base_model, listen)
    if known and (version_name := known.get(str(training_inputs_digest(context)))) is not None:
        raise NothingNewToTrain(context.advisor, version_name)


def training_inputs_digest(context: StageContext) -> str | None:
    """Hexadecimal SHA-256 of everything that determines what a retraining learns; None before `link` has run."""
    from mondrian_core.models.base_model import base_fingerprint

    try:
        linked = read_stage_summary(context, "link", LinkSummary)
    except NothingToDo:
        return None
    if not Path(linked.manifest).is_file() and (context.run_folder / INPUTS_FILE).is_file():
        return str(read_json(context.run_folder / INPUTS_FILE)["training_inputs"])
    manifest = read_json(Path(linked.manifest))
    used, preferences = manifest["used"], manifest.get("preferences")
    advises = context.recipe.data.answer_form != "comments"
    fields = (*DIGESTED_FIELDS, *(ADVICE_FIELDS if advises else ()))
    material = {
        "critiques": sorted(json.dumps({name: each.get(name) for name in fields}, sort_keys=True) for each in used),
        "base": base_fingerprint(context.base_model),
        "recipe": context.recipe.digest,
        "prompt": prompt_digest(context.advisor_prompt()),
        "code": training_code_digest(),
        "packages": training_packages(),
    }
    if preferences and advises and context.recipe.train.preference_epochs:
        material["preferences"] = sorted(json.dumps(each, sort_keys=True) for each in preferences)
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()
