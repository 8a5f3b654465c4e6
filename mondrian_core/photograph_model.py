"""The protocol of a model that answers a question about a photograph.

Evaluation and service ask such models. `Question` and `PhotographModel` are what they share; the service
adds a check of adapters (`serving.engine.interface.Engine`), the evaluation adapter switching and divergence
(`evaluation.measure.runner.EvaluationModel`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mondrian_core.errors import MondrianError
from mondrian_core.prompts import ChatMessage
from mondrian_core.rubric import MAX_ANSWER_TOKENS, AnswerForm, critique_json_schema

if TYPE_CHECKING:
    from PIL import Image

    from mondrian_core.pixel_files import PixelFile

OnToken = Callable[[int], None]  # called with the number of tokens generated so far


@dataclass(frozen=True, kw_only=True)
class Question:
    """One generation about one photograph.

    Attributes:
        messages: system and user messages; the photograph comes last.
        image: the photograph in memory, or a file of its pixels when the model runs in another process.
        adapter: folder of the adapter that answers; None asks the base model.
        max_tokens: limit of the answer's length.
        exact_tokens: forces this length and suppresses the end token, so that timed answers do equal work.
        temperature: 0 is greedy; above 0 tokens are sampled with `seed`.
        seed: of the sampling.
        constrained: True when only answers that follow the rubric's schema can be generated.
        embed: True to return the photograph's embedding too.
        precedents: False when earlier answers must not make this one faster, so that times can be compared.
        schema: a JSON schema that a constrained answer follows; None: that of the rubric's first form.
    """

    messages: list[ChatMessage]
    image: Image.Image | PixelFile
    adapter: Path | None = None
    max_tokens: int = MAX_ANSWER_TOKENS
    exact_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0
    constrained: bool = True
    embed: bool = False
    precedents: bool = True
    schema: Mapping[str, Any] | None = None


def rubric_question_schema(form: AnswerForm) -> Mapping[str, Any] | None:
    """The `schema` of a question that is answered in this form; None for the first form, which is the default."""
    return None if form == AnswerForm.COMMENTS else critique_json_schema(form)


class PhotographAnswer(Protocol):
    """What every model returns: the text, token counts, times in seconds, and expected scores (0-10) by dimension."""

    @property
    def text(self) -> str: ...
    @property
    def finish_reason(self) -> str: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def image_tokens(self) -> int: ...
    @property
    def prefill_seconds(self) -> float: ...
    @property
    def decode_seconds(self) -> float: ...
    @property
    def expected_scores(self) -> Mapping[str, float]: ...


class PhotographModel(Protocol):
    """A base model with its adapters, which answers one question at a time."""

    def ask(self, question: Question, on_token: OnToken | None = None) -> PhotographAnswer:
        """Answer a question; `on_token` is called with the number of tokens so far."""


GivenAnswerT = TypeVar("GivenAnswerT")


def answer_one_by_one(
    ask: Callable[[Question], GivenAnswerT], questions: Sequence[Question]
) -> Iterator[tuple[int, GivenAnswerT | Exception]]:
    """Each question's number and answer in order, or the error in its place.

    Raises:
        MondrianError: as `ask` does, such as for an adapter that is refused.
    """
    for number, question in enumerate(questions):
        try:
            yield number, ask(question)
        except MondrianError:
            raise
        except Exception as error:  # noqa: BLE001  any error concerns this question alone
            yield number, error
