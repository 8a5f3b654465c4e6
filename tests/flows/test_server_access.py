"""Prefect's server answers nobody without the password, no other site's page and no foreign host name."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from deployments import prefect_setup
from deployments.bootstrap import RunningPrefect
from deployments.prefect_instance import POOL
from mondrian_core.prefect_server import auth_string_path, prefect_record_path
from mondrian_core.settings import Settings
from tests.waiting import wait_until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture
def stranger(machine: RunningPrefect) -> Iterator[httpx.Client]:
    """Somebody on this machine who doesn't know the password."""
    with httpx.Client(base_url=machine.place.api, trust_env=False) as client:
        yield client


@pytest.fixture
def insider(machine: RunningPrefect) -> Iterator[httpx.Client]:
    """Somebody who does."""
    with httpx.Client(base_url=machine.place.api, auth=machine.place.basic_auth, trust_env=False) as client:
        yield client


def deployment_id(machine: RunningPrefect) -> str:
    with prefect_setup.prefect_client(machine.place) as client:
        return str(client.read_deployment_by_name("rollback/manual").id)


def runs(machine: RunningPrefect) -> int:
    """Number of runs of the deployment that is attacked; the server creates scheduled runs of others at any time."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    chosen = DeploymentFilter(id=DeploymentFilterId(any_=[UUID(deployment_id(machine))]))
    with prefect_setup.prefect_client(machine.place) as client:
        return len(client.read_flow_runs(deployment_filter=chosen, limit=200))


def answered(send: Callable[[], httpx.Response]) -> httpx.Response:
    """Send until the answer is not "try again" (503, SQLite was busy), as Prefect's own clients do."""
    return wait_until(lambda: answer if (answer := send()).status_code != 503 else None, "an answer")


def test_nothing_but_the_health_without_the_password(machine: RunningPrefect, stranger: httpx.Client) -> None:
    path = f"/deployments/{deployment_id(machine)}/create_flow_run"
    assert stranger.get("/health").status_code == 200
    for answer in (
        stranger.post(path, json={"job_variables": {"command": "true"}}),
        stranger.post(path, content='{"job_variables": {"command": "true"}}', headers={"Content-Type": "text/plain"}),
        stranger.post(path, json={}, auth=("mondrian", "wrong")),
        stranger.post("/flow_runs/filter", json={}),
        stranger.post("/work_pools/filter", json={}),
        stranger.patch("/work_pools/apple-silicon", json={"base_job_template": {}}),
        stranger.get("/admin/settings"),
        stranger.get("/docs"),
    ):
        assert answer.status_code == 401, answer.request.url


@pytest.mark.parametrize(
    "variables",
    [
        {"command": "touch {mark}"},
        {"env": {"PYTHONSTARTUP": "{mark}", "PYTHONPATH": "{mark}", "LD_PRELOAD": "{mark}"}},
        {"env.PYTHONPATH": "{mark}"},
        {"working_dir": "{mark}"},
        {"stream_output": False},
        {"name": "x", "labels": {"a": "b"}},
    ],
    ids=lambda each: "-".join(each),
)
def test_a_run_changes_nothing_about_its_process(
    machine: RunningPrefect, insider: httpx.Client, tmp_path: Path, variables: dict[str, Any]
) -> None:
    given = json.loads(json.dumps(variables).replace("{mark}", str(tmp_path / "mark")))
    before = runs(machine)
    path, asked = f"/deployments/{deployment_id(machine)}", {"parameters": {"advisor": "nobody"}}
    refused = answered(lambda: insider.post(f"{path}/create_flow_run", json={**asked, "job_variables": given}))
    assert refused.status_code == 422 and "Additional properties" in refused.text
    assert runs(machine) == before
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}
    created = answered(lambda: insider.post(f"{path}/create_flow_run", json={**asked, "state": state}))
    assert created.status_code == 201, created.text
    scheduled = f"/flow_runs/{created.json()['id']}"
    assert answered(lambda: insider.patch(scheduled, json={"job_variables": given})).status_code == 422
    answered(lambda: insider.delete(scheduled))


def test_the_worker_ignores_what_an_older_template_let_through(machine: RunningPrefect) -> None:
    """Job variables that are in the database already: of a run from before an upgrade, or written into a deployment."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
    from prefect.workers.process import ProcessJobConfiguration

    async def resolved() -> ProcessJobConfiguration:
        stored = {"command": "touch mark", "env": {"LD_PRELOAD": "x"}, "env.PYTHONPATH": "x", "working_dir": "/"}
        return await ProcessJobConfiguration.from_template_and_values(prefect_setup.JOB_TEMPLATE, stored)

    with prefect_setup.prefect_client(machine.place) as client:
        assert client.read_work_pool(POOL).base_job_template == prefect_setup.JOB_TEMPLATE
    with temporary_settings({PREFECT_API_URL: machine.place.api, PREFECT_API_AUTH_STRING: machine.place.auth}):
        found = asyncio.run(resolved())
    assert (found.command, found.env, found.working_dir) == (prefect_setup.RUN_COMMAND, {}, None)


@pytest.mark.parametrize("host", ["attacker.example", "127.0.0.1.attacker.example", "attacker.example:4200", ""])
def test_a_foreign_host_name_is_refused(machine: RunningPrefect, insider: httpx.Client, host: str) -> None:
    for path in ("/api/health", "/api/admin/version", "/", "/ui-settings", "/mondrian"):
        assert insider.get(f"{machine.place.ui}{path}", headers={"Host": host}).status_code == 400, path
    own = insider.get(f"{machine.place.ui}/api/admin/version", headers={"Host": f"localhost:{machine.place.port}"})
    assert own.status_code == 200


def test_other_origins_get_no_permission(machine: RunningPrefect, insider: httpx.Client) -> None:
    def permission(origin: str) -> str | None:
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        preflight = insider.options("/flow_runs/filter", headers=asked)
        simple = insider.get("/health", headers={"Origin": origin})
        assert preflight.headers.get("access-control-allow-origin") == simple.headers.get("access-control-allow-origin")
        return simple.headers.get("access-control-allow-origin")

    port = machine.place.port
    for own in (f"http://127.0.0.1:{port}", f"http://localhost:{port}"):
        assert permission(own) == own
    for foreign in ("http://attacker.example", f"https://127.0.0.1:{port}", "http://127.0.0.1:1", "null"):
        assert permission(foreign) is None


@pytest.mark.parametrize("path", ["events/out", "events/in", "logs/out", "work_pools/apple-silicon/workers/connect"])
def test_websockets_want_the_password_and_the_host_too(machine: RunningPrefect, path: str) -> None:
    address = f"ws://127.0.0.1:{machine.place.port}/api/{path}"

    async def closed(token: str | None, **options: Any) -> bool:
        try:
            async with connect(address, proxy=None, **options) as socket:
                await socket.send(json.dumps({"type": "auth", "token": token}))
                return json.loads(await asyncio.wait_for(socket.recv(), 300)).get("type") != "auth_success"
        except (ConnectionClosed, InvalidStatus):
            return True

    prefect = {"subprotocols": ["prefect"]}
    assert asyncio.run(closed(None))
    assert asyncio.run(closed("mondrian:wrong", **prefect))
    assert not asyncio.run(closed(machine.place.auth, **prefect))
    assert asyncio.run(closed(machine.place.auth, **prefect, additional_headers={"Host": "attacker.example"}))


def test_the_password_is_nowhere_but_in_its_file(machine: RunningPrefect, settings: Settings) -> None:
    home, password = machine.place.home, machine.place.auth.partition(":")[2]
    assert len(password) >= 40
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE(auth_string_path(settings).stat().st_mode) == 0o600
    readable = [prefect_record_path(settings), home / "server.log", home / "worker.log"]
    assert [path.name for path in readable if password in path.read_text(errors="replace")] == []
    assert password not in subprocess.run(["ps", "-ww", "-A", "-o", "args="], capture_output=True, text=True).stdout
    with prefect_setup.prefect_client(machine.place) as client:
        pool = client.read_work_pool(POOL)
        kept = [pool.model_dump_json(), *(each.model_dump_json() for each in client.read_deployments())]
    assert password not in "".join(kept)


@contextmanager
def elsewhere(folder: Path) -> Iterator[str]:
    """A web site of another origin that serves the files of a folder; its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


ATTACK = """async ([api, path, body]) => {
  const outcome = {};
  const attempt = async (name, options, where = path) => {
    try { const answer = await fetch(api + where, options); outcome[name] = answer.type + " " + answer.status; }
    catch (error) { outcome[name] = "refused"; }
  };
  await attempt("read", {}, "/health");
  await attempt("json", {method: "POST", body, headers: {"Content-Type": "application/json"}});
  await attempt("simple", {method: "POST", body, mode: "no-cors"});
  await attempt("credentials", {method: "POST", body, mode: "no-cors", credentials: "include"});
  outcome.socket = await new Promise(done => {
    const socket = new WebSocket(api.replace("http", "ws") + "/events/out", "prefect");
    socket.onopen = () => socket.send(JSON.stringify({type: "auth", token: null}));
    socket.onmessage = event => done(JSON.parse(event.data).type);
    socket.onclose = socket.onerror = () => done("closed");
  });
  return outcome;
}"""


@pytest.mark.browser
@pytest.mark.slow
def test_a_page_of_another_site_starts_nothing_and_the_own_page_asks_for_the_password(
    machine: RunningPrefect, tmp_path: Path
) -> None:
    from playwright.sync_api import expect, sync_playwright

    (tmp_path / "page.html").write_text("<!doctype html><title>elsewhere</title>")
    path, before = f"/deployments/{deployment_id(machine)}/create_flow_run", runs(machine)
    body = json.dumps({"job_variables": {"command": f"touch {tmp_path / 'mark'}"}})
    with sync_playwright() as playwright, elsewhere(tmp_path) as site:
        named = [os.environ.get("CHROMIUM"), *map(shutil.which, CHROMIUM), playwright.chromium.executable_path]
        found = next((each for each in named if each and Path(each).is_file()), None)
        if found is None:
            pytest.skip("no Chromium here: install one (apt install chromium, brew install chromium), or set CHROMIUM")
        browser = playwright.chromium.launch(executable_path=found)
        page = browser.new_page()
        page.set_default_timeout(300_000)  # ms
        page.goto(f"{site}/page.html")
        outcome = page.evaluate(ATTACK, [machine.place.api, path, body])
        assert (outcome["read"], outcome["json"], outcome["socket"]) == ("refused", "refused", "closed"), outcome
        assert runs(machine) == before and not (tmp_path / "mark").exists()
        page.goto(machine.place.ui)
        field = page.locator("input[type=password]")
        expect(field).to_be_visible(timeout=300_000)
        field.fill(machine.place.auth)
        field.press("Enter")
        expect(page.get_by_text("Flow Runs", exact=False).first).to_be_visible(timeout=300_000)
        browser.close()
