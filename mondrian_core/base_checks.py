"""Doctor's checks of the base model: is it here, how large is the rest, and does it fit this machine's disk and memory.

Nothing is downloaded and no weights are loaded: sizes follow from the hub's list of files and from config.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mondrian_core.errors import MondrianError
from mondrian_core.next_steps import base_download_command

# Of a critique as it is trained: instructions and answer of usual length, next to the largest photograph.
_INSTRUCTION_TOKENS, _ANSWER_TOKENS = 200, 400
_VISION_TOWER_BYTES = 0.8e9  # of Qwen3-VL-4B


@dataclass(frozen=True)
class DoctorCheck:
    """The result of one check. `ok` is None when it is unknown, or optional and absent."""

    name: str
    ok: bool | None
    finding: str
    next_step: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def base_model_checks(name: str, adapter_cache_bytes: int, *, deep: bool = False) -> list[DoctorCheck]:
    """The checks of a base model.

    Args:
        name: "mini", a folder or a hub id.
        adapter_cache_bytes: memory for adapters of a service.
        deep: read the weights, too, and compare them with what is known of them.
    """
    from mondrian_core.models.base_download import download_in_progress
    from mondrian_core.models.base_model import base_fingerprint, is_hub_id, resolve_base_path
    from mondrian_core.models.hub_snapshot import find_hub_snapshot

    try:
        found = DoctorCheck("base model", True, f"{name} (fingerprint {base_fingerprint(name)[:12]})")
        folder = resolve_base_path(name)
        memory = _memory(json.loads((folder / "config.json").read_text()), adapter_cache_bytes)
        return [found, *([_bytes_of_weights(name, folder)] if deep else []), memory]
    except MondrianError as error:
        if not is_hub_id(name):
            return [DoctorCheck("base model", False, error.problem, error.next_step)]
        if download_in_progress(name):
            text = f"{name} is being downloaded by another process"
            return [DoctorCheck("base model", None, text, "Wait for it; commands that need the base wait too.")]
        begun = find_hub_snapshot(name).folder is not None
        found = DoctorCheck("base model", False if begun else None, error.problem, error.next_step)
        return [found, *_before_download(name, adapter_cache_bytes)]


def _bytes_of_weights(name: str, folder: Path) -> DoctorCheck:
    """Hash the weights again, and compare with the remembered digest and with what the hub sent."""
    from mondrian_core.models.base_identity import weights_digest
    from mondrian_core.models.checkpoint_files import problems_as_text
    from mondrian_core.models.hub_snapshot import changed_hub_files

    remembered, found = weights_digest(folder), weights_digest(folder, fresh=True)
    if changed := changed_hub_files(folder):
        step = f"Check the disk, and run {base_download_command(name, '--verify')}."
        return DoctorCheck("weights", False, problems_as_text(changed), step)
    if remembered != found:
        text = "the weights have other bytes than when they were hashed first, although no file was changed"
        return DoctorCheck("weights", False, text, "Copy the base model again, and check the disk.")
    return DoctorCheck("weights", True, "hashed again: the bytes are the same")


def _before_download(name: str, adapter_cache_bytes: int) -> list[DoctorCheck]:
    """How much is missing, whether the disk has room for it, and whether the base would fit into memory."""
    from mondrian_core.models.base_download import (
        KEPT_FREE_BYTES,
        plan_download,
        read_hub_configuration,
        room_for_downloads,
    )

    try:
        plan = plan_download(name)
        configuration = read_hub_configuration(plan)
    except MondrianError as error:
        return [DoctorCheck("download", None, f"{_size_by_name(name)}: {error.problem}", error.next_step)]
    place, free = room_for_downloads(name)
    found = (
        f"{plan.missing_bytes / 1e9:.1f} of {plan.total_bytes / 1e9:.1f} GB are missing; {free / 1e9:.1f} GB are free "
        f"at {place}"
    )
    enough = free > plan.missing_bytes + KEPT_FREE_BYTES
    advice = "Free some space, or set HF_HOME to a folder on another disk."
    return [DoctorCheck("download", enough, found, advice), _memory(configuration, adapter_cache_bytes)]


def _size_by_name(name: str) -> str:
    """A guess from the name: parameters ("4B") and bits ("4bit"), and a vision tower with 16 bits."""
    parameters, bits = re.search(r"(\d+(?:\.\d+)?)B\b", name), re.search(r"(\d+)-?bit\b", name)
    if parameters is None:
        return "its size is unknown"
    # a packed weight shares a scale and a bias of 16 bits with 63 others
    size = float(parameters[1]) * 1e9 * (float(bits[1]) + 0.5 if bits else 16.0) / 8 + _VISION_TOWER_BYTES
    return f"about {size / 1e9:.0f} GB by its name"


def _memory(configuration: Mapping[str, Any], adapter_cache_bytes: int) -> DoctorCheck:
    """What a service and a training take at their peak with this base, predicted from its shape."""
    from mondrian_core.models.model_memory import configured_model_size, machine_memory
    from mondrian_core.models.service_memory import LARGEST_PHOTOGRAPH_TOKENS, predict_service_memory
    from mondrian_core.recipes import TrainRecipe
    from mondrian_core.training.gradient_step import most_rows_at_once
    from mondrian_core.training.memory import TrainingLoad, plan_training_memory

    try:
        size = configured_model_size(configuration)
    except (KeyError, TypeError, ValueError, AttributeError):
        return DoctorCheck("memory", None, "the base's config.json doesn't tell its shape")
    load = TrainingLoad(
        tokens=_INSTRUCTION_TOKENS + LARGEST_PHOTOGRAPH_TOKENS + _ANSWER_TOKENS,
        answer_tokens=_ANSWER_TOKENS,
        image_tokens=LARGEST_PHOTOGRAPH_TOKENS,
    )
    available = machine_memory()
    serving = predict_service_memory(size, adapter_cache_bytes).peak
    training = plan_training_memory(size, TrainRecipe(), load, most_rows_at_once(), available).memory.peak
    found = (
        f"{size.weight_bytes / 1e9:.1f} GB of weights; at most {serving / 1e9:.1f} GB to serve and "
        f"{training / 1e9:.1f} GB to train (predicted, largest photographs), of {available / 1e9:.1f} GB that MLX may "
        "use here"
    )
    if serving > available:
        return DoctorCheck("memory", False, found, "Choose a smaller base model, or one with fewer bits a weight.")
    advice = "Serving fits, training doesn't: `mondrian train --dry-run` tells for your rows what would help."
    return DoctorCheck("memory", training <= available, found, advice)
