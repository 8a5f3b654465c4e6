"""`mondrian start`: the guided way from an empty folder to an adapter that answers.

It looks at what is there, does the next step by running the command for it, and looks again. So it continues wherever
it was left, and whoever reads along learns the commands.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.prompt import Confirm, Prompt

from mondrian_core.cli.options import CommandOptions, WholeNumber, settings_from_options
from mondrian_core.cli.terminal_output import print_result, shared_option_words, show_recording, step_with_options
from mondrian_core.errors import BadInput, error_with_status
from mondrian_core.first_hour import MANUAL_WARNING, FirstHour, GuidedStep, look_at_first_hour
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.recipe_choice import FIRST_CRITIQUES
from mondrian_core.recipes import DEMO_RECIPE
from mondrian_core.registry import Registry
from mondrian_core.settings import MINI_BASE_MODEL, Settings

DONE, STOPPED = 0, 1
NOT_PROMOTED = 1  # of `mondrian retrain`
_BROWSER, _TERMINAL, _LATER = "browser", "terminal", "later"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StartOptions(CommandOptions):
    """Options of `mondrian start`; each answers a question, so that scripts can use it."""

    advisor: Annotated[str | None, Parameter(help="ID of the advisor, where there are several")] = None
    name: Annotated[str | None, Parameter(help="name of the advisor to add")] = None
    photographs: Annotated[Path | None, Parameter(help="folder of photographs to import")] = None
    critiques: Annotated[Path | None, Parameter(help="file of critiques to import")] = None
    yes: Annotated[
        bool, Parameter(help="ask nothing: train when there is enough, and stop where an answer is missing")
    ] = False
    promote_reason: Annotated[
        str | None, Parameter(help="promote an inconclusive version manually, with this reason")
    ] = None
    no_serve: Annotated[bool, Parameter(help="end before the service starts")] = False
    page: Annotated[bool, Parameter(help="start the service at once, and continue on its page /start")] = False
    demo: Annotated[
        bool, Parameter(help="go the whole way with rendered photographs, their critiques and the bundled base model")
    ] = False
    port: Annotated[WholeNumber, Parameter(show_default=True, help="port of the service")] = 5100


def start_command(*, options: StartOptions = StartOptions()) -> int:
    """Go from an empty folder to your own adapter, step by step.

    Exit status 1 when a step waits for you; that of the step's command when it failed.
    """
    options = _with_sample(options) if options.demo else options
    settings = settings_from_options(options)
    if not options.yes and not options.page and not sys.stdin.isatty():
        raise BadInput(
            "There is no terminal to ask in.",
            "Use `mondrian start --page` and the browser, or `mondrian start --yes` with the answers as options.",
        )
    guide = _Guide(options, settings, Console(stderr=True, highlight=False))
    with redirect_stdout(sys.stderr):  # the commands report to people; standard output has the result
        guide.require_workspace()
        try:
            status = guide.run()
        except EOFError:  # Ctrl-D at a question
            status = STOPPED
    if status == DONE and options.page:
        return guide.serve()
    way = guide.look()
    left = way.current

    def draw(console: Console) -> None:
        if left is None or left.key == "serve":
            console.print("Your adapter is promoted." if way.counts and way.counts.active_version else "")
        elif left.next_step:
            console.print(f"Next: {step_with_options(options, left.next_step)}", markup=False)

    print_result(options.json, way.as_dict(), draw)
    if status == DONE and not options.no_serve and not options.json:
        return guide.serve()
    return status


def _with_sample(options: StartOptions) -> StartOptions:
    """The options with the demonstration's answers: nothing is asked, and the small base model is bundled.

    Raises:
        BadInput: the workspace holds somebody's photographs, or an option answers a question that the sample answers.
    """
    from mondrian_core.data.sample_workspace import ADVISOR, is_sample_workspace

    settings = settings_from_options(options)
    if settings.database.is_file() and not is_sample_workspace(settings.root):
        raise BadInput(
            f"{settings.root} is not a sample workspace, and --demo adds nothing to it.",
            "Leave --demo out, or use an empty folder.",
        )
    answered = {"--name": options.name, "--photographs": options.photographs, "--critiques": options.critiques}
    if given := [name for name, value in answered.items() if value is not None]:
        raise BadInput(f"--demo brings its own answer to {given[0]}.", f"Leave --demo or {given[0]} out.")
    base_model = settings.base_model or MINI_BASE_MODEL
    return replace(options, yes=True, advisor=options.advisor or ADVISOR, base_model=base_model)


@dataclass
class _Guide:
    """Walks the steps; `tried` remembers steps that were done already and still aren't complete."""

    options: StartOptions
    settings: Settings
    console: Console
    tried: set[str] = field(default_factory=set)

    def require_workspace(self) -> None:
        """Create the workspace unless it is there.

        Raises:
            MondrianError: `mondrian init` failed, with its exit status.
        """
        if self.settings.database.is_file():
            return
        if status := self._command("init", *(["--sample"] if self.options.demo else [])):
            problem = f"The workspace {self.settings.root} was not created."
            raise error_with_status(status, problem, "The reason is above; fix it and run the command again.")

    def run(self) -> int:
        """Do steps until an adapter can answer: DONE.

        Returns earlier when a step waits for the person: STOPPED, or when its command failed: that exit status.
        """
        if self.options.page:
            return DONE
        steps: dict[str, Callable[[FirstHour, GuidedStep], int]] = {
            "advisor": self._advisor,
            "photographs": self._photographs,
            "critiques": self._critiques,
            "train": self._train,
            "report": self._report,
        }
        while (step := (way := self.look()).current) is not None and step.key in steps:
            self._print_way(way)
            if (status := steps[step.key](way, step)) != DONE:
                return status
        self._print_way(way)
        return DONE

    def look(self) -> FirstHour:
        """The way as it stands."""
        from mondrian_core.store import Store

        root = self.settings.require_workspace()
        registry = Registry(self.settings.adapters_root)
        show_recording(self.settings, self.options.json)
        with Store(self.settings.database, read_only=True) as store:
            known = store.advisors()
            chosen: AdvisorPrompt | None
            if self.options.advisor:
                chosen = store.advisor(self.options.advisor)
            elif len(known) > 1:
                names = ", ".join(each.advisor for each in known)
                raise BadInput(f"There are several advisors: {names}.", "Choose one with --advisor.")
            else:
                chosen = known[0] if known else None
            return look_at_first_hour(store, registry, root, chosen)

    def serve(self) -> int:
        """Run the service until it is interrupted."""
        mode = ("--model-mode", "fine_tuned", "--fallback", "base")
        if self.options.page:
            self.console.print(f"Open http://127.0.0.1:{self.options.port}/start in a browser.")
        return self._command("serve", *mode, "--port", str(self.options.port))

    # --- steps: each returns DONE when the way should be looked at again, else the exit status ---

    def _advisor(self, way: FirstHour, step: GuidedStep) -> int:
        name = self.options.name or self._ask("Name of the advisor (whose eye is it? yours, a teacher's ...)")
        return self._command("advisors", "add", str(name)) if name and self._once("advisor") else STOPPED

    def _photographs(self, way: FirstHour, step: GuidedStep) -> int:
        folder = self.options.photographs if "photographs" not in self.tried else None
        answer = str(folder) if folder else self._ask("Folder with photographs")
        if not answer:
            return STOPPED
        self.tried.add("photographs")
        status = self._command("import", str(Path(answer).expanduser()), "--advisor", self._id(way))
        return status if self.options.yes else DONE  # a person is asked again

    def _critiques(self, way: FirstHour, step: GuidedStep) -> int:
        if self.options.critiques and self._once("critiques"):
            return self._command("import", str(self.options.critiques), "--advisor", self._id(way))
        if self.options.yes:
            return STOPPED
        choice = Prompt.ask(
            f"Write {FIRST_CRITIQUES} critiques: where?",
            choices=[_BROWSER, _TERMINAL, _LATER],
            default=_BROWSER,
            console=self.console,
        )
        if choice == _BROWSER:
            self.console.print(f"Open http://127.0.0.1:{self.options.port}/start, and come back with Ctrl-C.")
            return self.serve()
        return self._command("write", "--advisor", self._id(way)) if choice == _TERMINAL else STOPPED

    def _train(self, way: FirstHour, step: GuidedStep) -> int:
        retraining = way.retraining
        if retraining is not None and retraining.at_work:
            self.console.print("A training is at work in another process; `mondrian start` continues after it.")
            return STOPPED
        if not self._once("train") or not (self.options.yes or self._confirm("Train now?")):
            return STOPPED
        words = ["retrain", "--advisor", self._id(way)]
        if retraining is not None and retraining.interrupted and retraining.run is not None:
            words += ["--resume", retraining.run.name]
        elif self.options.demo:
            words += ["--recipe", DEMO_RECIPE]
        status = self._command(*words)
        return DONE if status == NOT_PROMOTED else status  # trained, and the next step shows the report

    def _report(self, way: FirstHour, step: GuidedStep) -> int:
        run = way.retraining.run if way.retraining else None
        if run is None or run.version is None or not self._once("report"):
            return STOPPED
        self.console.print(f"The report is {self.settings.root / 'runs' / run.name / 'report.html'}", markup=False)
        self.console.print(f"{run.sentence}\n{MANUAL_WARNING}", markup=False)
        reason = self.options.promote_reason
        if reason is None and self._confirm(f"Promote {run.version} manually?", default=False):
            reason = self._ask("Why? It is kept in the history")
        if not reason:
            return STOPPED
        words = ["adapters", "promote", "--advisor", self._id(way), "--version", run.version, "--reason", reason]
        return self._command(*words, *(["--force"] if run.decision == "rejected" else []))

    def _id(self, way: FirstHour) -> str:
        assert way.advisor is not None, "later steps need an advisor"
        return way.advisor.advisor

    def _once(self, key: str) -> bool:
        """True the first time: a step that changed nothing must not be repeated for ever."""
        again = key in self.tried
        self.tried.add(key)
        return not again or not self.options.yes

    def _ask(self, question: str) -> str | None:
        return None if self.options.yes else (Prompt.ask(question, console=self.console) or "").strip() or None

    def _confirm(self, question: str, *, default: bool = True) -> bool:
        return not self.options.yes and Confirm.ask(question, default=default, console=self.console)

    def _command(self, *words: str) -> int:
        """Run a `mondrian` command in this process, with the workspace and registry of this one."""
        from mondrian_core.cli import main

        self.console.print(f"$ {shlex.join(('mondrian', *words))}", style="bold", markup=False)
        return main([*words, *shared_option_words(self.options)])

    def _print_way(self, way: FirstHour) -> None:
        marks = {"done": "✓", "current": "→", "later": " "}
        for number, step in enumerate(way.steps, 1):
            text = f": {step.text}" if step.text else ""
            self.console.print(f"{marks[step.state]} {number}. {step.title}{text}", markup=False)
