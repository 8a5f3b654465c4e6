"""The run folder of a flow run: both have one name, so that a run in the UI is found on disk."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

from mondrian_core.files import require_free_space
from mondrian_core.recipes import RECIPE_SUFFIX, Recipe, load_recipe, resolve_recipe, with_training_overrides
from mondrian_core.settings import Settings
from mondrian_core.stages import new_stage_context

CONTEXT_FILE = "context.json"


def flow_run_name() -> str:
    """Name of the current flow run and its folder under runs/: time, flow, advisor, first digits of its id.

    The time is the scheduled one, so a retried run finds its folder again.
    """
    run = runtime.flow_run
    advisor = (run.get_parameters() or {}).get("advisor")
    words = (f"{run.get_scheduled_start_time():%Y%m%d-%H%M%S}", run.get_flow_name(), advisor, str(run.get_id())[:8])
    return "-".join(word for word in words if word)


def tag_flow_run(*tags: str) -> None:
    """Add tags to the current flow run, so that the list of runs shows what came of it and can be filtered by it.

    They go first, because Prefect's newer pages show the first three and count the others.

    Outside a flow run, or while the server is unreachable, nothing happens: a run is not lost for its tags.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with suppress(httpx.HTTPError, PrefectException), get_client(sync_client=True) as client:
        present = client.read_flow_run(context.flow_run.id).tags
        client.update_flow_run(context.flow_run.id, tags=[*dict.fromkeys([*tags, *present])])


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
    overrides: Mapping[str, Any] | None = None,
    adapter: str | None = None,
) -> Path:
    """Write the context of this flow run to its folder; tasks receive the file's path, never its content.

    Args:
        settings: workspace, registry and base model.
        advisor: whose adapter.
        recipe: a recipe, a recipe's name, a recipe file (relative to the workspace), or None for the default.
        overrides: values of `[train]` instead of the recipe's; None keeps the recipe's.
        adapter: an adapter to evaluate instead of the one that the run trains.

    Raises:
        NoWorkspace: the workspace does not exist.
        BadRecipe: no recipe has that name, or the file or an override is not valid.
        DiskFull: too little free space to start.
    """
    require_free_space(settings.require_workspace())
    is_file = isinstance(recipe, str) and recipe.endswith(RECIPE_SUFFIX)
    chosen = load_recipe(settings.root / str(recipe)) if is_file else resolve_recipe(recipe)
    chosen = with_training_overrides(chosen, overrides or {})
    context = new_stage_context(settings, advisor, chosen, run=flow_run_name(), actor=current_actor())
    context = replace(context, adapter=adapter)
    path = context.run_folder / CONTEXT_FILE
    context.save(path)
    return path
