"""`make bench`: run benchmarks, print a table, and with --out write the results as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import (
    adapter_cache,
    adapter_overhead,
    analyze_command,
    critique_speed,
    gate_error_rates,
    scripted_critique,
    training_speed,
)

BENCHES: dict[str, Callable[[int, str], dict[str, Any]]] = {
    "critique": critique_speed.measure_critique_speed,
    "scripted": scripted_critique.measure_scripted_critique,
    "terminal": analyze_command.measure_analyze_command,
    "training": lambda pairs, base_model: {
        "bench": "training",
        **training_speed.measure_training_speed(base_model, pairs, rows=8, epochs=2),
    },
    "advisors": lambda pairs, _: {
        "bench": "advisors",
        **adapter_cache.measure_adapter_cache(6, max(1, pairs // 2), rank=8),
    },
    "adapters": lambda pairs, _: {"bench": "adapters", **adapter_overhead.measure_adapter_overhead(pairs, rank=8)},
}


def main(arguments: list[str] | None = None) -> int:
    """Run the named benchmarks; the default is all of them. `gates ...` is `python -m bench.gate_error_rates ...`."""
    parser = argparse.ArgumentParser(prog="bench", description="Benchmarks against alternative tools.")
    parser.add_argument(
        "names", nargs="*", choices=[[], *BENCHES], metavar="NAME", help=f"one of {', '.join(BENCHES)} (default: all)"
    )
    parser.add_argument("--pairs", type=int, default=10, help="measurements per side (default 10)")
    parser.add_argument("--base-model", default="mini")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["gates"]:
        return gate_error_rates.main(given[1:])
    options = parser.parse_args(given)
    if options.pairs < 2:
        parser.error("--pairs must be at least 2 to give an interval")
    results = [BENCHES[name](options.pairs, options.base_model) for name in options.names or BENCHES]
    for result in results:
        print(_render_result(result))
    if options.out:
        machine = {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()}
        options.out.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n", encoding="utf-8")
    return 0


def _render_result(result: dict[str, Any]) -> str:
    """A result as a few lines of text."""
    return {
        "critique": _critique_text,
        "scripted": scripted_critique.scripted_critique_text,
        "training": training_speed.training_speed_text,
        "adapters": adapter_overhead.adapter_overhead_text,
    }.get(result["bench"], _pair_text)(result)


def _critique_text(result: dict[str, Any]) -> str:
    lines = [
        f"{result['bench']} ({result['base_model']}, {result['rounds']} interleaved rounds; "
        f"{result['answers_remembered_before']} answers in the drafter before the first)",
        f"  same text with every n-gram drafter and without: {result['same_answers']}",
    ]
    for name, side in result["sides"].items():
        least, most = side["seconds_spread"]
        lines.append(
            f"  {name:<20} {side['seconds_median']:5.2f} s ({least:.2f} to {most:.2f}), processor "
            f"{side['cpu_seconds_median']:5.2f} s  {side['tokens_mean']:4.0f} tokens of "
            f"{side['cpu_milliseconds_per_token']:5.2f} ms  valid {side['valid']}{_drafts_text(side)}"
        )
    for sides, ratio in result["times_faster"].items():
        lines.append(
            f"  {sides}: {ratio['median']:.2f} times as fast, 95 % interval {ratio['low']:.2f} to "
            f"{ratio['high']:.2f}, rounds from {ratio['least']:.2f} to {ratio['most']:.2f}"
        )
    return "\n".join(lines)


def _drafts_text(side: dict[str, Any]) -> str:
    if side["tokens_per_pass"] is None:
        return ""
    passes = f"  {side['tokens_per_pass']:.2f} tokens per pass"
    if side["accepted"] is None:
        return passes
    return f"{passes}, {side['accepted']:.0%} of {side['drafted_mean']:.0f} drafted tokens accepted"


def _pair_text(result: dict[str, Any]) -> str:
    times, answers = result["seconds"], result["answers"]
    return (
        f"{result['bench']} ({result['base_model']}, {times['pairs']} interleaved pairs)\n"
        f"  {result['ours']:<34} {times['ours']:7.2f} s   usable {result['usable_ours']} of {answers}\n"
        f"  {result['rival']:<34} {times['rival']:7.2f} s   usable {result['usable_rival']} of {answers}\n"
        f"  ratio of times {times['ratio']:.2f}, 95 % interval {times['low']:.2f} to {times['high']:.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
