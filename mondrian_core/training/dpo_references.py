"""How likely the reference finds both answers of a pair: computed once by the same weights, kept in the run's folder.

There is no second model. The reference is the base, so it is asked before the adapter's layers are put on; or it is the
adapter that the phase begins with, so it is asked with those arrays. A figure is kept under what it depends on: the
base's weights, the reference, photograph and prompt, both answers. A resumed run reads them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np

from mondrian_core.events import EventListener, StageProgressed
from mondrian_core.files import write_json
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_layers
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.dpo import PreferenceExample, answer_log_likelihoods, make_preference_batch
from mondrian_core.training.gradient_step import GradientStep

REFERENCES_FILE = "references.json"
REFERENCES_FORMAT = 1
_KEEP_SECONDS = 20.0


def with_reference_likelihoods(
    examples: Sequence[PreferenceExample], found: Mapping[str, Sequence[float]]
) -> list[PreferenceExample]:
    """The examples with the likelihoods that `references` gave."""
    return [replace(each, references=(found[each.key][0], found[each.key][1])) for each in examples]


def load_or_compute_references(
    base: BaseVLM,
    examples: Sequence[PreferenceExample],
    recipe: TrainRecipe,
    folder: Path,
    start: Mapping[str, mx.array],
    listen: EventListener,
) -> dict[str, list[float]]:
    """Key of a pair -> log-likelihoods (nats) of its chosen and its rejected answer; what is not in the folder is made.

    Args:
        start: arrays of the adapter that the phase begins with; asked where `recipe.preference_reference` says so.

    Raises:
        DiskFull: when no space is left; what was kept before stays.
    """
    asked = dict(start) if recipe.preference_reference == "start" else {}
    key = _key_of(base, asked, recipe)
    known = _read(folder / REFERENCES_FILE, key)
    missing = list({each.key: each for each in examples if each.key not in known}.values())
    if not missing:
        return known
    if asked:
        lora_layers.attach_lora(base, recipe, recipe.seed)
        lora_layers.load_attached_parameters(base, asked)
        base.model.eval()
    step = GradientStep(base, loss=answer_log_likelihoods)
    try:
        _compute_missing(
            base,
            step,
            missing,
            max(each.prompt.image_tokens for each in examples),
            known,
            listen,
            lambda: write_json(folder / REFERENCES_FILE, {"key": key, "log_likelihoods": known}),
        )
    finally:
        step.close()
        if asked:
            lora_layers.detach_lora(base)
    return known


def _compute_missing(
    base: BaseVLM,
    step: GradientStep,
    missing: Sequence[PreferenceExample],
    image_tokens: int,
    known: dict[str, list[float]],
    listen: EventListener,
    keep: Callable[[], None],
) -> None:
    """Fill `known`, a few pairs at a time, and keep it now and then."""
    trainable, kept = base.model.trainable_parameters(), time.perf_counter()
    for begin in range(0, len(missing), step.threads):
        some = missing[begin : begin + step.threads]
        found = step.row_losses(trainable, [make_preference_batch(base, each, image_tokens, 1.0) for each in some])
        known.update({each.key: [float(value) for value in both] for each, both in zip(some, found, strict=True)})
        listen(StageProgressed("reference", begin + len(some), len(missing), "pairs"))
        if time.perf_counter() - kept > _KEEP_SECONDS:
            keep()
            kept = time.perf_counter()
    keep()


def _key_of(base: BaseVLM, asked: Mapping[str, mx.array], recipe: TrainRecipe) -> str:
    """Of everything but the pair; the recipe matters only where an adapter is asked."""
    adapter = [arrays_digest(asked), recipe.model_dump(mode="json")] if asked else []
    return hashlib.sha256(json.dumps([REFERENCES_FORMAT, base.fingerprint, adapter]).encode()).hexdigest()


def _read(path: Path, key: str) -> dict[str, list[float]]:
    """What is kept under this key; nothing where the file is damaged or belongs to something else."""
    try:
        values = json.loads(path.read_text())
        return dict(values["log_likelihoods"]) if values["key"] == key else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def arrays_digest(arrays: Mapping[str, mx.array]) -> str:
    """SHA-256 of named arrays, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape}".encode() + np.array(arrays[name].astype(mx.float32)).tobytes())
    return digest.hexdigest()
