"""One critique: ours against mlx-vlm's generation, free and constrained, on the same photographs in one process.

    python -m bench critique --pairs 12

All read the same base, photograph and messages and decode greedily. Ours is constrained by the rubric's schema. The
free rival writes as many tokens as ours did for that photograph (its end token suppressed), so that the work is equal;
how valid it is, is told by another answer, which ends where the model ends it. The constrained rival runs mlx-vlm's
own processor; where there is no Metal its mask kernel, which needs it, is replaced by array operations. Ratios are told
of the time on the wall and of the processor's time of this process, which other work on the machine hardly changes.
`run_terminal` compares the commands, process start included.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from bench.paired import RESAMPLES, compare

MAX_TOKENS = 700
ADVISOR = "ansel"
MONDRIAN = "import sys; from mondrian_core.cli import main; sys.exit(main())"
PHOTOGRAPHS = 12


def run(pairs: int, base_model: str) -> dict[str, Any]:
    """Measure over `pairs` rounds, each on another photograph; every round runs the three in another order."""
    from mondrian_core.mini import render

    contenders = _Contenders(base_model)
    photographs = [render.render(render.sample_scene(np.random.default_rng(seed))) for seed in range(PHOTOGRAPHS)]
    contenders.round(photographs[0], 0)  # warms up: every pass is compiled once
    rounds = [contenders.round(photographs[number % PHOTOGRAPHS], number) for number in range(pairs)]
    sides = {name: _side([each[name] for each in rounds]) for name in ("ours", "free", "constrained")}
    return {
        "bench": "critique",
        "base_model": base_model,
        "rounds": pairs,
        "sides": sides,
        "times_faster": {
            f"{rival}, {clock}": _ratio(rounds, rival, clock)
            for rival in ("free", "constrained")
            for clock in ("seconds", "cpu_seconds")
        },
    }


Measured = dict[str, float]  # seconds, cpu_seconds, tokens, valid (0 or 1)


class _Contenders:
    """The three on one loaded base; nothing is loaded while the clock runs."""

    def __init__(self, base_model: str) -> None:
        from mlx_vlm import load

        from mondrian_core.models.base import load_base
        from mondrian_core.prompts import Voice, critique_messages

        self.base = load_base(base_model)
        self.model, self.processor = load(str(self.base.path))
        self.messages = critique_messages(Voice(ADVISOR, "Ansel Adams", "Landscapes in black and white."))
        self.text = self.processor.apply_chat_template(self.messages, add_generation_prompt=True, tokenize=False)
        if not _has_metal():
            self.model.set_dtype(self.base.model.language_model.model.embed_tokens.weight.dtype)
            _mask_without_metal()

    def round(self, photograph: Any, number: int) -> dict[str, Measured]:
        """Each of the three once on this photograph; who begins goes round."""
        tokens = self._ours(photograph)[1]
        work: dict[str, Callable[[], tuple[str, int]]] = {
            "ours": lambda: self._ours(photograph),
            "free": lambda: self._rival(photograph, tokens, eos_tokens=[]),
            "constrained": lambda: self._rival(photograph, MAX_TOKENS, logits_processors=[self._processor()]),
        }
        names = list(work)
        found = {}
        for name in names[number % 3 :] + names[: number % 3]:
            began, cpu_began = time.perf_counter(), time.process_time()
            text, count = work[name]()
            found[name] = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu_began,
                           "tokens": float(count), "valid": float(_valid(text))}  # fmt: skip
        found["free"]["valid"] = float(_valid(self._rival(photograph, MAX_TOKENS)[0]))
        return found

    def _ours(self, photograph: Any) -> tuple[str, int]:
        from mondrian_core.models.generation import generate

        made = generate(self.base, self.messages, photograph, max_tokens=MAX_TOKENS, constrained=True)
        return made.text, len(made.tokens)

    def _rival(self, photograph: Any, tokens: int, **options: Any) -> tuple[str, int]:
        from mlx_vlm import stream_generate

        text, count = "", 0
        for piece in stream_generate(self.model, self.processor, self.text, image=[photograph], max_tokens=tokens,
                                     temperature=0.0, **options):  # fmt: skip
            text, count = text + piece.text, piece.generation_tokens
        return text, count

    def _processor(self) -> Any:
        from mlx_vlm.structured import build_json_schema_logits_processor

        from mondrian_core.rubric import json_schema

        return build_json_schema_logits_processor(self.processor.tokenizer, json_schema())


def _has_metal() -> bool:
    import mlx.core as mx

    return bool(mx.metal.is_available())


def _mask_without_metal() -> None:
    """mlx-vlm's mask as array operations, the cheapest that there are."""
    import mlx.core as mx
    import mlx_vlm.structured as structured

    def apply(logits: mx.array, mask: mx.array) -> mx.array:
        words = mask.reshape(1, -1)
        bits = (words[:, :, None] >> mx.arange(32)) & 1
        allowed = bits.reshape(1, -1)[:, : logits.shape[-1]]
        return mx.where(allowed.astype(mx.bool_), logits.reshape(1, -1), -mx.inf)

    structured._apply_llguidance_mask = apply


def _valid(text: str) -> bool:
    """Complete and of the schema. A grade that contradicts its scores is the model's fault, which no grammar mends."""
    from mondrian_core.rubric import Unparsable, read_strict

    try:
        read_strict(text)
    except Unparsable as error:
        return error.reason == "grade_inconsistent"
    return True


def _side(measured: list[Measured]) -> dict[str, Any]:
    seconds = [each["seconds"] for each in measured]
    return {
        "seconds_median": statistics.median(seconds),
        "seconds_spread": [min(seconds), max(seconds)],
        "cpu_seconds_median": statistics.median(each["cpu_seconds"] for each in measured),
        "tokens_mean": statistics.fmean(each["tokens"] for each in measured),
        "cpu_milliseconds_per_token": 1000
        * statistics.median(each["cpu_seconds"] / each["tokens"] for each in measured),
        "valid": f"{sum(int(each['valid']) for each in measured)} of {len(measured)}",
    }


def _ratio(rounds: list[dict[str, Measured]], rival: str, clock: str) -> dict[str, float]:
    """Median of rival/ours over the rounds, its bootstrapped 95 % interval, and the spread of the ratios."""
    ratios = np.array([each[rival][clock] / each["ours"][clock] for each in rounds])
    drawn = np.random.default_rng(0).choice(ratios, size=(RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high),
            "least": float(ratios.min()), "most": float(ratios.max())}  # fmt: skip


def run_terminal(pairs: int, base_model: str) -> dict[str, Any]:
    """Measure on rendered photographs in a workspace of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mondrian-bench-") as folder:
        workspace = Path(folder) / "workspace"
        _call("-c", MONDRIAN, "init", "--sample", "--workspace", str(workspace))
        photographs = sorted(path for path in (workspace / "source").rglob("*") if path.suffix in (".jpg", ".png"))
        ours, rival = (
            _Ours(workspace, base_model, cycle(photographs)),
            _Rival(workspace, base_model, cycle(photographs)),
        )
        times = compare(ours, rival, pairs=pairs)
    return {
        "bench": "terminal",
        "ours": "mondrian analyze --mode baseline",
        "rival": "mlx_vlm.generate",
        "base_model": base_model,
        "seconds": times.as_dict(),
        "usable_ours": ours.usable,
        "usable_rival": rival.usable,
        "answers": pairs + 1,
    }


class _Ours:
    def __init__(self, workspace: Path, base_model: str, photographs: Iterator[Path]) -> None:
        self.usable = 0
        self._options = ["--advisor", ADVISOR, "--mode", "baseline", "--json", "--workspace", str(workspace)]
        self._options += ["--base-model", base_model]
        self._photographs = photographs

    def __call__(self) -> None:
        answers = json.loads(_call("-c", MONDRIAN, "analyze", str(next(self._photographs)), *self._options))
        self.usable += sum(bool(answer.get("critique")) for answer in answers)


class _Rival:
    def __init__(self, workspace: Path, base_model: str, photographs: Iterator[Path]) -> None:
        from mondrian_core.models.base import resolve
        from mondrian_core.prompts import INSTRUCTION
        from mondrian_core.store import Store

        self.usable = 0
        voice = Store(workspace / "mondrian.db", read_only=True).voice(ADVISOR)
        self._options = ["--model", str(resolve(base_model)), "--system", voice.system, "--prompt", INSTRUCTION]
        self._options += ["--max-tokens", str(MAX_TOKENS), "--temperature", "0", "--no-verbose"]
        self._photographs = photographs

    def __call__(self) -> None:
        from mondrian_core.rubric import Unparsable, read_strict

        text = _call("-m", "mlx_vlm.generate", "--image", str(next(self._photographs)), *self._options).strip()
        try:
            read_strict(text)
        except Unparsable:
            return
        self.usable += 1


def _call(*arguments: str) -> str:
    """Run this Python with `arguments`; its standard output."""
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([sys.executable, *arguments], env=quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments[:3])} ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return done.stdout
