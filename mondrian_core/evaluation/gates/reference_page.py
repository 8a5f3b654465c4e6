"""The page docs/reference/gates.md: `python -m mondrian_core.evaluation.gates.reference_page` prints it."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from mondrian_core.evaluation.gates.comments_gate import COMMENT_CHECKS
from mondrian_core.evaluation.gates.definitions import GATES
from mondrian_core.evaluation.gates.gate import Gate
from mondrian_core.evaluation.gates.health_checks import HEALTH_CHECKS
from mondrian_core.evaluation.measure.calibration import MINIMUM_FITTED
from mondrian_core.evaluation.measure.metamorphic import (
    ALLOWED_SCORE_RISE,
    INVISIBLE_EDIT_TOLERANCE,
    METAMORPHIC_RELATIONS,
)
from mondrian_core.evaluation.measure.tail import LEAST_DEVIATION
from mondrian_core.recipes import EvaluateRecipe, GateRecipe
from mondrian_core.retrieval.nearest_neighbors import NEIGHBORS
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.statistics.sequential_levels import look_levels


def gate_reference_page(
    recipe: GateRecipe | None = None, evaluate: EvaluateRecipe | None = None, gates: Sequence[Gate] = GATES
) -> str:
    """The page as Markdown for these settings; None: the defaults."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    thresholds, amounts = recipe or GateRecipe(), evaluate or EvaluateRecipe()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters.update(
        percent=lambda share: f"{share:.0%}",
        cell=lambda text: text.replace("|", "\\|"),
        link=lambda path, text: f"[{text}]({path})",  # relative to the page, not to the template
    )
    return environment.get_template("gates.md").render(
        thresholds=thresholds,
        amounts=amounts,
        gates=gates,
        checks=HEALTH_CHECKS,
        comment_checks=COMMENT_CHECKS,
        rule=lambda check: check.rule_text(thresholds),
        conditions=lambda check: check.condition_texts(thresholds, amounts),
        dimensions=len(DIMENSIONS),
        levels=look_levels(thresholds.yearly_level, thresholds.first_look_level, thresholds.looks_per_year),
        shown_looks=sorted({math.ceil(thresholds.looks_per_year * part / 4) for part in (1, 2, 3, 4)} | {1}),
        fitted=MINIMUM_FITTED,
        rise=ALLOWED_SCORE_RISE,
        least_deviation=LEAST_DEVIATION,
        neighbors=NEIGHBORS,
        unseen=INVISIBLE_EDIT_TOLERANCE,
        relations=METAMORPHIC_RELATIONS,
    )


if __name__ == "__main__":
    sys.stdout.write(gate_reference_page())
