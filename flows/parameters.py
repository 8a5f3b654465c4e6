"""Types of flow parameters; Prefect makes the form in its UI from them and refuses a run that doesn't fit.

What a parameter means is said in the docstring of the flow, where Prefect looks for it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mondrian_core import recipes
from mondrian_core.recipes import Recipe
from mondrian_core.settings import ADVISOR_ID

DEFAULT = Recipe()

Advisor = Annotated[str, Field(pattern=f"^{ADVISOR_ID.pattern}$")]
Version = Annotated[str, Field(pattern=r"^v\d{4,}$")]
Seed = recipes.Seed
Port = Annotated[int, Field(ge=1, le=65535)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
