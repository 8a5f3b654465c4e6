"""promote/manual and rollback/manual, run by a real worker as a user would start them."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectHTTPStatusError
from safetensors.numpy import save_file

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import RunningPrefect
from deployments.run_watcher import FlowRunStatus
from flows.promote import promote_flow
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings
from tasks import liveness
from tasks.processes import child_processes
from tests.registry.conftest import served_record
from tests.waiting import wait_until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]
GATES = ("integrity", "effect", "format_compliance", "latency_overhead", "score_error")


def register(settings: Settings, advisor: str, verdict: str, folder: Path) -> str:
    """A version whose files are sound and whose gates all say `verdict`."""
    folder.mkdir()
    draw = np.random.default_rng(len(list(folder.parent.iterdir())))
    arrays = {
        f"layers.0.q_proj.{name}": draw.normal(size=shape).astype(np.float32)
        for name, shape in (("lora_a", (8, 2)), ("lora_b", (2, 8)))
    }
    save_file(arrays, folder / "adapters.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"rank": 2, "alpha": 4.0, "fine_tune_type": "lora"}))
    gates = [
        {
            "name": name,
            "verdict": verdict,
            "observed": 1.0,
            "threshold": "> 0",
            "n": 20,
            "interval": [0.5, 1.5],
            "sentence": f"{name} says {verdict}.",
        }
        for name in GATES
    ]
    manifest = {"gate_report": {"verdict": verdict, "gates": gates, **served_record()}}
    state: Any = "rejected" if verdict == "FAIL" else "candidate"
    return Registry(settings.adapters_root).register(advisor, folder, manifest, state).version


def run(machine: RunningPrefect, deployment: str, **parameters: Any) -> FlowRunStatus:
    place = machine.place
    return run_watcher.follow_flow_run(
        place, run_watcher.start_deployment_run(place, deployment, parameters), lambda seen: None
    )


def test_promote_then_roll_back(
    machine: RunningPrefect, prefect_here: AbstractContextManager[object], settings: Settings, tmp_path: Path
) -> None:
    registry = Registry(settings.adapters_root)
    first, second = (register(settings, "one", "PASS", tmp_path / name) for name in ("a", "b"))
    where: dict[str, Any] = {"adapters": str(settings.adapters_root), "return_state": True}
    with prefect_here:
        assert promote_flow("one", first, **where).name == "Promoted"
        refused = promote_flow("one", second, **where)
        assert refused.name == "Failed" and "The champion changed since" in str(refused.message)
        assert registry.current("one") == first, "the second was never compared with it"
        assert promote_flow("one", second, reason="by eye", **where).name == "Promoted"
        assert registry.current("one") == second
    seen = run(machine, "rollback/manual", advisor="one", reason="it was too kind")
    assert seen.state == "RolledBack" and f"now {first} (before: {second})" in seen.message
    assert registry.current("one") == first
    last = registry.history("one")[-1]
    assert (last.actor, last.reason) == (f"flow:{seen.run}", "it was too kind")
    with prefect_setup.prefect_client(machine.place) as client:
        in_time = sorted(client.read_artifacts(), key=lambda each: str(each.created))
        pages = {each.key: str(each.data) for each in in_time if each.type == "markdown"}
    assert f"champion is now {first}" in pages["promotion-one"]
    assert "score_error says PASS" in pages["version-one"]


def test_a_version_whose_gates_fail_needs_force_and_a_reason(
    prefect_here: AbstractContextManager[object], settings: Settings, tmp_path: Path
) -> None:
    version = register(settings, "two", "FAIL", tmp_path / "a")
    given = {"advisor": "two", "version": version, "adapters": str(settings.adapters_root)}
    with prefect_here:
        refused = promote_flow(**given, return_state=True)
        assert refused.name == "Failed" and "The gates refuse" in str(refused.message)
        assert promote_flow(**given, force=True, return_state=True).name == "Failed"
        assert Registry(settings.adapters_root).current("two") is None
        assert promote_flow(**given, force=True, reason="for a comparison", return_state=True).name == "Promoted"
    assert Registry(settings.adapters_root).history("two")[-1].reason == "for a comparison"


def test_documented_promote_command_works(
    machine: RunningPrefect, settings: Settings, tmp_path: Path, root: Path
) -> None:
    version = register(settings, "three", "PASS", tmp_path / "a")

    def prefect(*words: str) -> int:
        """In a shell that was opened afterwards: nothing is exported, and the home is empty."""
        fresh = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        command = [sys.executable, "-m", "mondrian_core.cli", "prefect", "--workspace", str(settings.root)]
        command += ["deployment", "run", *words, "--watch"]
        return subprocess.run(command, env=fresh, cwd=root, capture_output=True, check=False).returncode

    assert prefect("promote/manual", "-p", "advisor=three", "-p", f"version={version}") == 0
    assert Registry(settings.adapters_root).current("three") == version
    assert prefect("promote/manual", "-p", "advisor=three", "-p", "version=v0099") == 1


@pytest.mark.parametrize(("answer", "state"), [(True, "Promoted"), (False, "Declined")])
def test_promotion_approval_in_prefect_ui(
    machine: RunningPrefect, settings: Settings, tmp_path: Path, answer: bool, state: str
) -> None:
    """Declining is an answer, and no failure. Whoever answers sees the gates; nothing is held meanwhile."""
    advisor = f"approved-{answer}".lower()
    version = register(settings, advisor, "PASS", tmp_path / "a")
    place = machine.place
    begun = run_watcher.start_deployment_run(
        place, "promote/manual", {"advisor": advisor, "version": version, "approve": True}
    )

    def form() -> str:
        state = client.read_flow_run(begun).state
        keys = state.state_details.run_input_keyset if state is not None and state.is_paused() else None
        if not keys:
            return ""
        try:
            return json.loads(client.read_flow_run_input(begun, keys["description"]))
        except PrefectHTTPStatusError:  # it is stored right after the state
            return ""

    with prefect_setup.prefect_client(place) as client:
        text = wait_until(form, "the question")
        assert f"Promote {advisor} {version}?" in text and "Verdict: PASS. It replaces the base alone." in text
        assert "| score" in text and f"/registry/{advisor}/{version}/report>)" in text
        assert Registry(settings.adapters_root).current(advisor) is None
        [process] = [each for each in liveness.live_run_processes(place.home) if str(begun) in each.name]
        assert child_processes(process.pid) == [], "no stage and no model wait with it"
        client.resume_flow_run(begun, run_input={"approve": answer, "name": "Ansel", "comment": "the light"})
    seen = run_watcher.follow_flow_run(place, begun, lambda glance: None)
    assert seen.state == state
    with prefect_setup.prefect_client(place) as client:
        assert {advisor, f"{version} {state.lower()}"} <= set(client.read_flow_run(begun).tags)
    champion = Registry(settings.adapters_root).current(advisor)
    assert champion == (version if answer else None)
    if answer:
        assert "approved by Ansel: the light" in Registry(settings.adapters_root).history(advisor)[-1].reason
    else:
        assert "declined by Ansel: the light. Nothing was changed." in seen.message


# Prefect leaves connections of its client open when a pause ends by cancellation. In a worker the process ends then;
# here they are collected before the next test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_unanswered_question_and_repeated_promotion_are_no_failures(
    prefect_here: AbstractContextManager[object],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = register(settings, "quiet", "PASS", tmp_path / "a")
    given = {"advisor": "quiet", "version": version, "adapters": str(settings.adapters_root), "return_state": True}
    monkeypatch.setattr("flows.promote.APPROVAL_SECONDS", 1.0)
    with prefect_here:
        unanswered = promote_flow(**given, approve=True)
        assert unanswered.type == StateType.COMPLETED and unanswered.name == "Unanswered"
        assert f"'promote/manual' -p advisor=quiet -p version={version} -p approve=true" in str(unanswered.message)
        assert Registry(settings.adapters_root).current("quiet") is None
        assert promote_flow(**given).name == "Promoted"
        repeated = promote_flow(**given, approve=True)
    assert repeated.type == StateType.COMPLETED and repeated.name == "NothingToDo"
    assert "is the champion of 'quiet' already" in str(repeated.message)
    gc.collect()
