"""Trainings that cost nothing: each leaves a folder whose name is that of a critic of the stand-in."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from mondrian_core.evaluation import CrossValidationPlan, LabelledPhotograph


class School:
    """Trains nothing and notes what it would have been: a fold's adapter is the critic "fold-K" of the model."""

    def __init__(self, folder: Path, entries: list[LabelledPhotograph], count: int = 4) -> None:
        self.folder, self.trained = folder, []
        self.fold_of = {entry.photograph: k % count for k, entry in enumerate(entries)}

    def __call__(self, fold: int, lineages: frozenset[str]) -> Path:
        self.trained.append((fold, lineages))
        path = self.folder / f"fold-{fold}"
        path.mkdir(exist_ok=True)
        (path / "adapters.safetensors").write_bytes(bytes([fold]))
        return path


def model_of(stand_in: ModuleType, spread: float) -> object:
    critics = {"base": stand_in.noisy(2.0), "candidate": stand_in.noisy(1.0)}
    return stand_in.StandIn(critics=critics | {f"fold-{k}": stand_in.noisy(spread) for k in range(4)})


def folding(school: School, entries: list[LabelledPhotograph]) -> CrossValidationPlan:
    return CrossValidationPlan(entries, school.fold_of, school, "recipe")
