"""Types of flow parameters. Prefect builds the form of its UI from them and refuses a run that doesn't match.

The docstring of a flow explains its parameters; Prefect shows it in the form.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, WithJsonSchema

from mondrian_core import recipes
from mondrian_core.recipes import DEFAULT_RECIPE, Recipe, bundled_recipes, common_fields
from mondrian_core.settings import ADVISOR_ID


def recipe_form_schema() -> dict[str, Any]:
    """JSON schema of a recipe's values: the form shows the common settings, `-p recipe={...}` accepts every one.

    `propertyNames` refuses unknown keys without adding fields to the form. Values are validated when the run starts.
    """
    tables: dict[str, Any] = {}
    for name, field in Recipe.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, BaseModel):
            properties = table.model_json_schema()["properties"]
            tables[name] = {
                "title": name,
                "type": "object",
                "properties": {key: properties[key] for key in common_fields(table)},
                "propertyNames": {"enum": list(table.model_fields)},
            }
    return {
        "title": "Settings",
        "type": "object",
        "properties": {name: table for name, table in tables.items() if table["properties"]},
        "patternProperties": {f"^{name}$": table for name, table in tables.items() if not table["properties"]},
        "propertyNames": {"enum": list(Recipe.model_fields)},
    }


RecipeName = Annotated[str, Field(title="Name", json_schema_extra={"enum": [DEFAULT_RECIPE, *bundled_recipes()]})]
RecipeParameter = RecipeName | Annotated[Recipe, WithJsonSchema(recipe_form_schema())]

AdvisorId = Annotated[str, Field(pattern=f"^{ADVISOR_ID.pattern}$")]
VersionName = Annotated[str, Field(pattern=r"^v\d{4,}$")]
Seed = recipes.Seed
Port = Annotated[int, Field(ge=1, le=65535)]
TrafficShare = Annotated[float, Field(ge=0.0, le=1.0)]
