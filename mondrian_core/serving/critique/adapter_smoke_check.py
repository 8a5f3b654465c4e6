"""Smoke test of a new adapter: it must critique a photograph before it serves; until then the old adapter serves."""

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
from mondrian_core.lora_files import adapter_answer_form
from mondrian_core.photograph_model import Question, rubric_question_schema
from mondrian_core.pixel_files import PixelFile, PixelFileCache
from mondrian_core.prompts import AdvisorPrompt, critique_messages
from mondrian_core.serving.engine.interface import Engine
from mondrian_core.store import Store

if TYPE_CHECKING:
    from PIL import Image

MAX_FILES = 20  # files tried in search of a photograph
MAX_PHOTOGRAPHS = 3  # photographs tried when neither adapter nor base can answer


class AdapterSmokeCheck:
    """Checks an adapter on the loaded base: its weights, then one constrained critique of a workspace photograph.

    Without a photograph in the workspace only the weights are checked.
    """

    def __init__(self, engine: Engine, store: Store, root: Path, pixel_files: PixelFileCache | None = None) -> None:
        self._engine, self._store, self._root, self._pixel_files = engine, store, root, pixel_files

    def __call__(self, folder: Path) -> tuple[str, ...]:
        """Problems of an adapter's folder; () when there are none.

        Raises:
            ModelProcessDied: the process died during the check.
        """
        return self._engine.check(folder) or self._answer_problems(folder)

    def advisors(self) -> list[str]:
        """Ids of the workspace's advisors."""
        return [advisor_prompt.advisor for advisor_prompt in self._store.advisors()]

    def _answer_problems(self, folder: Path) -> tuple[str, ...]:
        """Problems with the first photograph that can be critiqued; one that the base fails on too proves nothing."""
        advisor = folder.parent.name
        known = {prompt.advisor: prompt for prompt in self._store.advisors()}
        advisor_prompt = known.get(advisor) or next(iter(known.values()), AdvisorPrompt(advisor, advisor))
        form = adapter_answer_form(folder)
        for image in islice(self._photographs(), MAX_PHOTOGRAPHS):
            question = Question(
                messages=critique_messages(replace(advisor_prompt, form=form)),
                image=image,
                adapter=folder,
                schema=rubric_question_schema(form),
            )
            problem, answered = self._problem(question)
            if problem is None:
                return ()
            if answered or self._problem(replace(question, adapter=None))[1]:
                return (problem,)
        return ()

    def _problem(self, question: Question) -> tuple[str | None, bool]:
        """(what is wrong with the answer or None, whether there was an answer)."""
        try:
            reply = self._engine.ask(question)
            parse_critique_lenient(reply.text)
        except ModelProcessDied:
            raise
        except CritiqueParseError as error:
            return f"its answer in the smoke test can't be read ({error})", True
        except MondrianError as error:
            return f"it gives no answer in the smoke test: {error.problem}", False
        if not all(math.isfinite(score) for score in reply.expected_scores.values()):
            return "its scores in the smoke test are not finite", True
        return None, True

    def _photographs(self) -> Iterator[Image.Image | PixelFile]:
        files = sorted(
            path for path in (self._root / "source").rglob("*") if path.suffix.lower() in PHOTOGRAPH_SUFFIXES
        )
        for path in islice(files, MAX_FILES):
            with suppress(BadPhotograph):
                photograph = open_photograph(path)
                image = downscale_to_fit(photograph.image)
                yield self._pixel_files.put(photograph.sha256, image) if self._pixel_files else image
