"""Bound the disk use of a workspace: delete what can be made again and is no longer needed.

policy.py    how long things are kept; the plan as values    run_protection.py   which runs nothing may be taken from
inventory.py what is there, and what becomes of it           removal.py          carry a plan out

Deleted are weights and checkpoints in the folders of old runs, dataset versions, cached features, answers and
thumbnails, and files that a killed process left. Records (reports, samples, logs of trainings), versions of the
registry, photographs, critiques and jobs are kept: nothing can make them again.
"""

from mondrian_core.pruning.inventory import plan_prune
from mondrian_core.pruning.policy import PruneItem, PrunePlan, PrunePolicy
from mondrian_core.pruning.removal import apply_prune

__all__ = ["PruneItem", "PrunePlan", "PrunePolicy", "apply_prune", "plan_prune"]
