"""`mondrian mcp` with the SDK's own client: over standard input and output, and over HTTP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from mondrian_core.errors import BadInput
from mondrian_core.mcp_server.critics import Critic
from mondrian_core.mcp_server.photograph_access import PhotographAccess
from mondrian_core.mcp_server.server import build_mcp_server
from mondrian_core.mcp_server.transports import serve_http
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from tests.waiting import wait_until

Start = Callable[..., Any]
Photograph = Callable[..., bytes]


def stdio(settings: Settings, *more: str) -> StdioServerParameters:
    """The command as a client's configuration names it."""
    places = ("--workspace", str(settings.root), "--adapters", str(settings.adapters_root), "--base-model", "mini")
    program, *arguments = [sys.executable, "-m", "mondrian_core.cli", "mcp", *places, *more]
    return StdioServerParameters(command=program, args=arguments)


def words(result: Any) -> str:
    """The text of a tool's result."""
    return "".join(part.text for part in result.content)


def resource_text(result: Any) -> str:
    return str(result.contents[0].text)


def test_critiques_through_the_running_service(
    settings: Settings, start: Start, promote: Callable[[str], None], control: Callable[..., None], tmp_path: Path
) -> None:
    promote("v0002")
    running = start(model_mode="fine_tuned")
    control(tokens=12, pace=0.15)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.jpg").write_bytes((settings.root / "source" / "one.jpg").read_bytes())
    heard: list[tuple[float, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    async def talk() -> None:
        service = f"http://127.0.0.1:{running.port}"
        async with Client(stdio(settings, "--service", service, "--folder", str(other))) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert set(tools) == {"critique", "compare", "history", "list_advisors"}
            assert all(tool.output_schema for tool in tools.values())
            asked = {"photograph": "one.jpg", "advisor": "ansel", "mode": "lora"}
            first = await client.call_tool("critique", asked, progress_callback=on_progress)
            assert not first.is_error, words(first)
            critique = first.structured_content
            assert (critique["overall_grade"], critique["adapter_version"], critique["mode"]) == (
                "2.0",
                "v0002",
                "lora",
            )
            assert critique["dimensions"][0]["comment"] == "said by v0002"
            assert json.loads(words(first)) == critique
            control()
            upload = await client.call_tool(
                "critique", {"photograph": "mine.jpg", "advisor": "ansel", "mode": "baseline"}
            )
            assert upload.structured_content["overall_grade"] == "5.0", words(upload)
            pair = {"first": critique["id"], "second": upload.structured_content["id"]}
            compared = (await client.call_tool("compare", pair)).structured_content
            assert compared["mean_difference"] == 3.0 and compared["differences"][0]["difference"] == 3.0
            listed = (await client.call_tool("history", {"advisor": "ansel", "limit": 1})).structured_content
            assert (listed["matching"], [each["id"] for each in listed["critiques"]]) == (2, [pair["second"]])
            found = (await client.call_tool("history", {"search": "v0002"})).structured_content
            assert [each["id"] for each in found["critiques"]] == [pair["first"]]
            whole = json.loads(resource_text(await client.read_resource(critique["uri"])))
            assert whole["job_id"] == critique["id"] and whole["passes"]
            picture = await client.read_resource(f"{critique['uri']}/photograph")
            assert base64.b64decode(picture.contents[0].blob)[:2] == b"\xff\xd8"

    asyncio.run(talk())
    assert heard[-1] == (1.0, "completed") and any(0 < progress < 1 for progress, _ in heard)
    assert [progress for progress, _ in heard] == sorted(progress for progress, _ in heard)
    with Store(settings.database, read_only=True) as store:
        assert [job.explicit_mode for job in store.jobs()] == [True, True]


def test_lists_resources_and_prompts_without_a_model(settings: Settings, promote: Callable[[str], None]) -> None:
    promote("v0001")

    async def talk() -> None:
        async with Client(stdio(settings)) as client:
            advisors = (await client.call_tool("list_advisors", {})).structured_content["advisors"]
            assert [(each["id"], each["adapter_version"]) for each in advisors] == [
                ("ansel", "v0001"),
                ("dorothea", None),
            ]
            resources = {str(each.uri) for each in (await client.list_resources()).resources}
            assert resources == {"mondrian://schema", "mondrian://advisors"}
            schema = json.loads(resource_text(await client.read_resource("mondrian://schema")))
            assert schema["required"] == ["dimensional_analysis", "overall_grade"]
            assert "Ansel Adams" in resource_text(await client.read_resource("mondrian://advisors"))
            with pytest.raises(MCPError, match="There is no critique"):
                await client.read_resource("mondrian://critiques/none")
            prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
            assert prompts == {"critique_photograph", "review_progress"}
            filled = await client.get_prompt("critique_photograph", {"photograph": "one.jpg"})
            assert "one.jpg" in filled.messages[0].content.text

    asyncio.run(talk())


@pytest.fixture
def server(settings: Settings) -> Any:
    """The server in this process, with a service address where nothing listens."""
    return build_mcp_server(
        settings, PhotographAccess([settings.root / "source"]), Critic(settings, "http://127.0.0.1:1")
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"advisor": "ansel"}, "Exactly one of photograph and image_base64"),
        ({"photograph": "one.jpg", "image_base64": "eA==", "advisor": "ansel"}, "Exactly one of"),
        ({"photograph": "one.jpg"}, "The advisor is missing"),
        ({"photograph": "one.jpg", "advisor": "nobody"}, "no advisor 'nobody'"),
        ({"photograph": "../mondrian.db", "advisor": "ansel"}, "not in a folder that this server may read"),
        ({"photograph": "/etc/passwd", "advisor": "ansel"}, "not in a folder that this server may read"),
        ({"photograph": "none.jpg", "advisor": "ansel"}, "No photograph is at"),
        ({"image_base64": "***", "advisor": "ansel"}, "can't be decoded"),
        ({"photograph": "one.jpg", "advisor": "ansel", "mode": "best"}, "mode"),
        ({"photograph": "one.jpg", "advisor": "ansel"}, "does not answer"),
    ],
)
def test_a_wrong_call_is_an_error_of_the_tool(server: Any, arguments: dict[str, Any], says: str) -> None:
    async def talk() -> Any:
        async with Client(server) as client:
            return await client.call_tool("critique", arguments)

    result = asyncio.run(talk())
    assert result.is_error and says in words(result), words(result)
    assert "Traceback" not in words(result)


def test_http_needs_a_token_where_others_can_connect(server: Any) -> None:
    with pytest.raises(BadInput, match="lets other machines connect"):
        serve_http(server, "0.0.0.0", 0, None)


@pytest.mark.mini
@pytest.mark.slow
def test_without_a_service_the_model_is_loaded_into_the_process(settings: Settings, tmp_path: Path) -> None:
    """With the bundled model, because what it prints while it loads must not reach the protocol."""

    async def talk() -> Any:
        async with Client(stdio(settings)) as client:
            return await client.call_tool("critique", {"photograph": "one.jpg", "advisor": "ansel", "mode": "baseline"})

    result = asyncio.run(talk())
    assert not result.is_error, words(result)
    assert len(result.structured_content["dimensions"]) == 8 and result.structured_content["mode"] == "baseline"


def test_http_on_this_machine_with_the_token(settings: Settings, tmp_path: Path) -> None:
    token = "a-long-random-token"
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = stdio(settings, "--transport", "http", "--port", str(port))
    process = subprocess.Popen(
        [command.command, *command.args],
        env={**os.environ, "MONDRIAN_SERVICE_TOKEN": token},
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}/mcp"

    async def talk() -> list[str]:
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            httpx.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(address, http_client=http)) as client,
        ):
            return [tool.name for tool in (await client.list_tools()).tools]

    def answers() -> int | None:
        with contextlib.suppress(httpx.TransportError):
            return httpx.post(address, json={}).status_code
        return None

    try:
        assert wait_until(answers, "the server") == 401
        assert "critique" in asyncio.run(talk())
    finally:
        process.terminate()
        process.wait()
