"""Examples of the service's requests and answers, for its OpenAPI document and docs/reference/http.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from mondrian_core.serving.http.api_examples.answer_schemas import answer_schema, example_value
from mondrian_core.serving.http.api_examples.critique_answers import CRITIQUE_ANSWERS, JOB
from mondrian_core.serving.http.api_examples.registry_answers import REGISTRY_ANSWERS
from mondrian_core.serving.http.api_examples.requests import BODIES, JSON, PATH_PARAMETERS, QUERIES
from mondrian_core.serving.http.api_examples.writing_answers import WRITING_ANSWERS

ANSWERS: Mapping[str, Any] = {**CRITIQUE_ANSWERS, **WRITING_ANSWERS, **REGISTRY_ANSWERS}
JOB_SCHEMA = "Job"


def document_examples(app: FastAPI) -> None:
    """Add examples of requests and answers to the OpenAPI document, and the schemas of the answers."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            document["components"]["schemas"][JOB_SCHEMA] = {**answer_schema(JOB), "example": example_value(JOB)}
            for path, ways in document["paths"].items():
                for method, operation in ways.items():
                    _add_examples(f"{method.upper()} {path}", operation)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation says


def _add_examples(name: str, operation: dict[str, Any]) -> None:
    given = QUERIES.get(name, {})
    for parameter in operation.get("parameters", []):
        known = PATH_PARAMETERS if parameter["in"] == "path" else given
        if parameter["name"] in known:
            parameter["example"] = known[parameter["name"]]
    for kind, body in BODIES.get(name, {}).items():
        operation["requestBody"]["content"][kind]["example"] = body
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        if status < "300" and JSON in content:
            content[JSON] = _described_answer(name) or content[JSON]
        if "300" <= status < "400" and content.get(JSON) == {"schema": {}}:
            del content[JSON]  # FastAPI lists one for any route; a redirect has no body


def _described_answer(name: str) -> dict[str, Any]:
    answer = ANSWERS.get(name)
    if answer is JOB:
        return {"schema": {"$ref": f"#/components/schemas/{JOB_SCHEMA}"}}
    return {} if answer is None else {"schema": answer_schema(answer), "example": example_value(answer)}
