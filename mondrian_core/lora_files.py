"""What an adapter's folder says it is, read in one place: for training and answering with it, and for taking it in.

| layout | A and B | weights file | configuration | what is added to x W^T |
|---|---|---|---|---|
| mlx | `.lora_a` (in, r), `.lora_b` (r, out) | adapters.safetensors | `lora_parameters` | x A B scale |
| older | `.A` (in, r), `.B` (r, out) | adapters.safetensors | `rank`, `alpha` | x A B alpha/r |
| peft | `.lora_A.weight` (r, in), `.lora_B.weight` (out, r) | adapter_model... | `peft_type` | x A^T B^T alpha/r |

mlx-vlm before March 2026 took alpha itself as the scale of the older layout; only its trainer can know which. Sources:
mlx-vlm's LoRALinear and LoRaLayer, its issue 841; peft's LoraLayer.set_scale. With rsLoRA PEFT divides by sqrt(r), and
rank and alpha may differ by module (`rank_pattern`, `alpha_pattern`). The other layouts have one rank and one scale, so
smaller ranks are filled up with zeros and other scales go into B: the product stays the same number. What changes more
than such products (PiSSA moves the base itself, modules_to_save replaces whole layers) is refused by name.
mlx is not needed here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mondrian_core.errors import BadAdapter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

ADAPTER_WEIGHTS_FILE, PEFT_WEIGHTS_FILE, ADAPTER_CONFIG_FILE = (
    "adapters.safetensors",
    "adapter_model.safetensors",
    "adapter_config.json",
)
Layout = Literal["mlx", "older", "peft"]
LORA, DORA = "lora", "dora"
# Name endings of A and B in the layouts that mlx-vlm reads, and of a DoRA's magnitudes.
LORA_SUFFIXES: Mapping[str, tuple[str, str]] = {"mlx": (".lora_a", ".lora_b"), "older": (".A", ".B")}
MAGNITUDE_SUFFIX = ".m"
LEGACY_DEFAULT_ALPHA = 0.1  # mlx-vlm's default where an older configuration names none

KEY_SUFFIXES = {"mlx": (".lora_a", ".lora_b"), "older": (".A", ".B")}  # of A (in, r) and B (r, out), by layout
MAGNITUDE_SUFFIX = ".m"
_MAX_EXAMPLES = 3  # modules named for one kind of problem

_PEFT_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<half>A|B)(\.\w+)?\.weight")
_PEFT_MAGNITUDE = re.compile(r"(?P<module>.+)\.lora_(?P<half>magnitude_vector)(\.\w+)?(\.weight)?")
_OF_LORA, _OF_DORA = {"A", "B"}, {"A", "B", "magnitude_vector"}
# Features of PEFT that change more than a low-rank product, with the value under which they do nothing.
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
_SUPPORTED_FLAGS = {"use_rslora", "use_dora"}  # any other use_... is a feature that isn't known here
# Ways to begin that take something off the base; EVA, Gaussian and orthogonal ones only choose A.
_BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga", "loraga")
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_EXPORT_ADVICE = "Export it as a plain LoRA (PEFT can merge or convert it), or train it again."
_RESTORE_ADVICE = "Restore the file, or train again."


@dataclass(frozen=True)
class LoraMatrices:
    """A (in, r) and B (r, out) of a module in float32, the factor of their product, and a DoRA's magnitudes (out,)."""

    lora_a: Array
    lora_b: Array
    scale: float
    magnitude: Array | None = None


@dataclass(frozen=True, kw_only=True)
class LoraDescription:
    """What the configuration says; of a PEFT adapter `rank` and `scale` are those of modules without a pattern.

    `declared` are the modules that the configuration names (mlx alone does).
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
    """Pairs of one rank and one scale, with the same products."""

    rank: int
    scale: float
    pairs: Mapping[str, LoraMatrices]


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json.

    Raises:
        BadAdapter: missing, damaged, or not a JSON object.
    """
    path = folder / ADAPTER_CONFIG_FILE
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadAdapter(
            f"There is no adapter in {folder}: {ADAPTER_CONFIG_FILE} is missing.",
            "Give the folder that holds the adapter's weights and its adapter_config.json.",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadAdapter(f"{path} can't be read: {error}.", _RESTORE_ADVICE) from error
    if not isinstance(value, dict):
        raise BadAdapter(f"{path} is not a JSON object.", _RESTORE_ADVICE)
    return value


def describe_adapter(folder: Path) -> LoraDescription:
    """Which layout, rank and scale; whatever is unclear or unknown is refused by name.

    Raises:
        BadAdapter: files missing, numbers missing or senseless, or more than a LoRA or DoRA.
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
            raise BadAdapter(f"lora_parameters in {where} is not a JSON object.", _RESTORE_ADVICE)
        declared = values.get("keys") or ()
        if not isinstance(declared, list | tuple) or not all(isinstance(name, str) for name in declared):
            raise BadAdapter(f"keys in {where} is not a list of names.", _RESTORE_ADVICE)
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
    raise BadAdapter(f"{where} describes no LoRA.", "Give a folder by Mondrian, mlx-vlm or PEFT.")


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
        raise BadAdapter(f"{name} in {where} is not a JSON object.", _RESTORE_ADVICE)
    for pattern in patterns or {}:
        try:
            re.compile(pattern)
        except (re.error, RecursionError) as error:
            raise BadAdapter(
                f"{name} in {where} holds '{pattern}', not a pattern ({error}).", _RESTORE_ADVICE
            ) from None


def _rank(values: Mapping[str, Any], name: str, where: Path) -> int:
    rank = _number(values, name, where)
    if rank != int(rank) or rank < 1:
        raise BadAdapter(f"{name} in {where} is {rank:g}; a rank is a whole number from 1.", _RESTORE_ADVICE)
    return int(rank)


def _number(values: Mapping[str, Any], name: str, where: Path) -> float:
    """A finite number; a configuration without it can't be understood, and no default would be more than a guess."""
    value = values.get(name)
    if value is None:
        raise BadAdapter(
            f"{where} names no {name}, so the adapter's scale isn't known.",
            f"Add the {name} that it was trained with, or train again.",
        )
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9 or not math.isfinite(value):
        raise BadAdapter(f"{name} in {where} is {str(value)[:40]!r}, not a usable number.", _RESTORE_ADVICE)
    return float(value)


def _dropout(values: Mapping[str, Any]) -> float:
    """Of training alone: what can't be read changes no answer."""
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
        BadAdapter: damaged, incomplete, or holding arrays that are no half of a LoRA.
    """
    wanted = _OF_DORA if described.dora else _OF_LORA
    weights = folder / PEFT_WEIGHTS_FILE
    halves: dict[str, dict[str, Array]] = {}
    for key, array in read_float32_tensors(weights).items():
        found = _PEFT_KEY.fullmatch(key) or (_PEFT_MAGNITUDE.fullmatch(key) if described.dora else None)
        if found is None or array.ndim != (1 if found["half"] == "magnitude_vector" else 2):
            raise BadAdapter(f"{weights} holds {key}, which is no half of a LoRA.", _EXPORT_ADVICE)
        half = halves.setdefault(found["module"], {})
        if found["half"] in half:
            raise BadAdapter(f"{weights} holds two adapters for {found['module']}.", "Save one of them alone.")
        half[found["half"]] = array
    pairs: dict[str, LoraMatrices] = {}
    for module, half in halves.items():
        if half.keys() != wanted:
            said = "has no magnitude" if half.keys() == _OF_LORA else "has only one half"
            raise BadAdapter(f"{weights} {said} of {module}.", "Save the adapter again.")
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
    suffix_a, suffix_b = LORA_SUFFIXES[described.layout]
    arrays = read_float32_tensors(folder / ADAPTER_WEIGHTS_FILE)
    names = [key.removesuffix(suffix_a) for key in arrays if key.endswith(suffix_a)]
    if {f"{name}{suffix}" for name in names for suffix in (suffix_a, suffix_b)} != set(arrays):
        raise BadAdapter(
            f"{folder / ADAPTER_WEIGHTS_FILE} holds arrays that are no pair of a LoRA.", "Restore it, or train again."
        )
    pairs = {name: LoraMatrices(arrays[f"{name}{suffix_a}"], arrays[f"{name}{suffix_b}"], scale) for name in names}
    return reject_noop_adapter(pairs, folder)


def reject_noop_adapter(pairs: dict[str, LoraMatrices], folder: Path) -> dict[str, LoraMatrices]:
    """The pairs, when there are any and none has a scale of 0.

    Raises:
        BadAdapter: otherwise.
    """
    if not pairs or not all(pair.scale for pair in pairs.values()):
        raise BadAdapter(f"The adapter in {folder} does nothing: no LoRA weights, or a scale of 0.", "Train it again.")
    return pairs


def with_uniform_rank(pairs: Mapping[str, LoraMatrices]) -> UniformLora:
    """The pairs with the largest rank and the first scale of them."""
    import numpy as np

    rank = max(pair.lora_a.shape[1] for pair in pairs.values())
    scale = next(iter(pairs.values())).scale
    made = {}
    for name, pair in pairs.items():
        missing = rank - pair.lora_a.shape[1]
        down = np.pad(pair.lora_a, ((0, 0), (0, missing)))
        up = np.pad(pair.lora_b * np.float32(pair.scale / scale), ((0, missing), (0, 0)))
        made[name] = LoraMatrices(
            np.ascontiguousarray(down, np.float32), np.ascontiguousarray(up, np.float32), scale, pair.magnitude
        )
    return UniformLora(rank, scale, made)


def _module_scale(described: LoraDescription, module: str, rank: int, folder: Path) -> float:
    """alpha/r or alpha/sqrt(r) of one module. The rank is what the arrays have; the configuration has to agree."""
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
    """The value of the first pattern that matches the end of the module's name, as PEFT looks it up."""
    name = module.removeprefix("base_model.model.")
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return value
    return usual


def module_arrays(
    keys: Iterable[str], layouts: Iterable[str] = tuple(KEY_SUFFIXES)
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Keys of A, of B and of the magnitudes by module, in an adapters.safetensors of one of these layouts."""
    halves: tuple[dict[str, str], dict[str, str], dict[str, str]] = ({}, {}, {})
    suffixes = [(*KEY_SUFFIXES[layout], MAGNITUDE_SUFFIX) for layout in layouts]
    for key in keys:
        for ends in suffixes:
            for half, end in zip(halves, ends, strict=True):
                if key.endswith(end):
                    half[key.removesuffix(end)] = key
    return halves


def shape_problems(
    lora_a: Mapping[str, Sequence[int]],
    lora_b: Mapping[str, Sequence[int]],
    magnitude: Mapping[str, Sequence[int]] | None,
    rank: int | None,
) -> list[str]:
    """What is wrong with the shapes of an adapter's arrays, whatever its base; [] if nothing is.

    Args:
        lora_a: shape of A, (in, r), by module.
        lora_b: shape of B, (r, out), by module.
        magnitude: shape of a DoRA's magnitudes, (out,), by module; None for a LoRA.
        rank: r as the configuration states it; None if it states none.
    """
    pairs = [name for name in lora_a if name in lora_b]
    problems = [f"{name} has only one half of its pair" for name in sorted(set(lora_a) ^ set(lora_b))[:_MAX_EXAMPLES]]
    if not pairs:
        return [*problems, "it holds no LoRA weights"]
    wrong = [name for name in pairs if not _is_pair(lora_a[name], lora_b[name], rank)]
    for name in wrong[:_MAX_EXAMPLES]:
        shapes = f"{tuple(lora_a[name])} and {tuple(lora_b[name])}"
        problems.append(f"{name} has shapes {shapes}, which don't fit each other or rank {rank}")
    if magnitude is None:
        return problems
    alone = sorted(set(magnitude) - set(pairs))[:_MAX_EXAMPLES]
    problems += [f"{name} has a magnitude without a pair" for name in alone]
    problems += [f"{name} has no magnitude" for name in pairs if name not in magnitude][:_MAX_EXAMPLES]
    unequal = [name for name in pairs if name in magnitude and tuple(magnitude[name]) != (lora_b[name][-1],)]
    for name in unequal[:_MAX_EXAMPLES]:
        problems.append(f"{name} has a magnitude of shape {tuple(magnitude[name])}, expected {(lora_b[name][-1],)}")
    return problems


def _is_pair(lora_a: Sequence[int], lora_b: Sequence[int], rank: int | None) -> bool:
    if len(lora_a) != 2 or len(lora_b) != 2 or lora_a[1] != lora_b[0]:
        return False
    return rank is None or lora_a[1] == rank


def read_safetensors(weights: Path) -> dict[str, Mapping[str, Any]]:
    """By array name: "shape", "dtype" and "data" (bytes) of a safetensors file. Nothing is ever unpickled.

    Raises:
        ValueError: when it is none.
    """
    from safetensors import SafetensorError, deserialize

    try:
        return {name: entry for name, entry in deserialize(weights.read_bytes()) if name != "__metadata__"}
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def read_float32_tensors(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file as float32; bfloat16 has no numpy type and is widened bit by bit.

    Raises:
        BadAdapter: missing, damaged, or holding other things than floats.
    """
    import numpy as np

    try:
        found = read_safetensors(path)
    except FileNotFoundError:
        raise BadAdapter(f"The adapter's weights {path} are missing.", _RESTORE_ADVICE) from None
    except (OSError, ValueError) as error:
        raise BadAdapter(f"{path} can't be read: {error}.", _RESTORE_ADVICE) from None
    arrays: dict[str, Array] = {}
    for name, entry in found.items():
        if entry["dtype"] not in _DTYPES:
            raise BadAdapter(f"{name} in {path} is {entry['dtype']}, not a float.", "Export the adapter in float32.")
        raw = np.frombuffer(entry["data"], dtype=_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        wide = (raw.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else raw.astype(np.float32)
        arrays[name] = wide
    return arrays
