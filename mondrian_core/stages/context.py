"""StageContext: the input of every stage, as one value that can be sent to another process as JSON."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
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
    from mondrian_core.data.dataset.version import DatasetVersion
    from mondrian_core.prompts import AdvisorPrompt
    from mondrian_core.shared_storage import SharedStorage
    from mondrian_core.store import Store

INPUTS_FILE = "inputs.json"  # in a run folder: advisor and digest of the inputs, where there is no database


class OpenedDatasets:
    """Dataset versions that a process has opened: stages that share a process read each version once.

    A version never changes after it was written, so an opened one stays valid.
    """

    def __init__(self) -> None:
        self._versions: dict[Path, DatasetVersion] = {}

    def open(self, path: Path) -> DatasetVersion:
        """The dataset version in a folder.

        Raises:
            BadInput: when the folder is not a finished dataset.
        """
        from mondrian_core.data.dataset.version import load_dataset_version

        if path not in self._versions:
            self.add(load_dataset_version(path))
        return self._versions[path]

    def add(self, version: DatasetVersion) -> None:
        """Keep a version that was built in this process."""
        self._versions[version.path] = version


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """What a stage works with: plain values, so that it can be sent to another process as JSON.

    Attributes:
        workspace: absolute path of the workspace.
        adapters: the registry: an absolute path or a URL.
        base_model: hub id, folder or `mini`.
        run: name of the run and of its folder.
        actor: for the registry's history.
        dataset: a dataset version to use instead of the one that this run builds.
        adapter: an adapter to evaluate instead of the one that this run trains.
        datasets: the dataset versions that this process has opened; not stored.
    """

    workspace: str
    adapters: str
    base_model: str
    advisor: str
    run: str
    recipe: Recipe
    actor: str = "person"
    dataset: str | None = None
    adapter: str | None = None
    datasets: OpenedDatasets = field(default_factory=OpenedDatasets, repr=False, compare=False)

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
        """Placeholders for the workspace, the registry and the home folder in texts that others read."""
        return known_path_roots(self.root, Path(self.adapters))

    def store(self) -> Store:
        """The workspace's database, opened for reading.

        Raises:
            NoWorkspace, NoDatabase: when there is none.
        """
        from mondrian_core.store import Store

        Settings(workspace=self.root).require_workspace()
        return Store(self.root / "mondrian.db", read_only=True)

    def shared_storage(self) -> SharedStorage | None:
        """Where this run is published (MONDRIAN_SHARED); None when nowhere."""
        from mondrian_core.shared_storage.publication import open_shared

        return open_shared(Settings().shared_root)

    def advisor_prompt(self) -> AdvisorPrompt:
        """The advisor as the prompt needs it: from the database, or from a run that was published without it.

        Raises:
            NoWorkspace, NoDatabase: when neither is there.
        """
        from mondrian_core.prompts import AdvisorPrompt

        recorded = self.run_folder / INPUTS_FILE
        if (self.root / "mondrian.db").is_file() or not recorded.is_file():
            with self.store() as store:
                return store.advisor(self.advisor)
        return AdvisorPrompt(**read_json(recorded)["advisor"])

    def store_for_writing(self) -> Store:
        """The workspace's database, opened for writing and migrated when it is older.

        Raises:
            NoWorkspace, NoDatabase: when there is none.
            DatabaseBusy: when it stays locked, or can't be written.
        """
        from mondrian_core.store import Store

        Settings(workspace=self.root).require_workspace()
        return Store(self.root / "mondrian.db")

    def save(self, path: Path) -> None:
        """Write the context as JSON; paths are relative to the workspace when `path` is in a run folder of it."""
        in_run_folder = path.resolve().parent.parent.parent == self.root.resolve()
        write_json(path, self.as_stored() if in_run_folder else self.as_dict())

    def as_stored(self) -> dict[str, Any]:
        """Plain values for a run folder: paths relative to the workspace."""
        values = self.as_dict()
        values |= {
            "workspace": ".",
            "adapters": relative_path_via_parents(self.adapters, self.root),
            "base_model": abbreviate_home(self.base_model),
        }
        named = {key: values[key] for key in ("dataset", "adapter") if values[key]}
        return values | {key: portable_path(Path(value).absolute(), self.root) for key, value in named.items()}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with absolute paths."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "datasets"}
        return {**values, "recipe": self.recipe.model_dump(mode="json")}

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
) -> StageContext:
    """The context of a new run.

    Args:
        settings: workspace, registry and base model.
        advisor: whose adapter, an id of the table `advisors`.
        recipe: settings of every stage.
        run: name of the run; None: the time and the advisor, so that runs sort by time.
        actor: for the registry's history.

    Raises:
        BadInput: the advisor's id is not valid.
        NoWorkspace: the workspace does not exist.
    """
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
    )


def with_seed(context: StageContext, seed: int) -> StageContext:
    """The same run with another training seed."""
    train_recipe = context.recipe.train.model_copy(update={"seed": seed})
    return replace(context, recipe=context.recipe.model_copy(update={"train": train_recipe}))
