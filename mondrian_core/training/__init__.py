"""Training a LoRA adapter for one advisor: own loop around mlx-vlm's layers and file format."""

import mondrian_core.models  # noqa: F401  (loads the CPU's BLAS; must come before anything that imports mlx)
from mondrian_core.training.loop import TrainingResult
from mondrian_core.training.tuning import Pairs, train

__all__ = ["Pairs", "TrainingResult", "train"]
