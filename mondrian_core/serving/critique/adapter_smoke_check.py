"""A new adapter must answer about a photograph before it answers people: until then the old one keeps answering."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_lenient
from mondrian_core.errors import BadPhotograph, ModelProcessDied, MondrianError
from mondrian_core.images import PHOTOGRAPH_SUFFIXES, downscale_to_fit, open_photograph
from mondrian_core.prompts import AdvisorPrompt, critique_messages
from mondrian_core.serving.engine.interface import Engine, Question
from mondrian_core.store import Store

if TYPE_CHECKING:
    from PIL import Image

MAX_FILES = 20  # files that may be no photographs before the trial is given up
MAX_PHOTOGRAPHS = 3  # photographs that neither adapter nor base can answer about before the trial is given up


class AdapterSmokeCheck:
    """Soundness of an adapter on the loaded base: its weights, then one constrained critique with it.

    The photograph is one of the workspace's; a workspace without any has the weights checked alone.
    """

    def __init__(self, engine: Engine, store: Store, root: Path) -> None:
        self._engine, self._store, self._root = engine, store, root

    def __call__(self, folder: Path) -> tuple[str, ...]:
        """Problems; () is sound.

        Raises:
            ModelProcessDied: it went away meanwhile.
        """
        return self._engine.check(folder) or self._answered(folder)

    def advisors(self) -> list[str]:
        """Ids of the workspace's advisors."""
        return [voice.advisor for voice in self._store.advisors()]

    def _answered(self, folder: Path) -> tuple[str, ...]:
        """Problems with the first photograph that can be answered about; what the base fails at too tells nothing."""
        advisor = folder.parent.name
        voices = {voice.advisor: voice for voice in self._store.advisors()}
        voice = voices.get(advisor) or next(iter(voices.values()), AdvisorPrompt(advisor, advisor))
        for image in islice(self._photographs(), MAX_PHOTOGRAPHS):
            question = Question(messages=critique_messages(voice), image=image, adapter=folder)
            problem, answered = self._problem(question)
            if problem is None:
                return ()
            if answered or self._problem(replace(question, adapter=None))[1]:
                return (problem,)
        return ()

    def _problem(self, question: Question) -> tuple[str | None, bool]:
        """What is wrong with the answer, None when nothing is; and whether there was one."""
        try:
            reply = self._engine.ask(question)
            parse_critique_lenient(reply.text)
        except ModelProcessDied:
            raise
        except CritiqueParseError as error:
            return f"its answer on trial can't be read ({error})", True
        except MondrianError as error:
            return f"it gives no answer on trial: {error.problem}", False
        if not all(math.isfinite(score) for score in reply.expected_scores.values()):
            return "its scores on trial are no numbers", True
        return None, True

    def _photographs(self) -> Iterator[Image.Image]:
        files = sorted(
            path for path in (self._root / "source").rglob("*") if path.suffix.lower() in PHOTOGRAPH_SUFFIXES
        )
        for path in islice(files, MAX_FILES):
            with suppress(BadPhotograph):
                yield downscale_to_fit(open_photograph(path).image)
