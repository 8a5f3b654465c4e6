"""Families of base models: what each must define, and that every supported one does."""

from __future__ import annotations

import importlib
from dataclasses import MISSING, fields, replace
from typing import Any

import pytest

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.family import FAMILIES, QWEN2_VL, QWEN3_VL, Family, find_family, mlx_module_name

# Everything that differs between families. Whoever adds a field answers it for every family.
REQUIRED = {
    "name",
    "model_type",
    "processor_arrays",
    "image_tokens_follow_size",
    "image_token_id",
    "end_tokens",
    "embed",
    "has_fused_rotary",
    "rotation",
    "run_layer",
    "logits",
    "language_model_prefix",
    "unadapted_modules",
    "module_prefixes",
}


def values_of(family: Family) -> dict[str, Any]:
    return {field.name: getattr(family, field.name) for field in fields(family)}


def test_required_fields_have_no_default() -> None:
    assert {field.name for field in fields(Family)} == REQUIRED
    assert all(field.default is MISSING and field.default_factory is MISSING for field in fields(Family))


@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_incomplete_family_is_rejected(missing: str) -> None:
    values = values_of(QWEN3_VL)
    del values[missing]
    with pytest.raises(TypeError, match=missing):
        Family(**values)


@pytest.mark.parametrize("missing", ["name", "processor_arrays", "module_prefixes", "embed"])
def test_empty_definition_is_rejected(missing: str) -> None:
    empty: Any = None if missing == "embed" else type(getattr(QWEN3_VL, missing))()
    with pytest.raises(ValueError, match=f"does not define {missing}"):
        replace(QWEN3_VL, **{missing: empty})


def test_supported_families_are_complete_and_distinct() -> None:
    assert [family.name for family in FAMILIES] == ["Qwen2-VL", "Qwen2.5-VL", "Qwen3-VL"]
    assert len({family.model_type for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        callables = ("image_token_id", "end_tokens", "embed", "has_fused_rotary", "rotation", "run_layer", "logits")
        assert all(callable(getattr(family, name)) for name in callables), family.name
        assert find_family(family.model_type) is family
    assert find_family("llama") is None and find_family(None) is None


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_family_fits_its_module_in_mlx_vlm(family: Family) -> None:
    """A tiny random model of the family: its layers, rotary positions, output layer and module names are as defined."""
    import mlx.core as mx
    import mlx.nn as nn

    language = importlib.import_module(f"mlx_vlm.models.{family.model_type}.language")
    config = importlib.import_module(f"mlx_vlm.models.{family.model_type}.config")
    text = {
        "model_type": family.model_type,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 48,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "rms_norm_eps": 1e-6,
        "vocab_size": 64,
        "rope_theta": 10_000.0,
        "max_position_embeddings": 128,
        "tie_word_embeddings": False,
        "rope_scaling": {"type": "mrope", "rope_type": "mrope", "mrope_section": [2, 3, 3]},
    }
    args = config.TextConfig.from_dict(text)
    model = language.LanguageModel(args, None)
    hidden = mx.random.normal((1, 5, 32), key=mx.random.key(0))
    positions = mx.broadcast_to(mx.arange(5), (3, 1, 5))
    rotation = family.rotation(model, hidden, positions)
    assert (rotation is None) is family.has_fused_rotary(model)
    states = hidden
    for layer in model.model.layers:
        states = family.run_layer(layer, states, "causal", None, positions, rotation)
    logits = family.logits(model, model.model.norm(states))
    expected = model.lm_head(model.model(None, inputs_embeds=hidden, mask="causal", position_ids=positions))
    assert logits.shape == (1, 5, 64) and mx.allclose(logits, expected, atol=1e-5)
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    assert any(name.rpartition(".")[2] in family.unadapted_modules for name in linear)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_peft_names_come_back(family: Family) -> None:
    module = "language_model.model.layers.3.self_attn.q_proj"
    theirs = "base_model.model.model.language_model.layers.3.self_attn.q_proj"
    assert family.peft_module_name(module) == theirs
    assert family.mlx_module_name(theirs) == mlx_module_name(theirs) == module
    assert family.mlx_module_name("model.layers.3.self_attn.q_proj") == module, "the spelling before 2025"
    assert family.mlx_module_name("lm_head") == "lm_head"


@pytest.mark.mini
def test_loaded_base_knows_its_family(base: BaseVLM) -> None:
    assert base.family is QWEN3_VL is not QWEN2_VL
    assert base.family.end_tokens(base.tokenizer) == base.end_tokens
