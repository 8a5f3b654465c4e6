"""What comes from elsewhere, made ready to be registered: unpacked, checked, in mlx-vlm's layout, its origin told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mondrian_core import lora_files
from mondrian_core.errors import BadAdapter, BadInput, NothingToDo
from mondrian_core.files import read_json, sha256_of
from mondrian_core.registry import archive, conversion, intake, older
from mondrian_core.registry.conversion import Meant
from mondrian_core.registry.version import MANIFEST, Version


@dataclass(frozen=True)
class Ready:
    """A folder to register, what its manifest begins with, why it came, and what a person should know about it."""

    folder: Path
    manifest: dict[str, Any]
    reason: str
    notice: str = ""


@contextmanager
def ready(source: Path, versions: Iterable[Version], scale: Meant | None) -> Iterator[Ready]:
    """Make a folder, an archive or the older project's `model_config.json` ready.

    Raises:
        BadAdapter: damaged, more than a LoRA, or no adapter at all.
        BadInput: `scale` for a layout that leaves no doubt.
        NothingToDo: that configuration was taken over before.
    """
    with TemporaryDirectory(prefix="mondrian-import-") as room:
        if source.name == older.CONFIG_FILE:
            yield _active(source, versions, Path(room), scale)
            return
        with archive.opened(source) as folder:
            yield _copy(source, folder, Path(room), scale)


def _copy(source: Path, folder: Path, room: Path, scale: Meant | None) -> Ready:
    if found := intake.manifest_problems(folder):
        raise BadAdapter(f"{source} is damaged: {'; '.join(found)}.", "Fetch it again; nothing was taken in.")
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    kept = {key: value for key, value in manifest.items() if key not in intake.OF_ITS_OLD_PLACE}
    taken, made = _in_our_layout(folder, room, scale)
    kept["imported_from"] = {
        "source": source.name,
        **made,
        **{key: manifest[key] for key in ("advisor", "version", "created_at", "gate_report") if key in manifest},
    }
    return Ready(taken, kept, f"imported from {source.name}")


def _active(config: Path, versions: Iterable[Version], room: Path, scale: Meant | None) -> Ready:
    chosen = older.active_adapter(config)
    mark = {"source": config.name, "sha256": sha256_of(config), "active_model": chosen.name}
    for version in versions:
        if mark.items() <= (version.manifest.get("imported_from") or {}).items():
            raise NothingToDo(f"{config} was taken over as {version.version} already.", "Promote that version.")
    taken, made = _in_our_layout(chosen.adapter, room, scale)
    facts = {"imported_from": {**mark, **made}, "base": {"name": chosen.base, "fingerprint": None}}
    why = f"{config.name} named '{chosen.name}' as active; it becomes champion when it passes the gates"
    return Ready(taken, facts, why, "" if made else chosen.notice)


def _in_our_layout(folder: Path, room: Path, scale: Meant | None) -> tuple[Path, dict[str, Any]]:
    """(the folder to register, what was converted): the folder itself when it needs nothing."""
    intake.files_of(folder)
    layout = lora_files.described(folder).layout
    if scale is not None and layout != "older":
        raise BadInput(f"The adapter in {folder} says itself what its scale is.", "Leave --scale out.")
    if scale is None and layout != "peft":
        return folder, {}
    out = room / "adapter"
    return out, conversion.convert(folder, out, scale)
