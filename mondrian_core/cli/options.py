"""From parsed options to settings, recipes and contexts."""

from __future__ import annotations

import getpass
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from mondrian_core.recipes import Recipe, TrainRecipe, load_recipe, recipe_from_values
from mondrian_core.settings import Settings
from mondrian_core.stages import StageContext, new_stage_context


def settings_from_options(options: Namespace) -> Settings:
    """Options over environment over defaults."""
    given = {name: getattr(options, name, None) for name in ("workspace", "adapters", "base_model")}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def recipe_from_options(options: Namespace) -> Recipe:
    """The recipe file with the single settings of training, and --folds, over it."""
    single = {name: getattr(options, name, None) for name in TrainRecipe.model_fields}
    recipe = load_recipe(getattr(options, "recipe", None), **single)
    folds = getattr(options, "folds", None)
    if folds is None:
        return recipe
    values = recipe.model_dump()
    return recipe_from_values({**values, "evaluate": {**values["evaluate"], "folds": folds}}, "the options")


def has_recipe_options(options: Namespace) -> bool:
    """True when a recipe, or any setting of one, was given."""
    return any(getattr(options, name, None) is not None for name in ("recipe", "folds", *TrainRecipe.model_fields))


def context_from_options(options: Namespace, *, run: str | None = None) -> StageContext:
    """A context for one run of this command."""
    dataset = getattr(options, "dataset", None)
    context = new_stage_context(
        settings_from_options(options),
        options.advisor,
        recipe_from_options(options),
        run=run,
        actor=command_line_actor(),
    )
    return replace(context, dataset=str(Path(dataset).resolve()) if dataset else None)


def command_line_actor() -> str:
    """Who types: goes into the registry's history."""
    try:
        return f"person:{getpass.getuser()}"
    except (KeyError, OSError):
        return "person"
