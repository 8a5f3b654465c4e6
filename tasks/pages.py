"""What a person reads in the UI after each stage: the verdict first, then the figures, then where the files are.

Pure functions from a stage's summary to Markdown. Whatever a person, a model or a file says in it is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mondrian_core.markdown import Markdown, cell, code, code_block, plain, table
from mondrian_core.rollout import Look, Rollout
from mondrian_core.stages import (
    DatasetSummary,
    EvaluateSummary,
    LinkSummary,
    PromoteSummary,
    RegisterSummary,
    TrainSummary,
)
from tasks.pictures import embedded

FIGURES = ("observed", "threshold", "n", "interval")
VERDICTS = {
    "PASS": "Every gate passed.",
    "FAIL": "A gate failed: this adapter must not go live.",
    "INCONCLUSIVE": "No gate failed, but not every gate could be decided.",
}
DECISIONS = {"promoted": "Promoted", "candidate": "Kept as a candidate", "rejected": "Rejected"}


def page(*parts: str) -> str:
    """Parts that aren't empty, a blank line between them."""
    return "\n\n".join(part for part in parts if part)


def linked(summary: LinkSummary) -> str:
    """The link report."""
    left = sum(summary.left_out.values())
    verdict = f"## {summary.used} critiques linked, {left} records left out"
    return page(verdict, summary.table, f"Every record with its reason: {code(summary.manifest)}")


def built(summary: DatasetSummary) -> str:
    """The dataset's sizes and a look at its photographs."""
    verdict = f"## Dataset {plain(summary.digest[:12])}: {sum(summary.photographs.values())} photographs"
    splits = dict.fromkeys([*summary.photographs, *summary.rows])
    sizes = [(split, summary.photographs.get(split, 0), summary.rows.get(split, 0)) for split in splits]
    return page(
        verdict,
        table(("split", "photographs", "rows (with variants)"), sizes),
        embedded(summary.contact_sheet, "contact sheet"),
        f"Files: {code(summary.path)}",
    )


def trained(summary: TrainSummary, recipe: Mapping[str, Any]) -> str:
    """The loss curve and what it was trained with."""
    verdict = f"## {summary.chosen[0].upper()}{summary.chosen[1:]}"
    settings = table(("setting", "value"), recipe.items())
    answers = (
        "{valid} of {photographs} validation photographs were answered in form; squared error of the scores "
        "{score_error:.2f}.".format(**summary.answers)
        if summary.answers
        else ""
    )
    return page(
        verdict,
        f"{summary.steps} steps in {summary.seconds:.0f} s. {answers}".strip(),
        _extent(summary.trained_on),
        _preferred(summary.preference),
        embedded(summary.curve, "loss curve"),
        settings,
        f"Adapter (not yet a version): {code(summary.adapter)}",
        f"Every step: {code(summary.log)}",
    )


def _extent(told: Mapping[str, Any] | None) -> str:
    """That nothing was held out; "" where something was."""
    if not told or told["extent"] != "all":
        return ""
    return (
        f"Trained on all {told['photographs']} photographs ({told['rows']} rows): so few would be held out that "
        "folds judge the recipe, and none is left to measure this adapter itself."
    )


def _preferred(told: Mapping[str, Any] | None) -> str:
    """What preference tuning came to; "" where there was none."""
    if told is None:
        return ""
    after = f"after epoch {told['best_epoch']}" if told["best_epoch"] else "no epoch was better than the start"
    validated = (
        ""
        if told["accuracy"] is None
        else f" Of {told['validation_pairs']} validation pairs {told['accuracy']:.0%} are the right way round "
        f"(before: {told['start_accuracy']:.0%}), mean margin {told['margin']:.3g}."
    )
    return f"Tuned on {told['pairs']} pairs ({told['corrections']} corrections), {after}.{validated}"


def judged(summary: EvaluateSummary, pictures: Sequence[str] = ()) -> str:
    """The gate report."""
    verdict = f"## {plain(summary.verdict)}: {VERDICTS.get(summary.verdict, '')}"
    return page(
        verdict,
        gate_table(summary.gates),
        *(embedded(path, "evaluation") for path in pictures),
        f"Measured on: {plain(summary.split)}. Full report: {code(summary.html)}",
    )


def gate_table(gates: Sequence[Mapping[str, Any]]) -> str:
    """The figures of every gate, and below them why: a table of the UI cuts a long sentence off, a list doesn't.

    Checks that a gate is made of stand under it where they did not pass.
    """
    shown: list[tuple[str, Mapping[str, Any]]] = []
    for gate in gates:
        shown.append((gate["name"], gate))
        shown += [(f"↳ {part['name']}", part) for part in gate.get("parts", ()) if part["verdict"] != "PASS"]
    rows = [(name, _strong(gate["verdict"]), *(gate.get(key) for key in FIGURES)) for name, gate in shown]
    reasons = [f"- **{plain(name)}** {_strong(gate['verdict'])}: {cell(gate.get('sentence'))}" for name, gate in shown]
    return page(table(("gate", "verdict", *FIGURES), rows), "\n".join(reasons))


def _strong(verdict: str) -> Markdown:
    return plain(verdict) if verdict == "PASS" else Markdown(f"**{plain(verdict)}**")


def registered(summary: RegisterSummary, advisor: str) -> str:
    """The new version."""
    return page(
        f"## {plain(advisor)} {plain(summary.version)} registered as {plain(summary.state)}",
        "It never changes from now on; what becomes of it is in the registry's history.",
        f"Files: {code(summary.path)}",
    )


def decided(summary: PromoteSummary, advisor: str) -> str:
    """What became of the version."""
    decision = DECISIONS.get(summary.decision, summary.decision)
    verdict = f"## {plain(decision)}: {plain(advisor)} {plain(summary.version)}"
    by_hand = f"What to do next:\n\n{code_block(summary.command)}" if summary.command else ""
    return page(verdict, plain(summary.sentence), by_hand)


def version_facts(
    advisor: str,
    version: str,
    state: str,
    gates: Sequence[Mapping[str, Any]],
    problems: Sequence[str],
    inspection: Mapping[str, Any] | None = None,
) -> str:
    """A version before it is promoted by hand: its gates, whether its files are sound, and what it does to its base."""
    sound = "Every file matches its hash." if not problems else plain("Damaged: " + "; ".join(problems))
    base, change = (inspection or {}).get("base"), (inspection or {}).get("change")
    if not problems and base and change is not None:
        sound += f" On {plain(base)} its keys and shapes fit, and it changes its layers by {cell(100.0 * change)} %."
    elif not problems:
        sound += " Its base is not on this machine, so it was not held against it."
    known = gate_table(gates) if gates else "It carries no gate report."
    return page(f"## {plain(advisor)} {plain(version)}, {plain(state)}", sound, known)


def champion_changed(advisor: str, before: str | None, after: str | None, actor: str, reason: str) -> str:
    """A promotion by hand or a rollback."""
    base = "the base alone"
    rows = [("before", before or base), ("now", after or base), ("by", actor), ("reason", reason)]
    return page(f"## {plain(advisor)}: the champion is now {plain(after or base)}", table(("", ""), rows))


def rollout_title(rollout: Rollout, sentence: str) -> str:
    """The first line of the page of a look."""
    return f"## {plain(rollout.advisor)} {plain(rollout.version)}: {plain(sentence)}"


def rollout_look(seen: Look) -> str:
    """One look at a rollout: what was decided and why, then the figures it rests on."""
    now, observed = seen.now, seen.observed
    title = rollout_title(now, seen.decision.sentence)
    plan = [
        (
            Markdown("**now**") if now.status == "running" and place == now.step else "",
            f"{step.share:.0%}" if step.share else "shadow",
            step.requests,
            step.hours,
        )
        for place, step in enumerate(now.plan.steps)
    ]
    arms = [
        (
            f"{each.share:.0%}",
            each.candidate.requests,
            each.candidate.failures,
            each.control.requests,
            each.control.failures,
        )
        for each in observed.strata
    ]
    pairs = [
        (name, value.worse, value.better)
        for name, value in (
            ("same photographs (shadow)", observed.shadow),
            ("latency", observed.latency),
            ("ratings", observed.ratings),
        )
    ]
    headings = ("share", f"{now.version}: photographs", "failed", f"{now.control or 'base'}: photographs", "failed")
    return page(
        title,
        f"It is {plain(now.place)}; before it: {plain(now.control or 'the base alone')}.",
        table(("", "share", "photographs to go on", "hours to go on"), plan),
        table(headings, arms) if arms else "No photograph has been assigned yet.",
        table(("pairs", "new one worse", "new one better"), pairs),
        table(("guardrail", "evidence (e-value)"), sorted(seen.decision.evidence.items())),
        f"An e-value of {now.plan.watch:g} or more holds the rollout; a guardrail's limit, 1/alpha, rolls it back.",
    )
