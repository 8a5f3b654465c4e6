"""Export an adapter: as mlx-vlm's folder, as PEFT's folder, or merged into the base's weights.

Shapes: `T` tokens, `V` vocabulary.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
import numpy as np

from mondrian_core.errors import BadAdapter, BadInput
from mondrian_core.files import read_json, write_atomic, write_json
from mondrian_core.lora_files import adapter_answer_form, answer_form_setting
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.forward_pass import hidden_states
from mondrian_core.models.inference.generation import generate
from mondrian_core.models.kl import log_probabilities, teacher_forced_inputs
from mondrian_core.models.lora import lora_adapter
from mondrian_core.models.lora.dora import MIN_ROW_NORM
from mondrian_core.models.lora.lora_layers import get_adapter_switch, record_answer_form, validate_adapter_folder
from mondrian_core.models.prompt_encoding import encode_prompt
from mondrian_core.portable_paths import base_model_name, with_base_model_names

if TYPE_CHECKING:
    from PIL import Image

    PhotoPrompt = tuple[list[dict[str, Any]], Image.Image]

MERGE_REPORT_FILE = "merge_report.json"
_TOKENS = 160


@dataclass(frozen=True)
class MergeParity:
    """How far merged weights differ from base and adapter, on a few photographs.

    Attributes:
        photographs: number of photographs.
        same_answers: number of equal greedy answers, of at most 160 tokens.
        log_probability_difference: largest difference (nats) of a token's log-probability along these answers.
        delta_error: Frobenius norm of the rounding error in W', relative to that of W' - W; at 0 the adapter
            is unchanged, at 1 it is lost.
    """

    photographs: int
    same_answers: int
    log_probability_difference: float
    delta_error: float


def export_mlx_adapter(adapter: Path, out: Path) -> None:
    """Write the two files that `mlx_vlm.generate --adapter-path` reads, without the registry's files."""
    lora_adapter.load_lora_adapter(adapter)
    with _new_folder(out) as folder:
        for name in (lora_adapter.ADAPTER_WEIGHTS_FILE, lora_adapter.ADAPTER_CONFIG_FILE):
            write_atomic(folder / name, (adapter / name).read_bytes())
        record_answer_form(folder, adapter_answer_form(adapter))


def export_peft_adapter(base: BaseVLM, adapter: Path, out: Path) -> None:
    """Write a folder that `peft.PeftModel.from_pretrained` opens on the same base in transformers.

    PEFT stores A and B transposed and divides alpha by the rank: lora_alpha = scale x r.

    Raises:
        BadAdapter: the adapter isn't valid for this base.
    """
    from safetensors.numpy import save

    lora = _validated_adapter(base, adapter)
    tensors = {}
    for name in lora.modules:
        tensors[f"{base.family.peft_module_name(name)}.lora_A.weight"] = _numpy(lora.lora_a[name].T)
        tensors[f"{base.family.peft_module_name(name)}.lora_B.weight"] = _numpy(lora.lora_b[name].T)
        if lora.dora:
            tensors[f"{base.family.peft_module_name(name)}.lora_magnitude_vector"] = _numpy(lora.magnitude[name])
    prefix = "base_model.model."
    configuration = {
        "peft_type": "LORA",
        "r": lora.rank,
        "lora_alpha": lora.scale * lora.rank,
        "lora_dropout": lora.dropout,
        "bias": "none",
        "use_rslora": False,
        "use_dora": lora.dora,
        "inference_mode": True,
        "task_type": None,
        "base_model_name_or_path": base_model_name(base.name),
        "target_modules": [base.family.peft_module_name(name).removeprefix(prefix) for name in lora.modules],
        **answer_form_setting(adapter_answer_form(adapter)),
    }
    with _new_folder(out) as folder:
        write_atomic(folder / lora_adapter.PEFT_WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
        write_json(folder / lora_adapter.ADAPTER_CONFIG_FILE, configuration)


def export_merged_model(base: BaseVLM, adapter: Path, out: Path, questions: Sequence[PhotoPrompt]) -> MergeParity:
    """Write a copy of the base's folder with the adapted weights, and compare answers of both.

    Args:
        base: the base, with weights in 16 or 32 bit.
        adapter: the adapter's folder.
        out: the new folder.
        questions: prompts with photographs to answer; MERGE_REPORT_FILE in the folder holds the comparison.

    Raises:
        BadInput: the base's weights are packed, and rounding to 4 or 8 bit would remove most of the adapter.
        BadAdapter: the adapter isn't valid for this base.
    """
    if base.quantized:
        raise BadInput(
            f"{base.name} has packed (4 or 8 bit) weights; an adapter adds less than their steps, so merging "
            "would lose it.",
            "Export with --format mlx or peft, or merge into the same model with 16-bit weights.",
        )
    lora = _validated_adapter(base, adapter)
    with _new_folder(out) as folder:
        errors = _merge(base, folder, lora)
        merged = load_base(str(folder))
        parity = _parity(base, adapter, merged, questions, errors)
        write_json(
            folder / MERGE_REPORT_FILE,
            {"base": base.fingerprint, "adapter": "/".join(adapter.parts[-2:]), **asdict(parity)},
        )
    return parity


def _validated_adapter(base: BaseVLM, adapter: Path) -> lora_adapter.LoraAdapter:
    problems = validate_adapter_folder(base, adapter)
    if problems:
        raise BadAdapter(
            f"The adapter in {adapter} can't be exported: {'; '.join(problems)}.",
            "Choose another version with `mondrian adapters list`.",
        )
    return lora_adapter.load_lora_adapter(adapter)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder next to `out`, which is renamed to `out` when everything is in it."""
    if out.exists():
        raise BadInput(f"{out} already exists.", "Name a folder that doesn't exist yet.")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.parent / f".{out.name}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Copy one of the base's other files; a configuration loses the folder that it was loaded from."""
    shutil.copyfile(source, target)
    if source.name.endswith("config.json"):
        values = read_json(source)
        renamed = with_base_model_names(values)
        if renamed != values:
            write_json(target, renamed)


def _merge(base: BaseVLM, folder: Path, adapter: lora_adapter.LoraAdapter) -> tuple[float, float]:
    """Write the folder file by file; squared Frobenius norms of (the rounding error, what the adapter adds)."""
    lost = added = 0.0
    missing = set(adapter.modules)
    for path in sorted(path for path in base.path.iterdir() if path.is_file()):
        if path.suffix != ".safetensors":
            if path.name not in ("README.md", MERGE_REPORT_FILE):
                _copy(path, folder / path.name)
            continue
        tensors, metadata = cast(tuple[dict[str, mx.array], dict[str, str]], mx.load(str(path), return_metadata=True))
        for key in list(tensors):
            name = base.family.mlx_module_name(key.removesuffix(".weight"))
            if name not in adapter.lora_a or not key.endswith(".weight"):
                continue
            plain = tensors[key].astype(mx.float32)
            wanted = _merged_weight(plain, adapter, name)
            tensors[key] = wanted.astype(tensors[key].dtype)
            lost += float(np.array(mx.sum(mx.square(tensors[key].astype(mx.float32) - wanted))))
            added += float(np.array(mx.sum(mx.square(wanted - plain))))
            missing.discard(name)
        mx.save_safetensors(str(folder / path.name), tensors, metadata=metadata)
    if missing:
        raise BadAdapter(
            f"{base.path} has no weights named {', '.join(sorted(missing)[:3])}.", "Export with --format mlx or peft."
        )
    return lost, added


def _merged_weight(weight: mx.array, adapter: lora_adapter.LoraAdapter, name: str) -> mx.array:
    """W' (out, in) of a module in float32: W + s (A B)^T, with its rows scaled to the magnitudes of a DoRA.

    Args:
        weight: W, (out, in).
        adapter: the adapter that holds A, B and the magnitudes.
        name: the module.
    """
    delta = adapter.scale * (adapter.lora_a[name].astype(mx.float32) @ adapter.lora_b[name].astype(mx.float32)).T
    moved = weight + delta
    if not adapter.dora:
        return moved
    norms = mx.maximum(mx.linalg.norm(moved, axis=1), MIN_ROW_NORM)
    return (adapter.magnitude[name].astype(mx.float32) / norms)[:, None] * moved


def _parity(
    base: BaseVLM, adapter: Path, merged: BaseVLM, questions: Sequence[PhotoPrompt], errors: tuple[float, float]
) -> MergeParity:
    same, worst = 0, 0.0
    mounted = get_adapter_switch(base)
    for messages, image in questions:
        mounted.use(adapter)
        answer = generate(base, messages, image, max_tokens=_TOKENS)
        mine = _log_probabilities_along(base, messages, image, answer.tokens)
        mounted.use(None)
        other = generate(merged, messages, image, max_tokens=_TOKENS)
        same += other.tokens == answer.tokens
        theirs = _log_probabilities_along(merged, messages, image, answer.tokens)
        worst = max(worst, float(np.abs(mine - theirs).max()))
    return MergeParity(len(questions), same, worst, (errors[0] / errors[1]) ** 0.5 if errors[1] else 0.0)


def _log_probabilities_along(
    base: BaseVLM, messages: list[dict[str, Any]], image: Image.Image, tokens: Sequence[int]
) -> np.ndarray:
    """(T,) log-probabilities (nats) of the T tokens of an answer, teacher forced."""
    prompt = encode_prompt(base, messages, image)
    hidden = hidden_states(base, teacher_forced_inputs(base, prompt, list(tokens)))
    found = np.array(log_probabilities(base, hidden[0, len(prompt.ids) - 1 :]))
    return np.asarray(found[np.arange(len(tokens)), list(tokens)])


def _numpy(array: mx.array) -> np.ndarray:
    return np.ascontiguousarray(np.array(array.astype(mx.float32)))
