"""Whether settings make a verdict easier to pass than other settings do, such as the defaults of `[gates]`.

The direction of each setting is its mark in `recipes` (`Looser`). A setting without a mark counts as looser whenever it
differs, so that a forgotten mark can't hide a loosened gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel

from mondrian_core.recipes import EvaluateRecipe, GateRecipe, Looser, Recipe

JUDGED_TABLES: Mapping[str, type[BaseModel]] = {"gates": GateRecipe, "evaluate": EvaluateRecipe}
JudgedSettings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class LoosenedSetting:
    """A setting that is looser than the reference.

    Attributes:
        name: table and key, such as "gates.p_value".
        value: the setting.
        reference: what it is compared with, usually the default.
    """

    name: str
    value: Any
    reference: Any

    def as_dict(self) -> dict[str, Any]:
        """Plain values for reports."""
        return asdict(self)

    def __str__(self) -> str:
        """For people."""
        return f"{self.name} is {self.value}, not {self.reference}"


def judged_settings(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The values of a recipe that a verdict depends on, by table and key."""
    return {table: getattr(recipe, table).model_dump(mode="json") for table in JUDGED_TABLES}


def loosened_settings(given: JudgedSettings, reference: JudgedSettings | None = None) -> tuple[LoosenedSetting, ...]:
    """The settings of `given` that are looser than those of `reference`.

    Args:
        given: values by table and key (`judged_settings`), also as an earlier release recorded them. A key that is
            missing there is not compared.
        reference: the same; None: the defaults.
    """
    wanted = judged_settings(Recipe()) if reference is None else reference
    found = []
    for table, model in JUDGED_TABLES.items():
        for key, expected in (wanted.get(table) or {}).items():
            value = (given.get(table) or {}).get(key, expected)
            if _is_looser(looser_direction(model, key), value, expected):
                found.append(LoosenedSetting(f"{table}.{key}", value, expected))
    return tuple(found)


def looser_direction(model: type[BaseModel], key: str) -> Looser | None:
    """The mark of a setting; None when it has none."""
    field = model.model_fields.get(key)
    return next((mark for mark in (field.metadata if field else ()) if isinstance(mark, Looser)), None)


def _is_looser(direction: Looser | None, value: Any, expected: Any) -> bool:
    match direction:
        case Looser.NEVER:
            return False
        case Looser.BELOW:
            return bool(value < expected)
        case Looser.ABOVE:
            return bool(value > expected)
        case None:
            return bool(value != expected)


def loosened_text(settings: tuple[LoosenedSetting, ...]) -> str:
    """For a sentence: "with loosened gates (gates.p_value is 0.5, not 0.05)"; "" without any."""
    return f"with loosened gates ({'; '.join(map(str, settings))})" if settings else ""
