"""docs/reference/http.md, from the OpenAPI document of the service."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mondrian_core.markdown import Markdown, markdown_table
from mondrian_core.serving.http.api_docs import AREAS
from mondrian_core.serving.http.api_examples import JOB_SCHEMA
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.error_pages import ANY_PROBLEM
from mondrian_core.serving.http.responses import DEFAULT_WAIT_SECONDS, MAX_WAIT_SECONDS, job_headers, job_json
from mondrian_core.serving.http.security import SAFE_METHODS, UNAUTHENTICATED_PATHS, is_public_path
from mondrian_core.settings import Settings
from mondrian_core.store import Job
from tests.architecture.reference.http_examples import curl_commands, shown_json
from tests.architecture.reference.prose_markup import escaped_prose

PAGE = "docs/reference/http.md"
_MEDIA = {"application/json": "JSON", "text/html": "page", "application/problem+json": "problem"}
_STATUS_TEXTS = {
    400: "the request can't be read",
    401: "the token is missing or wrong, or another site's page sent the request",
    404: "nothing is at this address",
    406: "the request accepts neither JSON nor HTML",
    413: "the request is too large",
    422: "a value is wrong",
    429: "too many wrong tokens came from one address",
    503: "the service is busy or not ready; see `Retry-After`",
}
JOB_KEYS = {
    "job_id": "ID of the job",
    "status": "`queued`, `running`, `completed`, `failed` or `canceled`",
    "group": "ID of the group when several advisors critique one photograph, or null",
    "advisor": "ID of the advisor",
    "photograph": "file name",
    "photograph_sha256": "of the photograph's bytes",
    "requested_mode": "the strategy that was asked for: `lora`, `rag` or `baseline`",
    "explicit_mode": "true when the request named it; such jobs are left out of the A/B table",
    "mode": "the strategy that answered",
    "arm": "the arm of an A/B test or a rollout, or null",
    "model_used": "`base`, `fine_tuned`, `ab_test_base` or `ab_test_fine_tuned`",
    "adapter_version": "the version that answered, or null",
    "critique": "the critique as `GET /schema` describes it; null until it is completed",
    "written_scores": "the model's scores before a person corrected them, by dimension",
    "expected_scores": "expected values over the score tokens, by dimension",
    "compared_with": "strategy `rag`: the portfolio photographs it compared with",
    "crops": "crops that were tried, if asked for",
    "fallbacks": "strategies that were tried again or given up, with the reasons",
    "seconds": "time of the critique",
    "passes": "passes of the model, with their tokens and times",
    "rating": "1 to 5, by a person",
    "judgements": "by dimension or `crop`: `useful`, the `text` and `regions` that were judged, `judged_at`",
    "corrected_at": "when a person corrected it",
    "error": "why it failed",
    "fault": "who is at fault when it failed: the `request`, the `adapter` or the `service`",
    "created_at": "UTC, ISO 8601 without offset, as all times",
    "started_at": "when the model began",
    "completed_at": "when it ended",
    "links": "addresses of the job, its events and its photograph",
}
HEADERS = {
    "X-Job-ID": "ID of the job",
    "X-Analysis-Mode": "the strategy that answered",
    "X-Requested-Mode": "the strategy that was asked for",
    "X-Advisor-ID": "ID of the advisor",
    "X-Strategy-Available": "false when the requested strategy was given up",
    "X-Model-Used": "as `model_used`",
    "X-Adapter-Version": "as `adapter_version`",
}
_START = f"""# HTTP

This page is generated from the service's OpenAPI document, which the service offers itself: as `/openapi.json`, and as
a page to read and to try at `/docs`. `mondrian serve` listens on `http://127.0.0.1:5100`.

- **JSON or a page.** Answers are JSON. A request that prefers HTML (`Accept: text/html`, as a browser sends, or
  `?format=html`) gets the page where the route has one.
- **Waiting.** `POST /analyze` waits up to {DEFAULT_WAIT_SECONDS:.0f} seconds for the critique. `Prefer: wait=20`
  changes that (at most {MAX_WAIT_SECONDS:.0f}); `Prefer: respond-async` doesn't wait. A later answer is at `Location`.
- **Repeating.** A request with an `Idempotency-Key` that was used before returns the job of the first one.
- **Examples** name this machine's service, the advisor `ansel` and the versions `v0003` and `v0004`. Words in capitals,
  such as `JOB_ID`, stand for values, and `...` in an answer for the other dimensions, or the other keys of a job. Any
  value may be null: it is unknown, or there is none.
- **Errors** are problem details (RFC 9457): `type`, `title` (what happened), `status`, `detail` (what to do next). The
  page [Errors](errors.md) lists the types. Below `/v1/` errors have OpenAI's form.

## Who may call

| access | without a token | with `MONDRIAN_SERVICE_TOKEN` |
|---|---|---|
| open | this machine | everybody |
| token | this machine | `Authorization: Bearer TOKEN`, or a browser that has logged in at `/login` |
| champion | this machine, but not through a proxy | as "token" |

A route needs "token" unless its section says otherwise. Requests that another site's page sends are refused.
While no token is set, requests for a host name other than this machine's are refused as well. With a session, a request
other than {", ".join(SAFE_METHODS)} must come from the service's own page.
"""


def http_page() -> str:
    """The page as Markdown."""
    document = service_openapi()
    parts = [_START, _statuses(), _job_section(document), "## Routes", _contents(document)]
    for area, text in AREAS.items():
        parts += [f"## {area}", escaped_prose(text)]
        parts += [_route(document, name, operation) for name, operation in _operations(document, area)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def service_openapi() -> dict[str, Any]:
    """The document of a service with a token. Its routes are added, and none is called, so it needs no parts."""
    parts = SimpleNamespace(token="of this page", workspace="", settings=Settings(), root=Path(), store=None)
    return create_app(parts).openapi()


def _operations(document: Mapping[str, Any], area: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, ways in document["paths"].items():
        for method, operation in ways.items():
            if operation["tags"] == [area]:
                yield f"{method.upper()} {path}", operation


def _contents(document: Mapping[str, Any]) -> str:
    lines = []
    for area in AREAS:
        routes = [f"[`{name}`](#{_anchor(name)})" for name, _ in _operations(document, area)]
        lines.append(f"- **{area}**: {', '.join(routes)}")
    return "\n".join(lines)


def _anchor(name: str) -> str:
    return "".join(letter for letter in name.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")


def _statuses() -> str:
    rows = [(status, Markdown(_STATUS_TEXTS[status])) for status in ANY_PROBLEM]
    table = markdown_table(("status", "meaning"), rows)
    return f"## Statuses of every route\n\nThe sections below name the other ones.\n\n{table}"


def _job_section(document: Mapping[str, Any]) -> str:
    job = Job(id="", filename=None, advisor=None, status="completed")
    rows = [(Markdown(f"`{key}`"), Markdown(JOB_KEYS[key])) for key in job_json(job)]
    headers = [(Markdown(f"`{name}`"), Markdown(HEADERS[name])) for name in job_headers(job)]
    return "\n\n".join(
        (
            "## The job",
            "Every critique is a job. Once it is completed, the keys of the critique (`dimensional_analysis`, "
            "`overall_grade`, ...) are at the top level too. Times are UTC.",
            markdown_table(("key", "value"), rows),
            "Example:",
            f"```text\n{shown_json(document['components']['schemas'][JOB_SCHEMA]['example'])}\n```",
            'Headers of an answer with a job; "pending" before it has ended:',
            markdown_table(("header", "value"), headers),
        )
    )


def _route(document: Mapping[str, Any], name: str, operation: Mapping[str, Any]) -> str:
    method, path = name.split(" ", 1)
    parts = [f"### {name}", escaped_prose(operation["description"])]
    if (access := _access(method, path, operation)) != "token":
        parts.append(f"Access: {access}.")
    if rows := [_parameter(document, each) for each in operation.get("parameters", []) if not _is_obvious(each)]:
        parts.append(markdown_table(("parameter", "in", "type", "meaning"), rows))
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"Body, `{kind}`:\n\n{_schema_table(document, content['schema'])}")
    command = curl_commands(name, operation, token=_access(method, path, operation) == "champion")
    parts += ["Example:", f"```text\n{command}\n```", _answers(operation)]
    if example := _answer_example(operation):
        parts.append(example)
    return "\n\n".join(parts)


def _access(method: str, path: str, operation: Mapping[str, Any]) -> str:
    if path in UNAUTHENTICATED_PATHS or is_public_path(path):
        return "open"
    return "champion" if method not in SAFE_METHODS and "403" in operation["responses"] else "token"


def _is_obvious(parameter: Mapping[str, Any]) -> bool:
    """True for a part of the path of which the document says nothing but its name."""
    return parameter["in"] == "path" and parameter["schema"].keys() <= {"type", "title", "maxLength"}


def _parameter(document: Mapping[str, Any], parameter: Mapping[str, Any]) -> tuple[Markdown, str, Markdown, Markdown]:
    schema = {**_resolved(document, parameter["schema"]), **parameter["schema"]}
    meaning = escaped_prose(parameter["schema"].get("description", ""))
    name = parameter["name"].title().replace("-Id", "-ID") if parameter["in"] == "header" else parameter["name"]
    needed = parameter.get("required", False) and parameter["in"] != "path"
    return Markdown(f"`{name}`"), parameter["in"], _type(schema, required=needed), Markdown(meaning)


def _schema_table(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    schema = _resolved(document, schema)
    rows = []
    for key, value in schema.get("properties", {}).items():
        named = _resolved(document, value)
        meaning = value.get("description") or named.get("description", "")
        kind = _type(named, required=key in schema.get("required", []))
        rows.append((Markdown(f"`{key}`"), kind, Markdown(escaped_prose(meaning))))
        rows += _inner_rows(document, key, named)
    return markdown_table(("key", "type", "meaning"), rows) if rows else "any object"


def _inner_rows(document: Mapping[str, Any], key: str, schema: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The keys of an object inside; where all of them have the same form, as dimensions do, that form once."""
    inside = schema.get("properties", {})
    forms = {value.get("$ref") for value in inside.values()}
    if len(forms) == 1 and None not in forms and len(inside) > 1:
        return _inner_rows(document, f"{key}.DIMENSION", _resolved(document, next(iter(inside.values()))))
    rows = []
    for name, value in inside.items():
        named = _resolved(document, value)
        kind = _type(named, required=name in schema.get("required", []))
        rows.append((Markdown(f"`{key}.{name}`"), kind, Markdown(escaped_prose(value.get("description", "")))))
        rows += _inner_rows(document, f"{key}.{name}", named)
    return rows


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return document["components"]["schemas"][reference.rsplit("/", 1)[-1]] if reference else schema


def _type(schema: Mapping[str, Any], *, required: bool = False) -> Markdown:
    text = _type_text(schema)
    if schema.get("default") not in (None, "", [], {}) and not isinstance(schema["default"], dict):
        default = schema["default"]
        text += f", default {default if isinstance(default, str) else json.dumps(default)}"
    return Markdown(f"{text}, required" if required else text)


def _type_text(schema: Mapping[str, Any]) -> str:
    """Such as "integer, 1 to 5"."""
    for several in ("anyOf", "oneOf"):
        if several in schema:
            kinds = [_type_text(each) for each in schema[several] if each.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"] if each)
    if schema.get("type") == "array":
        return f"list of {_type_text(schema.get('items', {}))}"
    kind = {"binary": "file", "date": "date"}.get(schema.get("format", ""), schema.get("type", "any"))
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f"{kind}, {least:,g} to {most:,g}" if most < 1e6 else f"{kind}, at least {least:g}"
    if "maxLength" in schema:
        return f"{kind}, at most {schema['maxLength']:,} characters"
    return str(kind)


def _answer_example(operation: Mapping[str, Any]) -> str:
    """The example of the JSON answer; "" where the route has none."""
    for status, response in operation["responses"].items():
        answer = response.get("content", {}).get("application/json", {})
        if status < "300" and "$ref" in answer.get("schema", {}):
            return "The answer is the [job](#the-job)."
        if status < "300" and "example" in answer:
            return f"```text\n{shown_json(answer['example'])}\n```"
    return ""


def _answers(operation: Mapping[str, Any]) -> str:
    usual = {str(status) for status in ANY_PROBLEM}
    lines = []
    for status, response in sorted(operation["responses"].items()):
        about = response["description"].removesuffix("Successful Response")
        is_plain_problem = about.startswith(("A problem (RFC 9457)", "An error in OpenAI's form"))
        if status in usual and is_plain_problem:
            continue
        kinds = " or ".join(_MEDIA.get(kind, kind) for kind in response.get("content", {}) if not is_plain_problem)
        about = re.sub(r"(; |^)as a page if HTML is preferred$", "", about, flags=re.IGNORECASE)
        said = "a problem" if is_plain_problem else escaped_prose(about)
        lines.append(f"- {status}{f' ({kinds})' * bool(kinds)}: {said}".rstrip(": "))
    return "\n".join(["Answers:", "", *lines]) if lines else ""
