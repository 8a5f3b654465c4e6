"""Read the older project's `model_config.json`: the adapter that it served, for a one-time import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadAdapter
from mondrian_core.registry.version import CONFIG

LEGACY_CONFIG_FILE = "model_config.json"
ADAPTER_KEYS = ("adapter", "lora_path")
# Below this the adapter hardly changes the base's answers; its authors meant alpha itself as the scale.
NEGLIGIBLE_SCALE = 0.1


@dataclass(frozen=True)
class LegacyActiveAdapter:
    """The active adapter of the file: its folder, its base, and a notice for people."""

    name: str
    adapter: Path
    base: str | None
    notice: str


def read_legacy_active_adapter(config: Path) -> LegacyActiveAdapter:
    """The adapter of `active_model` (or of `defaults.model_preset`), relative to the file's folder.

    Raises:
        BadAdapter: the file can't be read, or names no active adapter.
    """
    advice = "Name the adapter's folder itself: `mondrian adapters import --advisor A FOLDER`."
    try:
        value = json.loads(config.read_bytes())
        name = value.get("active_model") or (value.get("defaults") or {}).get("model_preset")
        found = _entry(value.get("models") or {}, name)
        entry: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise BadAdapter(f"{config} can't be read: {error}.", advice) from None
    named = next((entry[key] for key in ADAPTER_KEYS if isinstance(entry.get(key), str)), None) if entry else None
    if not name or named is None:
        raise BadAdapter(f"{config} names no adapter for its active model {name!r}.", advice)
    folder = _folder_of(config, named)
    if folder is None:
        raise BadAdapter(f"{config} names the adapter {named}, which isn't there.", advice)
    return LegacyActiveAdapter(str(name), folder, _base_of(value, entry), _scale_notice(folder))


def _folder_of(config: Path, named: str) -> Path | None:
    """The adapter's folder, relative to the file's folder or its parent: the file may be in `config/`."""
    places = (config.parent / Path(named).expanduser(), config.resolve().parent.parent / named)
    return next((place for place in places if place.is_dir()), None)


def _base_of(value: Mapping[str, Any], entry: Mapping[str, Any]) -> str | None:
    """The base that the adapter belongs to: its own `model_id`, else the one of the entry `base`."""
    models = value.get("models")
    base = models.get("base") if isinstance(models, Mapping) else None
    found = entry.get("model_id") or (base.get("id") or base.get("model_id") if isinstance(base, Mapping) else None)
    return found if isinstance(found, str) else None


def _entry(models: Any, name: str | None) -> Any:
    if isinstance(models, list):
        return next((model for model in models if name in (model.get("id"), model.get("name"))), None)
    return models.get(name)


def _scale_notice(folder: Path) -> str:
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        scale = float(config["alpha"]) / int(config["rank"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return ""
    if scale >= NEGLIGIBLE_SCALE:
        return ""
    return (
        f"Its alpha {config['alpha']} over rank {config['rank']} is a scale of {scale:.4g}: older versions of mlx-vlm "
        "took alpha itself as the scale, so it does next to nothing now. If one of those trained it, import it with "
        "--scale alpha; otherwise train it again."
    )
