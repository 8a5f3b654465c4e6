"""From a person's correction in the service to an adapter that was tuned on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mondrian_core.cli import main
from mondrian_core.data.dataset.version import load_dataset_version
from mondrian_core.rubric import DIMENSIONS, Critique, make_critique
from mondrian_core.serving.jobs.feedback import correct_critique
from mondrian_core.store import Job, Store

pytestmark = [pytest.mark.mini, pytest.mark.timeout(900)]

SAID = make_critique(dict.fromkeys(DIMENSIONS, 9.0), dict.fromkeys(DIMENSIONS, "The frame is full of light."))


def better(number: int) -> Critique:
    """What a person says; different scores, or the photographs would count as near-duplicates by their words."""
    scores = {name: float((number + place) % 8) for place, name in enumerate(DIMENSIONS)}
    return make_critique(scores, dict.fromkeys(DIMENSIONS, "The frame is dull and grey."))


def corrected(workspace: Path) -> None:
    """A person corrects the model's critique of each photograph that has one by the advisor."""
    with Store(workspace / "mondrian.db") as store:
        paths = sorted({each.image_path for each in store.profiles("ansel") if each.image_path.startswith("source/")})
        store.import_jobs(
            Job(
                id=f"asked{at}",
                filename=path.removeprefix("source/"),
                advisor="ansel",
                status="completed",
                answer=SAID.as_dict(),
            )
            for at, path in enumerate(paths)
        )
        for at in range(len(paths)):
            job = store.job(f"asked{at}")
            assert job is not None
            correct_critique(store, job, better(at).as_dict())


def test_corrections_change_the_adapter_by_preference_tuning(
    legacy_workspace_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corrected(legacy_workspace_copy)
    run = legacy_workspace_copy / "runs" / "tuned"
    command = [
        "train",
        "--advisor",
        "ansel",
        "--workspace",
        str(legacy_workspace_copy),
        "--adapters",
        str(tmp_path / "adapters"),
        "--base-model",
        "mini",
        "--out",
        str(run),
        "--epochs",
        "1",
        "--answered-photographs",
        "0",
        "--preference-others",
        "0",
        "--preference-pairs",
        "1",
    ]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["preference"] is None, "off by default"
    plain = (run / "adapter" / "adapters.safetensors").read_bytes()

    assert main([*command, "--resume", "--preference-epochs", "1"]) == 0
    out = capsys.readouterr().out
    preference = json.loads((run / "train.json").read_text())["preference"]
    version = load_dataset_version(legacy_workspace_copy / json.loads((run / "dataset.json").read_text())["path"])
    trained = {row.photo_id for row in version.rows("train")} & set(version.corrections)
    assert preference["corrections"] == preference["pairs"] == len(trained) > 0
    assert f"tuned on {len(trained)} pairs" in out
    assert (run / "adapter" / "adapters.safetensors").read_bytes() != plain
    lines = [json.loads(line) for line in (run / "training_log.jsonl").read_text().splitlines()]
    rewards = [line["margin"] for line in lines if line.get("phase") == "preference" and line["kind"] == "step"]
    assert len(rewards) == preference["steps"] > 0
