"""The run folder of a flow run: both have one name, so that a run in the UI is found on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import runtime

from mondrian_core.files import require_free_space
from mondrian_core.recipes import Recipe, resolve_recipe
from mondrian_core.settings import Settings
from mondrian_core.stages import new_stage_context, with_seed

CONTEXT_FILE = "context.json"


def flow_run_name() -> str:
    """Name of the current flow run and its folder under runs/: time, flow, advisor, first digits of its id.

    The time is the scheduled one, so a retried run finds its folder again.
    """
    run = runtime.flow_run
    advisor = (run.get_parameters() or {}).get("advisor", "")
    return f"{run.get_scheduled_start_time():%Y%m%d-%H%M%S}-{run.get_flow_name()}-{advisor}-{str(run.get_id())[:8]}"


def settings_from_parameters(
    workspace: str | None, adapters: str | None = None, base_model: str | None = None
) -> Settings:
    """Settings from the worker's environment, with a run's parameters over them."""
    given: dict[str, Any] = {"workspace": workspace, "adapters": adapters, "base_model": base_model}
    return Settings(**{name: value for name, value in given.items() if value})


def current_actor() -> str:
    """The actor for the registry's history."""
    return f"flow:{runtime.flow_run.get_name()}"


def write_run_context(
    settings: Settings,
    advisor: str,
    recipe: Recipe | str | None,
    *,
    seed: int | None = None,
    adapter: str | None = None,
) -> Path:
    """Write the context of this flow run to its folder; tasks receive the file's path, never its content.

    Args:
        settings: workspace, registry and base model.
        advisor: whose adapter.
        recipe: a recipe, a recipe's name, or None for the default.
        seed: training seed instead of the recipe's.
        adapter: an adapter to evaluate instead of the one that the run trains.

    Raises:
        NoWorkspace: the workspace does not exist.
        BadRecipe: no recipe has that name.
        DiskFull: too little free space to start.
    """
    require_free_space(settings.require_workspace())
    chosen = resolve_recipe(recipe)
    context = new_stage_context(settings, advisor, chosen, run=flow_run_name(), actor=current_actor())
    context = replace(context, adapter=adapter)
    if seed is not None:
        context = with_seed(context, seed)
    path = context.run_folder / CONTEXT_FILE
    context.save(path)
    return path
