"""Changing advisors: the time until another adapter is in use, from memory and from its file, and of the next token.

    python -m bench.adapter_cache --advisors 6 --rounds 5

Every round uses each adapter once, in turn. With room for all, a change is a swap of pointers; with room for one, each
change reads and checks the file. The ratio of both is independent of the machine's speed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.adapter_overhead import make_random_adapter, sample_question

TOKENS = 8  # generated after a change, so that the prompt is read with the new adapter


def measure_adapter_cache(
    advisors: int, rounds: int, rank: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Milliseconds of a change of adapter, and of a short answer after it, with room for all adapters and for one.

    Args:
        advisors: number of adapters.
        rounds: how often each is used.
        rank: of the adapters.
        clock: returns seconds.
    """
    from mondrian_core.models.base_model import load_base
    from mondrian_core.models.lora import lora_layers

    with tempfile.TemporaryDirectory(prefix="mondrian-adapters-") as made:
        folders = [Path(made) / f"v{number:04d}" for number in range(advisors)]
        for number, folder in enumerate(folders):
            make_random_adapter(folder, rank=rank, seed=number)
        base = load_base("mini")
        switch = lora_layers.get_adapter_switch(base)
        began = clock()
        for folder in folders:
            switch.load(folder)
        loading = 1000 * (clock() - began)
        held = switch.cache.nbytes
        cached = _times(base, folders, rounds, clock)
        switch.cache.budget = 0  # evicts all but the last one
        read = _times(base, folders, rounds, clock)
    change = {name: cached["change_ms"][name] for name in ("median", "worst")}
    return {
        "advisors": advisors,
        "rank": rank,
        "megabytes_in_memory": round(held / (1 << 20), 1),
        "loading_all_ms": round(loading, 1),
        "cached": cached,
        "read_each_time": read,
        "change_read_to_cached": round(read["change_ms"]["median"] / max(change["median"], 1e-3), 1),
        "answer_read_to_cached": round(read["answer_ms"]["median"] / cached["answer_ms"]["median"], 2),
    }


def _times(base: Any, folders: Sequence[Path], rounds: int, clock: Callable[[], float]) -> dict[str, dict[str, float]]:
    from mondrian_core.models.inference.generation import generate
    from mondrian_core.models.lora import lora_layers

    switch = lora_layers.get_adapter_switch(base)
    messages, image = sample_question()
    changes, answers = [], []
    for round_number in range(rounds + 1):
        for folder in folders:
            began = clock()
            switch.use(folder)
            changed = clock()
            generate(base, messages, image, max_tokens=TOKENS, exact_tokens=TOKENS)
            if round_number:  # the first round compiles the step
                changes.append(1000 * (changed - began))
                answers.append(1000 * (clock() - began))
    return {"change_ms": _summary(changes), "answer_ms": _summary(answers)}


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "worst": round(max(values), 3)}


def adapter_cache_text(result: dict[str, Any]) -> str:
    """A result of `measure_adapter_cache` as text."""
    lines = [
        f"{result['advisors']} adapters of rank {result['rank']}: {result['megabytes_in_memory']} MB in memory, "
        f"loaded in {result['loading_all_ms']:.0f} ms"
    ]
    for name, title in (("cached", "from memory"), ("read_each_time", "from the file")):
        change, answer = result[name]["change_ms"], result[name]["answer_ms"]
        lines.append(
            f"  {title:<13} a change takes {change['median']:.3f} ms (at worst {change['worst']:.3f}), with "
            f"{TOKENS} tokens {answer['median']:.1f} ms"
        )
    return "\n".join(
        [
            *lines,
            f"  ratio         {result['change_read_to_cached']} for the change, {result['answer_read_to_cached']} with "
            "the tokens",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(prog="bench.adapter_cache", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--advisors", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--cpu-time", action="store_true", help="measure CPU time, for a busy machine")
    options = parser.parse_args(arguments)
    clock = time.process_time if options.cpu_time else time.perf_counter
    result = measure_adapter_cache(options.advisors, options.rounds, options.rank, clock)
    print(adapter_cache_text(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
