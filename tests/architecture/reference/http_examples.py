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
_METHODS = {"PUT": ["-X PUT"], "PATCH": ["-X PATCH"]}  # curl sends GET, and POST with a body


def curl_commands(name: str, operation: Mapping[str, Any], *, token: bool) -> str:
    """The examples of a request, one command for each kind of body.

    Args:
        name: of the route, "GET /jobs/{job_id}".
        operation: of the OpenAPI document.
        token: the request needs a token, also on this machine.
    """
    method, path = name.split(" ", 1)
    answers = [each.get("content", {}) for status, each in operation["responses"].items() if status < "300"]
    kinds = {kind for content in answers for kind in content}
    bodies = operation.get("requestBody", {}).get("content", {})
    asked = ["-X POST"] if method == "POST" and not bodies else _METHODS.get(method, [])
    access = ["-H 'Authorization: Bearer TOKEN'"] if token else []
    wanted = ["-N"] * ("text/event-stream" in kinds) + ["-o picture.jpg"] * ("image/jpeg" in kinds)
    url = shlex.quote(_named(SERVICE + _address(path, operation)))
    sent = [_body(kind, body["example"]) for kind, body in bodies.items()] or [[]]
    return "\n".join(_lines(["curl", *asked, *access, *wanted, *each, url]) for each in sent)


def _lines(parts: list[str]) -> str:
    """The parts of a command in one line, or in several with backslashes."""
    line = " ".join(parts)
    return line if len(line) <= WIDTH or "\n" in line else " \\\n  ".join(parts)


def _address(path: str, operation: Mapping[str, Any]) -> str:
    query = {}
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
        elif "example" in parameter:
            query[parameter["name"]] = parameter["example"]
    return f"{path}?{urlencode(query, doseq=True, safe='/')}" if query else path


def _body(kind: str, example: Mapping[str, Any]) -> list[str]:
    match kind:
        case _ if kind == JSON:
            return [f"--json {shlex.quote(shown_json(example, whole=True))}"]
        case _ if kind == MULTIPART:
            return [f"-F {shlex.quote(f'{key}={value}')}" for key, value in _parts(example)]
        case _ if kind == FORM:
            return [f"--data-urlencode {shlex.quote(f'{key}={value}')}" for key, value in example.items()]
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
        whole: False writes "..." for all dimensions but the first, and for all keys of an inner job but the first.
        indent: spaces before the lines after the first.
    """
    short = _named(_one_line(value, whole=whole, inner=indent > 0))
    is_short = indent + len(short) <= WIDTH or (not whole and _is_abbreviated(value, inner=indent > 0))
    if is_short or not isinstance(value, dict | list) or not value:
        return short
    deeper = indent + 2
    if isinstance(value, list):
        items = [shown_json(each, whole=whole, indent=deeper) for each in value]
    else:
        items = [f"{json.dumps(key)}: {shown_json(each, whole=whole, indent=deeper)}" for key, each in value.items()]
    begin, end = "[]" if isinstance(value, list) else "{}"
    separator = f",\n{' ' * deeper}"
    return f"{begin}\n{' ' * deeper}{separator.join(items)}\n{' ' * indent}{end}"


def _one_line(value: Any, *, whole: bool, inner: bool = True) -> str:
    if isinstance(value, dict):
        cut = not whole and _is_abbreviated(value, inner=inner)
        shown = list(value.items())[: 1 if cut else None]
        items = [f"{json.dumps(key)}: {_one_line(each, whole=whole)}" for key, each in shown] + ["..."] * cut
        return f"{{{', '.join(items)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_one_line(each, whole=whole) for each in value)}]"
    return json.dumps(value, ensure_ascii=False)


def _is_abbreviated(value: Any, *, inner: bool) -> bool:
    is_job = isinstance(value, dict) and inner and {"job_id", "critique"} <= value.keys()
    return is_job or (isinstance(value, dict) and value.keys() == set(DIMENSIONS))


def _named(text: str) -> str:
    for value, name in NAMES.items():
        text = text.replace(value, name)
    return text
