"""Load the champions' adapters into memory while the worker is idle, so that no request waits for a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mondrian_core.errors import BadInput, ModelProcessDied
from mondrian_core.events import EventListener, StageNotice
from mondrian_core.serving.critique.active_adapters import ActiveAdapters
from mondrian_core.serving.critique.adapter_source import ServedAdapter
from mondrian_core.serving.engine.supervisor import ModelProcess


class AdapterWarmUp:
    """Loads one adapter at a time. It starts again with each new model process, and follows promotions.

    When the next adapter has no room, it stops: loading more would evict what was just loaded. The others are loaded
    at their first request, and evict the least recently used ones.

    Args:
        adapters: which adapter serves an advisor.
        model: the process that holds them.
        advisors: returns the IDs of the workspace's advisors.
        listen: receives a notice when not all adapters fit.
    """

    def __init__(
        self,
        adapters: ActiveAdapters,
        model: ModelProcess,
        advisors: Callable[[], Sequence[str]],
        listen: EventListener,
    ) -> None:
        self._adapters, self._model, self._advisors, self._listen = adapters, model, advisors, listen
        self._start = -1
        self._loaded: dict[str, str | None] = {}  # version by advisor; None: it has none that can be loaded
        self._full = False

    def load_next(self) -> bool:
        """Load the next adapter that isn't in memory; False when there is nothing to do."""
        if self._model.pinned:
            return False
        if self._start != self._model.starts:
            self._start, self._full = self._model.starts, False
            self._loaded.clear()
        serving = self._adapters.active_versions
        for advisor in self._advisors():
            done = advisor in self._loaded and self._loaded[advisor] == serving.get(advisor)
            if not done and not self._full and self._adapters.has_promoted(advisor):
                self._load(advisor)
                return True
        return False

    def _load(self, advisor: str) -> None:
        try:
            adapter, _ = self._adapters.for_advisor(advisor)
            if adapter is not None:
                self._load_adapter(adapter)
        except (BadInput, ModelProcessDied) as error:  # the advisor's next job will report it
            self._listen(StageNotice("adapters", f"{advisor}: its adapter was not loaded in advance: {error.problem}"))
        finally:  # one that can't be loaded is tried again only as another version
            self._loaded[advisor] = self._adapters.active_versions.get(advisor)

    def _load_adapter(self, adapter: ServedAdapter) -> None:
        use = self._model.load_adapter(adapter.folder)
        self._full = use.budget - use.nbytes < use.nbytes / max(use.adapters, 1)  # no room for one like these
        if self._full:
            self._listen(
                StageNotice(
                    "adapters",
                    f"{use.adapters} adapters fill the memory for them ({use.budget >> 20} MB); others are loaded when "
                    "they are needed. MONDRIAN_ADAPTER_CACHE_MB sets another size.",
                )
            )
