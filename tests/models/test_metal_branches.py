"""Branches that only a Mac takes, run here with a machine that looks like one. docs/reference/metal.md lists them."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mondrian_core import accelerator_lock, settings
from mondrian_core.evaluation.measure.mlx_model import MlxModel
from mondrian_core.models import base_model, cpu_blas, model_memory
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.batch_decoding import BatchDecoder
from mondrian_core.models.inference.decoding import CompiledDecoder, EagerDecoder, make_decoder
from mondrian_core.models.prompt_encoding import encode_prompt
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.service_units.installation import supervisor_of_machine
from mondrian_core.service_units.launchd import Launchd
from mondrian_core.service_units.systemd import Systemd
from mondrian_core.settings import Settings
from mondrian_core.training.gradient_step import GradientStep, most_rows_at_once
from mondrian_core.training.step_probe import _first_layers

pytestmark = pytest.mark.mini

WORKING_SET = 11_453_251_584
NAME = "Apple M4"


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX reports a Metal device; it still computes on the CPU."""
    info = {"device_name": NAME, "max_recommended_working_set_size": WORKING_SET}
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    monkeypatch.setattr(mx, "device_info", lambda *device: info)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)


@pytest.mark.usefixtures("mac")
def test_the_device_of_a_mac_is_named() -> None:
    assert base_model.device_name() == f"{NAME} (Metal)"


@pytest.mark.usefixtures("mac")
def test_memory_of_a_mac_is_metals_working_set() -> None:
    assert model_memory.machine_memory() == WORKING_SET


def test_a_number_takes_two_bytes_on_a_gpu(request: pytest.FixtureRequest) -> None:
    on_cpu = model_memory.device_item_bytes()
    request.getfixturevalue("mac")
    assert (on_cpu, model_memory.device_item_bytes()) == (4, 2)


def test_a_step_is_compiled_on_a_gpu(base: BaseVLM, request: pytest.FixtureRequest) -> None:
    on_cpu = GradientStep(base, threads=1)
    request.getfixturevalue("mac")
    on_gpu = GradientStep(base)
    assert (on_cpu.compiled, on_gpu.compiled, on_gpu.threads) == (False, True, 1)
    assert most_rows_at_once() == 1


@pytest.mark.usefixtures("mac")
def test_weights_keep_their_data_type_on_a_gpu(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base_model.MINI_WEIGHTS, folder)
    (weights,) = folder.glob("*.safetensors")
    arrays: Any = mx.load(str(weights))
    mx.save_safetensors(str(weights), {name: array.astype(mx.bfloat16) for name, array in arrays.items()})
    loaded = base_model.load_base(str(folder))
    assert {array.dtype for _, array in tree_flatten(loaded.model.parameters())} == {mx.bfloat16}
    with _first_layers(loaded, 1) as cut:
        assert {array.dtype for _, array in tree_flatten(cut.language_model.parameters())} == {mx.bfloat16}


@pytest.mark.parametrize(("fused", "expected"), [(True, EagerDecoder), (False, CompiledDecoder)])
def test_a_fused_rotary_kernel_decodes_on_the_growing_cache(fused: bool, expected: type) -> None:
    looks_fused: Any = SimpleNamespace(
        family=SimpleNamespace(has_fused_rotary=lambda model: fused), language_model=None, cache={}
    )
    assert type(make_decoder(looks_fused)) is expected


def test_a_batch_with_a_fused_rotary_kernel_is_not_compiled(
    base: BaseVLM, messages: Any, image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, answer = encode_prompt(base, messages, image), [5, 6, 7]

    def logits() -> mx.array:
        monkeypatch.setitem(base.cache, "steps", {})
        decoder = BatchDecoder(base, groups=1)
        decoder.feed(decoder.open(prompt), answer)
        ((_, found),) = decoder.run_pass()
        return found

    compiled = logits()
    monkeypatch.setitem(vars(base), "family", replace(base.family, has_fused_rotary=lambda model: True))
    monkeypatch.setattr(mx, "compile", lambda function: pytest.fail("it was compiled"))
    assert mx.allclose(logits(), compiled, atol=1e-4)


@pytest.mark.parametrize("device", ["CPU", "GPU", f"{NAME} (Metal)"])
def test_seconds_per_photograph_are_judged_on_metal_only(
    base: BaseVLM, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_model, "device_name", lambda: device)
    assert MlxModel(base, AdvisorPrompt("ansel", "Ansel Adams")).metal is ("Metal" in device)


@pytest.mark.parametrize(("system", "machine", "expected"), [("Darwin", "arm64", True), ("Darwin", "x86_64", False)])
def test_apple_silicon_is_recognized(
    system: str, machine: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert settings.on_apple_silicon() is expected


def test_openblas_is_not_looked_for_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_candidates() -> list[Path]:
        raise AssertionError("it was looked for")

    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(cpu_blas, "_candidates", no_candidates)
    assert cpu_blas.preload_openblas() is None
    with cpu_blas.single_blas_thread():
        pass


def test_lock_files_of_a_mac_are_in_its_shared_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second copy of the module, because it reads the platform when it is imported."""
    monkeypatch.setattr(sys, "platform", "darwin")
    spec = importlib.util.spec_from_file_location("lock_of_a_mac", accelerator_lock.__file__)
    assert spec is not None and spec.loader is not None
    of_a_mac = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(of_a_mac)
    assert of_a_mac.LOCK_FOLDERS[0] == "/Users/Shared"
    assert "/Users/Shared" not in accelerator_lock.LOCK_FOLDERS


def test_launchd_supervises_on_a_mac() -> None:
    assert isinstance(supervisor_of_machine(Settings(), platform="darwin"), Launchd)
    assert isinstance(supervisor_of_machine(Settings(), platform="linux"), Systemd)
