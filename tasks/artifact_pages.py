"""Prefect artifacts of the stages as Markdown: the result first, then the figures, then where to read more.

Pure functions of a stage's summary. Text from people, models and files is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from mondrian_core.markdown import Markdown, code_block, code_span, escape_markdown, markdown_cell, markdown_table
from mondrian_core.promotion import ManualPromotion
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
from tasks.served_pages import ServedPage

GATE_COLUMNS = ("observed", "threshold", "n", "interval")
FORM_COLUMNS = ("observed", "threshold", "n")  # as many as a form has room for
DECISION_TITLES = {
    "promoted": "Promoted",
    "candidate": "Kept as a candidate",
    "rejected": "Rejected",
    "unchanged": "Unchanged",
}


def join_markdown(*parts: str) -> str:
    """The parts that aren't empty, separated by blank lines."""
    return "\n\n".join(part for part in parts if part)


def link_markdown(summary: LinkSummary) -> str:
    """The link report."""
    excluded = sum(summary.left_out.values())
    verdict = f"## {summary.used} critiques linked, {excluded} records left out"
    return join_markdown(verdict, summary.table, f"Every record with its reason: {code_span(summary.manifest)}")


def dataset_markdown(summary: DatasetSummary) -> str:
    """The dataset's sizes and its contact sheet."""
    verdict = f"## Dataset {escape_markdown(summary.digest[:12])}: {sum(summary.photographs.values())} photographs"
    splits = dict.fromkeys([*summary.photographs, *summary.rows])
    sizes = [(split, summary.photographs.get(split, 0), summary.rows.get(split, 0)) for split in splits]
    return join_markdown(
        verdict,
        markdown_table(("split", "photographs", "rows (with variants)"), sizes),
        embedded_image_markdown(summary.contact_sheet, "contact sheet"),
        f"Files: {code_span(summary.path)}",
    )


def training_markdown(summary: TrainSummary, recipe: Mapping[str, Any], page: ServedPage) -> str:
    """The loss curve and the settings of the training."""
    verdict = f"## {summary.chosen[0].upper()}{summary.chosen[1:]}"
    settings = markdown_table(("setting", "value"), recipe.items())
    answers = (
        "{valid} of {photographs} answers to validation photographs were valid; squared error of the scores "
        "{score_error:.2f}.".format(**summary.answers)
        if summary.answers
        else ""
    )
    return join_markdown(
        verdict,
        f"{summary.steps} steps in {summary.seconds:.0f} s. {answers}".strip(),
        _training_extent_markdown(summary.trained_on),
        _preference_markdown(summary.preference_pairs, summary.preference),
        embedded_image_markdown(summary.curve, "loss curve"),
        settings,
        f"Adapter (not yet a version): {code_span(summary.adapter)}",
        page.markdown("The run"),
    )


def _training_extent_markdown(trained_on: Mapping[str, Any] | None) -> str:
    """A note if no photograph was held out; else ""."""
    if not trained_on or trained_on["extent"] != "all":
        return ""
    return (
        f"Trained on all {trained_on['photographs']} photographs ({trained_on['rows']} rows). The dataset is too small "
        "for held-out photographs: cross-validation estimates the recipe, and this adapter itself is not measured."
    )


def _preference_markdown(pairs: str, result: Mapping[str, Any] | None) -> str:
    """The result of preference tuning; "" if there was none. `pairs` says from what."""
    if result is None:
        return ""
    after = f"after epoch {result['best_epoch']}" if result["best_epoch"] else "no epoch was better than the start"
    validated = (
        ""
        if result["accuracy"] is None
        else f" Of {result['validation_pairs']} validation pairs, {result['accuracy']:.0%} are ordered correctly "
        f"(before: {result['start_accuracy']:.0%}), mean margin {result['margin']:.3g}."
    )
    return f"Tuned on {pairs}, {after}.{validated}"


def gates_markdown(summary: EvaluateSummary, page: ServedPage, pictures: Sequence[str] = ()) -> str:
    """The gate report."""
    from mondrian_core.evaluation.report.evaluation_report import VERDICT_MEANINGS  # slow to import

    meanings: Mapping[str, str] = VERDICT_MEANINGS
    stated = ", ".join(filter(None, (summary.verdict, summary.loosened)))
    meaning = meanings.get(summary.verdict, "")
    meaning = meaning.partition(";")[0] if summary.loosened else meaning
    verdict = f"## {escape_markdown(stated)}: {meaning}"
    return join_markdown(
        verdict,
        "\n".join(f"- {escape_markdown(caveat)}" for caveat in summary.caveats),
        gate_table_markdown(summary.gates),
        *(embedded_image_markdown(path, "evaluation") for path in pictures),
        f"Measured on: {escape_markdown(summary.split)}.",
        page.markdown("Full report"),
    )


def gate_table_markdown(gates: Sequence[Mapping[str, Any]], columns: Sequence[str] = GATE_COLUMNS) -> str:
    """The figures of every gate as a table, followed by the reasons as a list, because the UI truncates table cells.

    Checks of a gate that did not pass are shown below it.
    """
    shown: list[tuple[str, Mapping[str, Any]]] = []
    for gate in gates:
        shown.append((gate["name"], gate))
        shown += [(f"↳ {part['name']}", part) for part in gate.get("parts", ()) if part["verdict"] != "PASS"]
    rows = [(name, _verdict_markdown(gate["verdict"]), *(gate.get(key) for key in columns)) for name, gate in shown]
    reasons = [
        f"- **{escape_markdown(name)}** {_verdict_markdown(gate['verdict'])}: {markdown_cell(gate.get('sentence'))}"
        for name, gate in shown
    ]
    return join_markdown(markdown_table(("gate", "verdict", *columns), rows), "\n".join(reasons))


def _verdict_markdown(verdict: str) -> Markdown:
    return escape_markdown(verdict) if verdict == "PASS" else Markdown(f"**{escape_markdown(verdict)}**")


def registration_markdown(summary: RegisterSummary, advisor: str, page: ServedPage) -> str:
    """The new version."""
    name = f"{escape_markdown(advisor)} {escape_markdown(summary.version)}"
    return join_markdown(
        f"## {name} registered as {escape_markdown(summary.state)}",
        "This version is immutable; the registry's history records what happens to it.",
        page.markdown("The version"),
    )


def promotion_markdown(summary: PromoteSummary, advisor: str, page: ServedPage) -> str:
    """The promotion decision and the next step."""
    decision = DECISION_TITLES.get(summary.decision, summary.decision)
    verdict = f"## {escape_markdown(decision)}: {escape_markdown(advisor)} {escape_markdown(summary.version)}"
    next_step = f"What to do next:\n\n{code_block(summary.command)}" if summary.command else ""
    return join_markdown(verdict, escape_markdown(summary.sentence), next_step, page.markdown("The version"))


def version_markdown(
    title: str,
    gates: Sequence[Mapping[str, Any]],
    problems: Sequence[str],
    page: ServedPage,
    inspection: Mapping[str, Any] | None = None,
) -> str:
    """A version before a manual promotion: its gates, the check of its files, and its effect on the base.

    Args:
        title: advisor, version and state.
        gates: of its newest evaluation.
        problems: of its files.
        page: its report.
        inspection: the comparison with its base.
    """
    sound = "Every file matches its hash." if not problems else escape_markdown("Damaged: " + "; ".join(problems))
    base, change = (inspection or {}).get("base"), (inspection or {}).get("change")
    if not problems and base and change is not None:
        sound += f" Its keys and shapes fit {escape_markdown(base)}, and it changes the layers by "
        sound += f"{markdown_cell(100.0 * change)} %."
    elif not problems:
        sound += " Its base is not on this machine, so it was not compared with it."
    report = gate_table_markdown(gates) if gates else "It has no gate report."
    return join_markdown(f"## {escape_markdown(title)}", sound, report, page.markdown("Full report") if gates else "")


def approval_markdown(
    request: ManualPromotion,
    *,
    verdict: str,
    gates: Sequence[Mapping[str, Any]],
    objections: Sequence[str],
    page: ServedPage,
    until: datetime,
) -> str:
    """The text above the form that approves a promotion.

    Args:
        request: the promotion that waits.
        verdict: of the version's newest evaluation.
        gates: of that evaluation.
        objections: what speaks against it.
        page: its report.
        until: when the run stops waiting.
    """
    before = escape_markdown(request.expected.version or "the base alone")
    reason = f" Reason given: {escape_markdown(request.reason)}." if request.reason else ""
    return join_markdown(
        f"## Promote {escape_markdown(request.advisor)} {escape_markdown(request.version)}?",
        f"Verdict: {_verdict_markdown(verdict)}. It replaces {before}.{reason}",
        page.markdown("Full report") if gates else "",
        "\n".join(["Against it:\n", *(f"- {escape_markdown(each)}" for each in objections)]) if objections else "",
        gate_table_markdown(gates, FORM_COLUMNS) if gates else "It has no gate report.",
        f"Without an answer until {until:%Y-%m-%d %H:%M} UTC nothing changes.",
    )


def champion_change_markdown(advisor: str, before: str | None, after: str | None, actor: str, reason: str) -> str:
    """A manual promotion or a rollback."""
    base = "the base alone"
    rows = [("before", before or base), ("now", after or base), ("by", actor), ("reason", reason)]
    return join_markdown(
        f"## {escape_markdown(advisor)}: the champion is now {escape_markdown(after or base)}",
        markdown_table(("", ""), rows),
    )


def rollout_title_markdown(rollout: Rollout, sentence: str) -> str:
    """The first line of a rollout check's artifact."""
    return f"## {escape_markdown(rollout.advisor)} {escape_markdown(rollout.version)}: {escape_markdown(sentence)}"


def rollout_markdown(check: RolloutCheck) -> str:
    """One check of a rollout: the decision and its reason, then the figures behind it."""
    now, observed = check.after, check.observed
    title = rollout_title_markdown(now, check.decision.sentence)
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
            f"{stratum.share:.0%}",
            stratum.candidate.requests,
            stratum.candidate.failures,
            stratum.control.requests,
            stratum.control.failures,
        )
        for stratum in observed.strata
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
        f"Position: {escape_markdown(now.position)}. Before: {escape_markdown(now.control or 'the base alone')}.",
        markdown_table(("", "share", "photographs before advancing", "hours before advancing"), plan),
        markdown_table(headings, arms) if arms else "No photograph has been assigned yet.",
        markdown_table(("pairs", "candidate worse", "candidate better"), pairs),
        markdown_table(("guardrail", "evidence (e-value)"), sorted(check.decision.evidence.items())),
        f"An e-value of {now.plan.watch:g} or more holds the rollout; a guardrail's limit, 1/alpha, rolls it back.",
    )
