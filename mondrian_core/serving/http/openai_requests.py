"""Requests in OpenAI's chat form: what is honoured, what has no effect here, and what is refused.

A field that would change the answer is honoured or refused, never ignored silently; fields without effect are listed in
the response.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mondrian_core.answer_schema import schema_problem
from mondrian_core.rubric import MAX_ANSWER_TOKENS, AnswerForm, form_of_schema
from mondrian_core.serving.critique.answer_options import AnswerOptions
from mondrian_core.serving.http.problem_details import InvalidParameter

MAX_INSTRUCTION_CHARACTERS = 4_000
MAX_SEED = 2**31 - 1
# fields that would change the answer, with the values that ask for nothing
_ONLY_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_p": (1,),
    "stop": ("", []),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}
_WITHOUT_EFFECT = (
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
)
_DATA_URL = re.compile(r"data:([a-z0-9.+/-]*)((?:;[a-z0-9-]+=[^;,]*)*)(;base64)?,", re.IGNORECASE)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Text(_Strict):
    type: Literal["text"]
    text: str


class _ImageUrl(_Strict):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class _Image(_Strict):
    type: Literal["image_url"]
    image_url: _ImageUrl


class _Message(_Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Annotated[_Text | _Image, Field(discriminator="type")]] | None = None
    name: str | None = None
    refusal: str | None = None


class _JsonSchema(_Strict):
    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class _ResponseFormat(_Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


class _StreamOptions(_Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Body(_Strict):
    model: str
    messages: list[_Message] = Field(min_length=1)
    response_format: _ResponseFormat | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    seed: int | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A request for one answer about one photograph.

    Attributes:
        model: as the request names it.
        photograph: the image file's bytes.
        options: of the answer; without the version, which follows from the model.
        form: the form of a critique whose schema the answer follows, with exactly its keys; None: as the service stores
            the critique.
        ignored: parts of the request that had no effect.
    """

    model: str
    photograph: bytes
    options: AnswerOptions
    form: AnswerForm | None = None
    stream: bool = False
    include_usage: bool = False
    ignored: tuple[str, ...] = ()


def parse_chat_request(body: bytes) -> ChatRequest:
    """Parse the body of POST /v1/chat/completions.

    Raises:
        InvalidParameter: naming the field that is wrong or can't be honoured.
    """
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidParameter("The request is not valid JSON.", "Send a JSON object.") from None
    if not isinstance(value, dict):
        raise InvalidParameter("The request must be a JSON object.", 'Send {"model": "...", "messages": [...]}.')
    ignored = [name for name in _WITHOUT_EFFECT if value.pop(name, None) is not None]
    _refuse_unsupported(value)
    parsed = _validated(value)
    photograph, words, more_ignored = _read_messages(parsed.messages)
    schema = _asked_schema(parsed.response_format)
    form = None if schema is None else form_of_schema(schema)
    schema = None if form else schema
    ignored += more_ignored if schema is not None else [*more_ignored, *(place for place, _ in words)]
    limit = parsed.max_completion_tokens or parsed.max_tokens
    options = AnswerOptions(
        temperature=parsed.temperature or 0.0,
        seed=(parsed.seed or 0) & MAX_SEED,
        max_tokens=None if limit is None else min(limit, MAX_ANSWER_TOKENS),
        schema=schema,
        instruction="\n".join(text for _, text in words) if schema is not None else "",
    )
    if len(options.instruction) > MAX_INSTRUCTION_CHARACTERS:
        raise InvalidParameter(
            f"The messages have more than {MAX_INSTRUCTION_CHARACTERS:,} characters.", "Shorten them.", param="messages"
        )
    streaming = parsed.stream_options
    return ChatRequest(
        model=parsed.model,
        photograph=photograph,
        options=options,
        form=form,
        stream=bool(parsed.stream),
        include_usage=bool(streaming and streaming.include_usage),
        ignored=tuple(ignored),
    )


def _refuse_unsupported(value: dict[str, Any]) -> None:
    """Remove fields whose value asks for nothing.

    Raises:
        InvalidParameter: a value asks for something that this service can't do.
    """
    for name, neutral in _ONLY_NEUTRAL.items():
        given = value.pop(name, None)
        if given is not None and not any(given == each and type(given) in (type(each), float) for each in neutral):
            allowed = f"Leave it out, or send {json.dumps(neutral[0])}." if neutral else "Leave it out."
            raise InvalidParameter(
                f"`{name}` is not supported with this value.", allowed, param=name, code="unsupported_parameter"
            )


def _validated(value: dict[str, Any]) -> _Body:
    try:
        return _Body.model_validate(value)
    except ValidationError as error:
        first = max(error.errors(), key=lambda each: len(each["loc"]))  # of alternatives the one that fits best
    place = _place(first["loc"])
    if first["type"] == "extra_forbidden":
        raise InvalidParameter(
            f"Unrecognized request argument: {place}.", "Remove it.", param=place, code="unknown_parameter"
        )
    raise InvalidParameter(f"`{place}` is wrong: {first['msg']}.", "Correct the request.", param=place)


def _place(location: tuple[int | str, ...]) -> str:
    """("messages", 0, "content", ...) -> "messages[0].content"; pydantic's own names for alternatives are left out."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in ("str", "text") and not part.startswith("list["):
            text += f".{part}" if text else part
    return text[:200]


def _read_messages(messages: list[_Message]) -> tuple[bytes, list[tuple[str, str]], list[str]]:
    """(the photograph, the caller's texts with their places, parts without effect).

    Raises:
        InvalidParameter: no photograph, or more than one, or one that is not in the request itself.
    """
    photographs: list[tuple[str, _ImageUrl]] = []
    words: list[tuple[str, str]] = []
    ignored: list[str] = []
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        parts = [_Text(type="text", text=message.content)] if isinstance(message.content, str) else message.content
        for index, part in enumerate(parts or []):
            inside = f"{place}.content[{index}]" if not isinstance(message.content, str) else f"{place}.content"
            if isinstance(part, _Image):
                photographs.append((f"{inside}.image_url", part.image_url))
                ignored += [f"{inside}.image_url.detail"] if part.image_url.detail else []
            elif message.role == "assistant":
                ignored.append(inside)
            else:
                words.append((inside, part.text))
    if len(photographs) != 1:
        count = f"{len(photographs)} photographs" if photographs else "no photograph"
        raise InvalidParameter(
            f"The messages have {count}.",
            "Send exactly one image_url with a data: URL.",
            param="messages",
        )
    place, given = photographs[0]
    return _bytes_of_data_url(given.url, place), words, ignored


def _bytes_of_data_url(url: str, place: str) -> bytes:
    found = _DATA_URL.match(url)
    if found is None:
        scheme = url.split(":", 1)[0][:16] if ":" in url[:32] else "no"
        raise InvalidParameter(
            f"The image has a {scheme} URL, and this service fetches no addresses."
            if scheme in ("http", "https", "file", "ftp")
            else "The image is not a data: URL.",
            "Send the file itself: data:image/jpeg;base64,...",
            param=place,
            code="invalid_image_url",
        )
    try:
        if not found[3]:
            raise binascii.Error("it is not base64")
        data = base64.b64decode(url[found.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidParameter(
            f"The image's data: URL can't be decoded: {error}.",
            "Encode the file in base64: data:image/jpeg;base64,...",
            param=place,
            code="invalid_image_url",
        ) from None
    if not data:
        raise InvalidParameter("The image is empty.", "Send the file's bytes.", param=place, code="invalid_image_url")
    return data


def _asked_schema(asked: _ResponseFormat | None) -> dict[str, Any] | None:
    """The schema that the answer follows: a critique's, or one of the caller's own; None without one.

    Raises:
        InvalidParameter: the schema is missing, or no answer can be made to follow it.
    """
    if asked is None or asked.type != "json_schema":
        return None
    if asked.json_schema is None:
        raise InvalidParameter(
            "`response_format` has no `json_schema`.", "Send its name and schema.", param="response_format"
        )
    schema = asked.json_schema.schema_
    problem = None if form_of_schema(schema) else schema_problem(schema)
    if problem is not None:
        raise InvalidParameter(
            f"Invalid schema for response_format '{asked.json_schema.name[:64]}': {problem}.",
            "Use the JSON schema keywords that constrained decoding can enforce; GET /schema has a critique's schema.",
            param="response_format",
        )
    return schema
