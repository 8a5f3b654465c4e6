"""The table of commands. A command's module is imported when that command runs, or when its help is printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from cyclopts import App, ArgumentCollection, CoercionError, Group, Parameter
from cyclopts.help import DefaultFormatter, HelpPanel

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

HELP_ALL = "--help-all"
EXPERT_PANEL = "Expert training settings"

# group -> command -> (module:function, help); the modules of COMMANDS are below this package
CommandTable = Mapping[str, Mapping[str, tuple[str, str]]]
NO_COMMANDS: CommandTable = {}
COMMANDS: CommandTable = {
    "Workspace": {
        "start": ("start:start_command", "go from an empty folder to your own adapter, step by step"),
        "init": ("workspace:init_command", "create a workspace"),
        "import": ("import_command:import_command", "import photographs from folders, or critiques from files"),
        "download": ("download:download_command", "download the base model, or complete an interrupted download"),
        "doctor": ("workspace:doctor_command", "check the installation and suggest fixes"),
        "selftest": ("selftest:selftest_command", "check that MLX computes correctly on this machine, and how fast"),
        "backup": ("backup:backup_command", "back up database, photographs and registry to a folder, verified"),
        "restore": ("backup:restore_command", "restore a backup; overwrites nothing unless --force is given"),
        "prune": ("prune:prune_command", "delete weights, datasets and caches that are old and can be made again"),
        "export": ("export:export_command", "export critiques as CSV or JSON, or for Label Studio or Argilla"),
        "prefect": (
            "workspace:prefect_command",
            "run Prefect's own commands against this workspace's server; put --workspace before Prefect's words",
        ),
    },
    "Pipeline": {
        "link": ("link:link_command", "link critiques to photographs and report excluded records"),
        "dataset": ("dataset:dataset_command", "build a dataset version from the linked critiques"),
        "train": (
            "train:train_command",
            f"train a LoRA adapter; {HELP_ALL} also shows the expert training settings",
        ),
        "evaluate": (
            "evaluate:evaluate_command",
            "evaluate an adapter against the base model and the champion: report and gates",
        ),
        "retrain": ("retrain:retrain_command", "run all stages in this process, from link to promote"),
    },
    "Photographs without critiques": {
        "write": ("write:write_command", "write critiques in the terminal; in a browser: the page /write"),
        "index": ("index:index_command", "build the retrieval index of an advisor's portfolio"),
        "synthesize": ("synthesize:synthesize_command", "draft critiques with the base model, for review"),
        "review": ("review:review_command", "accept, correct or discard drafted critiques"),
    },
    "Service": {
        "serve": ("service:serve_command", "start the critique service"),
        "analyze": ("service:analyze_command", "critique photographs"),
        "watch": ("watch:watch_command", "critique photographs as they appear in a folder"),
        "mcp": ("mcp:mcp_command", "offer critiques to other programs (Model Context Protocol)"),
        "compare": ("service:compare_command", "print the A/B table of recent requests"),
        "drift": ("drift:drift_command", "compare live answers with the champion's evaluation"),
    },
}
ADVISOR_COMMANDS = {
    "add": ("advisors:add_advisor_command", "add an advisor"),
    "list": ("advisors:list_advisors_command", "list advisors with their critiques, photographs and versions"),
    "show": ("advisors:show_advisor_command", "show an advisor and the system message of prompts"),
    "edit": ("advisors:edit_advisor_command", "change name, biography or system message"),
    "remove": ("advisors:remove_advisor_command", "remove an advisor; critiques, photographs and adapters are kept"),
}
ADAPTER_COMMANDS = {
    "list": ("adapters.manage:list_adapters_command", "list versions and their states"),
    "show": ("adapters.show:show_adapter_command", "show a version: lineage, gates, history"),
    "verify": ("adapters.manage:verify_adapters_command", "check file hashes and weights"),
    "promote": ("promote:promote_command", "make a version the champion"),
    "rollback": ("promote:rollback_command", "return to the previous champion"),
    "prune": ("adapters.manage:prune_adapters_command", "delete old versions that nothing needs"),
    "export": ("adapters.export:export_adapter_command", "export a version, also for other tools"),
    "import": ("adapters.manage:import_adapter_command", "import an adapter as a new candidate"),
    "diff": ("adapters.show:diff_adapters_command", "compare two versions"),
}
RUN_COMMANDS = {
    "list": ("runs:list_runs_command", "list trainings and evaluations with their figures"),
    "show": ("runs:show_run_command", "show one run; --open opens its report"),
    "compare": ("runs:compare_runs_command", "compare settings and figures of two or more runs"),
}
ROLLOUT_COMMANDS = {
    "show": ("rollout:show_rollout_command", "show rollouts and what would be decided now"),
    "advance": ("rollout:advance_rollout_command", "decide and apply: advance, hold or roll back"),
    "set": ("rollout:set_rollout_share_command", "go to a later share of the plan manually"),
}

_PARAMETERS = Parameter(negative_bool=(), negative_iterable=(), allow_repeating=True, show_default=False)


class _SettingsFormatter(DefaultFormatter):
    """Replaces the panel of expert settings by one line, unless `expert` is true."""

    def __init__(self, *, expert: bool) -> None:
        super().__init__()
        self.expert = expert

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        if self.expert or panel.title != EXPERT_PANEL:
            super().__call__(console, options, panel)
        else:
            console.print(f"{len(panel.entries)} {EXPERT_PANEL.lower()} are not shown: use {HELP_ALL}.\n")


def build_app(*, expert_help: bool = False, extra_commands: CommandTable = NO_COMMANDS) -> App:
    """The `mondrian` command line.

    Args:
        expert_help: help texts show every setting of training.
        extra_commands: commands of packages that this one must not import, with full module names.
    """
    app = App(
        name="mondrian",
        help="Fine-tune and serve a vision-language model that critiques photographs in one advisor's style.",
        version=_installed_version,
        default_parameter=_PARAMETERS,
        group_commands=Group("General", sort_key=99),
        group_parameters=Group("Options", sort_key=10),
        help_format="plaintext",
        help_formatter=_SettingsFormatter(expert=expert_help),
        config=[_refuse_words_for_nothing],
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
    )
    for position, (title, commands) in enumerate(COMMANDS.items()):
        _register(app, _inside_this_package(commands), Group(title, sort_key=position))
    for title, commands in extra_commands.items():
        _register(app, commands, Group(title, sort_key=len(COMMANDS)))
    people, versions = Group("Advisors", sort_key=0.5), Group("Adapters", sort_key=2.5)
    for name, text, commands, panel in (
        ("advisors", f"manage advisors: {', '.join(ADVISOR_COMMANDS)}", ADVISOR_COMMANDS, people),
        ("adapters", f"manage adapter versions: {', '.join(ADAPTER_COMMANDS)}", ADAPTER_COMMANDS, versions),
        ("runs", f"look at runs: {', '.join(RUN_COMMANDS)}", RUN_COMMANDS, versions),
        ("rollout", f"manage staged rollouts: {', '.join(ROLLOUT_COMMANDS)}", ROLLOUT_COMMANDS, versions),
    ):
        group = App(
            name=name,
            help=text,
            group=panel,
            version_flags=(),
            group_commands=Group("Commands"),
            default_parameter=_PARAMETERS,
        )
        app.command(group)
        _register(group, _inside_this_package(commands), None)
    app.register_install_completion_command(help="install completion for this shell (bash, zsh, fish)")
    return app


def _refuse_words_for_nothing(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse "none" and "null" where they are not valid: cyclopts would read them as an option that isn't given."""
    for argument in arguments:
        kinds = get_args(argument.hint)
        if type(None) not in kinds or {str, Path} & set(kinds):
            continue
        for token in argument.tokens:
            if token.value.lower() in ("none", "null"):
                raise CoercionError(f'"{token.value}" is not a valid value.', argument=argument, token=token)


def _inside_this_package(commands: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    return {name: (f"mondrian_core.cli.{target}", text) for name, (target, text) in commands.items()}


def _register(app: App, commands: Mapping[str, tuple[str, str]], group: Group | None) -> None:
    for position, (name, (target, text)) in enumerate(commands.items()):
        # `--version` alone asks for Mondrian's version: after a command it is a mistake for a version of an adapter
        app.command(target, name=name, help=text, group=group, sort_key=position, version_flags=())


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mondrian")
    except PackageNotFoundError:
        return "not installed (running from a checkout)"
