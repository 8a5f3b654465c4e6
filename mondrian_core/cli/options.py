"""From parsed options to settings, recipes and contexts."""

from __future__ import annotations

import getpass
from argparse import Namespace
from pathlib import Path

from mondrian_core.recipes import Recipe, TrainRecipe, load_recipe, recipe_of
from mondrian_core.settings import Settings
from mondrian_core.stages import Context, new_context


def settings_of(options: Namespace) -> Settings:
    """Options over environment over defaults."""
    given = {name: getattr(options, name, None) for name in ("workspace", "adapters", "base_model")}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def recipe_from(options: Namespace) -> Recipe:
    """The recipe file with the single settings of training, and --folds, over it."""
    single = {name: getattr(options, name, None) for name in TrainRecipe.model_fields}
    recipe = load_recipe(getattr(options, "recipe", None), **single)
    folds = getattr(options, "folds", None)
    if folds is None:
        return recipe
    values = recipe.model_dump()
    return recipe_of({**values, "evaluate": {**values["evaluate"], "folds": folds}}, "the options")


def names_recipe(options: Namespace) -> bool:
    """True when a recipe, or any setting of one, was given."""
    return any(getattr(options, name, None) is not None for name in ("recipe", "folds", *TrainRecipe.model_fields))


def context_of(options: Namespace, *, run: str | None = None) -> Context:
    """A context for one run of this command."""
    dataset = getattr(options, "dataset", None)
    return new_context(
        settings_of(options),
        options.advisor,
        recipe_from(options),
        run=run,
        actor=person(),
        dataset=str(Path(dataset).resolve()) if dataset else None,
    )


def person() -> str:
    """Who types: goes into the registry's history."""
    try:
        return f"person:{getpass.getuser()}"
    except (KeyError, OSError):
        return "person"
