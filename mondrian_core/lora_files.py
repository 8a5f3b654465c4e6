"""Read adapter folders: layout, rank, scale and arrays, for training, answering, importing and verifying.

| layout | A and B | weights file | configuration | added to x W^T |
|---|---|---|---|---|
| mlx | `.lora_a` (in, r), `.lora_b` (r, out) | adapters.safetensors | `lora_parameters` | x A B scale |
| older | `.A` (in, r), `.B` (r, out) | adapters.safetensors | `rank`, `alpha` | x A B alpha/r |
| peft | `.lora_A.weight` (r, in), `.lora_B.weight` (out, r) | adapter_model... | `peft_type` | x A^T B^T alpha/r |

mlx-vlm before March 2026 used alpha itself as the scale of the older layout; only whoever trained the adapter knows
which one applies. Sources: mlx-vlm's LoRALinear and LoRaLayer, its issue 841; peft's LoraLayer.set_scale. With rsLoRA
PEFT divides by sqrt(r), and rank and alpha may differ by module (`rank_pattern`, `alpha_pattern`). The other layouts
have one rank and one scale, so smaller ranks are padded with zeros and other scales are folded into B, which doesn't
change the product. Features that change more than such products are refused by name (PiSSA changes the base,
modules_to_save replaces whole layers). mlx isn't imported here.

Shapes: A (in, r), B (r, out), magnitudes (out,).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mondrian_core.errors import BadAdapter
from mondrian_core.lora_arrays import KEY_SUFFIXES, RESTORE_ADVICE, read_float32_tensors
from mondrian_core.rubric import AnswerForm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

ADAPTER_WEIGHTS_FILE, PEFT_WEIGHTS_FILE, ADAPTER_CONFIG_FILE = (
    "adapters.safetensors",
    "adapter_model.safetensors",
    "adapter_config.json",
)
ANSWER_FORM_KEY = "answer_form"  # in a manifest and in adapter_config.json
_MANIFEST_FILE = "manifest.json"
Layout = Literal["mlx", "older", "peft"]
LORA, DORA = "lora", "dora"
LEGACY_DEFAULT_ALPHA = 0.1  # mlx-vlm's default where an older configuration names none


_PEFT_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<half>A|B)(\.\w+)?\.weight")
_PEFT_MAGNITUDE = re.compile(r"(?P<module>.+)\.lora_(?P<half>magnitude_vector)(\.\w+)?(\.weight)?")
_OF_LORA, _OF_DORA = {"A", "B"}, {"A", "B", "magnitude_vector"}
# Features of PEFT that change more than a low-rank product, with the value that turns them off.
_UNSUPPORTED_FEATURES = {
    "bias": "none",
    "modules_to_save": None,
    "layer_replication": None,
    "lora_bias": False,
    "trainable_token_indices": None,
    "target_parameters": None,
    "alora_invocation_tokens": None,
    "arrow_config": None,
}
_SUPPORTED_FLAGS = {"use_rslora", "use_dora"}  # any other use_... is an unknown feature
# Initialisations that change the base; EVA, Gaussian and orthogonal ones only choose A.
_BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga", "loraga")
_EXPORT_ADVICE = "Export it as a plain LoRA (PEFT can merge or convert it), or train it again."


@dataclass(frozen=True)
class LoraMatrices:
    """A module's A (in, r) and B (r, out) in float32, the factor of their product, and a DoRA's magnitudes (out,)."""

    lora_a: Array
    lora_b: Array
    scale: float
    magnitude: Array | None = None


@dataclass(frozen=True, kw_only=True)
class LoraDescription:
    """What the configuration says.

    Attributes:
        layout: which of the three layouts.
        rank: r; in a PEFT adapter that of modules without a pattern.
        scale: factor of the product A B; in a PEFT adapter that of modules without a pattern.
        dropout: dropout of its training, 0-1.
        dora: True for a DoRA.
        declared_modules: modules that the configuration names; only the mlx layout names any.
        configuration: the contents of adapter_config.json.
    """

    layout: Layout
    rank: int
    scale: float
    dropout: float
    dora: bool = False
    declared_modules: tuple[str, ...] = ()
    configuration: Mapping[str, Any] = field(repr=False, default_factory=dict)


@dataclass(frozen=True)
class UniformLora:
    """Pairs of matrices with one rank and one scale."""

    rank: int
    scale: float
    pairs: Mapping[str, LoraMatrices]


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The contents of adapter_config.json.

    Raises:
        BadAdapter: missing, damaged, or not a JSON object.
    """
    path = folder / ADAPTER_CONFIG_FILE
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadAdapter(
            f"There is no adapter in {folder}: {ADAPTER_CONFIG_FILE} is missing.",
            "Name the folder with the adapter's weights and its adapter_config.json.",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadAdapter(f"{path} can't be read: {error}.", RESTORE_ADVICE) from error
    if not isinstance(value, dict):
        raise BadAdapter(f"{path} is not a JSON object.", RESTORE_ADVICE)
    return value


def adapter_answer_form(folder: Path) -> AnswerForm:
    """The form in which an adapter was taught to answer: as its version's manifest, or else its configuration, says.

    The first form where neither says it, as for the adapters of earlier releases and of other programs.
    """
    for name in (_MANIFEST_FILE, ADAPTER_CONFIG_FILE):
        try:
            values = json.loads((folder / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(values, dict) and values.get(ANSWER_FORM_KEY) in list(AnswerForm):
            return AnswerForm(values[ANSWER_FORM_KEY])
    return AnswerForm.COMMENTS


def answer_form_setting(form: AnswerForm) -> dict[str, str]:
    """What an adapter's configuration says about the form; nothing for the first one. Other programs ignore the key."""
    return {} if form == AnswerForm.COMMENTS else {ANSWER_FORM_KEY: form.value}


def describe_adapter(folder: Path) -> LoraDescription:
    """Layout, rank and scale of the adapter in a folder; anything unclear or unknown is refused by name.

    Raises:
        BadAdapter: a file or a number is missing or invalid, or it is more than a LoRA or DoRA.
    """
    found = read_adapter_config(folder)
    where = folder / ADAPTER_CONFIG_FILE
    if "peft_type" in found:
        return _describe_peft(folder, found)
    if "lora_parameters" in found:
        kind, values = found.get("fine_tune_type", LORA), found["lora_parameters"]
        if kind not in (LORA, DORA):
            raise BadAdapter(f"The adapter in {folder} is a '{kind}', not a LoRA.", "Train or import a LoRA adapter.")
        if not isinstance(values, dict):
            raise BadAdapter(f"lora_parameters in {where} is not a JSON object.", RESTORE_ADVICE)
        declared = values.get("keys") or ()
        if not isinstance(declared, list | tuple) or not all(isinstance(name, str) for name in declared):
            raise BadAdapter(f"keys in {where} is not a list of names.", RESTORE_ADVICE)
        return LoraDescription(
            layout="mlx",
            rank=_rank(values, "rank", where),
            scale=_number(values, "scale", where),
            dropout=_dropout(values),
            dora=kind == DORA,
            declared_modules=tuple(declared),
            configuration=found,
        )
    if "rank" in found:
        rank = _rank(found, "rank", where)
        alpha = _number({"alpha": LEGACY_DEFAULT_ALPHA, **found}, "alpha", where)
        return LoraDescription(
            layout="older", rank=rank, scale=alpha / rank, dropout=_dropout(found), configuration=found
        )
    raise BadAdapter(f"{where} doesn't describe a LoRA.", "Name a folder written by Mondrian, mlx-vlm or PEFT.")


def _describe_peft(folder: Path, found: Mapping[str, Any]) -> LoraDescription:
    if found["peft_type"] != "LORA":
        raise BadAdapter(f"The PEFT adapter in {folder} is a {found['peft_type']}, not a LoRA.", _EXPORT_ADVICE)
    beyond = [
        name
        for name, nothing in _UNSUPPORTED_FEATURES.items()
        if found.get(name, nothing) not in (nothing, None, [], {})
    ]
    beyond += [
        name for name, value in found.items() if name.startswith("use_") and value and name not in _SUPPORTED_FLAGS
    ]
    start = str(found.get("init_lora_weights", "")).lower()
    if start.startswith(_BASE_CHANGING_INITS):
        beyond.append(f"init_lora_weights={start}, which changes the base as well")
    if beyond:
        raise BadAdapter(f"The PEFT adapter in {folder} is more than a LoRA: {', '.join(beyond)}.", _EXPORT_ADVICE)
    for name in ("rank_pattern", "alpha_pattern"):
        _check_patterns(folder / ADAPTER_CONFIG_FILE, name, found.get(name))
    rank, alpha = (
        _rank(found, "r", folder / ADAPTER_CONFIG_FILE),
        _number(found, "lora_alpha", folder / ADAPTER_CONFIG_FILE),
    )
    return LoraDescription(
        layout="peft",
        rank=rank,
        scale=alpha / _divisor(found, rank),
        dropout=_dropout(found),
        dora=bool(found.get("use_dora")),
        configuration=found,
    )


def _check_patterns(where: Path, name: str, patterns: Any) -> None:
    if patterns is not None and not isinstance(patterns, dict):
        raise BadAdapter(f"{name} in {where} is not a JSON object.", RESTORE_ADVICE)
    for pattern in patterns or {}:
        try:
            re.compile(pattern)
        except (re.error, RecursionError) as error:
            raise BadAdapter(f"{name} in {where} holds '{pattern}', not a pattern ({error}).", RESTORE_ADVICE) from None


def _rank(values: Mapping[str, Any], name: str, where: Path) -> int:
    rank = _number(values, name, where)
    if rank != int(rank) or rank < 1:
        raise BadAdapter(f"{name} in {where} is {rank:g}; a rank is a whole number from 1.", RESTORE_ADVICE)
    return int(rank)


def _number(values: Mapping[str, Any], name: str, where: Path) -> float:
    """A finite number of the configuration; it is required, because any default would be a guess."""
    value = values.get(name)
    if value is None:
        raise BadAdapter(
            f"{where} names no {name}, so the adapter's scale is unknown.",
            f"Add the {name} that it was trained with, or train again.",
        )
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9 or not math.isfinite(value):
        raise BadAdapter(f"{name} in {where} is {str(value)[:40]!r}, not a usable number.", RESTORE_ADVICE)
    return float(value)


def _dropout(values: Mapping[str, Any]) -> float:
    """The dropout, or 0 if it isn't readable: it matters for training only."""
    value = values.get("lora_dropout", values.get("dropout"))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 else 0.0


def _divisor(configuration: Mapping[str, Any], rank: int) -> float:
    return math.sqrt(rank) if configuration.get("use_rslora") else rank


def read_peft_matrices(
    folder: Path, described: LoraDescription, module_name: Callable[[str], str]
) -> dict[str, LoraMatrices]:
    """The pairs of a PEFT adapter by module, each with its own rank and scale.

    Args:
        folder: the adapter's folder.
        described: what `describe_adapter` read from its configuration.
        module_name: from a module's name in PEFT to its name in mlx-vlm (`models.family.mlx_module_name`).

    Raises:
        BadAdapter: the weights are damaged or incomplete, or hold arrays that don't belong to a LoRA.
    """
    wanted = _OF_DORA if described.dora else _OF_LORA
    weights = folder / PEFT_WEIGHTS_FILE
    halves: dict[str, dict[str, Array]] = {}
    for key, array in read_float32_tensors(weights).items():
        found = _PEFT_KEY.fullmatch(key) or (_PEFT_MAGNITUDE.fullmatch(key) if described.dora else None)
        if found is None or array.ndim != (1 if found["half"] == "magnitude_vector" else 2):
            raise BadAdapter(f"{weights} holds {key}, which is not half of a LoRA.", _EXPORT_ADVICE)
        half = halves.setdefault(found["module"], {})
        if found["half"] in half:
            raise BadAdapter(f"{weights} holds two adapters for {found['module']}.", "Save one of them alone.")
        half[found["half"]] = array
    pairs: dict[str, LoraMatrices] = {}
    for module, half in halves.items():
        if half.keys() != wanted:
            problem = "has no magnitude" if half.keys() == _OF_LORA else "has only one half"
            raise BadAdapter(f"{weights} {problem} of {module}.", "Save the adapter again.")
        scale = _module_scale(described, module, half["A"].shape[0], folder)
        name = module_name(module)
        if name in pairs:
            raise BadAdapter(f"{weights} names {name} in two ways.", "Save the adapter again.")
        pairs[name] = LoraMatrices(half["A"].T, half["B"].T, scale, half.get("magnitude_vector"))
    return reject_noop_adapter(pairs, folder)


def read_older_matrices(folder: Path, described: LoraDescription, scale: float) -> dict[str, LoraMatrices]:
    """A and B of every module in mlx-vlm's older layout, by module; float32, A (in, r), B (r, out).

    Args:
        folder: the adapter.
        described: what `describe_adapter` found there.
        scale: the factor of their product that its trainer used.

    Raises:
        BadAdapter: an array without its other half, or an adapter that changes nothing.
    """
    suffix_a, suffix_b = KEY_SUFFIXES[described.layout]
    arrays = read_float32_tensors(folder / ADAPTER_WEIGHTS_FILE)
    names = [key.removesuffix(suffix_a) for key in arrays if key.endswith(suffix_a)]
    if {f"{name}{suffix}" for name in names for suffix in (suffix_a, suffix_b)} != set(arrays):
        raise BadAdapter(
            f"{folder / ADAPTER_WEIGHTS_FILE} holds arrays that are not LoRA pairs.",
            "Restore it, or train again.",
        )
    pairs = {name: LoraMatrices(arrays[f"{name}{suffix_a}"], arrays[f"{name}{suffix_b}"], scale) for name in names}
    return reject_noop_adapter(pairs, folder)


def reject_noop_adapter(pairs: dict[str, LoraMatrices], folder: Path) -> dict[str, LoraMatrices]:
    """The pairs.

    Raises:
        BadAdapter: there are none, or one has a scale of 0.
    """
    if not pairs or not all(pair.scale for pair in pairs.values()):
        raise BadAdapter(f"The adapter in {folder} does nothing: no LoRA weights, or a scale of 0.", "Train it again.")
    return pairs


def with_uniform_rank(pairs: Mapping[str, LoraMatrices]) -> UniformLora:
    """The pairs converted to their largest rank and the first one's scale; products don't change."""
    import numpy as np

    rank = max(pair.lora_a.shape[1] for pair in pairs.values())
    scale = next(iter(pairs.values())).scale
    uniform = {}
    for name, pair in pairs.items():
        missing = rank - pair.lora_a.shape[1]
        lora_a = np.pad(pair.lora_a, ((0, 0), (0, missing)))
        lora_b = np.pad(pair.lora_b * np.float32(pair.scale / scale), ((0, missing), (0, 0)))
        uniform[name] = LoraMatrices(
            np.ascontiguousarray(lora_a, np.float32), np.ascontiguousarray(lora_b, np.float32), scale, pair.magnitude
        )
    return UniformLora(rank, scale, uniform)


def _module_scale(described: LoraDescription, module: str, rank: int, folder: Path) -> float:
    """alpha/r or alpha/sqrt(r) of one module.

    Args:
        described: the adapter's description.
        module: the module's name in PEFT.
        rank: the arrays' rank, which the configuration must agree with.
        folder: the adapter's folder, for messages.
    """
    values = described.configuration
    own = {
        "r": _by_pattern(values.get("rank_pattern"), module, values["r"]),
        "lora_alpha": _by_pattern(values.get("alpha_pattern"), module, values["lora_alpha"]),
    }
    declared = _rank(own, "r", folder / ADAPTER_CONFIG_FILE)
    if declared != rank:
        raise BadAdapter(f"{module} in {folder} has rank {rank}, its configuration says {declared}.", "Save it again.")
    return _number(own, "lora_alpha", folder / ADAPTER_CONFIG_FILE) / _divisor(values, rank)


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, usual: Any) -> Any:
    """The value of the first pattern that matches the end of the module's name, as in PEFT; otherwise `usual`."""
    name = module.removeprefix("base_model.model.")
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return value
    return usual
