"""The run folder of a flow run: one name for both, so that what the UI shows is found on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import runtime

from mondrian_core.files import require_free_space
from mondrian_core.recipes import Recipe, resolve_recipe
from mondrian_core.settings import Settings
from mondrian_core.stages import new_stage_context, with_seed

CONTEXT_FILE = "context.json"


def flow_run_name() -> str:
    """Name of the current flow run and of its folder under runs/: time, flow, advisor, the first digits of its id.

    The time is the one it was scheduled for, so a run that is tried again finds its folder again.
    """
    run = runtime.flow_run
    advisor = (run.get_parameters() or {}).get("advisor", "")
    return f"{run.get_scheduled_start_time():%Y%m%d-%H%M%S}-{run.get_flow_name()}-{advisor}-{str(run.get_id())[:8]}"


def settings_from_parameters(
    workspace: str | None, adapters: str | None = None, base_model: str | None = None
) -> Settings:
    """A run's parameters over the worker's environment."""
    given: dict[str, Any] = {"workspace": workspace, "adapters": adapters, "base_model": base_model}
    return Settings(**{name: value for name, value in given.items() if value})


def current_actor() -> str:
    """Who acts, for the registry's history."""
    return f"flow:{runtime.flow_run.get_name()}"


def write_run_context(
    settings: Settings,
    advisor: str,
    recipe: Recipe | str | None,
    *,
    seed: int | None = None,
    dataset: str | None = None,
    adapter: str | None = None,
) -> Path:
    """Write the context of this flow run into its folder; tasks pass the file on, never what is in it.

    Raises:
        NoWorkspace: when there is none.
        BadRecipe: no recipe has that name.
        DiskFull: too little space is left to begin.
    """
    require_free_space(settings.require_workspace())
    chosen = resolve_recipe(recipe)
    context = new_stage_context(
        settings, advisor, chosen, run=flow_run_name(), actor=current_actor(), dataset=dataset, adapter=adapter
    )
    if seed is not None:
        context = with_seed(context, seed)
    path = context.run_folder / CONTEXT_FILE
    context.save(path)
    return path
