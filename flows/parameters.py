"""Types of flow parameters; Prefect makes the form in its UI from them and refuses a run that doesn't fit.

What a parameter means is said in the docstring of the flow, where Prefect looks for it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mondrian_core import recipes
from mondrian_core.recipes import DEFAULT_RECIPE as DEFAULT_NAME
from mondrian_core.recipes import Recipe, bundled_recipes
from mondrian_core.settings import ADVISOR_ID

DEFAULT_RECIPE = Recipe()

RecipeName = Annotated[str, Field(title="Name", json_schema_extra={"enum": [DEFAULT_NAME, *bundled_recipes()]})]
# A name or all the values; which of the two is chosen in the form of the UI.
RecipeParameter = RecipeName | Recipe

AdvisorId = Annotated[str, Field(pattern=f"^{ADVISOR_ID.pattern}$")]
VersionName = Annotated[str, Field(pattern=r"^v\d{4,}$")]
Seed = recipes.Seed
Port = Annotated[int, Field(ge=1, le=65535)]
TrafficShare = Annotated[float, Field(ge=0.0, le=1.0)]
