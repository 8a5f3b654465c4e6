"""Reference log-likelihoods of preference pairs: computed once, stored in the run's folder.

There is no second model. The reference is either the base, evaluated before the adapter's layers are attached, or the
adapter that the phase begins with. Values are stored under a key of everything they depend on: the base, the software,
the reference, photograph, prompt and both answers. A resumed run reads them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np

from mondrian_core.events import EventListener, StageProgressed
from mondrian_core.files import write_json
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.lora import lora_layers
from mondrian_core.recipes import TrainRecipe
from mondrian_core.software_identity import software_digest
from mondrian_core.training.dpo import PreferenceExample, answer_log_likelihoods, make_preference_batch
from mondrian_core.training.gradient_step import GradientStep

REFERENCES_FILE = "references.json"
REFERENCES_FORMAT = 2
_SAVE_SECONDS = 20.0


def with_reference_likelihoods(
    examples: Sequence[PreferenceExample], references: Mapping[str, Sequence[float]]
) -> list[PreferenceExample]:
    """The examples with the result of `load_or_compute_references`."""
    return [replace(each, references=(references[each.key][0], references[each.key][1])) for each in examples]


def load_or_compute_references(
    base: BaseVLM,
    examples: Sequence[PreferenceExample],
    recipe: TrainRecipe,
    folder: Path,
    start: Mapping[str, mx.array],
    listen: EventListener,
) -> dict[str, list[float]]:
    """Log-likelihoods (nats) of the chosen and the rejected answer by a pair's key; missing ones are computed.

    Args:
        base: the base.
        examples: the pairs.
        recipe: says whether the reference is the base or the start adapter.
        folder: where the values are stored.
        start: arrays of the adapter that the phase begins with.
        listen: receives progress.

    Raises:
        DiskFull: no space is left; values stored before are kept.
    """
    adapter = dict(start) if recipe.preference_reference == "start" else {}
    key = _key_of(base, adapter, recipe)
    known = _read(folder / REFERENCES_FILE, key)
    missing = list({each.key: each for each in examples if each.key not in known}.values())
    if not missing:
        return known
    if adapter:
        lora_layers.attach_lora(base, recipe, recipe.seed)
        lora_layers.load_attached_parameters(base, adapter)
        base.model.eval()
    step = GradientStep(base, loss=answer_log_likelihoods)
    try:
        image_tokens, saved_at = max(each.prompt.image_tokens for each in examples), time.perf_counter()
        for begin in range(0, len(missing), step.threads):
            some = missing[begin : begin + step.threads]
            known |= _compute(base, step, some, image_tokens)
            listen(StageProgressed("reference", begin + len(some), len(missing), "pairs"))
            if time.perf_counter() - saved_at > _SAVE_SECONDS or begin + len(some) == len(missing):
                write_json(folder / REFERENCES_FILE, {"key": key, "log_likelihoods": known})
                saved_at = time.perf_counter()
    finally:
        step.close()
        if adapter:
            lora_layers.detach_lora(base)
    return known


def _compute(
    base: BaseVLM, step: GradientStep, examples: Sequence[PreferenceExample], image_tokens: int
) -> dict[str, list[float]]:
    """Log-likelihoods of a few pairs, by key; `image_tokens` is the number of image tokens to pad to."""
    batches = [make_preference_batch(base, each, image_tokens, 1.0) for each in examples]
    rows = step.row_losses(base.model.trainable_parameters(), batches)
    return {each.key: [float(value) for value in both] for each, both in zip(examples, rows, strict=True)}


def _key_of(base: BaseVLM, adapter: Mapping[str, mx.array], recipe: TrainRecipe) -> str:
    """Digest of base and software, and of the start adapter with its recipe if that is the reference."""
    reference = [arrays_digest(adapter), recipe.model_dump(mode="json")] if adapter else []
    key = [REFERENCES_FORMAT, base.fingerprint, software_digest(), reference]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()


def _read(path: Path, key: str) -> dict[str, list[float]]:
    """The values stored under this key; {} if the file is missing, damaged or has another key."""
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
