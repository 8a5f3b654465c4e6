"""A new adapter must answer about a photograph before it answers people: until then the old one keeps answering."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.errors import BadPhotograph, ModelProcessDied, MondrianError
from mondrian_core.images import PHOTOGRAPH_SUFFIXES, bounded, open_photograph
from mondrian_core.prompts import Voice, critique_messages
from mondrian_core.rubric import Unparsable, read_lenient
from mondrian_core.serving.engine import Engine, Question
from mondrian_core.store import Store

if TYPE_CHECKING:
    from PIL import Image

LOOKED_AT = 20  # files that may be no photographs before the trial is given up


class Trial:
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
        image = self._photograph()
        if image is None:
            return ()
        advisor = folder.parent.name
        voices = {voice.advisor: voice for voice in self._store.advisors()}
        voice = voices.get(advisor) or next(iter(voices.values()), Voice(advisor, advisor))
        try:
            reply = self._engine.ask(Question(critique_messages(voice), image, folder))
            read_lenient(reply.text)
        except ModelProcessDied:
            raise
        except Unparsable as error:
            return (f"its answer on trial can't be read ({error})",)
        except MondrianError as error:
            return (f"it gives no answer on trial: {error.problem}",)
        if not all(math.isfinite(score) for score in reply.expected_scores.values()):
            return ("its scores on trial are no numbers",)
        return ()

    def _photograph(self) -> Image.Image | None:
        files = sorted(
            path for path in (self._root / "source").rglob("*") if path.suffix.lower() in PHOTOGRAPH_SUFFIXES
        )
        for path in islice(files, LOOKED_AT):
            try:
                return bounded(open_photograph(path).image)
            except BadPhotograph:
                continue
        return None
