"""The smallest recipe of a real retraining on mini, and the one place to change it.

Its answers are cut off, so every evaluation fails its format gate; its gates decide on latency at the first look.
"""

from __future__ import annotations

import json
from typing import Any

SHORT_ANSWER = 8  # tokens; fewer than any critique has

SMALL_RECIPE: dict[str, dict[str, Any]] = {
    "data": {"variants": 0},
    "train": {"epochs": 1, "rank": 2, "answered_photographs": 0},
    "evaluate": {
        "compliance_photographs": 2,
        "effect_photographs": 1,
        "edited_photographs": 0,
        "constrained_photographs": 0,
        "calibration_photographs": 0,
        "rag": False,
        "latency_pairs": 3,
        "latency_tokens": 8,
        "max_tokens": SHORT_ANSWER,
    },
    "gates": {"overhead_ratio": 50.0},
}
WHOLE_ANSWERS = {"max_tokens": 1500}  # instead of `SHORT_ANSWER`, where a person reads the critiques


def small_recipe(name: str = "as small as it gets", **changed: dict[str, Any]) -> dict[str, Any]:
    """`SMALL_RECIPE` with changed or added keys of some tables: `small_recipe(train={"epochs": 3})`."""
    tables = SMALL_RECIPE.keys() | changed.keys()
    values = {table: {**SMALL_RECIPE.get(table, {}), **changed.get(table, {})} for table in sorted(tables)}
    return {"name": name, **values}


def small_recipe_toml(name: str = "as small as it gets", **changed: dict[str, Any]) -> str:
    """The same as the text of a recipe file; numbers, strings and lists read alike in TOML and JSON."""
    recipe = small_recipe(name, **changed)
    lines = [f"name = {json.dumps(recipe.pop('name'))}"]
    for table, values in recipe.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"
