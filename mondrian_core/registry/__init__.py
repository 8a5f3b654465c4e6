"""The adapter registry on plain files: versions, promoted pointer, history, promotion, rollback, import, export.

registry.py       Registry: promote, roll back, record  registration.py    register, import, export, prune
reader.py         RegistryReader: the reading methods   evaluations.py     recorded evaluations, unanswered failures
version.py        a version on disk                    version_writer.py  copy files into a new version
history.py        the append-only hash chain           champion_pointer.py  promoted.json
looks.py          how often a year's candidates were judged, the best champion    look_ledger.py  record them
advisor_store.py  pointer and history under a lock     remote_advisor_store.py  the same in an object store
object_store.py   conditional writes through fsspec    retry_on_conflict.py  repeat a write that lost a race
validation.py     hashes and LoRA arrays               retention.py       which versions may be deleted
reigns.py         who was champion when                   file_checks.py     the files of a version, checked one by one
version_comparison.py, version_answers.py: compare versions and their answers; import_export/: other layouts, archives
"""

from mondrian_core.registry.evaluations import (
    CONDITIONS,
    PHOTOGRAPHS,
    SETTINGS,
    TRAINING_INPUTS,
    RecordedEvaluation,
)
from mondrian_core.registry.file_checks import FileCheck, check_version_files
from mondrian_core.registry.history import HistoryEntry
from mondrian_core.registry.looks import EvaluationLook, LookRequest, LookRules, earlier_differences
from mondrian_core.registry.registry import OBJECTIONS, Registry
from mondrian_core.registry.reigns import ChampionReign, champion_reigns
from mondrian_core.registry.version import COMPARED_WITH, AdapterVersion, ChampionReference, VersionState
from mondrian_core.registry.version_answers import VersionAnswers, read_version_answers
from mondrian_core.registry.version_comparison import (
    compare_version_critiques,
    compare_version_scores,
    compare_versions,
    diff_versions,
    version_family,
    version_summary,
)

__all__ = [
    "COMPARED_WITH",
    "CONDITIONS",
    "OBJECTIONS",
    "PHOTOGRAPHS",
    "SETTINGS",
    "TRAINING_INPUTS",
    "AdapterVersion",
    "ChampionReference",
    "ChampionReign",
    "EvaluationLook",
    "FileCheck",
    "HistoryEntry",
    "LookRequest",
    "LookRules",
    "RecordedEvaluation",
    "Registry",
    "VersionAnswers",
    "VersionState",
    "champion_reigns",
    "check_version_files",
    "compare_version_critiques",
    "compare_version_scores",
    "compare_versions",
    "diff_versions",
    "earlier_differences",
    "read_version_answers",
    "version_family",
    "version_summary",
]
