"""Base models of the hub: what is on this machine, how large the rest is, and downloading it.

`fetch_base` is the only place that downloads a base model; commands call it before they start to compute, hold the
accelerator or start a process with a deadline. Everything else finds a base with `resolve_base_path`, which never uses
the network.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mondrian_core.errors import BaseModelUnavailable, translate_foreign_errors
from mondrian_core.events import EventListener, StageFinished, StageNotice, StageProgressed, StageStarted, ignore_events
from mondrian_core.models.base_model import is_hub_id, require_known_family, resolve_base_path
from mondrian_core.models.checkpoint_files import (
    CONFIGURATION,
    file_length_problem,
    find_file_problems,
    problems_as_text,
)
from mondrian_core.models.hub_errors import explain_hub_errors
from mondrian_core.models.hub_snapshot import (
    HUB_FILE_PATTERNS,
    IGNORED_HUB_FILES,
    HubSnapshot,
    changed_hub_files,
    find_hub_snapshot,
    is_hub_file,
)
from mondrian_core.process_locks import hold_process_lock, is_process_lock_held, try_process_lock
from mondrian_core.settings import current_settings

DOWNLOAD_STAGE = "download"
KEPT_FREE_BYTES = 1_000_000_000  # that a download leaves free
_METADATA_SECONDS = 10.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class BaseDownload:
    """What a download of a base model would bring.

    Attributes:
        name: hub id.
        commit: the commit that would be downloaded, hexadecimal.
        files: file -> bytes, of those that are missing or damaged here.
        damaged: those of `files` that are here, but damaged.
        begun: True if a part of this commit is here already.
        total_bytes: bytes of all files of the base.
        has_weights: False if the hub has no safetensors of it.
    """

    name: str
    commit: str
    files: Mapping[str, int]
    damaged: tuple[str, ...]
    begun: bool
    total_bytes: int
    has_weights: bool

    @property
    def missing_bytes(self) -> int:
        """Bytes that have to be downloaded."""
        return sum(self.files.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "base_model": self.name,
            "commit": self.commit,
            "files": dict(self.files),
            "missing_bytes": self.missing_bytes,
            "total_bytes": self.total_bytes,
        }


def fetch_base(name: str, listen: EventListener = ignore_events, *, verify: bool = False) -> Path:
    """The folder of a base model; what is missing or damaged of one from the hub is downloaded, with progress.

    A second process waits for the first one and downloads nothing.

    Args:
        name: "mini", a folder or a hub id.
        listen: receives progress.
        verify: hash the weights, too, and download again those whose bytes aren't the hub's.

    Raises:
        BaseModelUnavailable: there is no such base, it can't be downloaded, or the disk has no room for it.
        DiskFull: the disk filled up meanwhile.
    """
    if not is_hub_id(name) or _find_snapshot(name, verify).complete:
        return resolve_base_path(name)
    with _one_download(name, listen):
        if not (found := _find_snapshot(name, verify)).complete:
            _download(plan_download(name, found), listen)
    found = find_hub_snapshot(name)
    if not found.complete:  # downloaded as the hub has it
        raise BaseModelUnavailable(
            f"The base model {name} is incomplete on the hub itself: {problems_as_text(found.problems)}.",
            "Choose another checkpoint, or convert it again (`python -m mlx_vlm convert`).",
        )
    return resolve_base_path(name)


def _find_snapshot(name: str, verify: bool) -> HubSnapshot:
    found = find_hub_snapshot(name)
    if verify and found.complete and found.folder is not None:
        return HubSnapshot(found.folder, changed_hub_files(found.folder))
    return found


def plan_download(name: str, found: HubSnapshot | None = None) -> BaseDownload:
    """Ask the hub what is missing here, without downloading it.

    Args:
        name: hub id.
        found: what is on this machine, if it is known.

    Raises:
        BaseModelUnavailable: the hub can't be reached, or has no such model for this user.
    """
    found = found or find_hub_snapshot(name)
    with explain_hub_errors(name, found):
        sizes, commit = _file_sizes(name, found.commit)
    folder = found.folder if found.commit == commit else None
    damaged = {problem.name for problem in (*found.problems, *(find_file_problems(folder) if folder else ()))}
    wrong = {
        each: size
        for each, size in sizes.items()
        if folder is None or each in damaged or file_length_problem(folder / each, size) is not None
    }
    return BaseDownload(
        name=name,
        commit=commit,
        files=wrong,
        damaged=tuple(each for each in wrong if folder is not None and (folder / each).is_file()),
        begun=folder is not None,
        total_bytes=sum(sizes.values()),
        has_weights=any(each.endswith(".safetensors") for each in sizes),
    )


def read_hub_configuration(plan: BaseDownload) -> dict[str, Any]:
    """The contents of config.json on the hub; nothing is stored.

    Raises:
        BaseModelUnavailable: the hub can't be reached, or has no such file.
    """
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    address = hf_hub_url(plan.name, CONFIGURATION, revision=plan.commit)
    with explain_hub_errors(plan.name, HubSnapshot(None)):
        answer = get_session().get(
            address, headers=build_hf_headers(), timeout=_METADATA_SECONDS, follow_redirects=True
        )
        hf_raise_for_status(answer)
        configuration = answer.json()
    return configuration if isinstance(configuration, dict) else {}


def _file_sizes(name: str, commit: str | None) -> tuple[dict[str, int], str]:
    """Bytes by file, and the commit: the one that is partly here, or the newest one."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        about = HfApi().model_info(name, revision=commit, files_metadata=True, timeout=_METADATA_SECONDS)
    except RevisionNotFoundError:  # the hub's copy was rewritten since
        about = HfApi().model_info(name, files_metadata=True, timeout=_METADATA_SECONDS)
    sizes = {each.rfilename: int(each.size or 0) for each in about.siblings or [] if is_hub_file(each.rfilename)}
    return sizes, str(about.sha)


def _download(plan: BaseDownload, listen: EventListener) -> None:
    from huggingface_hub import snapshot_download

    storage = _storage(plan.name)
    _remove_leftovers(storage, listen)
    _require_room(plan)
    listen(
        StageStarted(
            DOWNLOAD_STAGE,
            plan.missing_bytes >> 20,
            f"{plan.name}: {plan.missing_bytes / 1e9:.2f} GB in {len(plan.files)} files",
        )
    )
    with (
        translate_foreign_errors(storage),
        explain_hub_errors(plan.name, find_hub_snapshot(plan.name)),
        _progress(storage, plan, listen),
    ):
        _require_usable(plan, storage)
        for each in set(plan.damaged) - {CONFIGURATION}:
            _download_file(plan, storage, each)
        snapshot_download(
            plan.name,
            revision=plan.commit if plan.begun else None,
            allow_patterns=list(HUB_FILE_PATTERNS),
            ignore_patterns=list(IGNORED_HUB_FILES),
            tqdm_class=_silent_bars(),
        )
    listen(StageFinished(DOWNLOAD_STAGE, {"base_model": plan.name, "bytes": plan.missing_bytes}))


def _download_file(plan: BaseDownload, storage: Path, name: str) -> Path:
    """Download one file, also if it is here but damaged: the hub's client never looks at a file that exists."""
    from huggingface_hub import hf_hub_download

    damaged = name in plan.damaged
    if damaged:
        (storage / "snapshots" / plan.commit / name).unlink(missing_ok=True)
    path = hf_hub_download(plan.name, name, revision=plan.commit, force_download=damaged, tqdm_class=_silent_bars())
    return Path(path)


def _require_usable(plan: BaseDownload, storage: Path) -> None:
    """Refuse another kind of model before its weights are downloaded."""
    from huggingface_hub.errors import EntryNotFoundError

    if not plan.has_weights:
        raise BaseModelUnavailable(
            f"The base model {plan.name} has no weights as safetensors on the hub.",
            "Choose a checkpoint for MLX or transformers; GGUF and other formats can't be trained.",
        )
    try:
        configuration = _download_file(plan, storage, CONFIGURATION)
    except EntryNotFoundError:
        raise BaseModelUnavailable(
            f"{plan.name} has no {CONFIGURATION} on the hub, so it is not a base model.",
            "Check --base-model or MONDRIAN_BASE_MODEL.",
        ) from None
    require_known_family(configuration.parent, plan.name)


def room_for_downloads(name: str) -> tuple[Path, int]:
    """The folder that a base is downloaded to, or its first parent that exists, and the free bytes there."""
    storage = _storage(name)
    place = next(each for each in (storage, *storage.parents) if each.is_dir())
    return place, shutil.disk_usage(place).free


def download_in_progress(name: str) -> bool:
    """True while a process downloads this base."""
    return is_process_lock_held(_lock_file(name))


def _storage(name: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"


def _lock_file(name: str) -> Path:
    cache = current_settings().cache.expanduser().resolve()
    return cache / "locks" / f"download-{name.replace('/', '--')}.lock"


def _require_room(plan: BaseDownload) -> None:
    place, free = room_for_downloads(plan.name)
    if free < plan.missing_bytes + KEPT_FREE_BYTES:
        raise BaseModelUnavailable(
            f"The base model {plan.name} needs {plan.missing_bytes / 1e9:.1f} GB, and {KEPT_FREE_BYTES / 1e9:.0f} GB "
            f"should stay free; {free / 1e9:.1f} GB are free at {place}.",
            "Free some space, or set HF_HOME to a folder on another disk.",
        )


def _remove_leftovers(storage: Path, listen: EventListener) -> None:
    """Delete what killed downloads left: the hub's client never continues these files.

    A file that another program is downloading now is locked, and stays.
    """
    removed, locks = 0, storage.parent / ".locks" / storage.name
    for path in storage.glob("blobs/*.incomplete"):
        lock = locks / f"{path.name.partition('.')[0]}.lock"
        handle = try_process_lock(lock)
        if handle is not None:
            removed += path.stat().st_size
            path.unlink(missing_ok=True)
            os.close(handle)
    if removed:
        listen(StageNotice(DOWNLOAD_STAGE, f"Removed {removed / 1e9:.2f} GB that an interrupted download left."))


@contextmanager
def _one_download(name: str, listen: EventListener) -> Iterator[None]:
    """Hold the lock of a base's download; it ends with its process."""
    lock = _lock_file(name)
    handle = try_process_lock(lock)
    if handle is None:
        listen(StageNotice(DOWNLOAD_STAGE, f"Another process is downloading {name}; waiting for it."))
        handle = hold_process_lock(lock)
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def _progress(storage: Path, plan: BaseDownload, listen: EventListener) -> Iterator[None]:
    """Report the bytes on disk while the block downloads, whatever the hub's client transfers them with."""
    ended = threading.Event()
    before = _blob_bytes(storage)
    last = -1

    def report() -> None:
        nonlocal last
        done = min(max(0, _blob_bytes(storage) - before), plan.missing_bytes) >> 20
        if done != last:
            last = done
            listen(StageProgressed(DOWNLOAD_STAGE, done, plan.missing_bytes >> 20, f"MiB of {plan.name}"))

    def watch() -> None:
        while not ended.wait(_POLL_SECONDS):
            report()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    report()


def _blob_bytes(storage: Path) -> int:
    total = 0
    for path in storage.glob("blobs/*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # renamed since
            continue
    return total


def _silent_bars() -> type[Any]:
    """The class of the hub's progress bars, switched off: `_progress` reports instead."""
    from huggingface_hub.utils import tqdm as hub_bars  # type: ignore[attr-defined]

    class SilentBar(hub_bars):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

    return SilentBar
