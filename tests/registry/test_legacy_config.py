"""Taking over what the older project's model_config.json named as active."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.errors import BadAdapter, NothingToDo
from mondrian_core.events import StageEvent, StageNotice
from mondrian_core.registry import Registry
from tests.registry.conftest import write_adapter

MODELS = {"qwen3-4b": {"model_id": "Qwen/Qwen3-VL-4B-Instruct", "adapter": "./adapters/ansel_4b/epoch_10"}}


def config(folder: Path, **values: Any) -> Path:
    write_adapter(folder / "adapters" / "ansel_4b" / "epoch_10")
    path = folder / "model_config.json"
    path.write_text(json.dumps({"models": MODELS, **values}))
    return path


@pytest.mark.parametrize("values", [{"active_model": "qwen3-4b"}, {"defaults": {"model_preset": "qwen3-4b"}}])
def test_legacy_active_adapter_is_imported_once(tmp_path: Path, values: dict[str, Any]) -> None:
    registry, path = Registry(tmp_path / "registry"), config(tmp_path, **values)
    version = registry.import_from("ansel", path, actor="person:me")
    assert (version.version, version.state, version.report) == ("v0001", "candidate", None)
    assert version.manifest["base"]["name"] == "Qwen/Qwen3-VL-4B-Instruct"
    assert "qwen3-4b" in registry.history("ansel")[0].reason
    with pytest.raises(NothingToDo, match="v0001"):
        registry.import_from("ansel", path, actor="person:me")


def test_ineffective_scale_is_reported(tmp_path: Path) -> None:
    heard: list[StageEvent] = []
    path = config(tmp_path, active_model="qwen3-4b")
    folder = tmp_path / "adapters" / "ansel_4b" / "epoch_10"
    (folder / "adapter_config.json").write_text('{"rank": 8, "alpha": 0.1, "dropout": 0.1}')
    Registry(tmp_path / "registry", listen=heard.append).import_from("ansel", path, actor="a")
    assert [event for event in heard if isinstance(event, StageNotice) and "0.0125" in event.message]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"active_model": "x", "models": {"y": {}}}',
        '{"active_model": "x", "models": {"x": {"adapter": "./nowhere"}}}',
    ],
)
def test_legacy_config_without_adapter_is_rejected(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model_config.json"
    path.write_text(text)
    with pytest.raises(BadAdapter):
        Registry(tmp_path / "registry").import_from("ansel", path, actor="a")
