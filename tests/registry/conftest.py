"""Adapters small enough to write by the hundred, and a registry to put them in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mondrian_core.evaluation.gates import definitions
from mondrian_core.evaluation.gates.gate import Requirement
from mondrian_core.gate_strictness import judged_settings
from mondrian_core.models.base_model import base_record
from mondrian_core.promotion import EvaluationConditions, answer_schema_digest
from mondrian_core.recipes import Recipe
from mondrian_core.registry import Registry
from tests.s3_server import machine, s3_server, url

__all__ = ["machine", "s3_server", "url"]  # fixtures

RANK = 4
MODULE = "language_model.model.layers.0.self_attn.q_proj"
GATES = tuple(gate.name for gate in definitions.GATES if gate.required is Requirement.ALWAYS)


def write_adapter(folder: Path, seed: int = 0, *, rank: int = RANK, fill: float | None = None) -> Path:
    """An adapter of one module, as mlx-vlm writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(8, rank)).astype(np.float32)
    second = rng.normal(size=(rank, 8)).astype(np.float32)
    if fill is not None:
        second[0, 0] = fill
    save_file({f"{MODULE}.lora_a": first, f"{MODULE}.lora_b": second}, folder / "adapters.safetensors")
    config = {
        "fine_tune_type": "lora",
        "num_layers": -1,
        "lora_parameters": {"rank": RANK, "scale": 2.0, "dropout": 0.0, "keys": [MODULE]},
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def served_conditions(**others: Any) -> dict[str, Any]:
    """The conditions under which a test serves: mini, no advisor's prompt, no camera settings."""
    found = EvaluationConditions(
        base=base_record("mini"), prompt=None, exif=False, answer_schema=answer_schema_digest()
    ).as_dict()
    return {**found, **others}


def served_record() -> dict[str, Any]:
    """What a report records of an evaluation that holds here, with the default gates."""
    return {"conditions": served_conditions(), "settings": judged_settings(Recipe())}


def gate_report(verdict: str = "PASS", compared_with: str | None = None, **others: str) -> dict[str, Any]:
    """A report in which every required gate says `verdict`, but for those named, against that champion."""
    gates = [{"name": name, "verdict": others.get(name, verdict), "sentence": f"{name} was seen."} for name in GATES]
    return {
        "verdict": verdict,
        "gates": gates,
        "metrics": {},
        "compared_with": {"version": compared_with},
        **served_record(),
    }


def manifest(verdict: str = "PASS", **values: Any) -> dict[str, Any]:
    """What the stages hand over."""
    return {
        "run": "run-1",
        "base": {"name": "mini", "fingerprint": "f" * 64},
        "parent": None,
        "seed": 0,
        "gate_report": gate_report(verdict),
        **values,
    }


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process loses nothing that the kernel has; only a power cut needs fsync, which is slow."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A folder as training leaves it."""
    return write_adapter(tmp_path / "trained")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty registry."""
    return Registry(tmp_path / "adapters")


@pytest.fixture
def filled(registry: Registry, adapter: Path) -> Registry:
    """Three versions of ansel, v0001 the champion."""
    for seed in range(3):
        registry.register("ansel", write_adapter(adapter, seed), manifest(), actor="person:test")
    registry.promote("ansel", "v0001", expected=None, actor="person:test", reason="first", verdicts={})
    return registry
