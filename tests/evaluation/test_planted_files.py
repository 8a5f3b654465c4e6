"""Faults planted in the files of a real adapter: validation finds each one, and the integrity gate fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.evaluation import EvaluationReport
from mondrian_core.recipes import TrainRecipe

pytestmark = pytest.mark.mini
Run = Callable[..., EvaluationReport]
Weights = dict[str, Any]


@pytest.fixture(scope="module")
def base() -> Any:
    from mondrian_core.models.base_model import load_base

    return load_base("mini")


@pytest.fixture(scope="module")
def weights(base: Any) -> Weights:
    """A valid adapter: A as before training, B not zero."""
    import mlx.core as mx

    from mondrian_core.models.lora import lora_layers

    lora_layers.attach_lora(base, TrainRecipe(rank=4), 0)
    fresh = lora_layers.attached_parameters(base)
    lora_layers.detach_lora(base)
    return {name: mx.full(value.shape, 0.01) if "lora_b" in name else value for name, value in fresh.items()}


def written(base: Any, folder: Path, weights: Weights) -> Path:
    from mondrian_core.models.lora import lora_layers

    lora_layers.attach_lora(base, TrainRecipe(rank=4), 0)
    try:
        lora_layers.save_attached_adapter(base, folder, weights)
    finally:
        lora_layers.detach_lora(base)
    return folder


def first(weights: Weights, part: str = "lora_b") -> str:
    return next(name for name in weights if part in name)


def zero(weights: Weights) -> Weights:
    return {name: value * 0 if "lora_b" in name else value for name, value in weights.items()}


def not_a_number(weights: Weights) -> Weights:
    name = first(weights)
    return weights | {name: weights[name] * float("nan")}


def wrong_shape(weights: Weights) -> Weights:
    name = first(weights)
    return weights | {name: weights[name][:, :-1]}


def one_half(weights: Weights) -> Weights:
    return {name: value for name, value in weights.items() if name != first(weights)}


def misnamed(weights: Weights) -> Weights:
    return {name.replace("layers.0.", "layers.99."): value for name, value in weights.items()}


def nothing(folder: Path) -> None:
    pass


def of_another_base(folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps({"base": {"fingerprint": "0" * 64}}))


def cut_off(folder: Path) -> None:
    path = folder / "adapters.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def judged(run: Run, fake_model: Any, base: Any, folder: Path) -> tuple[EvaluationReport, Any]:
    from mondrian_core.models.lora import lora_layers

    model = fake_model.FakeModel(
        critics={"base": fake_model.noisy_critic(2.0), "candidate": fake_model.noisy_critic(1.0)}
    )
    return run(model, problems=lora_layers.validate_adapter_folder(base, folder)), model


def test_valid_adapter_passes_integrity(run: Run, fake_model: Any, base: Any, weights: Weights, tmp_path: Path) -> None:
    report, model = judged(run, fake_model, base, written(base, tmp_path / "sound", weights))
    assert report.gate("integrity").verdict == "PASS"
    assert {arm for arm, _ in model.asked} == {"base", "candidate"}


@pytest.mark.parametrize(
    ("change", "damage", "says"),
    [
        (zero, nothing, "all zero"),
        (not_a_number, nothing, "not finite"),
        (wrong_shape, nothing, "shapes"),
        (one_half, nothing, "one half"),
        (misnamed, nothing, "not a layer of the base"),
        (dict, of_another_base, "another base"),
        (dict, cut_off, ""),
    ],
    ids=["zero", "nan", "shapes", "half", "misnamed", "another base", "cut off"],
)
def test_damaged_adapter_fails_integrity_and_is_not_asked(
    run: Run,
    fake_model: Any,
    base: Any,
    weights: Weights,
    tmp_path: Path,
    change: Callable[[Weights], Weights],
    damage: Callable[[Path], None],
    says: str,
) -> None:
    folder = written(base, tmp_path / "faulty", change(weights))
    damage(folder)
    report, model = judged(run, fake_model, base, folder)
    gate = report.gate("integrity")
    assert (gate.verdict, report.verdict) == ("FAIL", "FAIL")
    assert says in gate.sentence
    assert {arm for arm, _ in model.asked} == {"base"}
