"""Adapter versions, the promoted pointer, history, rollback, on plain files.

version.py    a version on disk          history.py   the append-only chain, replayed to states
intake.py     files coming in            pointer.py   promoted.json
soundness.py  hashes and arrays          ledger.py    both under lock, kept in step through crashes
reading.py    Registry's reading side    registry.py  Registry with its writing side
answers.py    what versions answered     compare.py   describe, diff, side by side, family
imports.py    what comes from elsewhere  conversion.py  PEFT's and older layouts as mlx-vlm's
remote.py     the books in a store       object_store.py  conditional writes through fsspec
again.py      done anew after losing     retention.py, archive.py, older.py
"""

from mondrian_core.registry.answers import Answers, answers_of
from mondrian_core.registry.compare import critiques_side_by_side, describe, diff, family, scores_side_by_side
from mondrian_core.registry.history import Entry
from mondrian_core.registry.registry import Registry
from mondrian_core.registry.version import COMPARED_WITH, ChampionReference, State, Version

__all__ = [
    "COMPARED_WITH",
    "Answers",
    "ChampionReference",
    "Entry",
    "Registry",
    "State",
    "Version",
    "answers_of",
    "critiques_side_by_side",
    "describe",
    "diff",
    "family",
    "scores_side_by_side",
]
