"""Looks from the command line, on mini: what a second look costs, what a crash hides, what a folder outside gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.cli import main
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.recipes import TrainRecipe
from mondrian_core.registry import Registry
from mondrian_core.registry.looks import look_results, looks_in_history

pytestmark = [pytest.mark.mini, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(1500)]
RECIPE = """
[data]
variants = 0
[evaluate]
compliance_photographs = 1
edited_photographs = 0
constrained_photographs = 0
latency_pairs = 3
latency_tokens = 8
effect_photographs = 1
rag = false
max_tokens = 400
[gates]
score_photographs = 5
overhead_ratio = 50
"""


@pytest.fixture
def imported(tmp_path: Path) -> list[str]:
    """A workspace with v0001, an imported adapter of random weights, and another outside; the options that name it."""
    import mlx.core as mx

    from mondrian_core.models.base_model import load_base
    from mondrian_core.models.lora import lora_layers

    create_workspace(tmp_path / "workspace", sample=True, photographs=12)
    base = load_base("mini")
    lora_layers.attach_lora(base, TrainRecipe(rank=2), 0)
    arrays = lora_layers.attached_parameters(base)
    moved = {
        name: mx.random.normal(value.shape) * 0.02 if "lora_b" in name else value for name, value in arrays.items()
    }
    lora_layers.save_attached_adapter(base, tmp_path / "trained", moved)
    others = {name: value * 1.5 if "lora_b" in name else value for name, value in moved.items()}
    lora_layers.save_attached_adapter(base, tmp_path / "elsewhere", others)
    lora_layers.detach_lora(base)
    Registry(tmp_path / "adapters").import_from("ansel", tmp_path / "trained", actor="person:test")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    places = ["--workspace", str(tmp_path / "workspace"), "--adapters", str(tmp_path / "adapters")]
    return ["--advisor", "ansel", "--base-model", "mini", "--recipe", str(tmp_path / "recipe.toml"), *places]


def evaluated(options: list[str], adapter: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The report of `mondrian evaluate`."""
    capsys.readouterr()
    assert main(["evaluate", "--adapter", adapter, *options, "--json"]) in (0, 1)
    report: dict[str, Any] = json.loads(Path(json.loads(capsys.readouterr().out)["report"]).read_text())
    return report | {"sentence": {gate["name"]: gate["sentence"] for gate in report["gates"]}["score_error"]}


def test_second_look_at_one_candidate_costs_and_a_crash_hides_none(
    imported: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path / "adapters")
    first = evaluated(imported, "v0001", capsys)
    assert (first["look"]["number"], first["look"]["level"]) == (1, 0.01)
    assert first["look"]["fresh"] == first["look"]["photographs"] > 0
    assert "Look 1 of the year: this look may pass at p <= 0.01" in first["sentence"]

    second = evaluated(imported, "v0001", capsys)
    assert second["look"]["number"] == 2
    assert second["look"]["level"] < 0.001 and second["look"]["spent"] > first["look"]["spent"]
    assert second["look"]["candidates"] == 1  # the same candidate is not evidence twice
    assert second["look"]["fresh"] == 0

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as crash:
        crash.setattr("mondrian_core.evaluation.evaluate_adapter", dies)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            raise SystemExit(main(["evaluate", "--adapter", "v0001", *imported]))
    looks = looks_in_history(registry.history("ansel"))
    assert [look.number for look in looks] == [1, 2, 3]
    assert len(look_results(registry.history("ansel"))) == 2
    assert evaluated(imported, "v0001", capsys)["look"]["number"] == 4

    copy = evaluated(imported, str(tmp_path / "trained"), capsys)
    assert copy["look"]["number"] == 5  # a copy of a version is that version
    outside = evaluated(imported, str(tmp_path / "elsewhere"), capsys)
    assert outside["look"]["number"] is None and outside["look"]["level"] == 0.01
    assert "No registry counts the looks" in outside["sentence"]
    assert len(looks_in_history(registry.history("ansel"))) == 5
    assert registry.check("ansel") == ()
