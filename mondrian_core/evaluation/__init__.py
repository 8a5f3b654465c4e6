"""Is the candidate better? Outcomes, metrics, statistics, gates, report.

`evaluate` measures and judges; `rescore` judges again from what was measured.
"""

from mondrian_core.evaluation.asking import Labelled, Model
from mondrian_core.evaluation.evaluator import Known, evaluate, evaluate_model, rescore
from mondrian_core.evaluation.folds import Folding
from mondrian_core.evaluation.gates import judge
from mondrian_core.evaluation.leaks import Trained
from mondrian_core.evaluation.report import Report
from mondrian_core.evaluation.verdicts import FAIL, INCONCLUSIVE, PASS, GateResult, Measured, verdict_of

__all__ = [
    "FAIL",
    "INCONCLUSIVE",
    "PASS",
    "Folding",
    "GateResult",
    "Known",
    "Labelled",
    "Measured",
    "Model",
    "Report",
    "Trained",
    "evaluate",
    "evaluate_model",
    "judge",
    "rescore",
    "verdict_of",
]
