"""A workspace with a registry that is backed up, and what a backup's folder holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.registry import Registry
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import DimensionalProfile, Job, Store


class Machine:
    """A workspace and a registry of one user."""

    def __init__(self, home: Path) -> None:
        self.workspace, self.adapters = home / "workspace", home / "adapters"

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Content and mode of everything that must come back, by path."""
        found = {}
        for root in (self.workspace, self.adapters):
            for path in sorted(root.rglob("*")):
                inside = path.relative_to(root.parent).as_posix()
                if path.is_file() and not path.name.startswith(".") and "mondrian.db" not in path.name:
                    found[inside] = (path.read_bytes(), path.stat().st_mode & 0o777)
        return found

    def rows(self) -> list[Any]:
        with Store(self.workspace / "mondrian.db", read_only=True) as store:
            return [store.advisors(), store.profiles(), list(store.jobs())]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Two advisors, photographs (one folder a link to elsewhere), an analysis, a registry with a champion."""
    from safetensors.numpy import save_file

    made = Machine(tmp_path / "mac")
    (made.workspace / "source" / "2023").mkdir(parents=True)
    (made.workspace / "analysis_md").mkdir()
    (made.workspace / "source" / "2023" / "Schön # 1.jpg").write_bytes(os.urandom(4000))
    (made.workspace / "source" / "one.jpg").write_bytes(b"the same bytes" * 300)
    (made.workspace / "source" / "copy of one.jpg").write_bytes(b"the same bytes" * 300)
    (made.workspace / "source" / "empty.jpg").write_bytes(b"")
    elsewhere = tmp_path / "other disk"
    elsewhere.mkdir()
    (elsewhere / "far.jpg").write_bytes(os.urandom(3000))
    (made.workspace / "source" / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(made.workspace / "source")
    (made.workspace / "analysis_md" / "a.md").write_text("```json\n{}\n```")
    (made.workspace / "source" / "one.jpg").chmod(0o600)
    (made.workspace / "my-recipe.toml").write_text("[train]\nepochs = 3\n")
    with Store.create(made.workspace / "mondrian.db") as store:
        store.add_advisor(AdvisorPrompt("ansel", "Ansel Adams", "Landscapes."))
        comments = dict.fromkeys(DIMENSIONS, "Calm light over the valley.")
        store.add_profiles(
            [
                DimensionalProfile(
                    id="p1",
                    advisor="ansel",
                    image_path="source/one.jpg",
                    scores=dict.fromkeys(DIMENSIONS, 7.0),
                    comments=comments,
                    overall_grade="7.0",
                )
            ]
        )
        store.import_jobs(
            [Job(id="j1", filename="one.jpg", advisor="ansel", status="completed", analysis_markdown="a.md")]
        )
    registry = Registry(made.adapters)
    weights = tmp_path / "made"
    weights.mkdir()
    for number in (1, 2):
        pair = {name: np.full((2, 2), number, np.float32) for name in ("layer.lora_a", "layer.lora_b")}
        save_file(pair, weights / "adapters.safetensors")
        (weights / "adapter_config.json").write_text("{}")
        registry.register("ansel", weights, {"base": {"name": "mini", "fingerprint": "fake"}})
    registry.promote("ansel", "v0002", expected=None, actor="person:test", reason="a test", forced=True)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "disk" / "backup"


def objects(folder: Path) -> set[str]:
    return {path.name for path in (folder / "objects").rglob("*") if path.is_file()}
