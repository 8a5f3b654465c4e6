"""docs/reference/memory.md is generated, and its verdicts are those of the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

import mondrian_core.training  # noqa: F401  (before mlx)
from bench.memory_table import BASES, MACHINES, ROWS, memory_page, served_bytes
from mondrian_core.errors import NotEnoughMemory
from mondrian_core.models.model_memory import usable_memory
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import memory

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "memory.md"


def test_page_is_generated() -> None:
    assert DOCUMENT.read_text() == memory_page(), "run: python -m bench.memory_table > docs/reference/memory.md"


def test_verdicts_are_those_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every base at 4 and 16 bits on every machine, alone and with a service of the same base: refused or planned."""
    lines = [line.strip("| ").split(" | ") for line in DOCUMENT.read_text().splitlines()]
    alone = {(row[0], row[1]): row[5:] for row in lines if len(row) == 9 and row[2] == "8" and row[3] == "1,216"}
    served = {(row[0], row[1]): row[3:] for row in lines if len(row) == 7 and row[0].startswith("Qwen")}
    monkeypatch.setattr(memory, "most_rows_at_once", lambda: 1)
    for base in BASES:
        for bits in (4, 16):
            size = base.sizes(bits)
            for held, shown in ((0, alone), (served_bytes(size), served)):
                for machine, word in zip(MACHINES, shown[base.name, str(bits)], strict=True):
                    monkeypatch.setenv("MONDRIAN_MEMORY_GB", str(usable_memory(machine * 10**9) / 1e9))
                    monkeypatch.setattr(memory, "memory_of_services", lambda held=held: held)
                    if "**no**" in word:
                        with pytest.raises(NotEnoughMemory):
                            memory.plan_on_this_machine(size, TrainRecipe(), ROWS[0])
                    else:
                        plan = memory.plan_on_this_machine(size, TrainRecipe(), ROWS[0])
                        assert word == ("checkpointing" if plan.checkpointing else "fits")
    assert {word for row in (*alone.values(), *served.values()) for word in row} > {"fits", "checkpointing", "**no**"}


def test_the_guide_to_larger_bases_shows_rows_of_this_page() -> None:
    guide = (DOCUMENT.parents[1] / "how-to" / "move-to-qwen3-vl.md").read_text()
    rows = [line.strip() for line in guide.splitlines() if line.strip().startswith("|")]
    assert len(rows) >= 10
    assert [row for row in rows if row not in DOCUMENT.read_text().splitlines()] == []
