"""Types of flow parameters. Prefect builds the form of its UI from them and refuses a run that doesn't match.

The docstring of a flow explains its parameters; Prefect shows it in the form.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from mondrian_core.errors import BadRecipe
from mondrian_core.recipes import (
    DEFAULT_RECIPE,
    RECIPE_SUFFIX,
    Recipe,
    TrainRecipe,
    bundled_recipes,
    with_training_overrides,
)
from mondrian_core.settings import ADVISOR_ID


def recipe_values_schema() -> dict[str, Any]:
    """JSON schema of a recipe's values, `-p recipe={...}`. Unknown keys are refused; values are checked at the start.

    It has no `properties`, so the form shows an editor for JSON instead of a field for each of some sixty settings.
    """
    tables: dict[str, Any] = {}
    for name, field in Recipe.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, BaseModel):
            tables[name] = {"type": "object", "propertyNames": {"enum": list(table.model_fields)}}
    return {
        "title": "Values",
        "type": "object",
        "patternProperties": {f"^{name}$": table for name, table in tables.items()},
        "propertyNames": {"enum": list(Recipe.model_fields)},
    }


def training_setting(name: str) -> WithJsonSchema:
    """JSON schema of a setting of `[train]` as one field of the form, empty for the recipe's own value."""
    schema = TrainRecipe.model_json_schema()["properties"][name]
    number = next((each for each in schema.get("anyOf", []) if each["type"] != "null"), schema)
    limits = ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    return WithJsonSchema({key: number[key] for key in limits if key in number})


def training_setting_check(name: str) -> AfterValidator:
    """A validator for a flow that no server has checked, such as one that a script calls."""

    def check(value: Any) -> Any:
        try:
            with_training_overrides(Recipe(), {name: value})
        except BadRecipe as error:
            raise ValueError(error.problem) from None
        return value

    return AfterValidator(check)


AUTO_RECIPE = "auto"  # the recipe that fits the number of critiques
RecipeFile = Annotated[str, Field(title="File", pattern=rf"{re.escape(RECIPE_SUFFIX)}$")]
RecipeValues = Annotated[Recipe, WithJsonSchema(recipe_values_schema())]
RecipeName = Annotated[str, Field(title="Name", json_schema_extra={"enum": [DEFAULT_RECIPE, *bundled_recipes()]})]
RecipeParameter = RecipeName | RecipeFile | RecipeValues
RecipeNameOrAuto = Annotated[
    str, Field(title="Name", json_schema_extra={"enum": [AUTO_RECIPE, DEFAULT_RECIPE, *bundled_recipes()]})
]
RetrainRecipe = RecipeNameOrAuto | RecipeFile | RecipeValues

Epochs = Annotated[int | None, training_setting("epochs"), training_setting_check("epochs")]
Rank = Annotated[int | None, training_setting("rank"), training_setting_check("rank")]
LearningRate = Annotated[float | None, training_setting("learning_rate"), training_setting_check("learning_rate")]
Dropout = Annotated[float | None, training_setting("dropout"), training_setting_check("dropout")]
TrainingSeed = Annotated[int | None, training_setting("seed"), training_setting_check("seed")]
Folder = Annotated[str | None, WithJsonSchema({"type": "string"})]

AdvisorId = Annotated[str, Field(pattern=f"^{ADVISOR_ID.pattern}$")]
VersionName = Annotated[str, Field(pattern=r"^v\d{4,}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
TrafficShare = Annotated[float, Field(ge=0.0, le=1.0)]
