"""An adapter version on disk: names, files and manifest.

    adapters/<advisor>/v0001/   adapters.safetensors, adapter_config.json, reports ..., manifest.json (written last)

A folder without a complete manifest is not a version: its copy is incomplete. Adapters in older layouts (weights in the
advisor's folder itself or in a folder with another name, MLX's or PEFT's) are versions in the state "legacy", which can
only be imported.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mondrian_core import lora_files
from mondrian_core.gate_strictness import JUDGED_TABLES
from mondrian_core.registry.evaluations import (
    CONDITIONS,
    PHOTOGRAPHS,
    SETTINGS,
    TRAINING_INPUTS,
    RecordedEvaluation,
    unanswered_failures,
)
from mondrian_core.rubric import AnswerForm

VersionState = Literal["candidate", "champion", "retired", "rejected", "quarantined", "legacy"]

VERSION_NAME = re.compile(r"v\d{4,9}")
MANIFEST = "manifest.json"
WEIGHTS, PEFT_WEIGHTS, CONFIG = (
    lora_files.ADAPTER_WEIGHTS_FILE,
    lora_files.PEFT_WEIGHTS_FILE,
    lora_files.ADAPTER_CONFIG_FILE,
)
LEGACY_FLAT_NAME = "legacy"
MANIFEST_FORMAT = 1
COMPARED_WITH = "compared_with"  # key of a gate report: the champion at the time of the evaluation

_OBJECTS = ("base", "dataset", "metrics", "training", "imported_from")  # parts of a manifest that are objects
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class ChampionReference:
    """A reference to a champion: the version and the SHA-256 of its manifest.

    Attributes:
        version: None: the base alone.
        manifest_sha256: "" when unknown (the base, and records of older releases).
    """

    version: str | None = None
    manifest_sha256: str = ""

    def matches(self, other: ChampionReference) -> bool:
        """True for the same version, with the same manifest where both hashes are known."""
        hashes = {self.manifest_sha256, other.manifest_sha256} - {""}
        return self.version == other.version and len(hashes) <= 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values for reports and manifests."""
        return {"version": self.version, "manifest_sha256": self.manifest_sha256}

    @classmethod
    def recorded_in(cls, report: Mapping[str, Any] | None) -> ChampionReference | None:
        """The champion that an evaluation compared with; None when its report doesn't record it."""
        found = (report or {}).get(COMPARED_WITH)
        if not isinstance(found, Mapping) or "version" not in found:
            return None
        return cls(found["version"], str(found.get("manifest_sha256") or ""))

    def __str__(self) -> str:
        """For people."""
        return self.version or "the base alone"


@dataclass(frozen=True, kw_only=True)
class AdapterVersion:
    """One version. `manifest` never changes; `state` is derived from the pointer and the history.

    Attributes:
        path: the folder; plain mlx-vlm loads it as an adapter path.
        manifest_sha256: SHA-256 of the manifest's bytes; "" for a legacy version.
        recorded: the evaluations in the history, oldest first.
        of_copies: the evaluations of other versions with the same content.
    """

    advisor: str
    version: str
    path: Path
    manifest: Mapping[str, Any]
    state: VersionState
    manifest_sha256: str = ""
    recorded: tuple[RecordedEvaluation, ...] = field(default=(), compare=False)
    of_copies: tuple[RecordedEvaluation, ...] = field(default=(), compare=False)

    @cached_property
    def evaluations(self) -> tuple[RecordedEvaluation, ...]:
        """All evaluations, oldest first: the one at the registration, if any, then those of the history."""
        first = report_at_registration(self.manifest)
        at_registration = () if first is None else (RecordedEvaluation(first),)
        return (*at_registration, *self.recorded)

    @property
    def unanswered_failures(self) -> tuple[RecordedEvaluation, ...]:
        """Evaluations with verdict FAIL that no later one has answered; one is enough to refuse the version.

        Those of its copies count too: a copy of a rejected version is the rejected adapter.
        """
        return unanswered_failures(sorted((*self.of_copies, *self.evaluations), key=lambda each: each.serial))

    @property
    def report(self) -> Mapping[str, Any] | None:
        """The newest gate report, {"verdict", "gates", ...}; None when the version was never measured."""
        return self.evaluations[-1].report if self.evaluations else None

    @property
    def verdict(self) -> str | None:
        """PASS, FAIL, INCONCLUSIVE, or None without a report."""
        return (self.report or {}).get("verdict")

    @property
    def verdicts(self) -> dict[str, str]:
        """Verdict by gate name."""
        return self.evaluations[-1].verdicts if self.evaluations else {}

    @property
    def compared_with(self) -> ChampionReference | None:
        """The champion that its newest gates compared it with; None when unknown."""
        return ChampionReference.recorded_in(self.report)

    @property
    def training_inputs(self) -> frozenset[str]:
        """Digests of the inputs of the retrainings that gave these weights."""
        found = (evaluation.report.get(TRAINING_INPUTS) for evaluation in self.evaluations)
        return frozenset(digest for digest in found if digest)

    @cached_property
    def content(self) -> frozenset[tuple[str, str]]:
        """Names and SHA-256 of the files that determine its answers; empty for a legacy version.

        Two versions with equal content are one adapter, whichever run trained it.
        """
        return adapter_content(self.manifest)

    @property
    def reference(self) -> ChampionReference:
        """A reference to this version as the champion."""
        return ChampionReference(self.version, self.manifest_sha256)

    @property
    def parent(self) -> str | None:
        """The champion at the time of the training."""
        return self.manifest.get("parent")

    @property
    def base_fingerprint(self) -> str | None:
        """Fingerprint of the base model it was trained on."""
        return (self.manifest.get("base") or {}).get("fingerprint")

    @property
    def answer_form(self) -> AnswerForm:
        """The form in which it answers."""
        return lora_files.adapter_answer_form(self.path)

    @property
    def managed(self) -> bool:
        """True for v0001, v0002, ...; False for versions of older layouts."""
        return bool(VERSION_NAME.fullmatch(self.version))

    @property
    def weights(self) -> Path:
        """The file with the LoRA arrays, MLX's or PEFT's."""
        return self.path / weights_name(self.path)

    @cached_property
    def number(self) -> int:
        """7 for v0007; 0 for a legacy version."""
        return int(self.version[1:]) if self.managed else 0


def report_at_registration(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The gate report of a manifest; None without one.

    Older releases recorded parts of it elsewhere in the manifest: the champion as parent, base, prompt and recipe.
    """
    report = manifest.get("gate_report")
    if not report:
        return None
    values = (manifest.get("recipe") or {}).get("values") or {}
    elsewhere = {
        COMPARED_WITH: ChampionReference(manifest.get("parent")).as_dict(),
        CONDITIONS: {
            name: manifest[key] for name, key in (("base", "base"), ("prompt", "prompt_digest")) if manifest.get(key)
        },
        SETTINGS: {table: values[table] for table in JUDGED_TABLES if table in values},
    }
    return {**elsewhere, **report}


def adapter_content(manifest: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Names and SHA-256 of a version's files that determine its answers."""
    files = manifest.get("files") or {}
    return frozenset((name, str(facts.get("sha256"))) for name, facts in files.items() if determines_answers(name))


def adapter_content_digest(content: frozenset[tuple[str, str]]) -> str:
    """SHA-256 over `AdapterVersion.content`, for the history."""
    return hashlib.sha256(json.dumps(sorted(content)).encode()).hexdigest()


def determines_answers(name: str) -> bool:
    """True for the files of an adapter that determine its answers: weights and configuration."""
    return name.endswith(".safetensors") or name == CONFIG


def weights_name(folder: Path) -> str:
    """Name of the weights file in a folder; MLX's when there is none."""
    return PEFT_WEIGHTS if not (folder / WEIGHTS).exists() and (folder / PEFT_WEIGHTS).exists() else WEIGHTS


def version_name(number: int) -> str:
    """v0007 for 7."""
    return f"v{number:04d}"


def is_safe_file_name(name: object) -> bool:
    """True for a file name that can't leave its folder and is not hidden."""
    return isinstance(name, str) and bool(_PLAIN_NAME.fullmatch(name))


def parse_manifest(data: bytes, advisor: str, version: str) -> dict[str, Any] | None:
    """The manifest when it is complete, well formed and belongs to this folder, else None."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("advisor") != advisor or value.get("version") != version:
        return None
    files = value.get("files")
    named = isinstance(files, dict) and bool(files) and all(is_safe_file_name(name) for name in files)
    return value if named and _is_well_formed(value) else None


def _is_well_formed(manifest: Mapping[str, Any]) -> bool:
    """True when every part that is read as an object is one, so that no reader meets a value of another type."""
    recipe, report = manifest.get("recipe") or {}, manifest.get("gate_report") or {}
    parts = [*manifest["files"].values(), *(manifest.get(name) or {} for name in _OBJECTS), recipe, report]
    if not all(isinstance(part, dict) for part in parts):
        return False
    return isinstance(recipe.get("values") or {}, dict) and is_gate_report(report)


def is_gate_report(report: Any) -> bool:
    """True for a gate report whose gates have names and verdicts; an empty one counts."""
    if not isinstance(report, dict) or not isinstance(report.get("gates") or [], list):
        return False
    named = all(
        isinstance(gate, dict) and isinstance(gate.get("name"), str) and isinstance(gate.get("verdict"), str)
        for gate in report.get("gates") or []
    )
    objects = [report.get(name) or {} for name in (COMPARED_WITH, CONDITIONS, SETTINGS, "look")]
    photographs = report.get(PHOTOGRAPHS) or []
    return (
        named
        and all(isinstance(each, dict) for each in objects)
        and isinstance(photographs, list)
        and all(isinstance(each, str) for each in photographs)
    )


def version_folders(home: Path) -> Iterator[Path]:
    """Folders named like a version, incomplete ones included, by number."""
    if home.is_dir():
        found = [path for path in home.iterdir() if VERSION_NAME.fullmatch(path.name) and path.is_dir()]
        yield from sorted(found, key=lambda path: int(path.name[1:]))


def has_all_files(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """True when every file of the manifest is there with its size (no hashing)."""
    for name, facts in manifest["files"].items():
        try:
            if (folder / name).stat().st_size != facts["bytes"]:
                return False
        except (OSError, KeyError, TypeError):
            return False
    return True


def legacy_folders(home: Path) -> Iterator[tuple[str, Path]]:
    """(name, folder) of adapters in older layouts: in the advisor's folder itself, or in folders with other names."""
    if not home.is_dir():
        return
    folders = [(LEGACY_FLAT_NAME, home)]
    folders += sorted(
        (path.name, path)
        for path in home.iterdir()
        if is_safe_file_name(path.name)
        and path.is_dir()
        and not VERSION_NAME.fullmatch(path.name)
        and path.name != LEGACY_FLAT_NAME
    )
    for name, folder in folders:
        if (folder / WEIGHTS).is_file() or (folder / PEFT_WEIGHTS).is_file():
            yield name, folder


def legacy_version(advisor: str, name: str, folder: Path) -> AdapterVersion:
    """A version of an older layout; its manifest holds only what the folder shows."""
    kind = "peft" if weights_name(folder) == PEFT_WEIGHTS else "mlx-vlm"
    return AdapterVersion(
        advisor=advisor,
        version=name,
        path=folder,
        manifest={"advisor": advisor, "version": name, "layout": kind},
        state="legacy",
    )
