"""Little memory, through the real commands: refused before the first step, with what to change, services counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mondrian_core import accelerator_lock
from mondrian_core.cli import main
from mondrian_core.errors import NotEnoughMemory
from mondrian_core.models.service_memory import memory_of_served_base, memory_of_services, served_bases
from mondrian_core.serving.engine.supervisor import ModelProcess, model_command
from tests.small_recipe import small_recipe_toml

pytestmark = pytest.mark.mini
ADAPTER_BYTES = 64 << 20


@pytest.fixture
def training(legacy_workspace_copy: Path, tmp_path: Path) -> list[str]:
    """The command of a small training in a run folder that can be looked at."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(small_recipe_toml(train={"rank": 64, "accumulation": 1}))
    run = legacy_workspace_copy / "runs" / "limited"
    places = ["--workspace", str(legacy_workspace_copy), "--adapters", str(tmp_path / "adapters")]
    return ["train", "--advisor", "ansel", *places, "--base-model", "mini", "--recipe", str(recipe), "--out", str(run)]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ModelProcess]:
    """A model process of a service that holds mini; it is not started."""
    process = ModelProcess(model_command("mini", ADAPTER_BYTES), tmp_path / "model.log")
    yield process
    process.stop()


def dry_run(command: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    capsys.readouterr()
    status = main([*command, "--dry-run", "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_training_that_cannot_fit_is_refused_before_its_first_step(
    training: list[str],
    service: ModelProcess,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The dry run says so first. With a service that holds the difference, stopping it is the first advice."""
    status, plenty = dry_run(training, capsys)
    assert status == 0 and plenty["fits"] and not plenty["gradient_checkpointing"]
    need = int(str(plenty["peak_bytes"]))

    monkeypatch.setenv("MONDRIAN_MEMORY_GB", str(0.85 * need / 1e9))
    status, saving = dry_run(training, capsys)
    assert (status, saving["fits"], saving["gradient_checkpointing"]) == (0, True, True)

    monkeypatch.setenv("MONDRIAN_MEMORY_GB", str(0.1 * need / 1e9))
    status, short = dry_run(training, capsys)
    assert (status, short["fits"]) == (1, False) and "GB of memory" in str(short["problem"]) and short["next_step"]
    assert main(training) == 2
    printed = capsys.readouterr().err
    assert str(short["next_step"]).split()[0] in printed and "Traceback" not in printed
    run = Path(training[-1])
    assert not (run / "adapter").exists() and not list(run.glob("*.safetensors"))

    service.start()
    held = memory_of_services()
    least = int(str(short["peak_bytes"]))
    monkeypatch.setenv("MONDRIAN_MEMORY_GB", str((least + held / 2) / 1e9))
    status, shared = dry_run(training, capsys)
    assert status == 1 and shared["service_bytes"] == held and "next to the" in str(shared["problem"])
    assert str(shared["next_step"]).startswith("Stop the service during the training (`mondrian down`")
    monkeypatch.setenv("MONDRIAN_MEMORY_GB", str((1.1 * least + held) / 1e9))
    assert dry_run(training, capsys)[1]["fits"]


def test_service_is_known_by_its_process(service: ModelProcess) -> None:
    before = memory_of_services()
    service.start()
    mine = [each for each in served_bases() if each.pid == service.pid]
    assert [(each.base, each.adapter_cache_bytes) for each in mine] == [("mini", ADAPTER_BYTES)]
    assert memory_of_services() - before == memory_of_served_base("mini", ADAPTER_BYTES) > 10_000_000
    service.stop()
    assert memory_of_services() == before


def test_service_that_does_not_fit_next_to_a_training_is_refused(
    service: ModelProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = memory_of_served_base("mini", ADAPTER_BYTES)
    monkeypatch.setenv("MONDRIAN_MEMORY_GB", str((2 * need) / 1e9))
    with accelerator_lock.hold_work_lock(accelerator_lock.accelerator_lock_path(), lambda _: None, "train of ansel"):
        accelerator_lock.record_work_memory(need + 1_000)
        with pytest.raises(NotEnoughMemory, match=r"next to the .* of train of ansel, started by"):
            service.start()
        accelerator_lock.record_work_memory(need - 1_000)
        service.start()
    assert accelerator_lock.memory_of_other_work() == (0, "")
