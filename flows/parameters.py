"""Types of flow parameters; Prefect makes the form in its UI from them and refuses a run that doesn't fit."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mondrian_core.recipes import Recipe
from mondrian_core.settings import ADVISOR_ID

DEFAULT = Recipe()
Advisor = Annotated[str, Field(pattern=f"^{ADVISOR_ID.pattern}$", description="an id of the table `advisors`")]
Version = Annotated[str, Field(pattern=r"^v\d{4,}$", description="a registered version such as v0003")]
Reason = Annotated[str, Field(description="goes into the registry's history")]
Workspace = Annotated[str | None, Field(description="folder; empty: the worker's MONDRIAN_WORKSPACE")]
Adapters = Annotated[str | None, Field(description="the registry's folder; empty: the worker's MONDRIAN_ADAPTERS")]
BaseModel = Annotated[str | None, Field(description="hub id or folder; empty: what suits the worker's machine")]
Seed = Annotated[int | None, Field(ge=0, description="of the training; empty: the recipe's")]
