"""Registry and runs over HTTP: what the pages show, what they refuse, and how they change the champion."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mondrian_core.errors import BadAdapter
from mondrian_core.registry import Registry
from mondrian_core.serving.http import promotion_routes
from mondrian_core.serving.http.app import create_app
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.http.stored_reports import REPORT_POLICY
from mondrian_core.settings import Settings
from mondrian_core.store import Store
from tests.core.test_runs import write_run
from tests.registry.conftest import gate_report, served_conditions, write_adapter

LOCAL, ORIGIN = ("127.0.0.1", 50_000), {"Origin": "http://localhost"}
HTML = {"Accept": "text/html"}
MARKUP = "<img src=x onerror=alert(1)>"


def report_of(settings: Settings, verdict: str, registry: Registry, **others: str) -> dict[str, Any]:
    """A gate report that holds where the tests serve."""
    from mondrian_core.prompts import prompt_digest

    with Store(settings.database, read_only=True) as store:
        prompt = prompt_digest(store.advisor("ansel"))
    report = gate_report(verdict, registry.current("ansel"), **others)
    return {**report, "conditions": served_conditions(prompt=prompt)}


@pytest.fixture
def registry(settings: Settings, tmp_path: Path) -> Registry:
    """v0001 is champion; v0002 PASS, v0003 INCONCLUSIVE, v0004 FAIL, compared with it; v0005 was never measured."""
    registry = Registry(settings.adapters_root)
    made = tmp_path / "trained"

    def add(seed: int, report: dict[str, Any] | None) -> None:
        write_adapter(made, seed)
        (made / "report.html").write_text(f"<!doctype html><title>{seed}</title><p>report {seed}")
        base = {"name": "mini", "fingerprint": "f" * 64}
        values = {"run": f"run-{seed}", "base": base, "parent": registry.current("ansel"), "gate_report": report}
        registry.register("ansel", made, values, actor="person:test")

    add(1, report_of(settings, "PASS", registry))
    registry.promote("ansel", "v0001", expected=None, actor="person:test", reason=f"first {MARKUP}")
    add(2, report_of(settings, "PASS", registry))
    add(3, report_of(settings, "INCONCLUSIVE", registry))
    add(4, report_of(settings, "FAIL", registry))
    add(5, None)
    return registry


@pytest.fixture(autouse=True)
def no_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are compared with their base in a process of its own, which has tests of its own; no power cut."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(promotion_routes, "inspect_version_in_subprocess", lambda version, base: {"problems": ()})


@pytest.fixture
def client(make_service: Callable[..., Service], registry: Registry) -> TestClient:
    """A client on this machine; no worker is started, because no page of the registry asks the model."""
    return client_of(make_service("base"), LOCAL)


def client_of(service: Service, peer: tuple[str, int], host: str = "http://localhost") -> TestClient:
    return TestClient(
        create_app(service), base_url=host, client=peer, raise_server_exceptions=False, follow_redirects=False
    )


def page(client: TestClient, path: str, status: int = 200) -> str:
    answer = client.get(path, headers=HTML)
    assert answer.status_code == status, answer.text
    return answer.text


def form_of(text: str) -> dict[str, str]:
    """The hidden fields of a page's form."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text))


def test_overview_shows_the_champion_and_what_waits(client: TestClient) -> None:
    text = page(client, "/registry")
    assert "v0001" in text and "4, " not in text and "No version yet" in text, "dorothea has none"
    (ansel,) = [each for each in client.get("/registry").json() if each["advisor"] == "ansel"]
    assert (ansel["champion"]["version"], ansel["versions"]) == ("v0001", 5)
    assert ansel["waiting"] == ["v0002", "v0003", "v0005"]


def test_advisor_page_escapes_reasons_and_draws_the_lineage(client: TestClient) -> None:
    text = page(client, "/registry/ansel")
    assert MARKUP not in text and "first &lt;img" in text
    assert 'class="lineage"' in text and "Roll back" in text
    values = client.get("/registry/ansel").json()
    assert [row["version"] for row in values["versions"]] == ["v0005", "v0004", "v0003", "v0002", "v0001"]
    assert values["reigns"][-1]["version"] == "v0001"


def test_version_page_shows_gates_and_verified_files(client: TestClient) -> None:
    text = page(client, "/registry/ansel/v0003")
    assert "score_error was seen." in text and text.count("verified") == 3
    assert "Promote …" in text and "Promote …" not in page(client, "/registry/ansel/v0001")
    page(client, "/registry/ansel/v0099", 404)
    page(client, "/registry/Ansel!", 422)


def test_numbers_that_json_lacks_break_no_answer(client: TestClient, settings: Settings, registry: Registry) -> None:
    report = report_of(settings, "INCONCLUSIVE", registry)
    report["gates"][0] |= {"observed": float("nan"), "interval": [float("-inf"), 0.5]}
    registry.record_evaluation("ansel", "v0002", {**report, "run": "odd"}, actor="person:test")
    folder = write_run(settings.root, context='{"advisor": "ansel", "recipe": {"train": {"rank": NaN}}}')
    shown = client.get("/registry/ansel/v0002").json()["gate_rows"][0]
    assert (shown["observed"], shown["interval"]) == (None, [None, 0.5])
    assert client.get(f"/runs/{folder.name}").json()["settings"] == {"train.rank": None}
    for path in ("/registry/ansel/v0002", "/registry/ansel/diff/v0002/v0003", "/runs", f"/runs/{folder.name}"):
        assert client.get(path).status_code == 200
        page(client, path)


def test_diff_has_the_figures_of_the_command(
    client: TestClient, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    from mondrian_core.cli import main

    status = main(
        [
            *("adapters", "diff", "v0002", "v0004", "--advisor", "ansel", "--json"),
            *("--adapters", str(settings.adapters_root), "--workspace", str(settings.root)),
        ]
    )
    command = json.loads(capsys.readouterr().out)
    shown = client.get("/registry/ansel/diff/v0002/v0004").json()
    assert status == 0
    assert (shown["differences"], shown["scores"]) == (command["differences"], command["scores"])
    assert "gate score_error" in {row["what"] for row in shown["differences"]}
    page(client, "/registry/ansel/diff/v0002/v0004")
    chosen = client.get("/registry/ansel/diff?first=v0002&second=../../runs")
    assert chosen.headers["location"] == "/registry/ansel/diff/v0002/..%2F..%2Fruns"


def damage_registry(home: Path, damage: str) -> None:
    manifest = home / "v0002" / "manifest.json"
    for file in home.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    if damage == "weights":
        (home / "v0002" / "adapters.safetensors").unlink()
    elif damage == "manifest":
        manifest.write_text("{")
    elif damage == "types":
        values = json.loads(manifest.read_text())
        odd = {
            "base": "mini",
            "dataset": 5,
            "recipe": [1],
            "metrics": "x",
            "training": [],
            "gate_report": {"gates": [3]},
        }
        manifest.write_text(json.dumps({**values, **odd}))
    elif damage == "history":
        (home / "history.jsonl").write_text('{"serial": 1, "at": 5}\n[]\n')
    elif damage == "pointer":
        (home / "promoted.json").write_text("{")
    else:
        (home / "v0002" / "report.html").write_text("another")


@pytest.mark.parametrize("damage", ["weights", "manifest", "types", "history", "pointer", "report"])
def test_damage_is_shown_and_breaks_no_page(client: TestClient, settings: Settings, damage: str) -> None:
    damage_registry(settings.adapters_root / "ansel", damage)
    for path in ("/registry", "/registry/ansel", "/registry/ansel/rollback", "/registry/ansel/v0002/promote"):
        assert str(settings.root.parent) not in page(client, path), "a path of the machine"
    text = page(client, "/registry/ansel/v0002")
    if damage in ("weights", "manifest", "types"):
        assert "quarantine" in text and "Promote …" not in text
    elif damage in ("history", "pointer"):
        assert "mondrian adapters verify" in page(client, "/registry/ansel")
    else:
        assert "changed" in text
        assert "was changed after it was registered" in page(client, "/registry/ansel/v0002/report", 404)


def test_reports_are_stand_alone_pages_that_can_only_be_read(client: TestClient, settings: Settings) -> None:
    folder = write_run(settings.root)
    (folder / "report.html").write_text("<p>a report")
    for path in (f"/runs/{folder.name}/report", "/registry/ansel/v0002/report"):
        answer = client.get(path, headers=HTML)
        assert answer.status_code == 200 and "report" in answer.text
        policy = answer.headers["content-security-policy"]
        assert policy == REPORT_POLICY and "sandbox" in policy and "script" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    (folder / "report.html").unlink()
    (folder / "report.html").symlink_to(settings.database)
    for path in (f"/runs/{folder.name}/report", "/runs/..%2f..%2fetc/report", "/runs/%2e%2e/report"):
        assert client.get(path, headers=HTML).status_code == 404


def test_runs_are_listed_shown_and_compared(client: TestClient, settings: Settings) -> None:
    first = write_run(settings.root, "20260901-000000-a")
    log = [{"kind": "epoch", "step": step, "epoch": step, "validation_loss": 1 / step} for step in (1, 2)]
    (first / "training_log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in log) + '{"kind": "st')
    recipe = {"name": MARKUP, "train": {"rank": 4}}
    write_run(settings.root, "20260902-000000-b", context={"advisor": "ansel", "recipe": recipe, "adapter": None})
    text = page(client, "/runs")
    assert MARKUP not in text and text.count('name="run"') == 2
    assert 'class="lines"' in page(client, f"/runs/{first.name}")
    compared = page(client, "/runs/compare?run=20260901-000000-a&run=20260902-000000-b")
    assert "train.rank" in compared and "run-1" in compared
    page(client, "/runs/compare?run=20260901-000000-a", 422)
    page(client, "/runs/missing", 404)
    assert "No run yet" not in text


def send(client: TestClient, version: str, fields: dict[str, str], **headers: str) -> Any:
    return client.post(f"/registry/ansel/{version}/promote", data=fields, headers={**HTML, **ORIGIN, **headers})


def test_passed_version_is_promoted_from_the_page(client: TestClient, registry: Registry) -> None:
    fields = form_of(page(client, "/registry/ansel/v0002/promote"))
    answer = send(client, "v0002", {**fields, "person": "Mike\n<b>"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/registry/ansel?changed=promote"), answer.text
    entry = registry.history("ansel")[-1]
    assert (registry.current("ansel"), entry.event, entry.actor) == ("v0002", "promote", "person:Mike <b>")
    assert "Done: the champion is now v0002." in page(client, "/registry/ansel?changed=promote")
    again = send(client, "v0002", fields)
    assert again.status_code == 409 and "Nothing was changed" in again.text, "a double click"


def test_inconclusive_version_needs_a_reason_and_its_name(client: TestClient, registry: Registry) -> None:
    text = page(client, "/registry/ansel/v0003/promote")
    fields = form_of(text)
    assert "v0003 of &#39;ansel&#39; is INCONCLUSIVE" in text
    for more in ({}, {"reason": "I like it."}, {"reason": " ", "confirmation": "v0003"}, {"confirmation": "v0003"}):
        answer = send(client, "v0003", {**fields, **more})
        assert answer.status_code == 422 and "Nothing was changed" in answer.text
        assert registry.current("ansel") == "v0001"
    done = send(client, "v0003", {**fields, "reason": "I like it.", "confirmation": "v0003"})
    assert (done.status_code, registry.current("ansel")) == (303, "v0003")
    entry = registry.history("ansel")[-1]
    assert entry.reason == "I like it." and entry.detail["objections"] == ["v0003 of 'ansel' is INCONCLUSIVE"]


@pytest.mark.parametrize("version", ["v0004", "v0005"])
def test_refused_version_needs_force_as_on_the_command_line(
    client: TestClient, registry: Registry, version: str
) -> None:
    text = page(client, f"/registry/ansel/{version}/promote")
    assert "The gates refuse it" in text and 'name="force"' in text
    fields = {**form_of(text), "reason": "A test.", "confirmation": version}
    refused = send(client, version, fields)
    assert refused.status_code == 409 and registry.current("ansel") == "v0001"
    assert send(client, version, {**fields, "force": "yes"}).status_code == 303
    assert registry.history("ansel")[-1].forced and registry.current("ansel") == version


def test_outdated_page_changes_nothing(client: TestClient, registry: Registry, settings: Settings) -> None:
    passed = form_of(page(client, "/registry/ansel/v0002/promote"))
    back = form_of(page(client, "/registry/ansel/rollback"))
    registry.promote(
        "ansel", "v0003", expected="v0001", actor="person:other", reason="meanwhile", forced=True, verdicts={}
    )
    late = send(client, "v0002", {**passed, "reason": "x", "confirmation": "v0002"})
    assert late.status_code == 409 and "now v0003, not v0001" in late.text
    late = client.post("/registry/ansel/rollback", data={**back, "reason": "x"}, headers={**HTML, **ORIGIN})
    assert late.status_code == 409 and registry.current("ansel") == "v0003"
    fresh = form_of(page(client, "/registry/ansel/v0002/promote"))
    report = report_of(settings, "FAIL", registry)
    registry.record_evaluation("ansel", "v0002", {**report, "run": "later"}, actor="person:other")
    late = send(client, "v0002", {**fresh, "reason": "x", "confirmation": "v0002", "force": "yes"})
    assert late.status_code == 422 and "has changed since the page was opened" in late.text
    assert registry.current("ansel") == "v0003"


def test_rollback_returns_to_the_champion_before(client: TestClient, registry: Registry) -> None:
    send(client, "v0002", form_of(page(client, "/registry/ansel/v0002/promote")))
    text = page(client, "/registry/ansel/rollback")
    assert "v0001 would take its place" in text
    fields = form_of(text)
    empty = client.post("/registry/ansel/rollback", data=fields, headers={**HTML, **ORIGIN})
    assert empty.status_code == 422 and registry.current("ansel") == "v0002"
    done = client.post("/registry/ansel/rollback", data={**fields, "reason": "Too harsh."}, headers={**HTML, **ORIGIN})
    assert (done.status_code, registry.current("ansel")) == (303, "v0001")
    assert registry.history("ansel")[-1].reason == "Too harsh."


def test_damaged_version_is_quarantined_instead_of_promoted(
    client: TestClient, registry: Registry, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = form_of(page(client, "/registry/ansel/v0002/promote"))
    found = {"problems": ("another rank",)}
    monkeypatch.setattr(promotion_routes, "inspect_version_in_subprocess", lambda version, base: found)
    answer = send(client, "v0002", fields)
    assert answer.status_code == 422 and "is damaged: another rank" in answer.text
    assert registry.current("ansel") == "v0001"
    assert registry.get("ansel", "v0002").state == "quarantined"
    with pytest.raises(BadAdapter):
        registry.promote("ansel", "v0002", expected="v0001", actor="person:x", reason="x")


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        (LOCAL, {}),  # no page of this service
        (LOCAL, {"Origin": "http://evil.example"}),
        (LOCAL, {"Origin": "null"}),
        (LOCAL, {**ORIGIN, "X-Forwarded-For": "203.0.113.9"}),
        (LOCAL, {**ORIGIN, "Forwarded": "for=203.0.113.9"}),
        (("203.0.113.9", 50_000), ORIGIN),
        (("172.17.0.1", 50_000), ORIGIN),
    ],
)
def test_only_a_local_page_may_change_the_champion_without_a_token(
    make_service: Callable[..., Service], registry: Registry, peer: tuple[str, int], headers: dict[str, str]
) -> None:
    client = client_of(make_service("base"), peer)
    text = page(client, "/registry/ansel/v0002/promote")
    fields = form_of(text) or {"champion": "v0001", "shown": ""}
    assert ("MONDRIAN_SERVICE_TOKEN" in text) == (peer != LOCAL)
    for path in ("v0002/promote", "rollback"):
        answer = client.post(f"/registry/ansel/{path}", data={**fields, "reason": "x"}, headers=headers)
        assert answer.status_code in (401, 403), answer.text
    assert registry.current("ansel") == "v0001"


def test_token_allows_a_change_from_elsewhere(make_service: Callable[..., Service], registry: Registry) -> None:
    service = make_service("base")
    service.token = "a long secret token"
    elsewhere, bearer = ("203.0.113.9", 50_000), {"Authorization": "Bearer a long secret token"}
    client, path = client_of(service, elsewhere, "http://studio.example"), "/registry/ansel/v0002/promote"
    assert client.post(path, data={}, headers={"Origin": "http://studio.example"}).status_code == 401
    fields = form_of(client.get(path, headers={**HTML, **bearer}).text)
    assert client.post(path, data=fields, headers=bearer).status_code == 303
    assert registry.current("ansel") == "v0002"


def test_hostile_forms_get_one_paragraph(client: TestClient, registry: Registry) -> None:
    fields = form_of(page(client, "/registry/ansel/v0003/promote"))
    long = send(client, "v0003", {**fields, "reason": "x" * 501, "confirmation": "v0003"})
    huge = send(client, "v0003", {**fields, "reason": "x" * 30_000})
    odd = client.post(
        "/registry/ansel/v0003/promote",
        content=b"reason=%ff%00&champion=..%2f&shown=%F0",
        headers={**ORIGIN, "Content-Type": "application/x-www-form-urlencoded"},
    )
    nothing = client.post("/registry/ansel/v0003/promote", json=["x"], headers=ORIGIN)
    for answer in (long, huge, odd, nothing):
        assert 400 <= answer.status_code < 500, answer.text
    assert registry.current("ansel") == "v0001"
    assert client.get("/registry/ansel/v0003/promote?force=yes&reason=x").status_code == 200, "a link changes nothing"
    assert registry.current("ansel") == "v0001"
