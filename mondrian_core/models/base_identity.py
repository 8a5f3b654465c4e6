"""The fingerprint of a base model: configuration, weights, chat template, tokenizer and image processor.

An adapter is trained on tokens and image patches. Another chat template, tokenizer or pixel limit changes them as much
as other weights do, so the fingerprint covers all of them. Files are compared by their meaning: JSON without its
layout, and a chat template wherever a checkpoint stores it (chat_template.jinja, chat_template.json, inside another
file).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from mondrian_core.models.remembered_digests import FileStats, file_stats, remembered_digest
from mondrian_core.portable_paths import base_model_name

CHAT_TEMPLATE = "chat template"
# In the order in which mlx-vlm reads them: the first one with a template is used.
CHAT_TEMPLATE_FILES = ("processor_config.json", "chat_template.json", "chat_template.jinja", "tokenizer_config.json")
SETTINGS_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
# Keys that the libraries write about themselves.
IGNORED_KEYS = frozenset({"transformers_version", "_name_or_path", "_commit_hash", "name_or_path", "chat_template"})
_BLOCK = 1 << 20
_PARSED_UP_TO = 1 << 20  # bytes; a larger tokenizer.json is hashed without parsing


@dataclass(frozen=True)
class BaseIdentity:
    """Digests that identify a base.

    Attributes:
        weights: SHA-256 of config.json and the sorted safetensors (names and bytes), hexadecimal.
        settings: SHA-256 of the chat template and of each file of SETTINGS_FILES that exists.
        templates: SHA-256 of the chat template in each file that has one, to name the file that changed.
    """

    weights: str
    settings: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights and settings, hexadecimal."""
        text = json.dumps(["base 2", self.weights, dict(self.settings)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def record(self, name: str) -> dict[str, Any]:
        """What a manifest stores of the base; of a path only its last part, because manifests are copied elsewhere."""
        return {
            "name": base_model_name(name),
            "fingerprint": self.fingerprint,
            "weights": self.weights,
            "settings": dict(self.settings),
            "templates": dict(self.templates),
        }

    def differences(self, recorded: Mapping[str, Any] | None, done: str = "trained") -> tuple[str, ...]:
        """Why an adapter can't be used on this base; () if it is the recorded one, or if none was recorded.

        Args:
            recorded: what `record` returned. Older releases stored the digest of config.json and weights as
                "fingerprint" and no settings; then only that is compared.
            done: what was done on the recorded base, for the texts: "trained" or "evaluated".
        """
        recorded = recorded or {}
        known = recorded.get("fingerprint")
        if known is None or known in (self.fingerprint, self.weights):
            return ()
        if recorded.get("weights") != self.weights:
            own = self.fingerprint if "weights" in recorded else self.weights
            return (f"it was {done} on another base ({known[:12]}, this is {own[:12]})",)
        changed = self._changed_settings(recorded.get("settings") or {}, recorded.get("templates") or {})
        return (f"it was {done} with other settings of this base; changed since: {', '.join(changed)}",)

    def _changed_settings(self, settings: Mapping[str, str], templates: Mapping[str, str]) -> list[str]:
        names = [name for name in (CHAT_TEMPLATE, *SETTINGS_FILES) if settings.get(name) != self.settings.get(name)]
        files = [name for name in CHAT_TEMPLATE_FILES if templates.get(name) != self.templates.get(name)]
        template = (
            f"{CHAT_TEMPLATE} ({', '.join(files or self.templates)})" if files or self.templates else CHAT_TEMPLATE
        )
        return [template if name == CHAT_TEMPLATE else name for name in names]


def load_base_identity(folder: Path, *, fresh: bool = False) -> BaseIdentity:
    """The identity of the base in a folder; its files may be links, as in the hub's cache.

    Args:
        folder: the base's folder.
        fresh: hash the weights, even if the digest of these files is remembered (see `remembered_digest`).
    """
    return BaseIdentity(
        weights_digest(folder, fresh=fresh), *_settings_of(file_stats(folder, (*CHAT_TEMPLATE_FILES, *SETTINGS_FILES)))
    )


def weights_digest(folder: Path, *, fresh: bool = False) -> str:
    """SHA-256 over config.json and the sorted safetensors (names and bytes), hexadecimal; `fresh`: hash them now."""
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    return remembered_digest(file_stats(folder, ("config.json", *names)), _digest, fresh=fresh)


def _digest(facts: FileStats) -> str:
    digest = hashlib.sha256()
    for path, size, *_ in facts:
        digest.update(f"{Path(path).name}\0{size}\0".encode())
        with Path(path).open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


@lru_cache(maxsize=8)
def _settings_of(facts: FileStats) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of the settings, and of the chat template by the file that holds it."""
    settings: dict[str, str] = {}
    templates: dict[str, str] = {}
    for name, *_ in facts:
        path = Path(name)
        data = path.read_bytes()
        value = _parsed(path.name, data)
        text = data.decode(errors="replace").removesuffix("\n")  # Jinja drops the last newline
        template = value.get("chat_template") if path.suffix == ".json" else text
        if path.name in CHAT_TEMPLATE_FILES and template:
            templates[path.name] = _sha256(template)
        if path.name in SETTINGS_FILES:
            kept = {key: each for key, each in value.items() if key not in IGNORED_KEYS}
            settings[path.name] = _sha256(kept) if value else hashlib.sha256(data).hexdigest()
    used = next((templates[name] for name in CHAT_TEMPLATE_FILES if name in templates), None)
    if used is not None:  # with all the others, because another library may prefer one of them
        settings[CHAT_TEMPLATE] = _sha256([used, sorted(set(templates.values()))])
    return settings, templates


def _parsed(name: str, data: bytes) -> dict[str, Any]:
    """The values of a JSON object; {} for anything else."""
    if not name.endswith(".json") or len(data) > _PARSED_UP_TO:
        return {}
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
