"""The dataset card (README.md of a version), made from the manifest alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mondrian_core.data.linking.link_manifest import HUMAN, MODEL, SYNTHETIC
from mondrian_core.markdown import code_span, escape_markdown
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS

_BARS = " ▁▂▃▄▅▆▇█"


def dataset_card(facts: Mapping[str, Any]) -> str:
    """Markdown with counts, scores per dimension, origin, and what is known about rights."""
    splits = [split for split, count in facts["photographs"].items() if count]
    lines = [
        f"# Critiques by {escape_markdown(facts['voice']['name'])}",
        "",
        f"Digest {code_span(facts['digest'])}. Advisor {code_span(facts['advisor'])}.",
        "",
        "| split | photographs | rows |",
        "|---|---:|---:|",
        *(f"| {split} | {facts['photographs'][split]} | {facts['rows'][split]} |" for split in splits),
        "",
        "Additional rows are variants of the photographs (mirrored, other exposure, slightly cropped) and paraphrases. "
        "Only training has them, and every photograph has the same total weight. The column `scores` keeps fractional "
        "scores; the taught answer has whole scores. `held_out_variants/` holds the variants that held-out photographs "
        "would have in training.",
        "",
        "## Answers",
        "",
        *_answer_form(facts),
        "",
        "## Scores",
        "",
        "Number of photographs with each score from 0 to 10.",
        "",
        f"| dimension | {' | '.join(splits)} |",
        f"|---|{'---|' * len(splits)}",
        *(_line(name, facts, splits) for name in DIMENSIONS),
        "",
        "## Origin",
        "",
        *_origin(facts),
        "",
        "## Rights",
        "",
        "Photographs and critiques belong to their authors. No licence is recorded; do not share this dataset without "
        "asking them. It contains no metadata of the photographs (place, device, time).",
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, facts: Mapping[str, Any], splits: list[str]) -> str:
    return (
        f"| {DIMENSION_TITLES[name]} | "
        + " | ".join(_bars(facts["histograms"][split][name]) for split in splits)
        + " |"
    )


def _bars(counts: list[int]) -> str:
    most = max(counts) or 1
    total = sum(counts)
    mean = sum(score * count for score, count in enumerate(counts)) / max(1, total)
    drawn = "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in counts)
    return f"`{drawn}` mean {mean:.1f}"


def _answer_form(facts: Mapping[str, Any]) -> list[str]:
    total = sum(facts["photographs"].values())
    if facts.get("answer_form", "comments") == "comments":
        return ["Form `comments`: a score and a comment for each dimension, and the overall grade."]
    lines = [
        "Form `advice`: also recommendations with regions, strengths and priority improvements, where the critique has "
        "them. What it lacks is left out, and carries no loss.",
        "",
        "| part | critiques that hold it |",
        "|---|---:|",
        *(f"| {part} | {count} of {total} ({count / max(1, total):.0%}) |" for part, count in facts["parts"].items()),
    ]
    if pairs := facts.get("advice_pairs"):
        counted = ", ".join(f"{count} of the kind {kind}" for kind, count in pairs.items())
        lines += ["", f"`advice_pairs/` holds pairs of answers from people's judgements of advice: {counted}."]
    if facts["shortened"]:
        lines += ["", f"{len(facts['shortened'])} critiques are taught without some of their advice (`shortened`)."]
    return lines


def _origin(facts: Mapping[str, Any]) -> list[str]:
    counted = Counter(each["origin"] for each in facts["members"])
    lines = [f"{counted[HUMAN]} critiques were written by a person, {counted[MODEL]} by a model."]
    if counted[SYNTHETIC]:
        lines.append(
            f"{counted[SYNTHETIC]} were drafted by a model and accepted or corrected by a person; they are "
            "in training only, marked `synthetic` in the column `origin`, and not counted in the scores above."
        )
    if facts["drafts"]["left_out"]:
        why = Counter(facts["drafts"]["left_out"].values())
        lines.append(
            "Drafts left out: "
            + "; ".join(f"{count}: {escape_markdown(reason)}" for reason, count in why.items())
            + "."
        )
    left_out = {reason: count for reason, count in facts["linked"].items() if reason != "used"}
    if left_out:
        lines.append(
            "Left out when linking: " + ", ".join(f"{count} {reason}" for reason, count in left_out.items()) + "."
        )
    if facts["damaged"]:
        lines.append(f"{len(facts['damaged'])} photographs could not be decoded and were left out.")
    if facts.get("too_long"):
        lines.append(f"{len(facts['too_long'])} critiques are too long for an answer and were left out.")
    return lines
