"""Train a LoRA adapter for one advisor, in a loop of its own around mlx-vlm's layers and file format."""

import mondrian_core.models  # noqa: F401  (loads the CPU's BLAS, which must happen before mlx is imported)
from mondrian_core.training.trainer import PreferencePairSplit, TrainingRows, train_adapter
from mondrian_core.training.training_phase import TrainingResult

__all__ = ["PreferencePairSplit", "TrainingResult", "TrainingRows", "train_adapter"]
