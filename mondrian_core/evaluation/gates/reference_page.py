"""docs/gates.md, made from a recipe: `python -m mondrian_core.evaluation.gates.reference_page > docs/gates.md`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from mondrian_core.evaluation.gates.rule_texts import GATE_RULE_TEXTS
from mondrian_core.evaluation.measure.latency import interim_looks
from mondrian_core.evaluation.measure.metamorphic import (
    ALLOWED_SCORE_RISE,
    INVISIBLE_EDIT_TOLERANCE,
    METAMORPHIC_RELATIONS,
)
from mondrian_core.recipes import EvaluateRecipe, GateRecipe


def gate_reference_page(recipe: GateRecipe | None = None, evaluate: EvaluateRecipe | None = None) -> str:
    """The page for these settings; None: the defaults."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    gates, amounts = recipe or GateRecipe(), evaluate or EvaluateRecipe()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters.update(percent=lambda share: f"{share:.0%}", cell=lambda text: text.replace("|", "\\|"))
    rows = [
        (name, GATE_RULE_TEXTS[name](gates), fails, open_)
        for name, (fails, open_) in _failure_conditions(gates, amounts).items()
    ]
    return environment.get_template("gates.md").render(
        gates=gates,
        amounts=amounts,
        rows=rows,
        rise=ALLOWED_SCORE_RISE,
        unseen=INVISIBLE_EDIT_TOLERANCE,
        relations=[(name, relation.statement) for name, relation in METAMORPHIC_RELATIONS.items()],
    )


def _failure_conditions(recipe: GateRecipe, evaluate: EvaluateRecipe) -> Mapping[str, tuple[str, str]]:
    """By gate: when it fails, and when it is inconclusive."""
    few = f"fewer than {recipe.score_photographs} photographs in pairs"
    return {
        "integrity": ("the check of the files finds anything; the candidate is then not asked at all", "never"),
        "effect": ("the effect is below the floor or not a number", "no photograph that anything was answered to"),
        "format_compliance": (
            f"observed < {recipe.compliance_observed:.0%}",
            "the bound too low; so few photographs that even a perfect run could not reach it; no answer at all for "
            f"more than {recipe.failed_share:.0%}",
        ),
        "latency_overhead": (
            f"the lower bound is {recipe.overhead_ratio:.2f} or more",
            f"neither after {', '.join(map(str, interim_looks(evaluate.latency_pairs)))} pairs",
        ),
        "score_error": (
            "not better than the base",
            f"{few} (by folds, where the recipe has them, those count); better by less, or by chance",
        ),
        "champion": (
            f"shown to be worse overall (p <= {recipe.p_value:g}), or by more than the margin in a dimension (Holm)",
            f"{few} that neither was trained on (by folds as above); not sure of the margin overall; a dimension may "
            f"be worse by more than the margin (p <= {recipe.p_value:g} before Holm)",
        ),
        "health": ("any of its checks fails", "any of its checks is inconclusive and none fails"),
        "seconds_per_photograph": ("the median is at the limit or above", "nothing was timed"),
    }


if __name__ == "__main__":
    sys.stdout.write(gate_reference_page())
