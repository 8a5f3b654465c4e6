"""Which runs and dataset versions nothing may be taken from, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mondrian_core.errors import MondrianError
from mondrian_core.registry import AdapterVersion, Registry
from mondrian_core.registry.looks import best_champions
from mondrian_core.rollout import load_rollout
from mondrian_core.runs import RunRecord

UNREADABLE = "the registry is damaged or can't be read"


class RegistryView:
    """What the registry says about the runs of a workspace; read once for a plan.

    Attributes:
        protected: reason by name of a run.
        datasets: reason by digest of a dataset version.
        registered: names of runs whose adapter is in the registry, or was deleted there on purpose.
        readable: False: nothing of an advisor may be taken away.
    """

    def __init__(self, registry: Registry) -> None:
        self.protected: dict[str, str] = {}
        self.datasets: dict[str, str] = {}
        self.registered: set[str] = set()
        self.readable = True
        try:
            for advisor in registry.advisors():
                self._add(registry, advisor)
        except (MondrianError, OSError):
            self.readable = False

    def _add(self, registry: Registry, advisor: str) -> None:
        if registry.check(advisor):
            self.readable = False
        versions = {version.version: version for version in registry.versions(advisor) if version.managed}
        entries = registry.history(advisor)
        self.registered |= {str(entry.detail["run"]) for entry in entries if entry.detail.get("run")}
        self.registered |= {str(version.manifest.get("run")) for version in versions.values()}
        for name, reason in _needed_versions(registry, advisor, versions).items():
            version = versions.get(name)
            if version is not None:
                self.protected.setdefault(str(version.manifest.get("run")), f"{reason} of {advisor}")
                self.datasets.setdefault(_dataset_digest(version), f"{reason} of {advisor}")


def _needed_versions(registry: Registry, advisor: str, versions: Mapping[str, AdapterVersion]) -> dict[str, str]:
    """The reason by version, for versions that serve, may serve again, or are compared with."""
    rollout = load_rollout(registry, advisor)
    candidates = [version for version in versions.values() if version.state == "candidate"]
    newest = max(candidates, key=lambda version: version.number, default=None)
    best = best_champions(registry.history(advisor))
    running = rollout if rollout is not None and rollout.status == "running" else None
    reasons = (
        ("champion", registry.current(advisor)),
        ("candidate in a rollout", running.version if running else None),
        ("champion before a rollout", running.control if running else None),
        ("previous champion", registry.rollback_target(advisor)),
        ("best champion", best[-1] if best else None),
        ("newest candidate", newest.version if newest else None),
    )
    return {name: reason for reason, name in reversed(reasons) if name is not None}


def _dataset_digest(version: AdapterVersion) -> str:
    dataset: Any = version.manifest.get("dataset")
    return str(dataset.get("digest")) if isinstance(dataset, Mapping) else ""


def referenced_runs(runs: Mapping[str, RunRecord], contexts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Runs inside whose folder the adapter or the dataset of another run is, with the reason.

    Args:
        runs: by name.
        contexts: `context.json` by name of the run.
    """
    found: dict[str, str] = {}
    for name, context in contexts.items():
        for key in ("adapter", "dataset"):
            parts = Path(str(context.get(key) or "")).parts
            named = next((part for part in parts if part in runs and part != name), None)
            if named is not None:
                found.setdefault(named, f"run {name} refers to it")
    return found
