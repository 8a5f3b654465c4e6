"""Memory of the services on this machine: which bases their model processes hold, and what those take at most."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import psutil

from mondrian_core.accelerator_lock import memory_of_other_work
from mondrian_core.errors import NotEnoughMemory
from mondrian_core.models.base_model import local_base_path
from mondrian_core.models.model_memory import (
    ModelSize,
    ServingLoad,
    ServingMemory,
    configured_model_size,
    machine_memory,
    predict_serving_memory,
)
from mondrian_core.rubric import MAX_ANSWER_TOKENS
from mondrian_core.settings import Settings

_LOCK_VARIABLE = "MONDRIAN_ACCELERATOR_LOCK"
MODEL_PROCESS_MODULE = "mondrian_core.serving.engine.model_process"
LARGEST_PHOTOGRAPH_TOKENS = 1337  # 1024 x 1024 pixels, 28 x 28 of them a token; Qwen3-VL makes fewer
PROMPT_TOKENS = 600  # of system and user message; an advisor's prompt is shorter


@dataclass(frozen=True)
class ServedBase:
    """A base in a service's model process: the process, the base's name, and the limit of adapters (bytes)."""

    pid: int
    base: str
    adapter_cache_bytes: int


def served_bases() -> list[ServedBase]:
    """The bases that services on this accelerator hold; processes whose command line can't be read are left out."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        if MODEL_PROCESS_MODULE in words and _shares_accelerator(process):
            # python -m MODULE DESCRIPTOR BASE ADAPTER_CACHE_BYTES
            given = words[words.index(MODEL_PROCESS_MODULE) + 2 :]
            if len(given) == 2 and given[1].isdigit():
                found.append(ServedBase(process.info["pid"], given[0], int(given[1])))
    return found


def _shares_accelerator(process: psutil.Process) -> bool:
    """True if the process takes turns with this one, or belongs to a user whose environment can't be read."""
    try:
        named = process.environ().get(_LOCK_VARIABLE)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
    return (Path(named) if named else None) == Settings().accelerator_lock


def memory_of_services() -> int:
    """Bytes that the services on this machine take at most."""
    return sum(memory_of_served_base(each.base, each.adapter_cache_bytes) for each in served_bases())


def memory_of_served_base(name: str, adapter_cache_bytes: int) -> int:
    """Bytes that a service with this base takes at its peak; 0 if the base isn't on this machine."""
    memory = _served_memory(name, adapter_cache_bytes)
    return 0 if memory is None else memory.peak


def require_memory_to_serve(name: str, adapter_cache_bytes: int) -> None:
    """Check that a service with this base fits next to the training that runs now.

    Without one nothing is checked: a training that starts later counts the service.

    Raises:
        NotEnoughMemory: both together would take more than this machine has.
    """
    taken, holder = memory_of_other_work()
    if not taken:
        return
    own, usable = memory_of_served_base(name, adapter_cache_bytes), machine_memory()
    if own + taken > usable:
        raise NotEnoughMemory(
            f"A service with {name} would take {own / 1e9:.1f} GB of memory next to the {taken / 1e9:.1f} GB of "
            f"{holder}; both may take {usable / 1e9:.1f} GB here.",
            "Start the service when that has finished; a training that starts while the service runs fits itself in.",
        )


@functools.cache
def _served_memory(name: str, adapter_cache_bytes: int) -> ServingMemory | None:
    folder = local_base_path(name)
    if folder is None:
        return None
    return predict_service_memory(
        configured_model_size(json.loads((folder / "config.json").read_text())), adapter_cache_bytes
    )


def predict_service_memory(size: ModelSize, adapter_cache_bytes: int) -> ServingMemory:
    """Memory of a service that answers about the largest photographs with the longest answers.

    Args:
        size: sizes of its base.
        adapter_cache_bytes: limit of the adapters in memory.
    """
    load = ServingLoad(
        text_tokens=PROMPT_TOKENS,
        image_tokens=LARGEST_PHOTOGRAPH_TOKENS,
        answer_tokens=MAX_ANSWER_TOKENS,
        adapter_bytes=min(adapter_cache_bytes, size.weight_bytes),
    )
    return predict_serving_memory(size, load)
