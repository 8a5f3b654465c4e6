"""Prepare an import: unpack, verify, convert to mlx-vlm's layout, and record the origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mondrian_core import lora_files
from mondrian_core.errors import BadAdapter, BadInput, NothingToDo
from mondrian_core.files import file_sha256, read_json
from mondrian_core.registry import version_writer
from mondrian_core.registry.import_export import archive, conversion, legacy_config
from mondrian_core.registry.import_export.conversion import ScaleConvention
from mondrian_core.registry.version import MANIFEST, AdapterVersion


@dataclass(frozen=True)
class PreparedImport:
    """A folder to register, its provenance, the reason for the history, and a notice for people."""

    folder: Path
    manifest: dict[str, Any]
    reason: str
    notice: str = ""


@contextmanager
def prepare_import(
    source: Path, versions: Iterable[AdapterVersion], scale: ScaleConvention | None
) -> Iterator[PreparedImport]:
    """Prepare a folder, an archive or the older project's `model_config.json`.

    Raises:
        BadAdapter: damaged, more than a LoRA, or not an adapter.
        BadInput: `scale` for a layout that states its scale.
        NothingToDo: that configuration was imported before.
    """
    with TemporaryDirectory(prefix="mondrian-import-") as temporary:
        if source.name == legacy_config.LEGACY_CONFIG_FILE:
            yield _prepare_legacy_active(source, versions, Path(temporary), scale)
            return
        with archive.unpacked_folder(source) as folder:
            yield _prepare_adapter(source, folder, Path(temporary), scale)


def _prepare_adapter(source: Path, folder: Path, temporary: Path, scale: ScaleConvention | None) -> PreparedImport:
    if found := version_writer.manifest_problems(folder):
        raise BadAdapter(f"{source} is damaged: {'; '.join(found)}.", "Copy it again; nothing was imported.")
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    kept = {key: value for key, value in manifest.items() if key not in version_writer.REGISTRY_SPECIFIC_KEYS}
    taken, made = _converted_to_mlx_vlm(folder, temporary, scale)
    kept["imported_from"] = {
        "source": source.name,
        **made,
        **{key: manifest[key] for key in ("advisor", "version", "created_at", "gate_report") if key in manifest},
    }
    return PreparedImport(taken, kept, f"imported from {source.name}")


def _prepare_legacy_active(
    config: Path, versions: Iterable[AdapterVersion], temporary: Path, scale: ScaleConvention | None
) -> PreparedImport:
    chosen = legacy_config.read_legacy_active_adapter(config)
    mark = {"source": config.name, "sha256": file_sha256(config), "active_model": chosen.name}
    for version in versions:
        if mark.items() <= (version.manifest.get("imported_from") or {}).items():
            raise NothingToDo(f"{config} was imported before, as {version.version}.", "Promote that version.")
    taken, made = _converted_to_mlx_vlm(chosen.adapter, temporary, scale)
    facts = {"imported_from": {**mark, **made}, "base": {"name": chosen.base, "fingerprint": None}}
    why = f"{config.name} named '{chosen.name}' as active; it becomes champion when it passes the gates"
    return PreparedImport(taken, facts, why, "" if made else chosen.notice)


def _converted_to_mlx_vlm(folder: Path, temporary: Path, scale: ScaleConvention | None) -> tuple[Path, dict[str, Any]]:
    """(folder to register, record of the conversion): the folder itself when no conversion is needed."""
    version_writer.collect_version_files(folder)
    layout = lora_files.describe_adapter(folder).layout
    if scale is not None and layout != "older":
        raise BadInput(f"The adapter in {folder} states its own scale.", "Omit --scale.")
    if scale is None and layout != "peft":
        return folder, {}
    out = temporary / "adapter"
    return out, conversion.convert_to_mlx_vlm(folder, out, scale)
