"""Other wordings drafted by the base model, taken only where the checker of rewordings finds nothing changed.

What was drafted is kept in `datasets/<advisor>/rewordings.json` under a key of everything it depends on, so a second
build asks no model, and a workspace that is copied to another machine gives the same dataset there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from mondrian_core.data.augmentation.paraphrase_rules import paraphrase_comments, paraphrase_problems
from mondrian_core.errors import BadInput
from mondrian_core.files import read_json, write_json
from mondrian_core.rubric import DIMENSIONS

FILE = "rewordings.json"
LONGEST = 1.5
HOPELESS = 40  # proposals in a row, from the first, of which none passed: this base can't do it
_KEPT_OUT = set('{}[]"\n`')


class Rewriter(Protocol):
    """Whoever words a comment anew; `name` changes when its answers may."""

    name: str

    def reword(self, dimension: str, comment: str, seed: int) -> str:
        """A proposal; nothing is promised of it."""
        ...


class Rewordings:
    """Proposals of a rewriter, each asked for once and kept in a file.

    Attributes:
        asked: proposals that were looked at. taken: those that passed the checker.
    """

    def __init__(self, rewriter: Rewriter, file: Path) -> None:
        """Read what was kept.

        Raises:
            BadInput: when the file is damaged.
        """
        self._rewriter, self._file = rewriter, file
        self.asked = self.taken = 0
        self._fresh = False
        self._kept: dict[str, str] = {}
        if file.exists():
            try:
                self._kept = {str(key): str(text) for key, text in dict(read_json(file)).items()}
            except (OSError, ValueError, TypeError) as error:
                raise BadInput(f"{file} is damaged ({error}).", "Remove it; it is made again.") from error

    def vary(self, comments: Mapping[str, str], seed: int) -> dict[str, str] | None:
        """The comments in other words: the rewriter's where the checker lets them pass, else the rules'.

        None when nothing could be changed. The same seed gives the same words. A base of which nothing passes at all is
        given up after `HOPELESS` proposals.
        """
        by_rule = paraphrase_comments(comments, seed) or dict(comments)
        if self.asked >= HOPELESS and not self.taken:
            return by_rule if by_rule != dict(comments) else None
        varied = {}
        for name in DIMENSIONS:
            proposal = self._proposal(name, comments[name], seed)
            varied[name] = proposal if acceptable(comments[name], proposal) else by_rule[name]
            self.asked += 1
            self.taken += varied[name] is proposal
        return varied if varied != dict(comments) else None

    def save(self) -> None:
        """Keep what was asked for."""
        if self._fresh:
            write_json(self._file, dict(sorted(self._kept.items())))
            self._fresh = False

    def _proposal(self, dimension: str, comment: str, seed: int) -> str:
        facts = json.dumps([self._rewriter.name, dimension, comment, seed])
        key = hashlib.sha256(facts.encode()).hexdigest()
        if key not in self._kept:
            self._kept[key] = " ".join(self._rewriter.reword(dimension, comment, seed).split())
            self._fresh = True
        return self._kept[key]


def acceptable(comment: str, proposal: str) -> bool:
    """True for a different wording of about the same length that the checker has nothing against."""
    if not proposal or proposal == comment or _KEPT_OUT & (set(proposal) - set(comment)):
        return False
    return len(proposal) <= LONGEST * len(comment) + 10 and not paraphrase_problems(comment, proposal)
