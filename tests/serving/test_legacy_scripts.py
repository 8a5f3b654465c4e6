"""Runs every line of docs/how-to/coming-from-the-older-scripts.md; the page lists all options that are accepted."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mondrian_core.cli import main, normalize_words, parse_command
from mondrian_core.cli.app import build_app
from mondrian_core.cli.legacy_options import ANY_COMMAND, LEGACY_OPTIONS, translate_legacy_options
from mondrian_core.errors import BadInput
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.registry import Registry
from mondrian_core.serving.critique.active_adapters import ActiveAdapters
from mondrian_core.serving.critique.adapter_source import ServedAdapter, find_adapter_source
from mondrian_core.serving.critique.routing import route_request
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.server import ServerOptions, routing_policy
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from tests.registry.conftest import write_adapter

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "coming-from-the-older-scripts.md").read_text(
    encoding="utf-8"
)


def table(title: str) -> list[tuple[str, str]]:
    """The rows of the table under a heading."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return [(first.strip("`"), second) for first, second in rows[2:]]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def parsed(line: str, say: Callable[[str], None] = lambda change: None) -> dict[str, Any]:
    """What a command line means; variables before the command are left out."""
    command, bound = parse_command(normalize_words(shlex.split(line)[1:]), say)
    return {"command": command, **{**bound.arguments, **vars(bound.arguments["options"])}}


# --- commands and options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("then", "now"), table("Scripts"))
def test_replacement_commands_parse(then: str, now: str) -> None:
    assert then.startswith("python ")
    assert parsed(*code(now))["command"].__name__ == f"{shlex.split(code(now)[0])[1]}_command"


OPTIONS = table("Options")


@pytest.mark.parametrize(("typed", "here"), [row for row in OPTIONS if not row[1].startswith("stops")])
def test_older_options_match_the_documentation(typed: str, here: str) -> None:
    told: list[str] = []
    assert parsed(typed, told.append) == parsed(*code(here))
    (sentence,) = told
    assert sentence.startswith(re.findall(r"--\w+", typed.replace("-", "_").replace("__", "--"))[-1])


@pytest.mark.parametrize(("typed", "here"), [row for row in OPTIONS if row[1].startswith("stops")])
def test_removed_options_name_their_replacement(typed: str, here: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(typed)[1:]) == 2
    told = capsys.readouterr().err
    assert all(word in told for word in code(here)) and (code(here) or "Leave this out" in told)


def test_documentation_and_program_list_the_same_options() -> None:
    on_page = {
        (words[1], normalize_words([word])[0])
        for typed, _ in OPTIONS
        for words in [shlex.split(typed)]
        for word in words[2:]
        if word.startswith("--") and word != "--advisor"
    }
    assert on_page == {("link" if each.command == ANY_COMMAND else each.command, each.name) for each in LEGACY_OPTIONS}


def test_older_options_hide_no_current_option() -> None:
    app = build_app()
    names = {each.command for each in LEGACY_OPTIONS} - {ANY_COMMAND}
    options = {
        name: {word for argument in app[name].assemble_argument_collection() for word in argument.names}
        for name in names
    }
    for each in LEGACY_OPTIONS:
        for name in names if each.command == ANY_COMMAND else {each.command}:
            assert each.name not in options[name]
            assert each.replacement is None or each.replacement in options[name]


def test_older_options_accept_both_forms_and_end_at_two_dashes() -> None:
    silent: Callable[[str], None] = lambda change: None  # noqa: E731
    assert translate_legacy_options(["train", "--lr=1e-4"], silent) == ["train", "--learning-rate", "1e-4"]
    assert translate_legacy_options(["train", "--", "--lr", "1"], silent) == ["train", "--", "--lr", "1"]
    assert translate_legacy_options(["train", "--lr"], silent) == ["train", "--learning-rate"]
    assert translate_legacy_options(["compare", "--lr", "1"], silent) == ["compare", "--lr", "1"], (
        "only where it had that meaning"
    )
    with pytest.raises(BadInput, match=r"mondrian\.db"):
        translate_legacy_options(["link", "--db-path", "photos/other.sqlite"], silent)


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(
    make_service: Callable[..., Service], settings: Settings, promote: Callable[[str], None], registry: Registry
) -> Iterator[TestClient]:
    """A service of a workspace with one advisor, whose adapter is promoted."""
    promote("v0001")
    with Store(settings.database) as store, store.transaction() as connection:
        connection.execute("DELETE FROM advisors WHERE id != 'ansel'")
    with TestClient(create_app(make_service("base")), base_url="http://localhost") as found:
        yield found


def curl(client: TestClient, line: str, photograph: bytes) -> Any:
    """The request of a curl command."""
    words = iter(shlex.split(line)[1:])
    files: dict[str, Any] = {}
    sent: dict[str, Any] = {"data": {}, "headers": {}}
    path = ""
    for word in words:
        if word == "-F":
            name, _, value = next(words).partition("=")
            if value.startswith("@"):
                files[name] = (value[1:], photograph)
            else:
                sent["data"][name] = value
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            sent["headers"][name] = value
        elif word == "-d":
            sent = {**sent, "data": None, "content": next(words)}
        elif word == "-X":
            assert next(words) == "POST"
        else:
            path = word.removeprefix("http://localhost:5100")
    return client.post(path, files=files or None, **sent)


@pytest.mark.parametrize(("request_line", "expected"), table("Requests"))
def test_older_requests_match_the_documentation(
    client: TestClient, photograph: Callable[..., bytes], request_line: str, expected: str
) -> None:
    answer = curl(client, request_line, photograph())
    assert answer.status_code == int(expected[:3]), answer.text
    body = answer.json()
    for word in code(expected):
        assert body[word] == body["critique"][word] if answer.status_code == 200 else word in answer.text
    if answer.status_code == 200:
        assert answer.headers["X-Advisor-ID"] == "ansel"


def test_advisor_is_required_with_several_advisors(
    make_service: Callable[..., Service], photograph: Callable[..., bytes]
) -> None:
    with TestClient(create_app(make_service("base")), base_url="http://localhost") as client:
        for sent in ({"files": {"image": ("x.jpg", photograph())}}, {"json": {"image": "one.jpg"}}):
            answer = client.post("/analyze", **sent)
            assert (answer.status_code, "ansel, dorothea" in answer.text) == (422, True)
        both = client.post("/analyze", json={"image": "one.jpg", "path": "one.jpg", "advisor": "ansel"})
        assert both.status_code == 422


def test_paths_outside_the_workspace_are_refused(client: TestClient, settings: Settings) -> None:
    outside = settings.root.parent / "outside.jpg"
    shutil.copy(settings.root / "source" / "one.jpg", outside)
    for name in ("../outside.jpg", "../../outside.jpg", str(outside), "source/../../outside.jpg", "x\0y", "n" * 5000):
        answer = client.post("/analyze", json={"image": name, "advisor": "ansel"})
        assert answer.status_code in (404, 422), name


# --- environment and files --------------------------------------------------------------------------------------------


def sound(folder: Path) -> tuple[str, ...]:
    return ()


def assert_mode(line: str, means: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = dict(word.split("=") for word in shlex.split(line) if re.fullmatch(r"[A-Z_]+=\w+", word))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    policy = routing_policy(
        Settings(workspace=settings.workspace), ServerOptions(model_mode=parsed_serve(line)["model_mode"])
    )
    option, mode = code(means)[:2]
    assert [f"--model_mode {policy.model_mode}", route_request(policy, None, "ansel", "00").mode] == [option, mode]


def parsed_serve(line: str) -> dict[str, Any]:
    return parsed("mondrian " + line.split("mondrian ")[1])


def assert_adapter_dir(line: str, registry: Registry, tmp_path: Path) -> None:
    value = re.findall(r"LORA_ADAPTER_DIR=(\S+)", line)[0]
    write_adapter(tmp_path / "older" / "adapters" / "ansel")
    flat = tmp_path / "older" / "adapters" / "ansel"
    source = find_adapter_source(str(tmp_path / "older" / value), registry)
    found, _ = ActiveAdapters(registry, source, sound).for_advisor("ansel")
    assert found is not None and found.folder == flat


def assert_flat(line: str, means: str, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "flat" / "adapters")
    write_adapter(tmp_path / "flat" / Path(code(f"`{line}")[0]).parent)
    advisor = code(means)[0]
    assert ActiveAdapters(registry, None, sound).for_advisor(advisor)[0] == ServedAdapter(
        advisor, "legacy", registry.root / advisor
    )


def assert_import(line: str, means: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for key in code(means):
        project = tmp_path / key
        write_adapter(project / "models" / "ansel-v2")
        (project / "config").mkdir()
        models = {"base": {"id": "Qwen/Qwen3-VL-4B-Instruct"}, "ansel_v2": {key: "./models/ansel-v2"}}
        config = project / "config" / "model_config.json"
        config.write_text(json.dumps({"models": models, "active_model": "ansel_v2"}))
        words = [str(config) if word == config.name else word for word in shlex.split(line)[1:]]
        assert main([*words, "--adapters", str(project / "registry"), "--json"]) == 0
        (version,) = Registry(project / "registry").versions("ansel")
        assert (version.state, version.manifest["base"]["name"]) == ("candidate", "Qwen/Qwen3-VL-4B-Instruct")
    capsys.readouterr()


@pytest.mark.parametrize(("given", "means"), table("Environment and files"))
def test_older_variables_and_files_match_the_documentation(
    given: str,
    means: str,
    settings: Settings,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if given.startswith("LORA_ADAPTER_DIR"):
        assert_adapter_dir(given, registry, tmp_path)
    elif given.startswith("mondrian adapters import"):
        assert_import(given, means, tmp_path, capsys)
    elif given.startswith("adapters/"):
        assert_flat(given, means, tmp_path)
    else:
        assert_mode(given, means, settings, monkeypatch)


# --- the database -----------------------------------------------------------------------------------------------------


def test_older_ab_query_works(
    make_service: Callable[..., Service], photograph: Callable[..., bytes], promote: Callable[[str], None]
) -> None:
    (query,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    promote("v0002")
    service = make_service("ab_test", ab_test_split=0.5)
    with TestClient(create_app(service), base_url="http://localhost") as client:
        for seed in range(8):
            form = {"files": {"image": ("x.jpg", photograph(seed))}, "data": {"advisor": "ansel"}}
            assert client.post("/analyze", **form).status_code == 200
    with service.store.transaction() as connection:
        rows = {row[0]: row[1:] for row in connection.execute(query, (7,))}
    assert set(rows) == {"ab_test_base", "ab_test_fine_tuned"}
    assert sum(total for total, _, _ in rows.values()) == 8
    assert [rows[used][1] for used in sorted(rows)] == [5.0, 2.0], "the fake model's grades"
    assert all(duration > 0 for _, _, duration in rows.values())


def test_advisor_is_optional_with_one_advisor(settings: Settings) -> None:
    from mondrian_core.serving.http.uploads import only_advisor

    with Store(settings.database) as store:
        with store.transaction() as connection:
            connection.execute("DELETE FROM advisors")
        with pytest.raises(BadInput, match="no advisor yet"):
            only_advisor(store)
        store.add_advisor(AdvisorPrompt("ada", "Ada", ""))
        assert only_advisor(store) == "ada"
