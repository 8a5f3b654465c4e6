"""Which commands download a base model: those that need it to compute; those that only look never do."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.cli import main
from mondrian_core.mini import mini_weights_path
from tests.hub_server import REPOSITORY, HubServer, snapshot_folder

# module -> the commands that reach it; docs/how-to/base-models.md lists the same commands
DOWNLOADING = {
    "mondrian_core/cli/download.py": "download",
    "mondrian_core/cli/evaluate.py": "evaluate --rescore --judge",
    "mondrian_core/cli/adapters/export.py": "adapters export --format peft or merged",
    "mondrian_core/stages/__init__.py": "retrain",
    "mondrian_core/stages/accelerator_lock.py": "train, evaluate, index, synthesize, and their flows",
    "mondrian_core/stages/change_detection.py": "retrain and its flow, when earlier versions exist",
    "mondrian_core/stages/dataset.py": "dataset, train, evaluate: it counts tokens",
    "mondrian_core/serving/batch_analyze.py": "analyze, watch, mcp, without a running service",
    "mondrian_core/serving/server.py": "serve, foreground service",
    "deployments/up.py": "up, start",
    "tasks/handover.py": "the flow retrain, with a shared folder",
    "tasks/service.py": "the flow serve, start",
    "tasks/shared_training.py": "the flow train, on an accelerator",
}
LOOKING = [
    ["advisors", "list"],
    ["advisors", "show", "ansel"],
    ["adapters", "list", "--advisor", "ansel"],
    ["adapters", "verify", "--advisor", "ansel"],
    ["runs", "list"],
    ["rollout", "show"],
    ["compare"],
    ["drift", "--advisor", "ansel"],
    ["review", "--advisor", "ansel"],
    ["export", "--advisor", "ansel", "--format", "csv"],
    ["link", "--advisor", "ansel"],
    ["import", ".", "--advisor", "ansel", "--dry-run"],
    ["prune", "--dry-run"],
]


def test_downloads_are_asked_for_in_the_listed_places_only(root: Path) -> None:
    found = {}
    for package in ("mondrian_core", "tasks", "flows", "deployments", "mondrian"):
        for path in (root / package).rglob("*.py"):
            names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            if names & {"fetch_base", "snapshot_download", "hf_hub_download"}:
                found[str(path.relative_to(root))] = names
    assert set(found) == {
        *DOWNLOADING,
        "mondrian_core/models/base_download.py",
        "mondrian_core/models/hub_snapshot.py",  # local files only
    }


def _with_base(words: list[str], workspace: Path) -> list[str]:
    return [*words, "--workspace", str(workspace), "--base-model", REPOSITORY]


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_commands_that_look_never_ask_the_hub(
    hub: HubServer, legacy_workspace_copy: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(legacy_workspace_copy / "source")
    status = main(_with_base(words, legacy_workspace_copy))
    assert status in (0, 1)
    assert hub.requests == 0


def test_a_dataset_counts_tokens_with_the_base_that_it_downloads(
    hub: HubServer, tmp_path: Path, legacy_workspace_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files = {path.name: path.read_bytes() for path in mini_weights_path().iterdir()}
    words = ["dataset", "--advisor", "ansel", "--workspace", str(legacy_workspace_copy), "--json", "--base-model"]
    assert main([*words, REPOSITORY]) == 0
    downloaded = json.loads(capsys.readouterr().out)
    assert snapshot_folder(tmp_path).is_dir()
    assert main([*words, "mini"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == downloaded["digest"]


def test_doctor_asks_for_the_size_only(
    hub: HubServer, legacy_workspace_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = _with_base(["doctor", "--json"], legacy_workspace_copy)
    main(words)
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["base model"]["ok"] is None
    assert f"mondrian download --base-model {REPOSITORY}" in checks["base model"]["next_step"]
    assert checks["download"]["ok"] is True and "are missing" in checks["download"]["finding"]
    assert set(hub.gets) == {"config.json"} and not snapshot_folder(tmp_path).exists()
    assert checks["memory"]["ok"] is None and "config.json" in checks["memory"]["finding"]
    hub.listed_sizes = dict.fromkeys(hub.files, 10**15)
    main(words)
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["download"]["ok"] is False and "HF_HOME" in checks["download"]["next_step"]
    hub.close()
    main(words)
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["download"]["ok"] is None and "unknown" in checks["download"]["finding"]


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("mlx-community/Qwen3-VL-4B-Instruct-4bit", "about 3 GB by its name"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "about 15 GB by its name"),
        ("somebody/critic", "its size is unknown"),
    ],
)
def test_doctor_guesses_the_size_offline(
    legacy_workspace: Path, capsys: pytest.CaptureFixture[str], name: str, guess: str
) -> None:
    main(["doctor", "--json", "--workspace", str(legacy_workspace), "--base-model", name])
    (download,) = [check for check in json.loads(capsys.readouterr().out) if check["name"] == "download"]
    assert download["ok"] is None and download["finding"].startswith(guess)


QWEN3_VL_4B = {
    "model_type": "qwen3_vl",
    "quantization": {"group_size": 64, "bits": 4},
    "text_config": {
        "model_type": "qwen3_vl_text",
        "hidden_size": 2560,
        "num_hidden_layers": 36,
        "intermediate_size": 9728,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rms_norm_eps": 1e-06,
        "vocab_size": 151936,
        "rope_theta": 5000000,
        "max_position_embeddings": 262144,
        "tie_word_embeddings": True,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
    },
    "vision_config": {
        "model_type": "qwen3_vl",
        "depth": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "out_hidden_size": 2560,
        "num_position_embeddings": 2304,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "deepstack_visual_indexes": [5, 11, 17],
    },
}


def test_doctor_compares_the_memory_that_a_base_needs_before_it_is_here(
    hub: HubServer,
    legacy_workspace_copy: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.files["config.json"] = json.dumps(QWEN3_VL_4B).encode()
    monkeypatch.setenv("MONDRIAN_ADAPTER_CACHE_MB", "0")

    def memory_with(machine_gb: float) -> dict[str, Any]:
        monkeypatch.setenv("MONDRIAN_MEMORY_GB", str(machine_gb))
        main(_with_base(["doctor", "--json"], legacy_workspace_copy))
        (memory,) = [check for check in json.loads(capsys.readouterr().out) if check["name"] == "memory"]
        assert f"{machine_gb:.1f} GB that MLX may use here" in memory["finding"]
        return dict(memory)

    enough = memory_with(100)
    weights, serving, training = map(
        float, re.findall(r"([\d.]+) GB (?:of weights|to serve|to train)", enough["finding"])
    )
    assert enough["ok"] is True and 2.9 < weights < serving < training
    too_little = memory_with(serving - 0.2)
    assert too_little["ok"] is False and "smaller base model" in too_little["next_step"]
    only_to_serve = memory_with(serving + 0.1)
    assert only_to_serve["ok"] is False and "train --dry-run" in only_to_serve["next_step"]


def test_download_says_how_large_it_is_and_downloads(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["download", "--base-model", REPOSITORY]
    assert main([*words, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["missing_bytes"] == sum(map(len, hub.files.values())) and not hub.gets
    assert main([*words, "--dry-run"]) == 0
    assert "would be downloaded" in capsys.readouterr().out
    assert main(words) == 0
    assert str(snapshot_folder(tmp_path)) in capsys.readouterr().out.replace("\n", "")
    assert main(words) == 0
    assert "is complete" in capsys.readouterr().out
    assert main(["download", "--base-model", "mini"]) == 0
