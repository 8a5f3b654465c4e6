"""Evaluation of an adapter: measure, compare with base and champion, apply the gates, write the report.

`evaluate_adapter` measures and judges; `rescore_evaluation` judges again from recorded samples.
"""

from mondrian_core.evaluation.evaluator import (
    BestChampion,
    CandidateInfo,
    EvaluationInputs,
    evaluate_adapter,
    evaluate_with_model,
    rescore_evaluation,
)
from mondrian_core.evaluation.gates.definitions import evaluate_gates
from mondrian_core.evaluation.gates.results import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    GateMeasurements,
    GateResult,
    overall_verdict,
)
from mondrian_core.evaluation.measure.contamination import TrainingProvenance
from mondrian_core.evaluation.measure.cross_validation import CrossValidationPlan
from mondrian_core.evaluation.measure.photographs import LabelledPhotograph
from mondrian_core.evaluation.measure.runner import EvaluationModel
from mondrian_core.evaluation.report.evaluation_report import EvaluationReport

__all__ = [
    "FAIL",
    "INCONCLUSIVE",
    "PASS",
    "BestChampion",
    "CandidateInfo",
    "CrossValidationPlan",
    "EvaluationInputs",
    "EvaluationModel",
    "EvaluationReport",
    "GateMeasurements",
    "GateResult",
    "LabelledPhotograph",
    "TrainingProvenance",
    "evaluate_adapter",
    "evaluate_gates",
    "evaluate_with_model",
    "overall_verdict",
    "rescore_evaluation",
]
