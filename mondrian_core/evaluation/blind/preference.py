"""Blind preference between two critiques: by a person on a page, or by another model asked in both orders.

This is secondary evidence and never a gate: a critique that reads better does not necessarily judge better, and a model
prefers its own style (arXiv 2604.11589). Scores are hidden. The sides are drawn at random for each photograph, and the
page does not contain which side is which.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scipy.special import bdtrc

from mondrian_core.errors import BadInput
from mondrian_core.evaluation.measure.contamination import comments_text
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.samples_file import BASE, CANDIDATE, SamplesFile
from mondrian_core.statistics import intervals

if TYPE_CHECKING:
    from jinja2 import Template

HUMAN_JUDGE, NO_PREFERENCE = "a person", "same"
SIDES = ("left", "right")
# (picture as base64 JPEG, first critique, second critique) -> "first", "second"; anything else means undecided
JudgeFunction = Callable[[str, str, str], str]


@dataclass(frozen=True)
class BlindPair:
    """Two critiques of one photograph; `left` is the arm whose critique is shown on the left."""

    photograph: str
    picture: str
    left: str
    texts: Mapping[str, str]

    @property
    def right(self) -> str:
        """The other arm."""
        return CANDIDATE if self.left == BASE else BASE


@dataclass(frozen=True)
class PreferenceChoice:
    """What one judge preferred: an arm, or "same" (also if the two orders give different answers)."""

    judge: str
    photograph: str
    prefers: str


def blind_pairs(samples: EvaluationSamples) -> list[BlindPair]:
    """Labelled photographs with readable, different critiques by both arms.

    If no photograph is held out, they come from cross-validation, and the candidate's critiques are its recipe's.
    """
    labels, outcomes = samples.scored
    texts = {(outcome.photograph, outcome.arm): comments_text(outcome.text) for outcome in outcomes if outcome.readable}
    pairs = []
    for name, label in labels.items():
        both = {arm: texts[name, arm] for arm in (BASE, CANDIDATE) if (name, arm) in texts}
        if len(both) == 2 and both[BASE] != both[CANDIDATE]:
            coin = hashlib.sha256(f"{blind_run_key(samples)} {name}".encode()).digest()[0] % 2
            pairs.append(BlindPair(name, str(label.get("picture") or ""), (BASE, CANDIDATE)[coin], both))
    return pairs


def blind_run_key(samples: EvaluationSamples) -> str:
    """The key that links a page to its run: SHA-256 of the run's identity, hexadecimal."""
    return hashlib.sha256(json.dumps(samples.identity, sort_keys=True).encode()).hexdigest()


@cache
def _template() -> Template:
    """Compiled once per process."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("blind.html")


def blind_page(samples: EvaluationSamples) -> str:
    """A standalone page on which a person chooses for each pair and saves the choices as a file.

    Raises:
        BadInput: there is no pair.
    """
    pairs = blind_pairs(samples)
    if not pairs:
        raise BadInput("No photograph has two different readable critiques.", "Choose another run.")
    shown = [
        {
            "name": pair.photograph,
            "picture": pair.picture,
            "left": pair.texts[pair.left].splitlines(),
            "right": pair.texts[pair.right].splitlines(),
        }
        for pair in pairs
    ]
    return _template().render(pairs=shown, key=blind_run_key(samples))


def load_preference_choices(samples: EvaluationSamples, path: Path) -> list[PreferenceChoice]:
    """The choices that a blind page saved.

    Raises:
        BadInput: the file can't be read, belongs to another run, or contains no choice.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        key, given = values["run"], dict(values["choices"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} is not a valid file of choices ({error}).", "Save the choices with the button on the page."
        ) from error
    if key != blind_run_key(samples):
        raise BadInput(f"{path} belongs to another run.", "Name the run whose page was used.")
    arms = {pair.photograph: {"left": pair.left, "right": pair.right} for pair in blind_pairs(samples)}
    choices = [
        PreferenceChoice(HUMAN_JUDGE, name, arms[name].get(choice, NO_PREFERENCE))
        for name, choice in given.items()
        if name in arms and choice in (*SIDES, NO_PREFERENCE)
    ]
    if not choices:
        raise BadInput(f"{path} contains no choice.", "Choose on the page, then save.")
    return choices


def collect_judge_choices(ask: JudgeFunction, judge: str, pairs: Sequence[BlindPair]) -> list[PreferenceChoice]:
    """Ask a judge about every pair in both orders; only the same answer both times is a preference."""
    choices = []
    for pair in pairs:
        base_first = ask(pair.picture, pair.texts[BASE], pair.texts[CANDIDATE])
        base_second = ask(pair.picture, pair.texts[CANDIDATE], pair.texts[BASE])
        preferred = {("first", "second"): BASE, ("second", "first"): CANDIDATE}
        prefers = preferred.get((base_first, base_second), NO_PREFERENCE)
        choices.append(PreferenceChoice(judge, pair.photograph, prefers))
    return choices


def save_preference_choices(run_samples: Path, choices: Sequence[PreferenceChoice]) -> None:
    """Add choices to a run's samples; of several by one judge about one photograph, the last one counts."""
    journal = SamplesFile(run_samples)
    for choice in choices:
        journal.append("preference", vars(choice))


def preference_summary(choices: Sequence[PreferenceChoice]) -> dict[str, dict[str, Any]]:
    """By judge: counts, the candidate's share of the decided pairs with its exact 95 % interval, and a sign test.

    "p" is one-sided, for the hypothesis that the candidate isn't preferred; None where nothing was decided.
    """
    summary = {}
    for judge in dict.fromkeys(choice.judge for choice in choices):
        counts = Counter(choice.prefers for choice in choices if choice.judge == judge)
        won, decided = counts[CANDIDATE], counts[CANDIDATE] + counts[BASE]
        bounds = (
            intervals.clopper_pearson_lower(won, decided, 0.975),
            intervals.clopper_pearson_upper(won, decided, 0.975),
        )
        summary[judge] = {
            "n": sum(counts.values()),
            "candidate": won,
            "base": counts[BASE],
            "same": counts[NO_PREFERENCE],
            "share": won / decided if decided else None,
            "interval": bounds if decided else None,
            "p": float(bdtrc(won - 1, decided, 0.5)) if won else (1.0 if decided else None),
        }
    return summary
