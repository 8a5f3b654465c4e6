"""The way to one's own adapter, for `mondrian start` and the page /start: six steps, each done, next or later.

The state is read from database, registry and runs each time, never stored. So every step may be done elsewhere, and the
way continues wherever it was left.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mondrian_core.advisors import count_for_advisor
from mondrian_core.next_steps import (
    AdvisorCounts,
    add_advisor_step,
    import_photographs_step,
    next_step_for,
    retrain_step,
    write_critiques_step,
)
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.recipe_choice import FIRST_CRITIQUES, RecipeChoice, choose_recipe_for
from mondrian_core.registry import Registry
from mondrian_core.retraining_runs import RetrainingProgress, latest_retraining
from mondrian_core.runs import RunRecord
from mondrian_core.store import Store

StepState = Literal["done", "current", "later"]
STEP_TITLES: Mapping[str, str] = {
    "advisor": "Advisor",
    "photographs": "Photographs",
    "critiques": f"{FIRST_CRITIQUES} critiques",
    "train": "Training",
    "report": "Report",
    "serve": "Critiques by the adapter",
}
MANUAL_WARNING = (
    "Promoting it manually makes it answer although the gates did not show that it is better than the base model. "
    "It may be worse. The reason that you give stays in its history, and a rollback returns to the base model."
)


@dataclass(frozen=True)
class GuidedStep:
    """One step. `text` says what is there or what to do; `next_step` names a command for it, "" without one."""

    key: str
    state: StepState
    text: str
    next_step: str = ""

    @property
    def title(self) -> str:
        """For people."""
        return STEP_TITLES[self.key]


@dataclass(frozen=True, kw_only=True)
class FirstHour:
    """Where a person is on the way.

    Attributes:
        advisor: None before the first step.
        counts: what the workspace holds of the advisor.
        choice: the recipe that the next retraining uses; None before there are enough critiques.
        retraining: the latest; None without an advisor.
        steps: in their order; exactly one is current, unless all are done.
    """

    advisor: AdvisorPrompt | None = None
    counts: AdvisorCounts | None = None
    choice: RecipeChoice | None = None
    retraining: RetrainingProgress | None = None
    steps: tuple[GuidedStep, ...] = ()

    @property
    def current(self) -> GuidedStep | None:
        """The step to do now; None when all are done."""
        return next((step for step in self.steps if step.state == "current"), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "advisor": None if self.advisor is None else self.advisor.advisor,
            "counts": None if self.counts is None else asdict(self.counts),
            "recipe": None if self.choice is None else {"name": self.choice.name, "reason": self.choice.reason},
            "retraining": None if self.retraining is None else self.retraining.as_dict(),
            "steps": [{**asdict(step), "title": step.title} for step in self.steps],
            "current": None if self.current is None else self.current.key,
        }


def look_at_first_hour(
    store: Store,
    registry: Registry,
    root: Path,
    advisor: AdvisorPrompt | None,
    child: subprocess.Popen[bytes] | None = None,
) -> FirstHour:
    """Where the way to an adapter of `advisor` stands.

    Args:
        store: of the workspace.
        registry: with the advisor's versions.
        root: the workspace.
        advisor: None before there is one.
        child: the process of a retraining that this process started.
    """
    if advisor is None:
        text = "Whose eye shall the model learn? Yours, a teacher's, or a master's: give the name."
        return FirstHour(steps=_in_order([("advisor", False, text, add_advisor_step())]))
    counts = count_for_advisor(store, registry, advisor.advisor)
    retraining = latest_retraining(root, advisor.advisor, child)
    choice = choose_recipe_for(counts.critiques) if counts.critiques >= FIRST_CRITIQUES else None
    trained = counts.active_version is not None or (retraining.decided and counts.versions > 0)
    steps = [
        ("advisor", True, f"{advisor.name} ({advisor.advisor})", ""),
        _photographs(counts, trained),
        _critiques(counts, trained),
        _training(counts, retraining, choice, trained),
        _report(counts, retraining),
        ("serve", False, _serving_text(counts), next_step_for(counts)),
    ]
    return FirstHour(advisor=advisor, counts=counts, choice=choice, retraining=retraining, steps=_in_order(steps))


_Step = tuple[str, bool, str, str]  # key, done, text, next step


def _in_order(steps: list[_Step]) -> tuple[GuidedStep, ...]:
    """The steps: those before the first open one are done, it is the current one, the others come later."""
    known = {key: (done, text, step) for key, done, text, step in steps}
    found: list[GuidedStep] = []
    blocked = False
    for key in STEP_TITLES:
        done, text, step = known.get(key, (False, "", ""))
        state: StepState = "later" if blocked else "done" if done else "current"
        found.append(GuidedStep(key, state, text if state != "later" else "", step if state == "current" else ""))
        blocked = blocked or not done
    return tuple(found)


def _photographs(counts: AdvisorCounts, trained: bool) -> _Step:
    enough = max(counts.photographs, counts.critiques) >= FIRST_CRITIQUES
    number = counts.photographs
    text = f"{number:,} photograph{'' if number == 1 else 's'}"
    if enough and number < FIRST_CRITIQUES:  # those with a critique may be anywhere below source/
        text = f"{counts.critiques:,} photographs with a critique"
    elif not enough:
        text = f"{text}. At least {FIRST_CRITIQUES} are needed, each a different picture; more give a better choice."
    return "photographs", enough or trained, text, import_photographs_step(counts.advisor)


def _critiques(counts: AdvisorCounts, trained: bool) -> _Step:
    enough = counts.critiques >= FIRST_CRITIQUES
    text = f"{counts.critiques} of {FIRST_CRITIQUES}"
    if enough:
        text = f"{counts.critiques:,} critiques"
    elif not trained:
        missing = FIRST_CRITIQUES - counts.critiques
        text = f"{text} written. {missing} more and a first adapter can be trained and judged."
    return "critiques", enough or trained, text, write_critiques_step(counts.advisor)


def _training(
    counts: AdvisorCounts, retraining: RetrainingProgress, choice: RecipeChoice | None, trained: bool
) -> _Step:
    done = trained and not retraining.at_work
    if done:
        run = retraining.run
        text = f"Trained with the recipe '{run.recipe}'" if run and run.recipe else "Trained"
    elif retraining.at_work:
        text = "Training is at work; it continues when this page or the terminal is closed."
    elif retraining.problem:
        text = retraining.problem
    elif retraining.interrupted:
        text = "The training was interrupted. It continues where it stopped."
    else:
        text = choice.reason if choice else ""
    return "train", done, text, retrain_step(counts.advisor)


def _report(counts: AdvisorCounts, retraining: RetrainingProgress) -> _Step:
    run = retraining.run
    if counts.active_version is not None:
        decided = run is not None and run.version == counts.active_version and run.decision == "promoted"
        passed = ", which passed every gate" if decided else ""
        return "report", True, f"{counts.active_version} is promoted{passed}.", ""
    if run is None or run.decision is None:
        return "report", False, "", next_step_for(counts)
    step = f"Promote it manually: `{retraining.command}`." if retraining.command else next_step_for(counts)
    return "report", False, verdict_in_words(run), step


def verdict_in_words(run: RunRecord) -> str:
    """What the gates decided about the version of a run, with the errors that were measured; two sentences."""
    says = {
        "rejected": f"The gates refused {run.version}; its report says which and why.",
        "unchanged": f"The training gave exactly the weights of {run.version}.",
    }.get(run.decision or "", f"The gates can't decide about {run.version} yet.")
    if run.candidate_error is None or run.base_error is None:
        return says
    who = "By folds, the squared error of its scores" if run.by_folds else "The squared error of its scores"
    return f"{says} {who} is {run.candidate_error:.2f}, that of the base model {run.base_error:.2f}."


def _serving_text(counts: AdvisorCounts) -> str:
    return f"{counts.active_version} answers: give it a photograph." if counts.active_version else ""
