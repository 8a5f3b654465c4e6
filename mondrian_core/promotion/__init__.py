"""What decides about a promotion besides the gates, below the stages and the service, which both promote.

evaluation_conditions.py   what an evaluation depends on, and what is different now
objections.py              what speaks against a promotion, and whether a person may override it
manual.py                  a person's request: review it, inspect the version, carry it out
automatic_rollback.py      undo a promotion without a person, when that is safe
"""

from mondrian_core.promotion.automatic_rollback import undo_promotion
from mondrian_core.promotion.evaluation_conditions import (
    EvaluationConditions,
    answer_schema_digest,
    condition_differences,
    conditions_in_force,
)
from mondrian_core.promotion.manual import (
    ManualPromotion,
    ManualPromotionOutcome,
    inspect_version_in_subprocess,
    promote_manually,
    registered_champion,
    require_change_of_champion,
    review_manual_promotion,
)
from mondrian_core.promotion.objections import (
    FAIL,
    PASS,
    Objection,
    champion_difference,
    check_manual_promotion,
    deciding_evaluation,
    deployment_command,
    evaluation_commands,
    promotion_objections,
)

__all__ = [
    "FAIL",
    "PASS",
    "EvaluationConditions",
    "ManualPromotion",
    "ManualPromotionOutcome",
    "Objection",
    "answer_schema_digest",
    "champion_difference",
    "check_manual_promotion",
    "condition_differences",
    "conditions_in_force",
    "deciding_evaluation",
    "deployment_command",
    "evaluation_commands",
    "inspect_version_in_subprocess",
    "promote_manually",
    "promotion_objections",
    "registered_champion",
    "require_change_of_champion",
    "review_manual_promotion",
    "undo_promotion",
]
