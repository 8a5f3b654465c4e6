"""PEFT and older adapters come in with the same numbers: what each adds to a layer, before and after."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mondrian_core.cli import main
from mondrian_core.errors import BadAdapter, BadInput, NothingToDo
from mondrian_core.models.family import mlx_module_name
from mondrian_core.registry import Registry
from mondrian_core.registry.validation import array_problems
from mondrian_core.rubric import AnswerForm
from tests.registry.conftest import write_adapter

THEIRS = "base_model.model.model.language_model.layers.{}.{}"
OURS = "language_model.model.layers.{}.{}"
INPUTS, OUTPUTS = 12, 20


def peft(folder: Path, modules: dict[str, int], **config: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A PEFT folder with random A (r, in) and B (out, r) for modules by rank; gives (A, B) by module."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    pairs = {
        name: (rng.normal(size=(rank, INPUTS)).astype(np.float32), rng.normal(size=(OUTPUTS, rank)).astype(np.float32))
        for name, rank in modules.items()
    }
    arrays: dict[str, Any] = {}
    for name, (a, b) in pairs.items():
        arrays |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
    save_file(arrays, folder / "adapter_model.safetensors")
    usual = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 16,
        "lora_dropout": 0.05,
        "use_rslora": False,
        "rank_pattern": {},
        "alpha_pattern": {},
        "bias": "none",
        "use_dora": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "target_modules": ["q_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps({**usual, **config}))
    return pairs


def added(folder: Path, module: str, x: np.ndarray) -> np.ndarray:
    """What a version in mlx-vlm's layout adds to a layer's output: x A B scale."""
    arrays = load_file(folder / "adapters.safetensors")
    scale = json.loads((folder / "adapter_config.json").read_text())["lora_parameters"]["scale"]
    result: np.ndarray = scale * (x @ arrays[f"{module}.lora_a"] @ arrays[f"{module}.lora_b"])
    return result


X = np.random.default_rng(9).normal(size=(3, INPUTS)).astype(np.float32)
Q, K, V = (THEIRS.format(0, f"self_attn.{name}") for name in ("q_proj", "k_proj", "v_proj"))
OUR_Q, OUR_K, OUR_V = (OURS.format(0, f"self_attn.{name}") for name in ("q_proj", "k_proj", "v_proj"))


def test_conversion_keeps_the_form_that_the_adapter_was_taught(registry: Registry, tmp_path: Path) -> None:
    peft(tmp_path / "peft", {Q: 4}, answer_form="advice")
    version = registry.import_from("ansel", tmp_path / "peft", actor="a")
    assert version.answer_form == AnswerForm.ADVICE
    assert json.loads((version.path / "adapter_config.json").read_text())["answer_form"] == "advice"


@pytest.mark.parametrize(
    ("config", "scale"), [({}, 16 / 4), ({"use_rslora": True}, 16 / math.sqrt(4)), ({"lora_alpha": 3}, 0.75)]
)
def test_peft_adds_the_same_numbers(registry: Registry, tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    pairs = peft(tmp_path / "peft", {Q: 4, K: 4}, **config)
    version = registry.import_from("ansel", tmp_path / "peft", actor="a")
    for theirs, ours in ((Q, OUR_Q), (K, OUR_K)):
        a, b = pairs[theirs]
        np.testing.assert_allclose(added(version.path, ours, X), scale * (X @ a.T @ b.T), rtol=1e-5)
    made = version.manifest["imported_from"]
    assert (made["layout"], made["modules"], made["rank"]) == ("peft", 2, 4)
    assert made["scales"] == pytest.approx([scale])
    assert registry.verify("ansel", "v0001") == ()
    assert json.loads((version.path / "original_config.json").read_text())["lora_alpha"] == config.get("lora_alpha", 16)


def test_ranks_and_alphas_by_module_become_one(registry: Registry, tmp_path: Path) -> None:
    pairs = peft(
        tmp_path / "peft",
        {Q: 4, K: 8, V: 2},
        rank_pattern={"self_attn.k_proj": 8, "v_proj": 2},
        alpha_pattern={r"layers\.0\.self_attn\.v_proj": 5},
        use_rslora=True,
    )
    version = registry.import_from("ansel", tmp_path / "peft", actor="a")
    for theirs, ours, scale in ((Q, OUR_Q, 16 / 2), (K, OUR_K, 16 / math.sqrt(8)), (V, OUR_V, 5 / math.sqrt(2))):
        a, b = pairs[theirs]
        np.testing.assert_allclose(added(version.path, ours, X), scale * (X @ a.T @ b.T), rtol=1e-4)
    assert load_file(version.path / "adapters.safetensors")[f"{OUR_V}.lora_a"].shape == (INPUTS, 8)
    assert registry.verify("ansel", "v0001") == ()


def test_bfloat16_is_widened_exactly(registry: Registry, tmp_path: Path) -> None:
    pairs = peft(tmp_path / "peft", {Q: 4})
    header, data, exact = {}, b"", {}
    for half, array in zip("AB", pairs[Q], strict=True):
        bits = (array.view(np.uint32) >> 16).astype("<u2")
        exact[half] = (bits.astype(np.uint32) << 16).view(np.float32)
        place = [len(data), len(data) + bits.nbytes]
        header[f"{Q}.lora_{half}.weight"] = {"dtype": "BF16", "shape": array.shape, "data_offsets": place}
        data += bits.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "peft" / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    version = registry.import_from("ansel", tmp_path / "peft", actor="a")
    np.testing.assert_allclose(added(version.path, OUR_Q, X), 4.0 * (X @ exact["A"].T @ exact["B"].T), rtol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {"bias": "lora_only"},
        {"modules_to_save": ["lm_head"]},
        {"peft_type": "IA3"},
        {"init_lora_weights": "pissa_niter_4"},
        {"layer_replication": [[0, 2]]},
        {"r": 8},
        {"lora_alpha": 0},
    ],
)
def test_what_is_more_or_less_than_a_lora_is_refused(
    registry: Registry, tmp_path: Path, config: dict[str, Any]
) -> None:
    peft(tmp_path / "peft", {Q: 4}, **config)
    with pytest.raises(BadAdapter):
        registry.import_from("ansel", tmp_path / "peft", actor="a")
    assert registry.versions("ansel") == []


def dora(folder: Path, modules: dict[str, int], **config: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """`peft` with magnitudes; gives pairs and magnitudes by module."""
    pairs = peft(folder, modules, use_dora=True, **config)
    rng = np.random.default_rng(6)
    lengths = {name: rng.uniform(0.5, 2.0, OUTPUTS).astype(np.float32) for name in modules}
    weights = folder / "adapter_model.safetensors"
    save_file(load_file(weights) | {f"{name}.lora_magnitude_vector": array for name, array in lengths.items()}, weights)
    return pairs, lengths


def test_a_dora_comes_in_with_its_magnitudes(registry: Registry, tmp_path: Path) -> None:
    """What rows of W + sBA are divided by stays what it was, ranks by module and rsLoRA included."""
    pairs, lengths = dora(tmp_path / "peft", {Q: 4, K: 2}, rank_pattern={"k_proj": 2}, use_rslora=True)
    version = registry.import_from("ansel", tmp_path / "peft", actor="a")
    stored = load_file(version.path / "adapters.safetensors")
    config = json.loads((version.path / "adapter_config.json").read_text())
    assert config["fine_tune_type"] == "dora" and version.manifest["imported_from"]["kind"] == "dora"
    for theirs, ours, scale in ((Q, OUR_Q, 16 / math.sqrt(4)), (K, OUR_K, 16 / math.sqrt(2))):
        a, b = pairs[theirs]
        np.testing.assert_allclose(added(version.path, ours, X), scale * (X @ a.T @ b.T), rtol=1e-4)
        np.testing.assert_array_equal(stored[f"{ours}.m"], lengths[theirs])
    assert registry.verify("ansel", "v0001") == ()


def test_a_dora_without_all_its_magnitudes_is_refused(registry: Registry, tmp_path: Path) -> None:
    dora(tmp_path / "peft", {Q: 4, K: 4})
    weights = tmp_path / "peft" / "adapter_model.safetensors"
    whole = load_file(weights)
    save_file({key: array for key, array in whole.items() if key != f"{K}.lora_magnitude_vector"}, weights)
    with pytest.raises(BadAdapter, match="no magnitude"):
        registry.import_from("ansel", tmp_path / "peft", actor="a")
    config = tmp_path / "peft" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": False}))
    save_file(whole, weights)
    with pytest.raises(BadAdapter, match="not half"):  # magnitudes in what says it is a LoRA
        registry.import_from("ansel", tmp_path / "peft", actor="a")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda w: w.pop(f"{OUR_Q}.m"), "has no magnitude"),
        (lambda w: w.update({f"{OUR_Q}.m": w[f"{OUR_Q}.m"][1:]}), "(19,)"),
        (lambda w: w.update({f"{OUR_Q}.m": w[f"{OUR_Q}.m"] * np.float32(np.nan)}), "finite"),
    ],
)
def test_a_dora_of_mlx_vlm_is_verified(registry: Registry, tmp_path: Path, spoil: Any, problem: str) -> None:
    folder, rng = tmp_path / "adapter", np.random.default_rng(2)
    folder.mkdir()
    arrays = {f"{OUR_Q}.lora_a": (INPUTS, 4), f"{OUR_Q}.lora_b": (4, OUTPUTS), f"{OUR_Q}.m": (OUTPUTS,)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in arrays.items()}
    values = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": [OUR_Q]}
    (folder / "adapter_config.json").write_text(json.dumps({"fine_tune_type": "dora", "lora_parameters": values}))
    save_file(weights, folder / "adapters.safetensors")
    assert array_problems(folder) == ()
    registry.import_from("ansel", folder, actor="a")
    assert registry.verify("ansel", "v0001") == ()
    spoil(weights)
    save_file(weights, folder / "adapters.safetensors")
    assert any(problem in found for found in array_problems(folder))


def test_a_half_pair_and_a_foreign_array_are_refused(registry: Registry, tmp_path: Path) -> None:
    peft(tmp_path / "half", {Q: 4})
    weights = tmp_path / "half" / "adapter_model.safetensors"
    arrays = load_file(weights)
    save_file({key: array for key, array in arrays.items() if "lora_A" in key}, weights)
    with pytest.raises(BadAdapter, match="one half"):
        registry.import_from("ansel", tmp_path / "half", actor="a")
    save_file({**arrays, "base_model.model.lm_head.weight": arrays[f"{Q}.lora_A.weight"]}, weights)
    with pytest.raises(BadAdapter, match="not half"):
        registry.import_from("ansel", tmp_path / "half", actor="a")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("base_model.model.model.language_model.layers.3.mlp.up_proj", "language_model.model.layers.3.mlp.up_proj"),
        ("base_model.model.model.layers.3.mlp.up_proj", "language_model.model.layers.3.mlp.up_proj"),
        ("base_model.model.model.visual.blocks.0.attn.qkv", "vision_tower.blocks.0.attn.qkv"),
        ("language_model.model.layers.3.mlp.up_proj", "language_model.model.layers.3.mlp.up_proj"),
    ],
)
def test_module_names_are_converted(theirs: str, ours: str) -> None:
    assert mlx_module_name(theirs) == ours


def flat(folder: Path, alpha: float = 0.1, rank: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """The older layout of mlx-vlm."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(6)
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((INPUTS, rank), (rank, OUTPUTS)))
    save_file({f"{OUR_Q}.A": a, f"{OUR_Q}.B": b}, folder / "adapters.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"rank": rank, "alpha": alpha, "dropout": 0.1}))
    return a, b


@pytest.mark.parametrize(("meant", "scale"), [("alpha", 0.1), ("alpha/rank", 0.0125)])
def test_the_older_layout_gets_the_scale_that_was_meant(
    registry: Registry, tmp_path: Path, meant: Any, scale: float
) -> None:
    a, b = flat(tmp_path / "flat")
    version = registry.import_from("ansel", tmp_path / "flat", actor="a", scale=meant)
    np.testing.assert_allclose(added(version.path, OUR_Q, X), scale * (X @ a @ b), rtol=1e-5)
    assert registry.verify("ansel", "v0001") == ()


def test_the_older_layout_stays_as_it_is_when_nobody_says(registry: Registry, tmp_path: Path) -> None:
    flat(tmp_path / "flat")
    version = registry.import_from("ansel", tmp_path / "flat", actor="a")
    assert json.loads((version.path / "adapter_config.json").read_text()) == {"rank": 8, "alpha": 0.1, "dropout": 0.1}
    assert "layout" not in version.manifest["imported_from"]


def test_a_scale_is_refused_where_the_adapter_says_it(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="states its own scale"):
        registry.import_from("ansel", write_adapter(tmp_path / "ours"), actor="a", scale="alpha")


def test_the_command_and_the_older_configuration(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat(tmp_path / "adapters-then" / "ansel")
    config = tmp_path / "model_config.json"
    model = {"model_id": "mlx-community/Qwen3-VL-4B-Instruct-4bit", "adapter": "adapters-then/ansel"}
    config.write_text(json.dumps({"active_model": "ansel", "models": {"ansel": model}}))
    where = ["--advisor", "ansel", "--adapters", str(registry.root), "--json"]
    assert main(["adapters", "import", str(config), "--scale", "alpha", *where]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["imported_from"]["scales"], told["imported_from"]["active_model"]) == ([0.1], "ansel")
    assert told["notices"] == [], "with the scale that was meant there is nothing to warn of"
    assert main(["adapters", "import", str(config), *where]) == 1, "once is enough"
    capsys.readouterr()
    config.write_text(config.read_text() + " ")
    assert main(["adapters", "import", str(config), *where]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "--scale alpha" in told["notices"][0]
    with pytest.raises(NothingToDo):
        registry.import_from("ansel", config, actor="a")


@pytest.mark.mini
def test_plain_mlx_vlm_answers_with_an_imported_peft_adapter(registry: Registry, tmp_path: Path) -> None:
    """Through mlx-vlm's own loader: one layer of the base, with the adapter, against numpy on PEFT's arrays."""
    import mlx.core as mx
    from mlx_vlm import load

    from mondrian_core.models.base_model import MINI_WEIGHTS, load_base
    from mondrian_core.models.lora.adapter_validation import adaptable_linear_layers

    base = load_base("mini")
    layers = adaptable_linear_layers(base)
    ours = next(name for name in layers if name.endswith("layers.1.mlp.up_proj"))
    theirs = "base_model.model." + ours.replace("language_model.model.", "model.language_model.")
    weight = np.array(layers[ours].weight)
    rng = np.random.default_rng(1)
    a = rng.normal(size=(4, weight.shape[1])).astype(np.float32)
    b = rng.normal(size=(weight.shape[0], 4)).astype(np.float32)
    peft(tmp_path / "peft", {Q: 4}, use_rslora=True, lora_alpha=3)
    save_file({f"{theirs}.lora_A.weight": a, f"{theirs}.lora_B.weight": b}, tmp_path / "peft/adapter_model.safetensors")
    version = registry.import_from("ansel", tmp_path / "peft", actor="a")
    model, _ = load(str(MINI_WEIGHTS), adapter_path=str(version.path))
    loaded = dict(model.named_modules())[ours]
    x = rng.normal(size=(2, weight.shape[1])).astype(np.float32)
    expected = x @ weight.T + 3 / math.sqrt(4) * (x @ a.T @ b.T)
    np.testing.assert_allclose(np.array(loaded(mx.array(x)).astype(mx.float32)), expected, rtol=2e-2, atol=2e-2)
