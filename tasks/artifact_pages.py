"""What a person reads in the UI after each stage: the verdict first, then the figures, then where the files are.

Pure functions from a stage's summary to Markdown. Whatever a person, a model or a file says in it is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mondrian_core.markdown import Markdown, code_block, code_span, escape_markdown, markdown_cell, markdown_table
from mondrian_core.rollout import Rollout, RolloutCheck
from mondrian_core.stages import (
    DatasetSummary,
    EvaluateSummary,
    LinkSummary,
    PromoteSummary,
    RegisterSummary,
    TrainSummary,
)
from tasks.artifact_images import embedded_image_markdown

GATE_COLUMNS = ("observed", "threshold", "n", "interval")
VERDICT_SENTENCES = {
    "PASS": "Every gate passed.",
    "FAIL": "A gate failed: this adapter must not go live.",
    "INCONCLUSIVE": "No gate failed, but not every gate could be decided.",
}
DECISION_TITLES = {"promoted": "Promoted", "candidate": "Kept as a candidate", "rejected": "Rejected"}


def join_markdown(*parts: str) -> str:
    """Parts that aren't empty, a blank line between them."""
    return "\n\n".join(part for part in parts if part)


def link_markdown(summary: LinkSummary) -> str:
    """The link report."""
    left = sum(summary.left_out.values())
    verdict = f"## {summary.used} critiques linked, {left} records left out"
    return join_markdown(verdict, summary.table, f"Every record with its reason: {code_span(summary.manifest)}")


def dataset_markdown(summary: DatasetSummary) -> str:
    """The dataset's sizes and a look at its photographs."""
    verdict = f"## Dataset {escape_markdown(summary.digest[:12])}: {sum(summary.photographs.values())} photographs"
    splits = dict.fromkeys([*summary.photographs, *summary.rows])
    sizes = [(split, summary.photographs.get(split, 0), summary.rows.get(split, 0)) for split in splits]
    return join_markdown(
        verdict,
        markdown_table(("split", "photographs", "rows (with variants)"), sizes),
        embedded_image_markdown(summary.contact_sheet, "contact sheet"),
        f"Files: {code_span(summary.path)}",
    )


def training_markdown(summary: TrainSummary, recipe: Mapping[str, Any]) -> str:
    """The loss curve and what it was trained with."""
    verdict = f"## {summary.chosen[0].upper()}{summary.chosen[1:]}"
    settings = markdown_table(("setting", "value"), recipe.items())
    answers = (
        "{valid} of {photographs} validation photographs were answered in form; squared error of the scores "
        "{score_error:.2f}.".format(**summary.answers)
        if summary.answers
        else ""
    )
    return join_markdown(
        verdict,
        f"{summary.steps} steps in {summary.seconds:.0f} s. {answers}".strip(),
        _training_extent_markdown(summary.trained_on),
        _preference_markdown(summary.preference),
        embedded_image_markdown(summary.curve, "loss curve"),
        settings,
        f"Adapter (not yet a version): {code_span(summary.adapter)}",
        f"Every step: {code_span(summary.log)}",
    )


def _training_extent_markdown(told: Mapping[str, Any] | None) -> str:
    """That nothing was held out; "" where something was."""
    if not told or told["extent"] != "all":
        return ""
    return (
        f"Trained on all {told['photographs']} photographs ({told['rows']} rows): so few would be held out that "
        "folds judge the recipe, and none is left to measure this adapter itself."
    )


def _preference_markdown(told: Mapping[str, Any] | None) -> str:
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


def gates_markdown(summary: EvaluateSummary, pictures: Sequence[str] = ()) -> str:
    """The gate report."""
    verdict = f"## {escape_markdown(summary.verdict)}: {VERDICT_SENTENCES.get(summary.verdict, '')}"
    return join_markdown(
        verdict,
        gate_table_markdown(summary.gates),
        *(embedded_image_markdown(path, "evaluation") for path in pictures),
        f"Measured on: {escape_markdown(summary.split)}. Full report: {code_span(summary.html)}",
    )


def gate_table_markdown(gates: Sequence[Mapping[str, Any]]) -> str:
    """The figures of every gate, and below them why: a table of the UI cuts a long sentence off, a list doesn't.

    Checks that a gate is made of stand under it where they did not pass.
    """
    shown: list[tuple[str, Mapping[str, Any]]] = []
    for gate in gates:
        shown.append((gate["name"], gate))
        shown += [(f"↳ {part['name']}", part) for part in gate.get("parts", ()) if part["verdict"] != "PASS"]
    rows = [
        (name, _verdict_markdown(gate["verdict"]), *(gate.get(key) for key in GATE_COLUMNS)) for name, gate in shown
    ]
    reasons = [
        f"- **{escape_markdown(name)}** {_verdict_markdown(gate['verdict'])}: {markdown_cell(gate.get('sentence'))}"
        for name, gate in shown
    ]
    return join_markdown(markdown_table(("gate", "verdict", *GATE_COLUMNS), rows), "\n".join(reasons))


def _verdict_markdown(verdict: str) -> Markdown:
    return escape_markdown(verdict) if verdict == "PASS" else Markdown(f"**{escape_markdown(verdict)}**")


def registration_markdown(summary: RegisterSummary, advisor: str) -> str:
    """The new version."""
    return join_markdown(
        f"## {escape_markdown(advisor)} {escape_markdown(summary.version)} registered as {escape_markdown(summary.state)}",
        "It never changes from now on; what becomes of it is in the registry's history.",
        f"Files: {code_span(summary.path)}",
    )


def promotion_markdown(summary: PromoteSummary, advisor: str) -> str:
    """What became of the version."""
    decision = DECISION_TITLES.get(summary.decision, summary.decision)
    verdict = f"## {escape_markdown(decision)}: {escape_markdown(advisor)} {escape_markdown(summary.version)}"
    by_hand = f"What to do next:\n\n{code_block(summary.command)}" if summary.command else ""
    return join_markdown(verdict, escape_markdown(summary.sentence), by_hand)


def version_markdown(
    advisor: str,
    version: str,
    state: str,
    gates: Sequence[Mapping[str, Any]],
    problems: Sequence[str],
    inspection: Mapping[str, Any] | None = None,
) -> str:
    """A version before it is promoted by hand: its gates, whether its files are sound, and what it does to its base."""
    sound = "Every file matches its hash." if not problems else escape_markdown("Damaged: " + "; ".join(problems))
    base, change = (inspection or {}).get("base"), (inspection or {}).get("change")
    if not problems and base and change is not None:
        sound += f" On {escape_markdown(base)} its keys and shapes fit, and it changes its layers by {markdown_cell(100.0 * change)} %."
    elif not problems:
        sound += " Its base is not on this machine, so it was not held against it."
    known = gate_table_markdown(gates) if gates else "It carries no gate report."
    return join_markdown(
        f"## {escape_markdown(advisor)} {escape_markdown(version)}, {escape_markdown(state)}", sound, known
    )


def champion_change_markdown(advisor: str, before: str | None, after: str | None, actor: str, reason: str) -> str:
    """A promotion by hand or a rollback."""
    base = "the base alone"
    rows = [("before", before or base), ("now", after or base), ("by", actor), ("reason", reason)]
    return join_markdown(
        f"## {escape_markdown(advisor)}: the champion is now {escape_markdown(after or base)}",
        markdown_table(("", ""), rows),
    )


def rollout_title_markdown(rollout: Rollout, sentence: str) -> str:
    """The first line of the page of a look."""
    return f"## {escape_markdown(rollout.advisor)} {escape_markdown(rollout.version)}: {escape_markdown(sentence)}"


def rollout_markdown(seen: RolloutCheck) -> str:
    """One look at a rollout: what was decided and why, then the figures it rests on."""
    now, observed = seen.after, seen.observed
    title = rollout_title_markdown(now, seen.decision.sentence)
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
    return join_markdown(
        title,
        f"It is {escape_markdown(now.position)}; before it: {escape_markdown(now.control or 'the base alone')}.",
        markdown_table(("", "share", "photographs to go on", "hours to go on"), plan),
        markdown_table(headings, arms) if arms else "No photograph has been assigned yet.",
        markdown_table(("pairs", "new one worse", "new one better"), pairs),
        markdown_table(("guardrail", "evidence (e-value)"), sorted(seen.decision.evidence.items())),
        f"An e-value of {now.plan.watch:g} or more holds the rollout; a guardrail's limit, 1/alpha, rolls it back.",
    )
