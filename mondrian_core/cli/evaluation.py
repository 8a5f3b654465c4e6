"""The command that judges an adapter, with a model or again from what was measured."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from mondrian_core import accelerator, stages
from mondrian_core.cli.loop import built_dataset
from mondrian_core.cli.options import context_of, recipe_from, settings_of
from mondrian_core.cli.screen import answer, gate_table, progress
from mondrian_core.errors import BadInput
from mondrian_core.events import Listener, Noticed
from mondrian_core.files import read_json, write_atomic
from mondrian_core.recipes import Recipe, recipe_of
from mondrian_core.stages import Context

STATUS = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 1}


def evaluate(options: Namespace) -> int:
    """Measure an adapter against base and champion; exit status 0 only when every gate passes."""
    if options.rescore is not None:
        return _rescore(options)
    if options.blind or options.choices or options.judge:
        raise BadInput("--blind, --choices and --judge look at a run that was measured.", "Name it with --rescore RUN.")
    if not options.advisor or not options.adapter:
        raise BadInput(
            "An evaluation needs an advisor and an adapter.",
            "Add --advisor A --adapter V, or name a run that was measured with --rescore RUN.",
        )
    context = context_of(options)
    folder = Path(options.adapter)
    if not folder.is_dir():
        folder = context.registry.get(context.advisor, options.adapter).path
    context = replace(context, adapter=str(folder.resolve()))
    with progress(options.json) as listen:
        context = _gone_on_with(context, listen)
        if not context.dataset:
            built_dataset(context, listen)
        context.save(context.run_folder / "context.json")
        judged = stages.evaluate(context, listen)
    registered = context.registry.version_at(context.advisor, Path(str(context.adapter)))
    promotable = registered if judged.verdict == "PASS" and registered and registered.state == "candidate" else None
    more = (
        f"To promote it: mondrian adapters promote --advisor {context.advisor} --version {promotable.version}"
        if promotable
        else ""
    )
    return _tell(options, judged.as_dict(), judged.gates, more)


def _gone_on_with(context: Context, listen: Listener) -> Context:
    """The same evaluation in the run where it was interrupted, if there is one; else as it is."""
    wanted = {key: value for key, value in context.as_stored().items() if key not in ("run", "actor")}
    for path in sorted((context.root / "runs").glob(f"*-{context.advisor}/context.json"), reverse=True):
        if (path.parent / "evaluate.json").exists() or not (path.parent / "samples.jsonl").exists():
            continue
        try:
            values = read_json(path)
        except (OSError, ValueError):
            continue
        if wanted == {key: value for key, value in values.items() if key in wanted}:
            listen(Noticed("evaluate", f"Going on with the evaluation that was interrupted, run {path.parent.name}."))
            return replace(context, run=path.parent.name)
    return context


def _rescore(options: Namespace) -> int:
    """Judge again from a run's samples, without a model; what the run holds stays as it is."""
    from mondrian_core.evaluation import rescore

    run = _run_of(options)
    _preferences(options, run / "samples.jsonl")
    recipe = recipe_from(options) if options.recipe else _recipe_of_run(run)
    out = run / "rescored" / recipe.digest[:12]
    with progress(options.json) as listen:
        report = rescore(run, recipe, out, listen=listen)
    gates = [gate.as_dict() for gate in report.gates]
    value = {
        "report": str(out / "comparison_report.json"),
        "html": str(out / "report.html"),
        "gates": gates,
        "verdict": report.verdict,
        "split": report.about.get("split"),
        "recipe": recipe.digest,
    }
    return _tell(options, value, gates)


def _preferences(options: Namespace, samples: Path) -> None:
    """Ask for preferences between critiques, or take them in; they become part of the run's samples."""
    from mondrian_core.evaluation import preference
    from mondrian_core.evaluation.judge import judge_of
    from mondrian_core.evaluation.samples import read_samples

    if options.blind:
        write_atomic(options.blind.resolve(), preference.blind_page(read_samples(samples)))
    if options.choices:
        preference.keep(samples, preference.choices_from(read_samples(samples), options.choices))
    if options.judge:
        from mondrian_core.models.base import load_base

        measured = read_samples(samples)
        with accelerator.working("judge of critiques", lambda text: print(text, file=sys.stderr)):
            ask = judge_of(load_base(options.judge), options.judge, measured.identity.get("base"))
            pairs = [pair for pair in preference.pairs_of(measured) if pair.picture]
            preference.keep(samples, preference.judged_by(ask, options.judge, pairs))


def _run_of(options: Namespace) -> Path:
    """The folder of a run that is named by its folder or by its name in the workspace."""
    named = Path(options.rescore)
    run = named if named.is_dir() else settings_of(options).root / "runs" / options.rescore
    if not (run / "samples.jsonl").is_file():
        raise BadInput(
            f"{options.rescore} is no run that was evaluated: it has no samples.jsonl.",
            "Name a folder of the workspace's runs/, or its name.",
        )
    return run.resolve()


def _recipe_of_run(run: Path) -> Recipe:
    """The recipe that the run itself was judged by; the defaults where it kept none."""
    try:
        values = read_json(run / "context.json")["recipe"]
    except FileNotFoundError:
        return Recipe()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"The recipe in {run / 'context.json'} can't be read.", "Name one with --recipe.") from error
    return recipe_of(values, str(run / "context.json"))


def _tell(options: Namespace, value: dict[str, Any], gates: Sequence[dict[str, Any]], more: str = "") -> int:
    page = Path(value["html"])
    if options.html is not None:
        page = options.html.resolve()
        write_atomic(page, Path(value["html"]).read_bytes())
        value = {**value, "page": str(page)}

    def draw(console: Console) -> None:
        console.print(gate_table(list(gates)))
        console.print(f"Verdict: {value['verdict']}")
        for step in read_json(Path(value["report"])).get("next_steps", ()):
            console.print(f"  {step}")
        console.print(f"Report: {page}")
        if more:
            console.print(more)

    answer(options.json, value, draw)
    return STATUS[value["verdict"]]
