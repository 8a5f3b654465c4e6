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

from mondrian_core.registry.history import HistoryEntry
from mondrian_core.registry.registry import Registry
from mondrian_core.registry.version import COMPARED_WITH, AdapterVersion, ChampionReference, VersionState
from mondrian_core.registry.version_answers import VersionAnswers, read_version_answers
from mondrian_core.registry.version_comparison import (
    compare_version_critiques,
    compare_version_scores,
    diff_versions,
    version_family,
    version_summary,
)

__all__ = [
    "COMPARED_WITH",
    "AdapterVersion",
    "ChampionReference",
    "HistoryEntry",
    "Registry",
    "VersionAnswers",
    "VersionState",
    "compare_version_critiques",
    "compare_version_scores",
    "diff_versions",
    "read_version_answers",
    "version_family",
    "version_summary",
]
