"""Time overhead of an adapter, and time of an adapter switch: our LoRA layers against mlx-vlm's.

    python -m bench.adapter_overhead --pairs 12 [--dora] [--base mini|FOLDER] [--tokens 96]

Each pair generates the same number of tokens from the same prompt, interleaved, in one process. A switch is timed until
the layers hold the other arrays, the first use from the files on. FOLDER is a packed checkpoint, for example a skeleton
(tests/skeleton_bases.py). mlx-vlm's side holds the base twice.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.paired_timing import time_in_pairs

TOKENS = 96


def make_random_adapter(
    folder: Path, *, rank: int, seed: int, size: float = 0.05, dora: bool = False, name: str = "mini"
) -> str:
    """Write an adapter with random B matrices, so that it has an effect; returns the base's fingerprint.

    Args:
        folder: where to write the adapter.
        rank: rank of the adapter.
        seed: seed of A and B.
        size: standard deviation of B.
        dora: write a DoRA adapter.
        name: the base.
    """
    import mlx.core as mx

    from mondrian_core.models.base_model import load_base
    from mondrian_core.models.lora import lora_layers
    from mondrian_core.recipes import TrainRecipe

    base = load_base(name)
    lora_layers.attach_lora(base, TrainRecipe(rank=rank, dora=dora), seed=seed)
    key, changed = mx.random.key(seed), {}
    for name, value in lora_layers.attached_parameters(base).items():
        key, draw = mx.random.split(key)
        changed[name] = size * mx.random.normal(value.shape, key=draw) if name.endswith("lora_b") else value
    lora_layers.save_attached_adapter(base, folder, changed)
    return base.fingerprint


def measure_adapter_overhead(
    pairs: int,
    rank: int,
    clock: Callable[[], float] = time.perf_counter,
    *,
    dora: bool = False,
    base: str = "mini",
    tokens: int = TOKENS,
) -> dict[str, Any]:
    """Time ratios adapter/base for our layers and for mlx-vlm's, and the time of a switch.

    Args:
        pairs: measurements per side.
        rank: rank of the adapter.
        clock: returns seconds.
        dora: measure a DoRA adapter.
        base: the base, packed or not.
        tokens: tokens of an answer.
    """
    with tempfile.TemporaryDirectory(prefix="mondrian-adapters-") as made:
        folder = Path(made)
        make_random_adapter(folder, rank=rank, seed=1, dora=dora, name=base)
        first = _first_uses(folder, base)
        ours, rival = _Ours(folder, base, tokens), _Rival(folder, base, tokens)
        return {
            "rank": rank,
            "dora": dora,
            "base": base,
            "tokens": tokens,
            "first_use_seconds": first,
            "ours_adapter_to_base": time_in_pairs(ours.adapted, ours.plain, pairs=pairs, clock=clock).as_dict(),
            "mlx_vlm_adapter_to_base": time_in_pairs(rival.adapted, rival.plain, pairs=pairs, clock=clock).as_dict(),
            "switch_ms": ours.measure_switches(),
        }


def adapter_overhead_text(result: dict[str, Any]) -> str:
    """A result of `measure_adapter_overhead` as text."""
    kind = "DoRA" if result["dora"] else "LoRA"
    lines = [
        f"adapters ({kind}, rank {result['rank']}, {result['base']}, {result['tokens']} tokens): time with / without"
    ]
    for name in ("ours", "mlx_vlm"):
        ratio = result[f"{name}_adapter_to_base"]
        lines.append(
            f"  {name:<8} {ratio['ratio']:.2f}, 95 % interval {ratio['low']:.2f} to {ratio['high']:.2f}, "
            f"{ratio['pairs']} pairs"
        )
    switch, first = result["switch_ms"], result["first_use_seconds"]
    lines.append(f"  a switch takes {switch['median']:.3f} ms, at worst {switch['worst']:.3f}")
    lines.append(f"  the first use takes {first['median']:.3f} s, at worst {first['worst']:.3f}")
    return "\n".join(lines)


def _first_uses(folder: Path, base_name: str, rounds: int = 5) -> dict[str, float]:
    """Seconds until the layers hold an adapter that was never read, median and worst: each round reads a new copy."""
    from mondrian_core.models.base_model import load_base
    from mondrian_core.models.lora import lora_layers

    switch, times = lora_layers.get_adapter_switch(load_base(base_name)), []
    for number in range(rounds):
        copy = folder.with_name(f"{folder.name}-{number}")
        shutil.copytree(folder, copy)
        began = time.perf_counter()
        switch.use(copy)
        times.append(time.perf_counter() - began)
        shutil.rmtree(copy)
    return {"median": round(statistics.median(times), 3), "worst": round(max(times), 3)}


class _Ours:
    def __init__(self, folder: Path, base: str, tokens: int) -> None:
        from mondrian_core.models.base_model import load_base
        from mondrian_core.models.lora import lora_layers

        self.base, self._tokens = load_base(base), tokens
        self.folder, self.switch = folder, lora_layers.get_adapter_switch(self.base)
        self.messages, self.image = sample_question()

    def plain(self) -> None:
        self.switch.use(None)
        self._generate()

    def adapted(self) -> None:
        self.switch.use(self.folder)
        self._generate()

    def measure_switches(self, rounds: int = 20) -> dict[str, float]:
        """Milliseconds of a switch, median and worst."""
        times = []
        for number in range(rounds):
            began = time.perf_counter()
            self.switch.use(self.folder if number % 2 else None)
            times.append(1000 * (time.perf_counter() - began))
        return {"median": round(statistics.median(times), 3), "worst": round(max(times), 3)}

    def _generate(self) -> None:
        from mondrian_core.models.inference.generation import generate

        generate(self.base, self.messages, self.image, max_tokens=self._tokens, exact_tokens=self._tokens)


class _Rival:
    """mlx-vlm's layers and generation loop, with both models loaded in advance."""

    def __init__(self, folder: Path, base: str, tokens: int) -> None:
        from mlx_vlm import load
        from mlx_vlm.prompt_utils import apply_chat_template

        from mondrian_core.models.base_model import resolve_base_path

        path, self._tokens = str(resolve_base_path(base)), tokens
        self._base, self._adapted = load(path), load(path, adapter_path=str(folder))
        messages, self._image = sample_question()
        text = messages[1]["content"][0]["text"]
        self._prompt = apply_chat_template(self._base[1], self._base[0].config, text, num_images=1)

    def plain(self) -> None:
        self._generate(*self._base)

    def adapted(self) -> None:
        self._generate(*self._adapted)

    def _generate(self, model: Any, processor: Any) -> None:
        from mlx_vlm import stream_generate

        for _ in stream_generate(
            model, processor, self._prompt, image=[self._image], max_tokens=self._tokens, temperature=0.0, eos_tokens=[]
        ):
            pass


def sample_question() -> tuple[list[dict[str, Any]], Any]:
    """(messages, photograph) of one question to mini, the same at every call."""
    import numpy as np

    from mondrian_core.mini.renderer import render_scene
    from mondrian_core.mini.scene import sample_scene
    from mondrian_core.prompts import AdvisorPrompt, critique_messages

    return critique_messages(AdvisorPrompt("ansel", "Ansel Adams")), render_scene(
        sample_scene(np.random.default_rng(0))
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(prog="bench.adapter_overhead", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--base", default="mini", help="mini or a folder (default mini)")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"tokens of an answer (default {TOKENS})")
    parser.add_argument("--dora", action="store_true", help="measure a DoRA adapter instead of a LoRA")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument(
        "--cpu-time", action="store_true", help="measure CPU time instead of wall time, for a busy machine"
    )
    options = parser.parse_args(arguments)
    clock = time.process_time if options.cpu_time else time.perf_counter
    result = measure_adapter_overhead(
        options.pairs, options.rank, clock, dora=options.dora, base=options.base, tokens=options.tokens
    )
    print(adapter_overhead_text(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
