"""A training that stops on one machine goes on in another folder from its published checkpoint, bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mondrian_core.events import EventListener, StageEvent, StageProgressed, chain_listeners, ignore_events
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.recipes import TrainRecipe
from mondrian_core.shared_storage import CheckpointPublisher, SharedStorage, restore_checkpoint
from mondrian_core.training import TrainingRows, train_adapter
from tests.training.conftest import make_row

pytestmark = [pytest.mark.mini, pytest.mark.slow]


def stop_after_third_step(event: StageEvent) -> None:
    """Interrupt the training, which then saves its last checkpoint."""
    if isinstance(event, StageProgressed) and event.stage == "train" and event.done == 3:
        raise KeyboardInterrupt


def test_another_folder_continues_bit_for_bit(base: BaseVLM, recipe: TrainRecipe, tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    storage, here, there = SharedStorage(str(tmp_path / "share")), tmp_path / "a" / "run", tmp_path / "b" / "run"
    recipe = recipe.model_copy(update={"dropout": 0.1, "answered_photographs": 0})
    rows = TrainingRows([make_row(number) for number in range(4)])

    def trained(out: Path, listen: EventListener = ignore_events, *, resume: bool = False) -> bytes:
        made = train_adapter(base, rows, recipe, out, resume=resume, listen=listen)
        return (made.adapter / "adapters.safetensors").read_bytes()

    with CheckpointPublisher(storage, here, ignore_events) as publisher, pytest.raises(KeyboardInterrupt):
        trained(here, chain_listeners(publisher, stop_after_third_step))
    shutil.rmtree(here)
    position = restore_checkpoint(storage, there)
    assert position is not None and position[0] in (2, 3)
    assert trained(there, resume=True) == trained(tmp_path / "whole")
