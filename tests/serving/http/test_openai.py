"""The OpenAI-compatible routes, driven by the `openai` package. The model process is real, its model is a fake."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.rubric import DIMENSIONS, AnswerForm, canonical_answer, critique_json_schema, make_critique
from mondrian_core.serving.critique.routing import RoutingPolicy
from mondrian_core.serving.engine.supervisor import ModelProcess, model_command
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.server import ServerOptions, build_service
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from tests.waiting import wait_until

if TYPE_CHECKING:  # each pytest worker would import it, and one needs it
    from openai import OpenAI

Make = Callable[..., Service]
Photograph = Callable[..., bytes]
Start = Callable[..., Any]
WORDS = {"type": "text", "text": "Be brief."}


def data_url(data: bytes, kind: str = "image/jpeg") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def messages(url: str, *more: dict[str, Any]) -> Any:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, *more]}]


@pytest.fixture
def http(make_service: Make, promote: Callable[[str], None]) -> Any:
    promote("v0002")
    with TestClient(create_app(make_service()), base_url="http://localhost", raise_server_exceptions=False) as found:
        yield found


def connected(http: TestClient, api_key: str = "none") -> OpenAI:
    import openai

    return openai.OpenAI(base_url="http://localhost/v1", api_key=api_key, http_client=http, max_retries=0)


@pytest.fixture
def client(http: TestClient) -> OpenAI:
    return connected(http)


@pytest.fixture
def asked(photograph: Photograph) -> Any:
    return messages(data_url(photograph()))


def test_models_are_named_by_advisor_and_version(client: OpenAI) -> None:
    import openai

    names = [model.id for model in client.models.list()]
    assert names == ["ansel", "ansel@v0001", "ansel@v0002", "ansel@base", "dorothea", "dorothea@base"]
    assert client.models.retrieve("ansel@v0001").created > 1_700_000_000
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.models.retrieve("ansel@v0009")


@pytest.mark.parametrize(
    ("name", "answered", "said_by"),
    [
        ("ansel", "ansel@v0002", "v0002"),
        ("ansel@v0001", "ansel@v0001", "v0001"),
        ("ansel@base", "ansel@base", "the base"),
    ],
)
def test_a_critique_is_the_answer(
    client: OpenAI, asked: Any, name: str, answered: str, said_by: str, settings: Settings
) -> None:
    found = client.chat.completions.create(model=name, messages=asked)
    assert (found.model, found.object, found.choices[0].finish_reason) == (answered, "chat.completion", "stop")
    critique = parse_critique_strict(found.choices[0].message.content or "")
    assert critique.assessments["lighting"].comment == f"said by {said_by}"
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (100, 3, 103)
    with Store(settings.database, read_only=True) as store:
        job = next(store.jobs())
    assert (f"chatcmpl-{job.id}", job.explicit_mode, job.arm) == (found.id, True, None)


def test_an_advisor_without_a_promoted_version_is_answered_by_the_base(client: OpenAI, asked: Any) -> None:
    assert client.chat.completions.create(model="dorothea", messages=asked).model == "dorothea@base"


def test_a_named_version_never_falls_back(client: OpenAI, asked: Any, control: Callable[..., None]) -> None:
    import openai

    control(garbled=["v0001"])
    with pytest.raises(openai.InternalServerError, match="No critique could be made"):
        client.chat.completions.create(model="ansel@v0001", messages=asked)
    assert client.chat.completions.create(model="ansel", messages=asked).model == "ansel@v0002"


def test_stream_ends_with_usage_and_done(http: TestClient, client: OpenAI, asked: Any) -> None:
    chunks = list(
        client.chat.completions.create(
            model="ansel", messages=asked, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == client.chat.completions.create(model="ansel", messages=asked).choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant" and len(chunks) > 5
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 103 and chunks[-1].choices == []
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[-2].model == "ansel@v0002"
    raw = http.post("/v1/chat/completions", json={"model": "ansel", "messages": asked, "stream": True}).text
    assert raw.rstrip().endswith("data: [DONE]") and ": completed" in raw


def test_a_failure_while_streaming_is_an_error_of_the_client(
    client: OpenAI, asked: Any, control: Callable[..., None]
) -> None:
    import openai

    control(garbled=["*"])
    with pytest.raises(openai.APIError, match="No critique could be made"):
        list(client.chat.completions.create(model="ansel@base", messages=asked, stream=True))


class Verdict(BaseModel):
    """A form of one's own."""

    keep: bool
    reason: str


def test_a_schema_of_ones_own_reaches_the_decoder(
    client: OpenAI, photograph: Photograph, control: Callable[..., None], tmp_path: Path, http: TestClient
) -> None:
    client.chat.completions.create(model="ansel", messages=messages(data_url(photograph())))  # past the smoke test
    control(texts=['{"keep": true, "reason": "light"}'], record_question=str(tmp_path / "asked.json"))
    found = client.chat.completions.parse(
        model="ansel",
        messages=messages(data_url(photograph()), WORDS),
        response_format=Verdict,
        seed=7,
        temperature=0.5,
    )
    assert found.choices[0].message.parsed == Verdict(keep=True, reason="light")
    question = json.loads((tmp_path / "asked.json").read_text())
    assert question["schema"]["required"] == ["keep", "reason"]
    assert question["messages"][1]["content"][0]["text"].startswith("Be brief. Answer with one JSON object")
    assert (question["temperature"], question["seed"]) == (0.5, 7)
    job = found.id.removeprefix("chatcmpl-")
    page = http.get(f"/jobs/{job}?format=html")
    assert page.status_code == 200 and "form that a program asked for" in page.text
    assert job not in http.get("/").text and len(http.get("/history?advisor=ansel").json()) == 1


def test_the_schema_of_a_critique_gives_exactly_its_keys(client: OpenAI, asked: Any) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "critique", "schema": critique_json_schema()}}
    found = client.chat.completions.create(model="ansel", messages=asked, response_format=form)
    answer = json.loads(found.choices[0].message.content or "")
    assert list(answer) == ["dimensional_analysis", "overall_grade"]
    assert all(list(entry) == ["score", "comment"] for entry in answer["dimensional_analysis"].values())


def test_the_schema_of_advice_asks_for_a_critique_too(
    client: OpenAI, photograph: Photograph, control: Callable[..., None], tmp_path: Path
) -> None:
    schema = critique_json_schema(AnswerForm.ADVICE)
    form: Any = {"type": "json_schema", "json_schema": {"name": "critique", "schema": schema}}
    client.chat.completions.create(model="ansel", messages=messages(data_url(photograph())))  # past the smoke test
    plain = make_critique(dict.fromkeys(DIMENSIONS, 7), dict.fromkeys(DIMENSIONS, "Calm."))
    wait = replace(plain.assessments["lighting"], recommendation="Wait.", regions=((0.1, 0.2, 0.4, 0.8),))
    advice = replace(plain, assessments={**plain.assessments, "lighting": wait}, strengths=("Light.",))
    text = canonical_answer(advice, AnswerForm.ADVICE)
    control(texts=[text], record_question=str(tmp_path / "asked.json"))
    found = client.chat.completions.create(
        model="ansel", messages=messages(data_url(photograph())), response_format=form
    )
    assert found.choices[0].message.content == text, "regions in thousandths, as the schema has them"
    assert json.loads((tmp_path / "asked.json").read_text())["schema"] is None, "asked as a critique is"


def test_an_answer_that_may_not_be_longer_is_cut(client: OpenAI, asked: Any, control: Callable[..., None]) -> None:
    control(tokens=9)
    found = client.chat.completions.create(model="ansel", messages=asked, max_tokens=5)
    assert found.choices[0].finish_reason == "length" and (found.choices[0].message.content or "").startswith("{")
    assert client.chat.completions.create(model="ansel", messages=asked).choices[0].finish_reason == "stop"


def test_what_has_no_effect_is_listed(client: OpenAI, photograph: Photograph) -> None:
    found = client.chat.completions.create(
        model="ansel", messages=messages(data_url(photograph()), WORDS), user="me", n=1, top_p=1.0
    )
    assert (found.model_extra or {})["mondrian"]["ignored"] == ["user", "messages[0].content[1]"]


IMAGE = "messages[0].content[0].image_url"
NOT_AN_OBJECT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}
WITH_NOT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "not": {}}}}


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"messages": []}, "messages", "is wrong"),
        (
            {"messages": messages("https://example.com/a.jpg")},
            IMAGE,
            "fetches no addresses",
        ),
        ({"messages": messages("file:///etc/passwd")}, IMAGE, "fetches no addresses"),
        ({"messages": messages("data:image/jpeg;base64,***")}, IMAGE, "can't be decoded"),
        ({"messages": messages("data:image/jpeg,abc")}, IMAGE, "not base64"),
        ({"messages": [{"role": "user", "content": "hello"}]}, "messages", "no photograph"),
        ({"messages": messages("data:,", {"type": "input_audio"})}, "messages[0].content[1]", "input_audio"),
        ({"response_format": NOT_AN_OBJECT}, "response_format", "root must have"),
        ({"response_format": WITH_NOT}, "response_format", 'Unimplemented keys: ["not"]'),
        ({"response_format": {"type": "json_schema"}}, "response_format", "no `json_schema`"),
        ({"n": 2}, "n", "not supported"),
        ({"tools": [{"type": "function"}]}, "tools", "not supported"),
        ({"stop": ["}"]}, "stop", "not supported"),
        ({"temperature": 3}, "temperature", "is wrong"),
        ({"max_tokens": 0}, "max_tokens", "is wrong"),
        ({"invented": 1}, "invented", "Unrecognized request argument"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    http: TestClient, asked: Any, change: dict[str, Any], param: str, says: str, settings: Settings
) -> None:
    answer = http.post("/v1/chat/completions", json={"model": "ansel", "messages": asked, **change})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param) and says in error["message"]
    with Store(settings.database, read_only=True) as store:
        assert list(store.jobs()) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000, b'{"model": 1, "messages": "x"}', b"\xff\xfe"])
def test_a_malformed_body_is_an_error_in_the_same_form(http: TestClient, body: bytes) -> None:
    answer = http.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"


def test_every_error_below_v1_has_the_same_form(
    http: TestClient, client: OpenAI, asked: Any, control: Callable[..., None]
) -> None:
    import openai

    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nobody", messages=asked)
    assert unknown.value.code == "model_not_found" and unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="photograph"):
        client.chat.completions.create(model="ansel", messages=messages(data_url(b"no image")))
    assert http.get("/v1/nothing").json()["error"]["code"] == "not-found".replace("-", "_")
    assert http.put("/v1/chat/completions").json()["error"]["type"] == "invalid_request_error"
    too_large = http.post("/v1/chat/completions", content=b"x", headers={"Content-Length": "999999999"})
    assert too_large.status_code == 413 and too_large.json()["error"]["code"] == "request_too_large"
    assert http.get("/nothing").json()["type"] == "urn:mondrian:problem:not-found", "only below /v1"


def test_the_token_of_the_service_is_the_api_key(make_service: Make, asked: Any) -> None:
    import openai

    service = make_service()
    service.token = "a-long-random-token"
    with TestClient(create_app(service), base_url="http://localhost") as http:
        right = connected(http, "a-long-random-token")
        assert right.chat.completions.create(model="ansel@base", messages=asked).choices
        wrong = connected(http, "another")
        with pytest.raises(openai.AuthenticationError) as refused:
            wrong.models.list()
    assert refused.value.code == "invalid_api_key"


def test_async_clients_and_one_that_gives_up(
    start: Start, photograph: Photograph, control: Callable[..., None], settings: Settings
) -> None:
    import openai

    running = start()
    address = f"http://127.0.0.1:{running.port}/v1"

    async def two_at_once() -> list[str]:
        async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:
            calls = [
                client.chat.completions.create(model="ansel@base", messages=messages(data_url(photograph(seed))))
                for seed in (1, 2)
            ]
            return [found.model for found in await asyncio.gather(*calls)]

    assert asyncio.run(two_at_once()) == ["ansel@base", "ansel@base"]
    control(hang=60)
    with (
        openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=0.5) as hasty,
        pytest.raises(openai.APITimeoutError),
    ):
        hasty.chat.completions.create(model="ansel@base", messages=messages(data_url(photograph(3))))
    control(tokens=400, pace=0.05)
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="ansel@base", messages=messages(data_url(photograph(4))), stream=True
        )
        next(iter(stream))
        stream.close()

    def canceled() -> bool:
        with Store(settings.database, read_only=True) as store:
            jobs = list(store.jobs())
        return len(jobs) == 4 and jobs[3].status in ("canceled", "queued")

    wait_until(canceled, "the abandoned stream is canceled")


class Stars(BaseModel):
    """A short form, which a small model can fill within few tokens."""

    keep: bool
    stars: Literal["none", "one", "two"]


@pytest.mark.mini
@pytest.mark.slow
def test_the_bundled_model_answers_in_both_forms(settings: Settings, tmp_path: Path, photograph: Photograph) -> None:
    """With a real model, because only real decoding follows a schema."""
    model = ModelProcess(model_command("mini"), tmp_path / "mini.log")
    try:
        with Store(settings.database) as store:
            service = build_service(settings, ServerOptions(), RoutingPolicy(), store, model, lambda event: None)
            with TestClient(create_app(service), base_url="http://localhost") as http:
                client = connected(http)
                sent = messages(data_url(photograph()))
                form = client.chat.completions.parse(model="ansel@base", messages=sent, response_format=Stars)
                critique = client.chat.completions.create(model="ansel@base", messages=sent)
                cut = client.chat.completions.create(model="ansel@base", messages=sent, max_tokens=20)
    finally:
        model.stop()
    assert form.choices[0].message.parsed is not None and form.usage is not None
    assert form.usage.completion_tokens < 60 < form.usage.prompt_tokens
    text = critique.choices[0].message.content or ""
    assert parse_critique_strict(text).overall_grade and critique.usage is not None
    assert (cut.choices[0].finish_reason, cut.usage and cut.usage.completion_tokens) == ("length", 20)
    assert (cut.choices[0].message.content or "").startswith('{"dimensional_analysis"')
