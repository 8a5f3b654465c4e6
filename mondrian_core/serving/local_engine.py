"""The model of this process: one base, with layers that switch between adapters and no adapter."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from mondrian_core.serving.engine import OnToken, Question, Reply


class LocalEngine:
    """Loads the base when it is made; to be used on the thread that made it (MLX streams belong to a thread).

    Raises:
        BaseModelUnavailable: when the base can't be loaded.
    """

    def __init__(self, base_name: str) -> None:
        from mondrian_core.models.base import load_base

        self.base = load_base(base_name)
        self._mounted: Any = None
        self._using: Path | None = None

    @property
    def fingerprint(self) -> str:
        """The base's fingerprint."""
        return self.base.fingerprint

    def ask(self, question: Question, on_token: OnToken | None = None) -> Reply:
        """Generate one answer."""
        from mondrian_core.models.generation import generate

        began = time.perf_counter()
        self._use(question.adapter)
        switched = time.perf_counter() - began
        count = 0

        def heard(*_: Any) -> None:
            nonlocal count
            count += 1
            if on_token is not None:
                on_token(count)

        made = generate(self.base, question.messages, question.image, max_tokens=question.max_tokens,
                        temperature=question.temperature, seed=question.seed, constrained=question.constrained,
                        on_token=heard)  # fmt: skip
        return Reply(made.text, made.finish_reason, len(made.tokens), made.prompt_tokens, made.image_tokens,
                     made.prefill_seconds, made.decode_seconds, switched, dict(made.expected_scores),
                     str(os.getpid()))  # fmt: skip

    def check(self, folder: Path) -> tuple[str, ...]:
        """Problems of an adapter on this base; () is sound."""
        from mondrian_core.models import adapters

        return adapters.check(self.base, folder)

    def _use(self, adapter: Path | None) -> None:
        """Switch only when something changes; a version's folder never changes its content."""
        from mondrian_core.models import adapters

        if self._mounted is None:
            if adapter is None:
                return  # nothing was ever mounted: the base as it was loaded
            self._mounted = adapters.mount(self.base)
        if adapter != self._using:
            self._using = None
            self._mounted.use(adapter)
            self._using = adapter
