"""Training a LoRA adapter for one advisor: own loop around mlx-vlm's layers and file format."""

import mondrian_core.models  # noqa: F401  (loads the CPU's BLAS; must come before anything that imports mlx)
from mondrian_core.training.trainer import PreferencePairSplit, TrainingRows, train_adapter
from mondrian_core.training.training_loop import TrainingResult

__all__ = ["PreferencePairSplit", "TrainingResult", "TrainingRows", "train_adapter"]
