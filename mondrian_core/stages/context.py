"""What a stage is told: one value, the same in every process."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mondrian_core.files import read_json, write_json
from mondrian_core.portable_paths import (
    abbreviate_home,
    absolute_from_portable,
    known_path_roots,
    portable_path,
    relative_path_via_parents,
)
from mondrian_core.recipes import Recipe, recorded_recipe
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings, validate_advisor_id

if TYPE_CHECKING:
    from mondrian_core.store import Store


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """Everything a stage needs to know; plain values, so that it can travel to another process as JSON."""

    workspace: str
    adapters: str
    base_model: str
    advisor: str
    run: str
    recipe: Recipe
    actor: str = "person"
    dataset: str | None = None
    adapter: str | None = None

    @property
    def root(self) -> Path:
        """The workspace."""
        return Path(self.workspace)

    @property
    def run_folder(self) -> Path:
        """`runs/<run>/` of the workspace."""
        return self.root / "runs" / self.run

    @property
    def registry(self) -> Registry:
        """The registry of adapters."""
        return Registry(Path(self.adapters))

    @property
    def named_places(self) -> dict[Path, str]:
        """What stands for the workspace, the registry and the home in texts for others."""
        return known_path_roots(self.root, Path(self.adapters))

    def store(self) -> Store:
        """The workspace's database, opened for reading.

        Raises:
            NoWorkspace, NoDatabase: when there is none.
        """
        from mondrian_core.store import Store

        Settings(workspace=self.root).require_workspace()
        return Store(self.root / "mondrian.db", read_only=True)

    def store_for_writing(self) -> Store:
        """The workspace's database, opened for writing: migrated when it is older.

        Raises:
            NoWorkspace, NoDatabase: when there is none.
            DatabaseBusy: when it is locked for too long, or can't be written.
        """
        from mondrian_core.store import Store

        Settings(workspace=self.root).require_workspace()
        return Store(self.root / "mondrian.db")

    def save(self, path: Path) -> None:
        """Write the context as JSON; in a run folder of its workspace, with paths relative to that."""
        in_run_folder = path.resolve().parent.parent.parent == self.root.resolve()
        write_json(path, self.as_stored() if in_run_folder else self.as_dict())

    def as_stored(self) -> dict[str, Any]:
        """Plain values, as a run folder keeps them: paths relative to the workspace."""
        values = self.as_dict()
        values |= {
            "workspace": ".",
            "adapters": relative_path_via_parents(self.adapters, self.root),
            "base_model": abbreviate_home(self.base_model),
        }
        named = {key: values[key] for key in ("dataset", "adapter") if values[key]}
        return values | {key: portable_path(Path(value).absolute(), self.root) for key, value in named.items()}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with paths as they are on this machine."""
        return {**asdict(self), "recipe": self.recipe.model_dump(mode="json")}

    @classmethod
    def load(cls, path: Path) -> StageContext:
        """Read a context written by `save`."""
        values = read_json(path)
        if not Path(values["workspace"]).is_absolute():
            root = (path.resolve().parents[2] / values["workspace"]).resolve()
            adapters, base = os.path.normpath(root / values["adapters"]), values["base_model"]
            base = str(Path(base).expanduser()) if base.startswith("~/") else base
            values |= {"workspace": str(root), "adapters": adapters, "base_model": base}
            values |= {
                key: absolute_from_portable(value, root) for key in ("dataset", "adapter") if (value := values.get(key))
            }
        return cls(**{**values, "recipe": recorded_recipe(values["recipe"], str(path))})


def new_stage_context(
    settings: Settings,
    advisor: str,
    recipe: Recipe,
    *,
    run: str | None = None,
    actor: str = "person",
    dataset: str | None = None,
    adapter: str | None = None,
) -> StageContext:
    """A context for a new run; its name begins with the time, so that runs sort."""
    validate_advisor_id(advisor)
    settings.require_workspace()
    name = run or f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{advisor}"
    return StageContext(
        workspace=str(settings.root),
        adapters=str(settings.adapters_root),
        base_model=settings.base,
        advisor=advisor,
        run=name,
        recipe=recipe,
        actor=actor,
        dataset=dataset,
        adapter=adapter,
    )


def with_seed(context: StageContext, seed: int) -> StageContext:
    """The same run with another seed of training."""
    train_recipe = context.recipe.train.model_copy(update={"seed": seed})
    return replace(context, recipe=context.recipe.model_copy(update={"train": train_recipe}))
