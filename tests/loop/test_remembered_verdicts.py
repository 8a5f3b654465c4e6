"""Attacks on a promotion, on the command line with a real adapter on mini: each is refused, with a reason to read.

One adapter is trained and evaluated for all tests. Its evaluation is too small to pass, so a PASS is planted by
recording the real report once more with other verdicts.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.cli import main
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.gate_strictness import judged_settings
from mondrian_core.models.base_model import resolve_base_path
from mondrian_core.recipes import Recipe
from mondrian_core.registry import Registry
from tests.architecture.reference.files_page import undocumented
from tests.registry.conftest import write_adapter
from tests.small_recipe import small_recipe_toml

pytestmark = [pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A workspace with a registry, and its command line."""

    folder: Path
    capsys: Any
    base: str = "mini"

    @property
    def registry(self) -> Registry:
        return Registry(self.folder / "adapters")

    def run(self, *words: str) -> tuple[int, str]:
        """Exit status and all output of `mondrian WORDS`, for ansel."""
        self.capsys.readouterr()
        where = ["--workspace", str(self.folder / "workspace"), "--adapters", str(self.folder / "adapters")]
        status = main([*words, "--advisor", "ansel", *where, "--base-model", self.base])
        told = self.capsys.readouterr()
        return status, " ".join((told.out + told.err).split())

    def promote(self, *words: str) -> tuple[int, str]:
        return self.run("adapters", "promote", "--version", "v0001", *words)

    def evaluate(self, adapter: str = "v0001", *words: str) -> tuple[int, str]:
        return self.run("evaluate", "--adapter", adapter, "--recipe", str(self.folder / "small.toml"), *words)

    def plant(self, verdict: str = "PASS", version: str = "v0001", **others: Any) -> None:
        """Record the newest real report of v0001 again with this verdict of every gate, under default settings."""
        real = self.registry.get("ansel", "v0001").report
        assert real is not None
        gates = [{**gate, "verdict": verdict} for gate in real["gates"]]
        planted = {**real, "verdict": verdict, "gates": gates, "run": f"planted-{time.monotonic_ns()}"}
        planted |= {"settings": judged_settings(Recipe()), **others}
        self.registry.record_evaluation("ansel", version, planted, actor="person:test")

    def sql(self, text: str) -> None:
        with sqlite3.connect(self.folder / "workspace" / "mondrian.db") as database:
            database.execute(text)
        database.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After one retraining: v0001, with its evaluation at the registration."""
    folder = tmp_path_factory.mktemp("machine")
    create_workspace(folder / "workspace", sample=True, photographs=12)
    (folder / "small.toml").write_text(small_recipe_toml())
    where = ["--workspace", str(folder / "workspace"), "--adapters", str(folder / "adapters"), "--base-model", "mini"]
    assert main(["retrain", "--advisor", "ansel", "--recipe", str(folder / "small.toml"), *where]) == 1
    return folder


@pytest.fixture
def machine(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Machine:
    """A copy of the above, without the folders of its runs, elsewhere on the disk."""
    shutil.copytree(trained, tmp_path / "here", ignore=shutil.ignore_patterns("runs"))
    return Machine(folder=tmp_path / "here", capsys=capsys)


def test_every_evaluation_of_a_version_is_recorded_completely(machine: Machine, trained: Path) -> None:
    """At the registration, by version, by a folder with the same files, and of an imported version."""
    (run,) = (trained / "workspace" / "runs").glob("*-ansel")
    assert machine.evaluate()[0] == 1
    shutil.copytree(run / "adapter", machine.folder / "a copy")
    assert (
        "Recorded as an evaluation of v0001, which is rejected." in machine.evaluate(str(machine.folder / "a copy"))[1]
    )
    version = machine.registry.get("ansel", "v0001")
    assert len(version.evaluations) == 3 and len({each.report["run"] for each in version.evaluations}) == 3
    for evaluation in version.evaluations:
        report = evaluation.report
        assert report["conditions"]["base"]["fingerprint"] == version.base_fingerprint
        assert {"chat template", "preprocessor_config.json"} <= report["conditions"]["base"]["settings"].keys()
        assert report["conditions"]["prompt"] == version.manifest["prompt_digest"]
        assert (report["conditions"]["exif"], len(report["conditions"]["answer_schema"])) == (False, 64)
        assert report["settings"]["gates"]["p_value"] == 0.05 and len(report["recipe"]) == 64
        assert report["dataset"] == version.manifest["dataset"]["digest"] and report["photographs"]
        assert report["compared_with"] == {"version": None, "manifest_sha256": ""}
        assert report["packages"]["mlx"] and len(report["code"]["training"]) == 64
    archive = machine.folder / "v1.tar"
    assert machine.run("adapters", "export", "v0001", "--out", str(archive))[0] == 0
    shutil.rmtree(machine.folder / "adapters")
    assert machine.run("adapters", "import", str(archive))[0] == 0
    assert machine.promote("--reason", "it passed elsewhere")[0] == 1
    machine.evaluate()
    imported = machine.registry.get("ansel", "v0001")
    assert imported.state == "rejected" and imported.evaluations[0].report["conditions"]["prompt"]
    machine.plant()
    assert machine.promote() == (0, "ansel: champion is now v0001 (before: the base alone)")


def test_files_of_a_retraining_and_a_promotion_are_those_of_the_reference(machine: Machine, trained: Path) -> None:
    machine.plant()
    assert machine.promote()[0] == 0
    assert main(["backup", str(machine.folder / "backup"), "--workspace", str(machine.folder / "workspace")]) == 0
    assert undocumented(trained) == undocumented(machine.folder) == []


def test_a_later_failure_refuses_what_passed_before(machine: Machine) -> None:
    machine.plant()
    assert machine.registry.get("ansel", "v0001").state == "candidate"
    assert machine.evaluate()[0] == 1
    for words in ([], ["--rollout"], ["--reason", "it passed last week"]):
        status, told = machine.promote(*words)
        assert status == 1 and "The gates refuse v0001" in told and "format_compliance" in told, told
    machine.plant(photographs=["other photographs"])
    status, told = machine.promote()
    assert status == 1 and "no later one passed these gates on the same photographs" in told
    assert machine.registry.current("ansel") is None
    status, told = machine.promote("--force", "--reason", "by eye")
    assert status == 0 and "Promoted although its evaluation" in told
    shown = json.loads(machine.run("adapters", "show", "v0001", "--json")[1])["history"][-1]
    assert shown["detail"]["objections"][0].startswith("its evaluation")


def other_base(machine: Machine) -> Machine:
    return with_changed_base(machine, "config.json", {"note": "another"})


def other_template(machine: Machine) -> Machine:
    return with_changed_base(machine, "chat_template.jinja", None)


def other_processor(machine: Machine) -> Machine:
    return with_changed_base(machine, "preprocessor_config.json", {"max_pixels": 12345})


def with_changed_base(machine: Machine, name: str, change: dict[str, Any] | None) -> Machine:
    folder = machine.folder / "base"
    shutil.copytree(resolve_base_path("mini"), folder)
    path = folder / name
    path.chmod(0o644)
    text = path.read_text()
    path.write_text(f"{text} " if change is None else json.dumps({**json.loads(text), **change}))
    return Machine(folder=machine.folder, capsys=machine.capsys, base=str(folder))


def other_prompt(machine: Machine) -> Machine:
    machine.sql("UPDATE advisors SET prompt = 'You are strict.'")
    return machine


def exif_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("EXIF_ENABLED", "true")
    return machine


def other_schema(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    schema = "mondrian_core.promotion.evaluation_conditions.critique_json_schema"
    monkeypatch.setattr(schema, lambda form: {"type": "object"})
    return machine


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_base, "evaluated on another base"),
        (other_template, "changed since: chat template (chat_template.jinja)"),
        (other_processor, "changed since: preprocessor_config.json"),
        (other_prompt, "the advisor's prompt has changed since"),
        (exif_on, "EXIF_ENABLED was off at its evaluation and is on now"),
        (other_schema, "the answer format (JSON schema) has changed since"),
    ],
)
def test_a_stale_evaluation_is_refused_by_name(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, change: Callable[..., Machine], named: str
) -> None:
    machine.plant()
    changed = change(machine, monkeypatch) if "monkeypatch" in change.__annotations__ else change(machine)
    for words in ([], ["--reason", "it passed"], ["--rollout", "--reason", "it passed"]):
        status, told = changed.promote(*words)
        assert status == 1 and "The evaluation of v0001 of 'ansel' no longer holds" in told and named in told, told
        assert "mondrian evaluate --advisor ansel --adapter v0001" in told
    assert machine.registry.current("ansel") is None
    assert changed.promote("--force")[0] == 2
    status, told = changed.promote("--force", "--reason", "nobody else answers")
    assert (status, machine.registry.current("ansel")) == (0, "v0001") and named in told
    assert any(named in text for text in machine.registry.history("ansel")[-1].detail["objections"])


def test_an_evaluation_under_the_new_prompt_is_what_counts(machine: Machine) -> None:
    """And the one under the old prompt counts again when the prompt comes back."""
    machine.plant()
    other_prompt(machine)
    assert machine.promote()[0] == 1
    machine.evaluate()
    machine.plant()
    assert machine.promote()[0] == 0
    machine.run("adapters", "rollback")
    machine.sql("UPDATE advisors SET prompt = 'You are not strict.'")
    assert machine.promote()[0] == 1


def test_an_older_version_over_a_newer_champion_needs_a_reason(machine: Machine) -> None:
    machine.plant()
    newer = write_adapter(machine.folder / "newer", 3)
    real = machine.registry.get("ansel", "v0001").manifest
    manifest = {key: real[key] for key in ("base", "prompt_digest", "recipe")}
    machine.registry.register("ansel", newer, manifest, actor="person:test")
    machine.registry.promote("ansel", "v0002", expected=None, actor="person:test", reason="first")
    champion = machine.registry.reference("ansel").as_dict()
    status, told = machine.promote()
    assert status == 2 and "v0001 is older than the champion v0002 and was never compared with it" in told
    machine.plant(compared_with=champion)
    status, told = machine.promote()
    assert status == 2 and "older than the champion v0002" in told and "Its promotion needs a reason" in told
    status, told = machine.promote("--reason", "the newer one is dull")
    assert status == 0 and "Promoted although v0001 is older than the champion v0002" in told


def test_loosened_gates_are_named_everywhere_and_need_a_reason(machine: Machine) -> None:
    loose = machine.folder / "small.toml"
    loose.write_text(small_recipe_toml(gates={"p_value": 0.9}))
    status, told = machine.evaluate()
    named = [
        "gates.overhead_ratio is 50.0, not 1.1",
        "gates.p_value is 0.9, not 0.05",
        "evaluate.edited_photographs is 0, not 8",
        "evaluate.latency_tokens is 8, not 64",
        "evaluate.calibration_photographs is 0, not 100",
    ]
    words = f"with loosened gates ({'; '.join(named)})"
    assert status == 1 and f"Verdict: FAIL, {words}" in told
    real = machine.registry.get("ansel", "v0001").report
    assert real is not None and real["settings"]["gates"]["p_value"] == 0.9
    assert words in machine.registry.history("ansel")[-1].reason
    machine.plant()
    assert machine.registry.get("ansel", "v0001").state == "candidate", "the default gates answer a looser FAIL"
    machine.plant(settings=real["settings"])
    (row,) = json.loads(machine.run("adapters", "list", "--json")[1])
    assert row["verdict"] == "PASS" and row["loosened"] == named
    assert "loosened" in machine.run("adapters", "list")[1]
    assert f"evaluated with loosened gates ({named[0]}" in machine.run("adapters", "show", "v0001")[1]
    status, told = machine.promote()
    assert status == 2 and f"it was evaluated {words}" in told.lower()
    status, told = machine.promote("--reason", "too few critiques for the default")
    assert status == 0 and f"Promoted although it was evaluated {words}" in told


def test_an_equal_retraining_is_never_a_second_version(machine: Machine) -> None:
    """Runs are gone and the registry has moved: nothing is trained; forced, the same weights are the same version."""
    machine.plant()
    assert machine.promote()[0] == 0
    recipe = ["--recipe", str(machine.folder / "small.toml")]
    runs = machine.folder / "workspace" / "runs"
    before = set(runs.glob("*/dataset.json"))
    status, told = machine.run("retrain", *recipe)
    assert status == 1 and "Nothing new to train for 'ansel': v0001" in told
    assert set(runs.glob("*/dataset.json")) == before, "it ended after its first stage"
    status, told = machine.run("retrain", *recipe, "--force")
    assert status == 1 and "unchanged" in told and "exactly the weights of the champion v0001" in told
    assert [each.version for each in machine.registry.versions("ansel")] == ["v0001"]
    assert machine.registry.history("ansel")[-1].event == "evaluate"
    assert "mondrian adapters rollback" in told, "that evaluation failed"
    machine.run("adapters", "rollback")
    status, told = machine.run("retrain", *recipe, "--force")
    assert (status, machine.registry.current("ansel")) == (1, None) and "rejected" in told.lower()


def test_weights_of_the_champion_are_not_promoted_as_another_version(machine: Machine, tmp_path: Path) -> None:
    """An earlier release registered them twice."""
    machine.plant()
    assert machine.promote()[0] == 0
    version = machine.registry.get("ansel", "v0001")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("adapters.safetensors", "adapter_config.json"):
        shutil.copy(version.path / name, copy)
    machine.registry.register("ansel", copy, {"base": version.manifest["base"]}, actor="person:test")
    status, told = machine.run("adapters", "promote", "--version", "v0002", "--force", "--reason", "newer")
    assert status == 1 and "has exactly the weights of the champion v0001" in told
