"""Fake trainings of folds: each writes a folder whose name selects a critic of the fake model."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from mondrian_core.evaluation import CrossValidationPlan, LabelledPhotograph


class FakeFoldTrainer:
    """Records each training instead of doing it: a fold's adapter is the critic "fold-K" of the fake model."""

    def __init__(self, folder: Path, entries: list[LabelledPhotograph], count: int = 4) -> None:
        self.folder, self.trained = folder, []
        self.fold_of = {entry.photograph: k % count for k, entry in enumerate(entries)}

    def __call__(self, fold: int, photo_ids: frozenset[str]) -> Path:
        self.trained.append((fold, photo_ids))
        path = self.folder / f"fold-{fold}"
        path.mkdir(exist_ok=True)
        (path / "adapters.safetensors").write_bytes(bytes([fold]))
        return path


def make_fold_model(fake_model: ModuleType, spread: float) -> Any:
    critics = {"base": fake_model.noisy_critic(2.0), "candidate": fake_model.noisy_critic(1.0)}
    return fake_model.FakeModel(critics=critics | {f"fold-{k}": fake_model.noisy_critic(spread) for k in range(4)})


def make_folding(trainer: FakeFoldTrainer, entries: list[LabelledPhotograph]) -> CrossValidationPlan:
    return CrossValidationPlan(entries, trainer.fold_of, trainer, "recipe")
