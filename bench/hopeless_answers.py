"""What ending hopeless answers and evaluations early saves, in tokens that are decoded.

    python -m bench.hopeless_answers

The real evaluation runs at its default settings on photographs of noise. Base and adapter are scripts: the base writes
a sound critique, the adapter one of several kinds of garbage, and every token that a model would decode is counted.
The tokens are Qwen3-VL's (the tokenizer of the tests). Times are not simulated: they are proportional on any machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from PIL import Image

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.evaluation import (
    CandidateInfo,
    EvaluationInputs,
    LabelledPhotograph,
    TrainingProvenance,
    evaluate_with_model,
)
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.loop_detection import LoopDetector
from mondrian_core.models.text_likelihood import TextLikelihood
from mondrian_core.photograph_model import OnToken, Question, answer_one_by_one
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.recipes import recipe_from_values
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique

LABELLED, UNLABELLED = 16, 104  # 120 photographs, the default of the format gate
COMMENT = "The light comes low from the left and gives the ridge its form; the sky above it could be a little darker."
SOUND = canonical_answer(make_critique(dict.fromkeys(DIMENSIONS, 7), dict.fromkeys(DIMENSIONS, COMMENT)))
GARBAGE: Mapping[str, str] = {
    "a word again and again": SOUND[:200] + " light" * 4096,
    "a sentence again and again": SOUND[:200] + (" " + COMMENT) * 200,
    "the critique again and again": SOUND * 40,
    "words at random, without an end": " ".join(np.random.default_rng(0).choice(sorted(set(COMMENT.split())), 6000)),
    "prose of the usual length": " ".join([COMMENT] * 2) + " " + COMMENT[::-1],
}


@dataclass(frozen=True, kw_only=True)
class CountedAnswer:
    """An answer of a script, with the fields of a generated one."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int = 900
    image_tokens: int = 768
    prefill_seconds: float = 0.1
    decode_seconds: float = 1.0
    expected_scores: Mapping[str, float] = field(default_factory=dict)
    score_chances: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


class ScriptedModel:
    """A base that writes sound critiques, and an adapter that writes garbage; counts the tokens of both."""

    fingerprint, metal = "scripted", False

    def __init__(self, reader: BaseVLM, garbage: str, *, ends_loops: bool) -> None:
        self._reader, self._ends_loops = reader, ends_loops
        self._garbage, self._sound = (tuple(reader.tokenizer.encode(text)) for text in (garbage, SOUND))
        self._stops_at = next(self._loops(), None) if ends_loops else None
        self.answers = self.tokens = 0

    def _loops(self) -> Iterator[int]:
        detector = LoopDetector(self._reader)
        return (number for number, token in enumerate(self._garbage, start=1) if detector.add(token))

    def use(self, adapter: Path | None) -> None:
        """Nothing to switch."""

    def ask(self, question: Question, on_token: OnToken | None = None) -> CountedAnswer:
        """The next answer."""
        script = self._sound if question.adapter is None else self._garbage
        limit, reason = question.exact_tokens or question.max_tokens, "length"
        if question.constrained:
            script = self._sound  # the grammar forces the form
        elif question.adapter is not None and self._stops_at and not question.exact_tokens and self._stops_at < limit:
            limit, reason = self._stops_at, "loop"
        tokens = script[:limit]
        finished = len(script) <= limit and not question.exact_tokens
        self.answers += 1
        self.tokens += limit if question.exact_tokens else len(tokens)
        text = str(self._reader.tokenizer.decode(tokens))
        return CountedAnswer(text=text, tokens=tokens, finish_reason="stop" if finished else reason)

    def ask_each(self, questions: Sequence[Question]) -> Iterator[tuple[int, CountedAnswer | Exception]]:
        """One after the other."""
        return answer_one_by_one(self.ask, questions)

    def comment_likelihoods(
        self, adapter: Path | None, image: Image.Image, answers: Sequence[str]
    ) -> Sequence[TextLikelihood]:
        """Constant ones; they take no decoding."""
        return [TextLikelihood(-1.0, 1) for _ in answers]

    def divergence(self, adapter: Path, image: Image.Image, text: str) -> float:
        """A plausible effect, in nats; it takes no decoding."""
        return 0.2


def evaluate_garbage(reader: BaseVLM, garbage: str, *, ends_loops: bool, stop_early: bool) -> tuple[int, int]:
    """(answers, tokens) of one evaluation.

    Args:
        reader: has the tokenizer.
        garbage: what the adapter writes.
        ends_loops: end an answer that loops.
        stop_early: end the evaluation when the format gate can no longer pass.
    """
    model = ScriptedModel(reader, garbage, ends_loops=ends_loops)
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (LABELLED + UNLABELLED, 48, 64, 3), dtype=np.uint8)
    pictures = [Image.fromarray(each) for each in noise]
    scores = [{name: float(rng.integers(3, 9)) for name in DIMENSIONS} for _ in range(LABELLED)]
    labelled = [
        LabelledPhotograph(photograph=f"photo-{number}", image=pictures[number], scores=scores[number])
        for number in range(LABELLED)
    ]
    trained = TrainingProvenance(photo_ids=frozenset({"other"}), scores=tuple(scores))
    with tempfile.TemporaryDirectory() as folder:
        adapter = Path(folder) / "adapter"
        adapter.mkdir()
        inputs = EvaluationInputs(
            adapter=adapter,
            labelled=labelled,
            unlabelled=pictures[LABELLED:],
            prompt=AdvisorPrompt("ansel", "Ansel Adams"),
            recipe=recipe_from_values({"evaluate": {"stop_early": stop_early}}),
            out=Path(folder) / "run",
            info=CandidateInfo(trained=trained),
        )
        evaluate_with_model(cast(Any, model), inputs)
    return model.answers, model.tokens


def _reader() -> BaseVLM:
    """A stand-in for a base that has nothing but Qwen3-VL's tokenizer."""
    from transformers import AutoTokenizer

    from tests.skeleton_bases import write_processor_files

    with tempfile.TemporaryDirectory() as folder:
        write_processor_files("qwen3_vl", Path(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return cast(BaseVLM, SimpleNamespace(tokenizer=tokenizer, cache={}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    argparse.ArgumentParser(prog="python -m bench.hopeless_answers").parse_args(arguments)
    reader = _reader()
    print(f"A sound critique takes {len(reader.tokenizer.encode(SOUND))} tokens.\n")
    print("| the adapter writes | everything: answers, tokens | loops end | and the evaluation stops | of the tokens |")
    print("|---|---:|---:|---:|---:|")
    for name, garbage in GARBAGE.items():
        cells = [
            evaluate_garbage(reader, garbage, ends_loops=ends_loops, stop_early=stop_early)
            for ends_loops, stop_early in ((False, False), (True, False), (True, True))
        ]
        shown = " | ".join(f"{answers}, {tokens:,}" for answers, tokens in cells)
        print(f"| {name} | {shown} | {cells[2][1] / cells[0][1]:.1%} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
