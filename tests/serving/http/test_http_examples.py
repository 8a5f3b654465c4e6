"""The examples of the OpenAPI document: each request is accepted by a real service, each answer has its schema."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from mondrian_core.serving.http import promotion_routes
from mondrian_core.serving.http.api_examples import ANSWERS, JOB_SCHEMA
from mondrian_core.serving.http.api_examples.answer_schemas import answer_schema, example_value
from mondrian_core.serving.http.api_examples.requests import (
    CRITIQUE_FILE,
    DATA_URL,
    DIGEST,
    FORM,
    JSON,
    MANIFEST,
    MULTIPART,
    PHOTOGRAPH,
)
from mondrian_core.serving.http.api_examples.sample_values import (
    CANDIDATE,
    CHAMPION,
    GROUP_ID,
    JOB_ID,
    OTHER_JOB_ID,
    SHA256,
    ByKey,
)
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service

# what the small workspace of these tests doesn't have; the request itself is in order
MISSING = {
    "GET /jobs/{job_id}/crop": 404,
    "POST /jobs/{job_id}/crop/decision": 422,
    "POST /jobs/{job_id}/recommendations/{dimension}/judgement": 422,
    "GET /jobs/{job_id}/compared/{number}": 404,
    "GET /registry/{advisor}/{version}/report": 404,
    "GET /runs/{run}": 404,
    "GET /runs/{run}/report": 404,
    "GET /runs/compare": 404,
    "POST /start/training": 422,
}
ORIGIN = "http://localhost"
Values = dict[str, str]


@pytest.fixture
def client(
    make_service: Callable[..., Service], promote: Callable[[str | None], None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    # the weights of these versions fit no base
    monkeypatch.setattr(promotion_routes, "inspect_version_in_subprocess", lambda version, base: {"problems": ()})
    promote("v0001")
    here = ("127.0.0.1", 50000)
    with TestClient(create_app(make_service()), base_url=ORIGIN, follow_redirects=False, client=here) as found:
        yield found


@pytest.fixture
def values(client: TestClient, photograph: Callable[..., bytes]) -> Values:
    """What the examples name, in the workspace of this test."""
    picture = photograph(3)
    sent = {"files": {"image": (PHOTOGRAPH, picture)}}
    client.post("/photographs", files=[("photographs", (PHOTOGRAPH, picture))], data={"advisor": "ansel"})
    first, second = (client.post("/analyze", data={"advisor": "ansel"}, **sent).json() for _ in range(2))
    group = client.post("/analyze", data={"advisor": "all"}, **sent).json()
    return {
        JOB_ID: first["job_id"],
        OTHER_JOB_ID: second["job_id"],
        GROUP_ID: group["group_id"],
        SHA256: hashlib.sha256(picture).hexdigest(),
        CHAMPION: "v0001",
        CANDIDATE: "v0002",
        DATA_URL: f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}",
        "source/photo.jpg": "source/one.jpg",
    }


def operations(client: TestClient) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, ways in client.app.openapi()["paths"].items():  # type: ignore[attr-defined]  # an ASGI app in general
        for method, operation in ways.items():
            yield f"{method.upper()} {path}", operation


def real(value: Any, values: Mapping[str, str]) -> Any:
    """An example with the values of this workspace."""
    match value:
        case dict():
            return {key: real(each, values) for key, each in value.items()}
        case list():
            return [real(each, values) for each in value]
        case _:
            return values.get(value, value) if isinstance(value, str) else value


def shown_on_page(client: TestClient, path: str) -> Values:
    """What the form of the page at `path` sends back to change the champion."""
    page = client.get(path, headers={"Accept": "text/html"}).text
    fields = dict(re.findall(r'name="(champion|champion_manifest|shown)" value="([^"]*)"', page))
    return {CHAMPION: fields["champion"], DIGEST: fields.get("shown", ""), MANIFEST: fields["champion_manifest"]}


def send(client: TestClient, name: str, operation: Mapping[str, Any], values: Values) -> Iterator[Response]:
    """Send the example once for each kind of body."""
    method, path = name.split(" ", 1)
    query = {}
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(str(real(parameter["example"], values)), safe=""))
        elif "example" in parameter:
            query[parameter["name"]] = real(parameter["example"], values)
    headers = {"Origin": ORIGIN} if method != "GET" else {}
    if "403" in operation["responses"] and method != "GET":
        values = {**values, **shown_on_page(client, path)}
    bodies = operation.get("requestBody", {}).get("content", {})
    for kind, body in bodies.items() if bodies else [("", {"example": None})]:
        given = real(body["example"], values)
        content: dict[str, Any] = {}
        if kind == JSON:
            content["json"] = given
        elif kind == MULTIPART:
            content["data"] = {key: value for key, value in given.items() if not is_file(value)}
            content["files"] = [
                (key, (each, file_bytes(each, values)))
                for key, value in given.items()
                if is_file(value)
                for each in ([value] if isinstance(value, str) else value)
            ]
        elif kind == FORM:
            content["data"] = given
        yield client.request(method, path, params=query, headers=headers, **content)


def is_file(value: Any) -> bool:
    return isinstance(value, list) or value in (PHOTOGRAPH, CRITIQUE_FILE)


def file_bytes(name: str, values: Values) -> bytes:
    if name == CRITIQUE_FILE:
        return b"photograph,composition_score\nphoto.jpg,8\n"
    return base64.b64decode(values[DATA_URL].partition(",")[2])


def test_every_example_of_a_request_is_accepted_and_answered_in_the_documented_form(
    client: TestClient, values: Values
) -> None:
    document = client.app.openapi()  # type: ignore[attr-defined]
    refused, odd = {}, {}
    for name, operation in operations(client):
        for answer in send(client, name, operation, values):
            if answer.status_code != MISSING.get(name, answer.status_code if answer.status_code < 400 else 0):
                refused[name] = (answer.status_code, answer.text[:300])
                continue
            documented = operation["responses"].get(str(answer.status_code))
            schema = (documented or {}).get("content", {}).get(JSON, {}).get("schema")
            if documented is None:
                odd[name] = [f"status {answer.status_code}"]
            elif answer.headers.get("content-type", "") == JSON and answer.status_code < 300:
                odd[name] = ["no schema"] if not schema else differs(document, schema, answer.json())
    assert refused == {}
    assert {name: places for name, places in odd.items() if places} == {}


def test_every_parameter_of_a_path_and_every_body_has_an_example(client: TestClient) -> None:
    for name, operation in operations(client):
        needed = [each for each in operation.get("parameters", []) if each.get("required")]
        assert [each["name"] for each in needed if "example" not in each] == [], name
        bodies = operation.get("requestBody", {}).get("content", {})
        assert [kind for kind, body in bodies.items() if "example" not in body] == [], name


def test_every_json_answer_has_an_example_of_its_form_and_no_redirect_has_one(client: TestClient) -> None:
    document = client.app.openapi()  # type: ignore[attr-defined]
    described = set()
    for name, operation in operations(client):
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get(JSON)
            assert not ("300" <= status < "400" and response.get("content")), name
            if content is None or status >= "300" or name in ("GET /schema", "GET /critiques/export"):
                continue
            described.add(name)
            schema = resolved(document, content["schema"])
            example = content.get("example", schema.get("example"))
            assert differs(document, schema, example) == [] and example, name
    assert described == set(ANSWERS)


@pytest.mark.parametrize(
    ("value", "places"),
    [
        ({"total": 1, "items": [{"a": 1.5, "b": None}], "by": {}}, []),
        ({"total": 1, "items": [], "by": {"x": True}, "more": "text"}, []),
        ({"total": 1, "items": [{"a": 1}], "by": {}}, [".items[].b"]),
        ({"total": "1", "items": None, "by": {"x": 1}}, [".total: str", ".by.x: int"]),
        ({"total": 1, "items": [], "by": {}, "other": 1}, [".other"]),
        ([], [": list"]),
    ],
)
def test_an_answer_of_another_form_is_found(value: object, places: list[str]) -> None:
    example = {"total": 1, "items": [{"a": 1.0, "b": "text"}], "by": ByKey(x=True), "more?": ""}
    assert differs({}, answer_schema(example), value) == places
    assert example_value(example) == {"total": 1, "items": [{"a": 1.0, "b": "text"}], "by": {"x": True}}


# --- a small validator; the project needs no library for JSON schemas -------------------------------------------------

_KINDS = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}


def resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return document["components"]["schemas"][reference.rpartition("/")[2]] if reference else schema


def differs(document: Mapping[str, Any], schema: Mapping[str, Any], value: Any, place: str = "") -> list[str]:
    """Where a value has another form; a key that the schema doesn't know counts too."""
    schema = resolved(document, schema)
    if value is None or not isinstance(schema.get("type"), list):  # open: FastAPI's own schemas say "object" alone
        return []
    kind = schema["type"][0]
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return [f"{place}: {type(value).__name__}"]
    if kind == "array":
        return [each for item in value[:1] for each in differs(document, schema["items"], item, f"{place}[]")]
    if kind != "object":
        return []
    if (every := schema.get("additionalProperties")) is not None:
        return [each for key, item in value.items() for each in differs(document, every, item, f"{place}.{key}")]
    known = schema["properties"]
    wrong = sorted((set(schema["required"]) - value.keys()) | (value.keys() - known.keys()))
    shared = [key for key in value if key in known]
    inner = [each for key in shared for each in differs(document, known[key], value[key], f"{place}.{key}")]
    return [*inner, *(f"{place}.{key}" for key in wrong)]


def test_the_job_is_described_once(client: TestClient) -> None:
    document = client.app.openapi()  # type: ignore[attr-defined]
    answer = document["paths"]["/jobs/{job_id}"]["get"]["responses"]["200"]["content"][JSON]
    assert answer == {"schema": {"$ref": f"#/components/schemas/{JOB_SCHEMA}"}}
