"""The commands and their options. Names take "-" and "_" alike."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mondrian_core.cli import (
    adapters,
    adapters_export,
    adapters_show,
    backup,
    evaluate,
    pipeline,
    portfolio,
    prefect_passthrough,
    promote,
    review,
    rollout,
    service,
    workspace,
)
from mondrian_core.recipes import MAX_SEED, TrainRecipe

CommandFunction = Callable[[argparse.Namespace], int]


def normalize_option_names(arguments: list[str]) -> list[str]:
    """Spell option names with dashes: --lora_path=X and --lora-path=X are the same option."""
    spelled: list[str] = []
    for position, argument in enumerate(arguments):
        if argument == "--":
            return [*spelled, *arguments[position:]]
        if argument.startswith("--"):
            name, equals, value = argument.partition("=")
            argument = name.replace("_", "-") + equals + value
        spelled.append(argument)
    return spelled


def build_parser() -> argparse.ArgumentParser:
    """The parser of `mondrian`."""
    parser = argparse.ArgumentParser(
        prog="mondrian",
        description="Teach a vision-language model to critique photographs with one advisor's eye, and keep it so.",
    )
    parser.set_defaults(json=False, debug=False)
    found = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _workspace_commands(found)
    _stage_commands(found)
    _data_commands(found)
    _adapter_commands(found)
    _rollout_commands(found)
    _service_commands(found)
    return parser


def _add_command(
    found: Any, name: str, run: CommandFunction, text: str, *, advisor: bool = False
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = found.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    parser.add_argument("--workspace", type=Path, help="folder with mondrian.db and source/ (MONDRIAN_WORKSPACE)")
    parser.add_argument(
        "--adapters",
        type=Path,
        help="root of the adapter registry (MONDRIAN_ADAPTERS; default: adapters beside the workspace)",
    )
    parser.add_argument("--base-model", help="mini, a folder, or a hub id of a Qwen-VL model (MONDRIAN_BASE_MODEL)")
    parser.add_argument("--json", action="store_true", help="answer as one JSON document")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    if advisor:
        parser.add_argument("--advisor", required=True, help="advisor id, such as ansel")
    return parser


def _workspace_commands(found: Any) -> None:
    init = _add_command(found, "init", workspace.init_command, "make a workspace")
    init.add_argument("--sample", action="store_true", help="fill it with rendered photographs and critiques")
    init.add_argument("--photographs", type=int, default=80, help="how many critiqued photographs a sample gets")
    init.add_argument("--seed", type=_seed, default=0)
    doctor = _add_command(found, "doctor", workspace.doctor_command, "check this machine and say what to do")
    _backup_commands(found)
    doctor.add_argument("--api", help="address of the Prefect API (PREFECT_API_URL, or the one `make up` started)")
    _prefect_command(found)


def _prefect_command(found: Any) -> None:
    text = "Prefect's own commands, at the server that `make up` started for this workspace"
    parser = found.add_parser("prefect", help=text, description=f"{text}. Options of mondrian come before the words.")
    parser.set_defaults(run=prefect_passthrough.prefect_command)
    parser.add_argument("--workspace", type=Path, help="whose server (MONDRIAN_WORKSPACE)")
    parser.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="as after `prefect`: deployment run 'retrain/scheduled' -p advisor=ansel",
    )


def _backup_commands(found: Any) -> None:
    making = _add_command(
        found, "backup", backup.backup_command, "database, photographs and registry to a folder, verified"
    )
    restoring = _add_command(found, "restore", backup.restore_command, "bring a backup back; overwrites nothing")
    for command in (making, restoring):
        command.add_argument(
            "folder",
            type=Path,
            nargs="?",
            metavar="FOLDER",
            help="the backup folder, best on another disk (MONDRIAN_BACKUP)",
        )
        command.add_argument("--list", action="store_true", help="show the snapshots in the folder, and stop")
        command.add_argument("--snapshot", metavar="NAME", help="one of --list (default: the last)")
    making.add_argument("--keep", type=int, metavar="N", help="afterwards delete all but the last N snapshots")
    making.add_argument("--verify", action="store_true", help="read every file of a snapshot again, and stop")
    restoring.add_argument("--force", action="store_true", help="move aside what is in its place")


def _stage_commands(found: Any) -> None:
    link = _add_command(
        found,
        "link",
        pipeline.link_command,
        "profiles + analyses -> manifest, with a reason for each left out",
        advisor=True,
    )
    link.add_argument("--csv", type=Path, help="write every record as a line of this CSV file too")
    data = _add_command(found, "dataset", pipeline.dataset_command, "manifest -> dataset version", advisor=True)
    data.add_argument(
        "--preview",
        type=int,
        nargs="?",
        const=1,
        metavar="N",
        help="show row N of the training split exactly as the model sees it (default 1)",
    )
    data.add_argument(
        "--export",
        nargs=2,
        metavar=("FORM", "FOLDER"),
        help="write it as parquet, chat (JSON lines) or pairs to a new folder too",
    )
    _recipe_options(data)
    train = _add_command(found, "train", pipeline.train_command, "train a LoRA adapter", advisor=True)
    _recipe_options(train)
    train.add_argument("--dataset", type=Path, help="a dataset version's folder (default: built from the database)")
    train.add_argument("--out", type=Path, help="run folder (default: runs/<time>-<advisor> of the workspace)")
    train.add_argument("--resume", action="store_true", help="go on where the run in --out stopped")
    train.add_argument("--dry-run", action="store_true", help="say what would be trained, and stop")
    _folds_option(train)
    _evaluate_command(found)
    retrain = _add_command(found, "retrain", pipeline.retrain_command, "the whole chain in this process", advisor=True)
    retrain.add_argument("--resume", metavar="RUN", help="go on where the run of that name was interrupted")
    _folds_option(retrain)
    _recipe_options(retrain)
    retrain.add_argument("--force", action="store_true", help="train also when nothing is new since the last one")
    _no_wait_option(train, retrain)


def _evaluate_command(found: Any) -> None:
    evaluating = _add_command(
        found, "evaluate", evaluate.evaluate_command, "an adapter against base and champion: report and gates"
    )
    evaluating.add_argument("--advisor", help="advisor id, such as ansel")
    evaluating.add_argument("--adapter", help="a version such as v0001, or a folder")
    evaluating.add_argument(
        "--dataset", type=Path, help="a dataset version's folder (default: built from the database)"
    )
    evaluating.add_argument(
        "--html",
        type=Path,
        nargs="?",
        const=Path("report.html"),
        metavar="FILE",
        help="also write the report as one standalone page (default: report.html here)",
    )
    _folds_option(evaluating)
    evaluating.add_argument(
        "--rescore", metavar="RUN", help="judge a run again from its answers, without a model: its name or folder"
    )
    blind = evaluating.add_argument_group("with --rescore: which critiques are preferred, blind (no gate)")
    blind.add_argument("--blind", type=Path, metavar="FILE", help="write a page that asks a person")
    blind.add_argument("--choices", type=Path, metavar="FILE", help="take in what that page saved")
    blind.add_argument("--judge", metavar="MODEL", help="ask another model, in both orders")
    _recipe_options(evaluating)
    _no_wait_option(evaluating)


def _no_wait_option(*commands: argparse.ArgumentParser) -> None:
    for command in commands:
        command.add_argument(
            "--no-wait", action="store_true", help="fail when another process of this machine uses the accelerator"
        )


def _folds_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="for small sets: retrain K times, each time judged on what was left out; a training then "
        "takes every photograph",
    )


def _data_commands(found: Any) -> None:
    indexing = _add_command(
        found, "index", portfolio.index_command, "portfolio photographs -> profiles and embeddings", advisor=True
    )
    drafting = _add_command(
        found,
        "synthesize",
        portfolio.synthesize_command,
        "the base drafts critiques of photographs without one, for a review",
        advisor=True,
    )
    drafting.add_argument("--count", type=int, metavar="N", help="drafts to make at most (default: the recipe's, 20)")
    _no_wait_option(indexing, drafting)
    drafting.add_argument("--recipe", type=Path, help="settings of every stage: a TOML file, or a shipped one's name")
    reviewing = _add_command(
        found, "review", review.review_command, "accept, correct or discard drafted critiques", advisor=True
    )
    reviewing.add_argument("--list", action="store_true", help="show every draft and its state, and ask nothing")
    reviewing.add_argument("--accept", nargs="+", metavar="ID", help="take these drafts as they are; ask nothing")
    reviewing.add_argument("--discard", nargs="+", metavar="ID", help="throw these drafts away; ask nothing")
    reviewing.add_argument(
        "--correct",
        nargs=2,
        action="append",
        metavar=("ID", "FILE"),
        help="take the critique (JSON) in FILE in place of a draft; ask nothing",
    )
    reviewing.add_argument("--reopen", nargs="+", metavar="ID", help="take the decision on these drafts back")


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MAX_SEED:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {MAX_SEED}")
    return value


def _recipe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", type=Path, help="settings of every stage: a TOML file, or a shipped one's name")
    group = parser.add_argument_group("settings of training (win over the recipe)")
    for name, field in TrainRecipe.model_fields.items():
        kinds: dict[Any, Callable[[str], Any]] = {int: int, float: float, float | None: float}
        note = field.description or ""
        if field.annotation is bool:
            switch = argparse.BooleanOptionalAction
            group.add_argument(f"--{name.replace('_', '-')}", dest=name, action=switch, help=note)
            continue
        many = name == "target_modules"
        kind = kinds.get(field.annotation, str)
        told = f"{note} (default {field.default})".strip().replace("%", "%%")
        group.add_argument(f"--{name.replace('_', '-')}", dest=name, type=kind, nargs="+" if many else None, help=told)


def _adapter_commands(found: Any) -> None:
    parser = found.add_parser("adapters", help="versions: list, show, verify, promote, rollback, export, import, diff")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = _add_command(actions, "list", adapters.list_adapters_command, "every version and its state")
    listing.add_argument("--advisor", help="only this advisor's")
    show = _add_command(
        actions, "show", adapters_show.show_adapter_command, "one version: lineage, gates, history", advisor=True
    )
    show.add_argument("version")
    verify = _add_command(
        actions, "verify", adapters.verify_adapters_command, "re-hash the files, check the weights", advisor=True
    )
    verify.add_argument("version", nargs="?", help="default: all versions")
    verify.add_argument("--release", action="store_true", help="let versions out of quarantine that are sound again")
    promoting = _add_command(actions, "promote", promote.promote_command, "make a version the champion", advisor=True)
    promoting.add_argument("--version", required=True)
    promoting.add_argument("--reason", default="")
    promoting.add_argument("--force", action="store_true", help="also when a gate failed; needs --reason")
    promoting.add_argument("--rollout", action="store_true", help="begin with a share of the photographs that grows")
    promoting.add_argument("--plan", type=Path, help="JSON file with keys of a rollout's plan, see docs/rollout.md")
    rollback = _add_command(
        actions, "rollback", promote.rollback_command, "back to the previous champion", advisor=True
    )
    rollback.add_argument("--reason", default="")
    prune = _add_command(
        actions, "prune", adapters.prune_adapters_command, "delete old versions that nothing needs", advisor=True
    )
    prune.add_argument("--keep", type=int, default=5, help="candidates and rejected ones to keep, newest first (5)")
    prune.add_argument("--force", action="store_true", help="also versions that a rollback could return to")
    prune.add_argument("--dry-run", action="store_true", help="say what would be deleted, and stop")
    export = _add_command(
        actions,
        "export",
        adapters_export.export_adapter_command,
        "copy a version out, also for other tools",
        advisor=True,
    )
    export.add_argument("version")
    export.add_argument(
        "--format",
        choices=adapters_export.EXPORT_FORMATS,
        default="archive",
        help="one archive for `adapters import` (default), a folder for mlx-vlm or PEFT, or the base "
        "with the adapter merged into its weights",
    )
    export.add_argument("--out", type=Path, required=True)
    imports = _add_command(
        actions, "import", adapters.import_adapter_command, "take an adapter in as a new candidate", advisor=True
    )
    imports.add_argument("source", type=Path, help="a folder (mlx-vlm's, PEFT's), an archive, or model_config.json")
    imports.add_argument(
        "--scale",
        choices=("alpha", "alpha/rank"),
        help="for the older flat layout: what its trainer multiplied by (mlx-vlm until March 2026: alpha)",
    )
    diff = _add_command(actions, "diff", adapters_show.diff_adapters_command, "two versions side by side", advisor=True)
    diff.add_argument("versions", nargs=2, metavar="VERSION")
    diff.add_argument(
        "--photographs",
        type=int,
        default=2,
        metavar="N",
        help="critiques of the N photographs about which they differ most (default 2)",
    )


def _rollout_commands(found: Any) -> None:
    parser = found.add_parser("rollout", help="share of the photographs that a new version gets: show, advance, set")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = _add_command(
        actions, "show", rollout.show_rollout_command, "where rollouts stand and what would be decided now"
    )
    show.add_argument("--advisor", help="only this advisor's")
    advance = _add_command(
        actions, "advance", rollout.advance_rollout_command, "decide and do it: advance, hold or roll back"
    )
    advance.add_argument("--advisor", help="only this advisor's")
    change = _add_command(
        actions, "set", rollout.set_rollout_share_command, "go to a later share of the plan by hand", advisor=True
    )
    change.add_argument("share", type=float, help="a share of the plan, 1.0 for everything")
    change.add_argument("--reason", default="")


def _service_commands(found: Any) -> None:
    serve = _add_command(found, "serve", service.serve_command, "answer requests for critiques")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=5100)
    serve.add_argument(
        "--model-mode",
        choices=("base", "fine_tuned", "ab_test"),
        help="default: fine_tuned when ANALYSIS_MODE is lora, else base",
    )
    serve.add_argument("--use-fine-tuned", action="store_true", help="older name of --model-mode fine_tuned")
    serve.add_argument("--lora-path", help="a folder, a version, or an advisor's folder of the registry")
    serve.add_argument("--ab-test-split", type=float, default=0.5, help="share of photographs for the adapter, 0-1")
    serve.add_argument(
        "--fallback",
        choices=("base",),
        help="without a usable adapter let the base answer, until a version is promoted",
    )
    analyze = _add_command(found, "analyze", service.analyze_command, "critique photographs", advisor=True)
    analyze.add_argument("photographs", nargs="+", type=Path, metavar="PHOTO", help="a photograph, or a folder of them")
    analyze.add_argument("--mode", choices=("baseline", "rag", "lora", "all"), help="all: the three side by side")
    analyze.add_argument("--use-fine-tuned", action="store_true", help="older name of --mode lora")
    analyze.add_argument("--lora-path", help="a folder, a version, or an advisor's folder of the registry")
    analyze.add_argument("--csv", type=Path, metavar="FILE", help="also write a line for each critique")
    analyze.add_argument("--html", type=Path, metavar="FILE", help="also write one standalone page")
    compare = _add_command(found, "compare", service.compare_command, "the A/B table from the jobs table")
    compare.add_argument("--days", type=int, default=7)
