"""`mondrian evaluate`: evaluate an adapter with the model, or rescore an earlier evaluation without it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from rich.console import Console

from mondrian_core import accelerator_lock, stages
from mondrian_core.cli.dataset import link_and_build_dataset
from mondrian_core.cli.options import (
    CommandOptions,
    FoldsOption,
    NoWaitOption,
    RecipeOptions,
    context_from_options,
    recipe_from_options,
    settings_from_options,
)
from mondrian_core.cli.terminal_output import print_result, rich_gate_table, show_progress
from mondrian_core.errors import BadInput
from mondrian_core.events import EventListener, StageNotice
from mondrian_core.files import read_json, write_atomic
from mondrian_core.gate_strictness import LoosenedSetting, loosened_text
from mondrian_core.recipes import Recipe, recorded_recipe
from mondrian_core.stages import StageContext

_BLIND = Group("Blind comparison (with --rescore; not a gate)", sort_key=50)
EXIT_STATUS_BY_VERDICT = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 1}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(CommandOptions, RecipeOptions, FoldsOption, NoWaitOption):
    """Options of `mondrian evaluate`."""

    advisor: Annotated[str | None, Parameter(help="advisor ID, such as ansel")] = None
    adapter: Annotated[str | None, Parameter(help="a version such as v0001, or a folder")] = None
    dataset: Annotated[
        Path | None, Parameter(help="folder of a dataset version (default: build one from the database)")
    ] = None
    html: Annotated[
        list[Path] | None,
        Parameter(
            consume_multiple=(0, 1), help="also write the report as one standalone page (default: report.html here)"
        ),
    ] = None
    rescore: Annotated[
        str | None,
        Parameter(metavar="RUN", help="evaluate a run again from its stored answers, without a model: name or folder"),
    ] = None
    blind: Annotated[Path | None, Parameter(group=_BLIND, help="write a page that asks a person to choose")] = None
    choices: Annotated[Path | None, Parameter(group=_BLIND, help="import the choices saved by that page")] = None
    judge: Annotated[str | None, Parameter(group=_BLIND, help="ask another model, in both orders")] = None


def evaluate_command(*, options: EvaluateOptions = EvaluateOptions()) -> int:
    """Compare an adapter with the base model and the champion; exit status 0 only when every gate passes."""
    if options.rescore is not None:
        return _rescore(options)
    if options.blind or options.choices or options.judge:
        raise BadInput("--blind, --choices and --judge need an evaluated run.", "Name it with --rescore RUN.")
    if not options.advisor or not options.adapter:
        raise BadInput(
            "An evaluation needs an advisor and an adapter.",
            "Add --advisor A --adapter V, or name an evaluated run with --rescore RUN.",
        )
    context = context_from_options(options, options.advisor)
    context.store().advisor(context.advisor)
    folder = Path(options.adapter)
    if not folder.is_dir():
        folder = context.registry.get(context.advisor, options.adapter).path
    context = replace(context, adapter=str(folder.resolve()))
    with show_progress(options.json) as listen:
        context = _resume_context(context, listen)
        if not context.dataset:
            link_and_build_dataset(context, listen)
        context.save(context.run_folder / "context.json")
        judged = stages.evaluate_stage(context, listen)
    return _print_evaluation(options, judged.as_dict(), judged.gates, _next_command(context, judged))


def _next_command(context: StageContext, judged: stages.EvaluateSummary) -> str:
    """What follows for the registered version that was evaluated; "" for any other adapter."""
    registry, advisor, adapter = context.registry, context.advisor, Path(str(context.adapter))
    version = registry.version_at(advisor, adapter) or registry.version_with_content(advisor, adapter)
    if version is None:
        return ""
    text = f"Recorded as an evaluation of {version.version}, which is {version.state}."
    if version.state == "champion" and judged.verdict == "FAIL":
        return f"{text} To go back: mondrian adapters rollback --advisor {advisor}"
    if version.state == "candidate" and judged.verdict == "PASS":
        reason = ' --reason "..."' if judged.loosened else ""
        return (
            f"{text} To promote it: mondrian adapters promote --advisor {advisor} --version {version.version}{reason}"
        )
    return text


def _resume_context(context: StageContext, listen: EventListener) -> StageContext:
    """The context of an interrupted run of the same evaluation, if there is one; otherwise `context` itself."""
    wanted = {key: value for key, value in context.as_stored().items() if key not in ("run", "actor")}
    for path in sorted((context.root / "runs").glob(f"*-{context.advisor}/context.json"), reverse=True):
        if (path.parent / "evaluate.json").exists() or not (path.parent / "samples.jsonl").exists():
            continue
        try:
            values = read_json(path)
        except (OSError, ValueError):
            continue
        if wanted == {key: value for key, value in values.items() if key in wanted}:
            listen(StageNotice("evaluate", f"Resuming the interrupted evaluation of run {path.parent.name}."))
            return replace(context, run=path.parent.name)
    return context


def _rescore(options: EvaluateOptions) -> int:
    """Evaluate a run again from its samples, without a model. The run's own files don't change."""
    from mondrian_core.evaluation import rescore_evaluation

    run = _find_run_folder(options)
    _handle_preferences(options, run / "samples.jsonl")
    recipe = recipe_from_options(options) if options.recipe else _load_run_recipe(run)
    out = run / "rescored" / recipe.digest[:12]
    with show_progress(options.json) as listen:
        report = rescore_evaluation(run, recipe, out, listen=listen)
    gates = [gate.as_dict() for gate in report.gates]
    value = {
        "report": str(out / "comparison_report.json"),
        "html": str(out / "report.html"),
        "gates": gates,
        "verdict": report.verdict,
        "split": report.about.get("split"),
        "recipe": recipe.digest,
    }
    return _print_evaluation(options, value, gates)


def _handle_preferences(options: EvaluateOptions, samples: Path) -> None:
    """Collect or import preferences between critiques; they are added to the run's samples."""
    from mondrian_core.evaluation.blind import preference
    from mondrian_core.evaluation.blind.model_judge import make_model_judge
    from mondrian_core.evaluation.measure.samples import load_evaluation_samples

    if options.blind:
        write_atomic(options.blind.resolve(), preference.blind_page(load_evaluation_samples(samples)))
    if options.choices:
        preference.save_preference_choices(
            samples, preference.load_preference_choices(load_evaluation_samples(samples), options.choices)
        )
    if options.judge:
        from mondrian_core.models.base_download import fetch_base
        from mondrian_core.models.base_model import load_base

        with show_progress(options.json) as listen:
            fetch_base(options.judge, listen)
        measured = load_evaluation_samples(samples)
        with accelerator_lock.exclusive_work("judge of critiques", lambda text: print(text, file=sys.stderr)):
            ask = make_model_judge(load_base(options.judge), options.judge, measured.identity.get("base"))
            pairs = [pair for pair in preference.blind_pairs(measured) if pair.picture]
            preference.save_preference_choices(samples, preference.collect_judge_choices(ask, options.judge, pairs))


def _find_run_folder(options: EvaluateOptions) -> Path:
    """The folder of the run to rescore, given as a folder or as a name in the workspace."""
    name = str(options.rescore)
    run = Path(name) if Path(name).is_dir() else settings_from_options(options).root / "runs" / name
    if not (run / "samples.jsonl").is_file():
        raise BadInput(
            f"{options.rescore} is not an evaluated run: it has no samples.jsonl.",
            "Give a folder of the workspace's runs/, or its name.",
        )
    return run.resolve()


def _load_run_recipe(run: Path) -> Recipe:
    """The recipe that the run was evaluated with; the defaults if it stored none."""
    try:
        values = read_json(run / "context.json")["recipe"]
    except FileNotFoundError:
        return Recipe()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"The recipe in {run / 'context.json'} can't be read.", "Name one with --recipe.") from error
    return recorded_recipe(values, str(run / "context.json"))


def _print_evaluation(
    options: EvaluateOptions, value: dict[str, Any], gates: Sequence[dict[str, Any]], more: str = ""
) -> int:
    page = Path(value["html"])
    if options.html is not None:
        page = (options.html[0] if options.html else Path("report.html")).resolve()
        write_atomic(page, Path(value["html"]).read_bytes())
        value = {**value, "page": str(page)}

    def draw(console: Console) -> None:
        console.print(rich_gate_table(list(gates)))
        report = read_json(Path(value["report"]))
        loosened = loosened_text(tuple(LoosenedSetting(**setting) for setting in report.get("loosened", ())))
        console.print(f"Verdict: {', '.join(filter(None, (value['verdict'], loosened)))}")
        if report.get("gain"):
            console.print(report["gain"], markup=False)
        for sentence in (*report.get("caveats", ()), *report.get("next_steps", ())):
            console.print(f"  {sentence}")
        console.print(f"Report: {page}")
        if more:
            console.print(more)

    print_result(options.json, value, draw)
    return EXIT_STATUS_BY_VERDICT[value["verdict"]]
