"""The older project's `model_config.json`: which adapter it served, so that it can be taken over once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mondrian_core.errors import BadAdapter
from mondrian_core.registry.version import CONFIG

CONFIG_FILE = "model_config.json"
# Below this the adapter changes the base's answers hardly at all; its authors meant alpha itself as the scale.
FAINT = 0.1


@dataclass(frozen=True)
class OlderChoice:
    """What the file says is active: the adapter's folder, the base it belongs to, and what to know about it."""

    name: str
    adapter: Path
    base: str | None
    notice: str


def active_adapter(config: Path) -> OlderChoice:
    """The adapter of `active_model` (or of `defaults.model_preset`), relative to the file's folder.

    Raises:
        BadAdapter: the file can't be read, names nothing as active, or no adapter for it.
    """
    advice = "Name the adapter's folder itself: `mondrian adapters import --advisor A FOLDER`."
    try:
        value = json.loads(config.read_bytes())
        name = value.get("active_model") or (value.get("defaults") or {}).get("model_preset")
        entry = _entry(value.get("models") or {}, name)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise BadAdapter(f"{config} can't be read: {error}.", advice) from None
    if not name or not isinstance(entry, Mapping) or not isinstance(entry.get("adapter"), str):
        raise BadAdapter(f"{config} names no adapter for its active model {name!r}.", advice)
    folder = (config.parent / entry["adapter"]).expanduser()
    if not folder.is_dir():
        raise BadAdapter(f"{config} names the adapter {folder}, which isn't there.", advice)
    return OlderChoice(str(name), folder, entry.get("model_id"), _scale_notice(folder))


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
    if scale >= FAINT:
        return ""
    return (
        f"Its alpha {config['alpha']} over rank {config['rank']} is a scale of {scale:.4g}: older versions of mlx-vlm "
        "took alpha itself as the scale, so it does next to nothing now. If one of those trained it, import it with "
        "--scale alpha; otherwise train it anew."
    )
