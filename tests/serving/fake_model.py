"""A model process without a model: `python fake_model.py DESCRIPTOR CONTROL`.

It speaks the real protocol (it runs the real host) and answers at once. CONTROL is a JSON file that is read before each
question: {"die": times to die, "hang": seconds, "waits": signs of life while it has no turn, "tokens": count, "pace":
seconds a token, "texts": answers in order, "expected": scores by dimension, "embedding": of every photograph,
"unsound": names of adapter folders with problems, "no_base": true, "deadly", "garbled": names of adapter folders that
kill the process or answer nonsense ("*": all, and the base), "refuse": the model refuses the photograph, "odd": names
of adapter folders that raise an unexpected error, "record_pixels": file for the size and hash of the image,
"cached": adapters that fit into memory, "record_question": file for the schema, words and sampling of the question}. An
answer of more tokens than the question allows ends with the reason "length".
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also where the package is not installed

from mondrian_core.errors import BadAdapter, BadPhotograph, BaseModelUnavailable
from mondrian_core.photograph_model import OnToken, Question
from mondrian_core.pixel_files import load_image
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique
from mondrian_core.serving.engine.interface import AdapterCacheUse, Engine, Reply
from mondrian_core.serving.engine.model_process import serve_model_process


class FakeEngine:
    """Answers with scores that name the arm: 5 for the base, the version's number for an adapter."""

    def __init__(self, control: Path) -> None:
        self.control, self.asked = control, 0
        self.loaded: list[Path] = []
        if self._orders().get("no_base"):
            raise BaseModelUnavailable("The base model fake can't be loaded.", "Name another.")

    def ask(self, question: Question, on_token: OnToken | None = None) -> Reply:
        orders = self._orders()
        self.asked += 1
        if orders.get("die", 0) > 0:
            self.control.write_text(json.dumps({**orders, "die": orders["die"] - 1}))
            os._exit(9)
        if named(question, orders, "deadly"):
            os._exit(9)
        if path := orders.get("record_pixels"):
            image = load_image(question.image)
            seen = {"size": image.size, "sha256": hashlib.sha256(image.tobytes()).hexdigest()}
            Path(path).write_text(json.dumps(seen))
        if path := orders.get("record_question"):
            asked = {"schema": question.schema, "messages": question.messages}
            sampling = {"temperature": question.temperature, "seed": question.seed, "max_tokens": question.max_tokens}
            Path(path).write_text(json.dumps({**asked, **sampling}))
        self._refuse(question, orders)
        tokens = decode(orders, on_token or (lambda count: None))
        text = self._text(question, orders)
        vector = tuple(orders.get("embedding", ())) if question.embed else ()
        drafted, accepted = (4, 3) if question.precedents else (0, 0)
        return Reply(
            text=text,
            finish_reason="length" if tokens > question.max_tokens else "stop",
            tokens=tokens,
            prompt_tokens=100,
            image_tokens=56,
            prefill_seconds=0.01,
            decode_seconds=0.02,
            boot=str(os.getpid()),
            expected_scores=orders.get("expected", {}),
            embedding=vector,
            drafted=drafted,
            accepted=accepted,
        )

    def _refuse(self, question: Question, orders: dict[str, Any]) -> None:
        """Raise the error that the orders name."""
        if orders.get("refuse"):
            raise BadPhotograph("it", "aspect_ratio", "one side is more than 200 times the other")
        if named(question, orders, "odd"):
            raise OverflowError("int too large to convert to float")
        if question.adapter is not None and self.check(question.adapter):
            raise BadAdapter("The adapter is unsound.", "Name another.")

    def _text(self, question: Question, orders: dict[str, Any]) -> str:
        """The answer; one of "texts" is used once, also where nonsense takes its place."""
        texts = orders.get("texts") or []
        text = texts.pop(0) if texts else critique_by(question.adapter)
        if "texts" in orders:
            self.control.write_text(json.dumps({**orders, "texts": texts}))
        return "a fine photograph" if named(question, orders, "garbled") else text

    def check(self, folder: Path) -> tuple[str, ...]:
        return ("it is unsound",) if folder.name in self._orders().get("unsound", []) else ()

    def load_adapter(self, folder: Path) -> AdapterCacheUse:
        """Remember the folder; each adapter takes a megabyte of a budget of "cached" adapters."""
        if problems := self.check(folder):
            raise BadAdapter(f"The adapter is unsound: {problems}.", "Name another.")
        room = self._orders().get("cached", 8)
        self.loaded = [*(each for each in self.loaded if each != folder), folder][-room:]
        return AdapterCacheUse(len(self.loaded), len(self.loaded) << 20, room << 20)

    def _orders(self) -> dict[str, Any]:
        return json.loads(self.control.read_text()) if self.control.exists() else {}


def named(question: Question, orders: dict[str, Any], fault: str) -> bool:
    """True when the question's adapter, or all ("*"), are to have the fault."""
    return bool({"*", question.adapter.name if question.adapter else ""} & set(orders.get(fault, [])))


def decode(orders: dict[str, Any], on_token: OnToken) -> int:
    """Wait, hang and decode as ordered; returns the number of tokens."""
    for _ in range(orders.get("waits", 0)):
        time.sleep(0.3)
        on_token(0)
    time.sleep(orders.get("hang", 0))
    tokens: int = orders.get("tokens", 3)
    for count in range(1, tokens + 1):
        time.sleep(orders.get("pace", 0))
        on_token(count)
    return tokens


def critique_by(adapter: Path | None) -> str:
    """A canonical critique whose comments say who answered."""
    score = 5 if adapter is None else int(adapter.name.lstrip("v") or 0) % 11
    who = "the base" if adapter is None else adapter.name
    return canonical_answer(
        make_critique(dict.fromkeys(DIMENSIONS, score), dict.fromkeys(DIMENSIONS, f"said by {who}"))
    )


def main() -> None:
    def make_engine() -> tuple[Engine, str]:
        return FakeEngine(Path(sys.argv[2])), "fake"

    serve_model_process(int(sys.argv[1]), make_engine)


if __name__ == "__main__":
    main()
