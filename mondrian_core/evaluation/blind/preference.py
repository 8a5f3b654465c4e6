"""Which of two critiques is preferred, blind: by a person on a page, or by another model in both orders.

Secondary evidence beside the gates, never one of them: what reads better need not judge better, and a model prefers its
own kind (arXiv 2604.11589). Scores are hidden; which arm is which is drawn by photograph and isn't on the page.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.special import bdtrc

from mondrian_core.errors import BadInput
from mondrian_core.evaluation.measure.contamination import comments_text
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.samples_file import BASE, CANDIDATE, SamplesFile
from mondrian_core.statistics import intervals

HUMAN_JUDGE, NO_PREFERENCE = "a person", "same"
SIDES = ("left", "right")
# (picture as base64 JPEG, first critique, second critique) -> "first", "second" or anything else for undecided
JudgeFunction = Callable[[str, str, str], str]


@dataclass(frozen=True)
class BlindPair:
    """Two critiques of one photograph; `left` is the arm whose critique stands on the left."""

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
    """What one judge preferred: an arm, or "same" (also when the two orders of asking disagree)."""

    judge: str
    photograph: str
    prefers: str


def blind_pairs(samples: EvaluationSamples) -> list[BlindPair]:
    """Labelled photographs on which both arms wrote something readable and not the same.

    Where none was left for the adapter itself they are the folds', and the candidate's critiques are its recipe's.
    """
    labels, outcomes = samples.scored
    texts = {(outcome.photograph, outcome.arm): comments_text(outcome.text) for outcome in outcomes if outcome.readable}
    found = []
    for name, label in labels.items():
        both = {arm: texts[name, arm] for arm in (BASE, CANDIDATE) if (name, arm) in texts}
        if len(both) == 2 and both[BASE] != both[CANDIDATE]:
            coin = hashlib.sha256(f"{blind_run_key(samples)} {name}".encode()).digest()[0] % 2
            found.append(BlindPair(name, str(label.get("picture") or ""), (BASE, CANDIDATE)[coin], both))
    return found


def blind_run_key(samples: EvaluationSamples) -> str:
    """What ties a page to its run: SHA-256 of the run's identity, hexadecimal."""
    return hashlib.sha256(json.dumps(samples.identity, sort_keys=True).encode()).hexdigest()


def blind_page(samples: EvaluationSamples) -> str:
    """A standalone page that asks a person for every pair and saves the choices as a file.

    Raises:
        BadInput: when there is no pair.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pairs = blind_pairs(samples)
    if not pairs:
        raise BadInput("There is no photograph on which both wrote something readable.", "Choose another run.")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [
        {
            "name": pair.photograph,
            "picture": pair.picture,
            "left": pair.texts[pair.left].splitlines(),
            "right": pair.texts[pair.right].splitlines(),
        }
        for pair in pairs
    ]
    return environment.get_template("blind.html").render(pairs=shown, key=blind_run_key(samples))


def load_preference_choices(samples: EvaluationSamples, path: Path) -> list[PreferenceChoice]:
    """The choices that a blind page saved.

    Raises:
        BadInput: when the file can't be read, belongs to another run, or says nothing.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        key, given = values["run"], dict(values["choices"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} holds no choices of a blind page ({error}).", "Save them with the button on the page."
        ) from error
    if key != blind_run_key(samples):
        raise BadInput(f"{path} belongs to another run.", "Name the run whose page was filled in.")
    arms = {pair.photograph: {"left": pair.left, "right": pair.right} for pair in blind_pairs(samples)}
    found = [
        PreferenceChoice(HUMAN_JUDGE, name, arms[name].get(choice, NO_PREFERENCE))
        for name, choice in given.items()
        if name in arms and choice in (*SIDES, NO_PREFERENCE)
    ]
    if not found:
        raise BadInput(f"{path} holds no choice.", "Choose on the page, then save.")
    return found


def collect_judge_choices(ask: JudgeFunction, judge: str, pairs: Sequence[BlindPair]) -> list[PreferenceChoice]:
    """Ask a judge about every pair in both orders; only what it says both times is a preference."""
    found = []
    for pair in pairs:
        one = ask(pair.picture, pair.texts[BASE], pair.texts[CANDIDATE])
        other = ask(pair.picture, pair.texts[CANDIDATE], pair.texts[BASE])
        verdict = {("first", "second"): BASE, ("second", "first"): CANDIDATE}.get((one, other), NO_PREFERENCE)
        found.append(PreferenceChoice(judge, pair.photograph, verdict))
    return found


def save_preference_choices(run_samples: Path, choices: Sequence[PreferenceChoice]) -> None:
    """Add choices to a run's samples; a later one of the same judge about the same photograph replaces it."""
    journal = SamplesFile(run_samples)
    for choice in choices:
        journal.append("preference", vars(choice))


def preference_summary(choices: Sequence[PreferenceChoice]) -> dict[str, dict[str, Any]]:
    """By judge: counts, share of decided ones for the candidate with its exact 95 % interval, and a sign test.

    "p" is one-sided for "the candidate isn't preferred"; None where nothing was decided.
    """
    found = {}
    for judge in dict.fromkeys(choice.judge for choice in choices):
        counts = Counter(choice.prefers for choice in choices if choice.judge == judge)
        won, decided = counts[CANDIDATE], counts[CANDIDATE] + counts[BASE]
        bounds = (
            intervals.clopper_pearson_lower(won, decided, 0.975),
            intervals.clopper_pearson_upper(won, decided, 0.975),
        )
        found[judge] = {
            "n": sum(counts.values()),
            "candidate": won,
            "base": counts[BASE],
            "same": counts[NO_PREFERENCE],
            "share": won / decided if decided else None,
            "interval": bounds if decided else None,
            "p": float(bdtrc(won - 1, decided, 0.5)) if won else (1.0 if decided else None),
        }
    return found
