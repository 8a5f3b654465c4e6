"""Run folders in shared storage, so that every machine shows the runs of all, and another one can continue a run.

A manifest counts its revisions. Who continues a run publishes the next revision; a machine that wakes up after another
one took its run over finds a revision that is not its own, and publishes nothing more.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mondrian_core.errors import MondrianError, NothingToDo
from mondrian_core.files import file_sha256, read_json, write_json
from mondrian_core.portable_paths import base_model_name, home_path_root, without_absolute_paths
from mondrian_core.runs import ACTIVE_SECONDS, REPORT
from mondrian_core.settings import url_from_cache_folder
from mondrian_core.shared_storage.datasets import publish_dataset
from mondrian_core.shared_storage.publication import Publication, SharedStorage, require_name

PUBLICATION_MARKER = ".published.json"  # in a run folder: the revision that it was published or fetched as
CONTEXT = "context.json"
PUBLISHED_SUFFIXES = (".json", ".jsonl", ".html", ".png")
ADAPTER_FOLDER = "adapter"
_PRIVATE = {PUBLICATION_MARKER, "link_manifest.json", "retrain.jsonl"}


class RunTakenOver(NothingToDo):
    """Another machine has continued the run."""


def publish_run(storage: SharedStorage, folder: Path) -> Publication:
    """Publish the state of a run (`runs/<run>/`), and first the dataset that it built.

    A run that another machine published, and for which this one only trains, is left to that machine.

    Raises:
        RunTakenOver: another machine has published a later state.
        Unreachable: the storage does not answer; readers still see the state before.
    """
    name, workspace = f"runs/{require_name(folder.name)}", folder.parents[1]
    dataset = _values(folder / "dataset.json").get("path")
    if isinstance(dataset, str) and (workspace / dataset / "manifest.json").is_file():
        publish_dataset(storage, workspace / dataset)
    published, known = storage.read(name), _values(folder / PUBLICATION_MARKER).get("revision", 0)
    own = published is None or published.facts.get("owner") == _owner(workspace)
    if published and not known and not own:
        return published
    revision = published.facts.get("revision", 0) if published else 0
    if revision > known and not own:
        raise RunTakenOver(
            f"The run {folder.name} was continued by another machine.", "Look at its result with `mondrian runs show`."
        )
    facts = {"revision": revision + 1, "advisor": _advisor(folder), "owner": _owner(workspace)}
    with tempfile.TemporaryDirectory(prefix="mondrian-publish-") as temporary:
        files = {path: _portable_copy(file, workspace, Path(temporary)) for path, file in _run_files(folder).items()}
        made = storage.publish(name, files, facts)
    write_json(folder / PUBLICATION_MARKER, {"revision": revision + 1, "fetched": False})
    return made


def fetch_run(storage: SharedStorage, workspace: Path, run: str) -> Path | None:
    """Bring a published run into a workspace, or up to date; its folder, None when nobody has published it.

    Raises:
        DamagedPublication: a published file is missing or damaged.
        Unreachable: the storage does not answer.
    """
    publication = storage.read(f"runs/{require_name(run)}")
    if publication is None:
        return None
    folder = workspace / "runs" / run
    if not folder.exists():
        storage.fetch_folder(publication, folder)
    elif not _may_update(folder, publication):
        return folder
    else:
        _update_files(storage, publication, folder)
    write_json(folder / PUBLICATION_MARKER, {"revision": publication.facts["revision"], "fetched": True})
    return folder


def take_back_run(storage: SharedStorage, folder: Path) -> None:
    """Bring into a run's folder what another machine added to the run; its next states are published from here again.

    The context stays: its paths are this machine's.

    Raises:
        NothingToDo: the run was never published.
        DamagedPublication: a published file is missing or damaged.
        Unreachable: the storage does not answer.
    """
    publication = storage.read(f"runs/{require_name(folder.name)}")
    if publication is None:
        raise NothingToDo(f"The run {folder.name} was not published.", "Compare MONDRIAN_SHARED on both machines.")
    added = {path: facts for path, facts in publication.files.items() if path != CONTEXT}
    _update_files(storage, Publication(added, publication.facts), folder)
    write_json(folder / PUBLICATION_MARKER, {"revision": publication.facts["revision"], "fetched": False})


def fetch_published_runs(
    storage: SharedStorage, workspace: Path, seen: dict[str, str] | None = None
) -> tuple[list[str], list[str]]:
    """Bring the runs of all machines into a workspace: the names that changed, and a sentence per run that can't be.

    Args:
        storage: the shared storage.
        workspace: whose `runs/` to fill.
        seen: tokens of manifests that were fetched, which is updated; unchanged ones are not read again.

    Raises:
        Unreachable: the storage does not answer.
    """
    changed, problems, known = [], [], seen if seen is not None else {}
    for name, token in storage.tokens("runs").items():
        if token and known.get(name) == token:
            continue
        run = name.removeprefix("runs/")
        before = _values(workspace / "runs" / run / PUBLICATION_MARKER).get("revision")
        try:
            folder = fetch_run(storage, workspace, run)
        except (MondrianError, ValueError, KeyError) as error:
            problems.append(f"{run}: {error}")
            continue
        known[name] = token
        if folder is not None and _values(folder / PUBLICATION_MARKER).get("revision") != before:
            changed.append(run)
    return changed, problems


def _run_files(folder: Path) -> dict[str, Path]:
    """The files of a run that are published, by relative path."""
    places = [*folder.iterdir(), *(folder / ADAPTER_FOLDER).glob("*")] if folder.is_dir() else []
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(places)
        if path.is_file()
        and not path.is_symlink()
        and (path.parent.name == ADAPTER_FOLDER or path.suffix in PUBLISHED_SUFFIXES)
        and not path.name.startswith(".")
        and path.name not in _PRIVATE
        and not path.name.endswith(".error.json")
    }


def _portable_copy(file: Path, workspace: Path, temporary: Path) -> Path:
    """The file, or a copy of it without paths of this machine."""
    if file.suffix != ".json" or file.name in ("adapter_config.json",):
        return file
    values = _values(file)
    told = without_absolute_paths(values, {workspace: "", **home_path_root()})
    if file.name == CONTEXT:
        adapters = str(values.get("adapters", ""))
        told = {
            **told,
            "adapters": url_from_cache_folder(Path(adapters)) or "adapters",
            "base_model": base_model_name(str(values.get("base_model", ""))),
        }
    if told == values:
        return file
    copy = temporary / file.name
    write_json(copy, told)
    return copy


def _may_update(folder: Path, publication: Publication) -> bool:
    """True for an older state of the run on which nobody works here."""
    marker = _values(folder / PUBLICATION_MARKER)
    if not marker or marker.get("revision", 0) >= publication.facts["revision"]:
        return False
    newest = max((path.stat().st_mtime for path in folder.iterdir() if path.name != PUBLICATION_MARKER), default=0.0)
    return bool(marker.get("fetched")) or time.time() - newest > ACTIVE_SECONDS


def _update_files(storage: SharedStorage, publication: Publication, folder: Path) -> None:
    """Replace changed files one by one; the summaries of stages last, in the order of their names' stages."""
    names = sorted(publication.files, key=lambda name: (name.endswith(".json"), name == REPORT, name))
    for name in names:
        sha256, target = publication.files[name][0], folder / name
        if not target.is_file() or file_sha256(target) != sha256:
            storage.replace_file(sha256, target)


def _owner(workspace: Path) -> str:
    """Tells workspaces of all machines apart without naming them."""
    return hashlib.sha256(f"{uuid.getnode()} {workspace.resolve()}".encode()).hexdigest()[:12]


def _advisor(folder: Path) -> str:
    return str(_values(folder / CONTEXT).get("advisor", ""))


def _values(path: Path) -> Mapping[str, Any]:
    """The object in a JSON file; empty when there is none that can be read."""
    try:
        values = read_json(path)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
