"""The examples of docs/reference/http.md: requests as curl commands and answers as JSON, from the OpenAPI document."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from mondrian_core.rubric import DIMENSIONS
from mondrian_core.serving.http.api_examples.requests import CRITIQUE_FILE, FORM, JSON, MULTIPART, PHOTOGRAPH
from mondrian_core.serving.http.api_examples.sample_values import GROUP_ID, JOB_ID, OTHER_JOB_ID, SHA256

SERVICE = "http://127.0.0.1:5100"
WIDTH = 100
NAMES = {JOB_ID: "JOB_ID", OTHER_JOB_ID: "OTHER_JOB_ID", GROUP_ID: "GROUP_ID", SHA256: "SHA256"}  # shorter to read
_METHODS = {"GET": "", "POST": "", "PUT": "-X PUT ", "PATCH": "-X PATCH "}


def curl_commands(name: str, operation: Mapping[str, Any], *, token: bool) -> str:
    """The examples of a request, one command for each kind of body.

    Args:
        name: of the route, "GET /jobs/{job_id}".
        operation: of the OpenAPI document.
        token: the request needs a token, also on this machine.
    """
    method, path = name.split(" ", 1)
    url = shlex.quote(_named(SERVICE + _address(path, operation)))
    given = "-H 'Authorization: Bearer TOKEN' " if token else ""
    answers = [each.get("content", {}) for status, each in operation["responses"].items() if status < "300"]
    kinds = {kind for content in answers for kind in content}
    if "text/event-stream" in kinds:
        given += "-N "
    if "image/jpeg" in kinds:
        given += "-o picture.jpg "
    bodies = operation.get("requestBody", {}).get("content", {})
    if not bodies:
        asked = "-X POST " if method == "POST" else _METHODS[method]
        return f"curl {asked}{given}{url}"
    lines = (f"curl {_METHODS[method]}{given}{_body(kind, body['example'])} {url}" for kind, body in bodies.items())
    return "\n".join(lines)


def _address(path: str, operation: Mapping[str, Any]) -> str:
    query = {}
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
        elif "example" in parameter:
            query[parameter["name"]] = parameter["example"]
    return f"{path}?{urlencode(query, doseq=True, safe='/')}" if query else path


def _body(kind: str, example: Mapping[str, Any]) -> str:
    match kind:
        case _ if kind == JSON:
            return f"--json {shlex.quote(shown_json(example, whole=True))}"
        case _ if kind == MULTIPART:
            return " ".join(f"-F {shlex.quote(f'{key}={value}')}" for key, value in _parts(example))
        case _ if kind == FORM:
            return " ".join(f"--data-urlencode {shlex.quote(f'{key}={value}')}" for key, value in example.items())
        case _:
            raise ValueError(kind)


def _parts(example: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in example.items():
        for each in value if isinstance(value, list) else [value]:
            yield key, f"@{each}" if each in (PHOTOGRAPH, CRITIQUE_FILE) else str(each)


def shown_json(value: Any, *, whole: bool = False, indent: int = 0) -> str:
    """A value as JSON in lines of at most `WIDTH` characters where that is possible.

    Args:
        value: of JSON.
        whole: False leaves out all dimensions but the first, and writes "..." for them.
        indent: spaces before the lines after the first.
    """
    abbreviated = not whole and isinstance(value, dict) and value.keys() == set(DIMENSIONS)
    short = _named(_one_line(value, whole=whole))
    if abbreviated or indent + len(short) <= WIDTH or not isinstance(value, dict | list) or not value:
        return short
    inner = indent + 2
    if isinstance(value, list):
        items = [shown_json(each, whole=whole, indent=inner) for each in value]
    else:
        items = [f"{json.dumps(key)}: {shown_json(each, whole=whole, indent=inner)}" for key, each in value.items()]
    begin, end = "[]" if isinstance(value, list) else "{}"
    separator = f",\n{' ' * inner}"
    return f"{begin}\n{' ' * inner}{separator.join(items)}\n{' ' * indent}{end}"


def _one_line(value: Any, *, whole: bool) -> str:
    if isinstance(value, dict):
        if not whole and value.keys() == set(DIMENSIONS):
            first = DIMENSIONS[0]
            return f"{{{json.dumps(first)}: {_one_line(value[first], whole=whole)}, ...}}"
        return f"{{{', '.join(f'{json.dumps(key)}: {_one_line(each, whole=whole)}' for key, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(_one_line(each, whole=whole) for each in value)}]"
    return json.dumps(value, ensure_ascii=False)


def _named(text: str) -> str:
    for value, name in NAMES.items():
        text = text.replace(value, name)
    return text
