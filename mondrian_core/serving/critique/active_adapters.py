"""Which adapter serves an advisor: the promoted version, or the one that --lora_path names.

The next request after a promotion uses the new version.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from mondrian_core.errors import AdapterNotLoadable, BadAdapter, BadInput, MondrianError, UnknownVersion
from mondrian_core.events import EventListener, StageNotice, ignore_events
from mondrian_core.next_steps import add_advisor_step, retrain_step
from mondrian_core.registry import Registry
from mondrian_core.registry.champion_pointer import POINTER
from mondrian_core.registry.history import HISTORY
from mondrian_core.registry.version import LEGACY_FLAT_NAME
from mondrian_core.rollout import Rollout, active_rollout
from mondrian_core.serving.critique.adapter_source import AdapterSource, PointerSource, ServedAdapter

FileStamp = tuple[int, int, int] | None


class ActiveAdapters:
    """The adapters that serve. A new version replaces the old one only when it passes validation.

    Use from one thread at a time, except `active_versions`, `rollout` and `has_promoted`.

    Args:
        registry: the versions.
        source: what was named at start; None: the promoted versions of `registry`.
        validate: returns the problems of an adapter's folder on the loaded base; () when there are none.
        listen: receives a notice whenever the serving adapter changes or can't be used.
    """

    def __init__(
        self,
        registry: Registry,
        source: AdapterSource,
        validate: Callable[[Path], tuple[str, ...]],
        listen: EventListener = ignore_events,
    ) -> None:
        self._registry, self._source, self._validate, self._listen = registry, source, validate, listen
        self._pointer_stamps: dict[str, FileStamp] = {}
        self._serving: dict[str, ServedAdapter | None] = {}
        self._reasons: dict[str, str] = {}
        self._validated: set[Path] = set()
        self._promoted: dict[str, tuple[FileStamp, bool]] = {}
        self._rollouts: dict[str, tuple[tuple[FileStamp, FileStamp], Rollout | None]] = {}
        self._lock = threading.Lock()

    @property
    def active_versions(self) -> dict[str, str]:
        """Version by advisor, for the advisors requested so far."""
        with self._lock:
            return {advisor: adapter.version for advisor, adapter in self._serving.items() if adapter is not None}

    def for_advisor(self, advisor: str) -> tuple[ServedAdapter | None, str]:
        """(adapter that serves an advisor, ""), or (None, reason).

        Raises:
            ModelProcessDied: it died while a new adapter was validated.
        """
        pinned = self._pinned(advisor)
        if pinned is not None:
            return self._checked(pinned)
        registry = self.registry_of(advisor)
        stamp = _file_stamp(registry.root / advisor / POINTER)
        if advisor not in self._pointer_stamps or stamp != self._pointer_stamps[advisor]:
            self._follow_pointer(registry, advisor)
            self._pointer_stamps[advisor] = stamp
        return self._serving.get(advisor), self._reasons.get(advisor, "")

    def version(self, advisor: str, version: str) -> tuple[ServedAdapter | None, str]:
        """Like `for_advisor`, for a given version, such as the previous champion during a rollout."""
        registry = self.registry_of(advisor)
        found = registry.get(advisor, version)
        adapter = ServedAdapter(advisor, version, found.path)
        problems = self._problems(adapter, registry)
        return (None, f"{version} can't be used: {'; '.join(problems)}") if problems else (adapter, "")

    def rollout(self, advisor: str) -> Rollout | None:
        """The active rollout; None when there is none, or when an adapter was named at start."""
        if (
            self._source is not None
            and self._source.advisor in (None, advisor)
            and isinstance(self._source, ServedAdapter)
        ):
            return None
        registry = self.registry_of(advisor)
        folder = registry.root / advisor
        stamps = (_file_stamp(folder / HISTORY), _file_stamp(folder / POINTER))
        if stamps[1] is None:
            return None
        with self._lock:
            if advisor not in self._rollouts or self._rollouts[advisor][0] != stamps:
                self._rollouts[advisor] = (stamps, self._read_rollout(registry, advisor))
            return self._rollouts[advisor][1]

    def has_promoted(self, advisor: str) -> bool:
        """True when a version is promoted for this advisor, or an adapter was named at start. From any thread."""
        if self._pinned(advisor) is not None:
            return True
        registry = self.registry_of(advisor)
        stamp = _file_stamp(registry.root / advisor / POINTER)
        with self._lock:
            if advisor not in self._promoted or self._promoted[advisor][0] != stamp:
                try:
                    promoted = (
                        _legacy_adapter(registry, advisor) is not None
                        if stamp is None
                        else bool(registry.current(advisor))
                    )
                except MondrianError:
                    promoted = True  # the job that uses it will report the problem
                self._promoted[advisor] = (stamp, promoted)
            return self._promoted[advisor][1]

    def _read_rollout(self, registry: Registry, advisor: str) -> Rollout | None:
        try:
            return active_rollout(registry, advisor)
        except BadInput as error:
            self._listen(StageNotice("adapters", f"{advisor}: {error}"))
            return None

    @property
    def location(self) -> str:
        """Where the registry is: a folder or a URL."""
        root = self._source.root if isinstance(self._source, PointerSource) else self._registry.root
        return str((self._registry.url if root == self._registry.root else None) or root)

    def advisors(self) -> list[str]:
        """Advisors who have a folder in the registry, sorted."""
        if isinstance(self._source, PointerSource):
            named = Registry(self._source.root).advisors()
            return named if self._source.advisor is None else sorted({*self._registry.advisors(), self._source.advisor})
        return self._registry.advisors()

    def known_advisors(self) -> list[str]:
        """Like `advisors`, without asking a store: those whose state this machine has read."""
        return self.advisors() if self._registry.url is None else self._registry.known_advisors()

    def registry_of(self, advisor: str) -> Registry:
        """The registry with this advisor's versions."""
        source = self._source
        elsewhere = isinstance(source, PointerSource) and source.advisor in (None, advisor)
        return Registry(source.root) if isinstance(source, PointerSource) and elsewhere else self._registry

    def refresh(self) -> None:
        """Check the promoted pointers of all advisors requested so far."""
        for advisor in list(self._pointer_stamps):
            self.for_advisor(advisor)

    def _pinned(self, advisor: str) -> ServedAdapter | None:
        source = self._source
        return source if isinstance(source, ServedAdapter) and source.advisor in (None, advisor) else None

    def _checked(self, adapter: ServedAdapter) -> tuple[ServedAdapter | None, str]:
        problems = self._problems(adapter)
        if problems:
            return None, f"the adapter {adapter.version} can't be used: {'; '.join(problems)}"
        with self._lock:
            self._serving[adapter.advisor or "*"] = adapter
        return adapter, ""

    def _follow_pointer(self, registry: Registry, advisor: str) -> None:
        """Serve the version that the pointer names, if it passes validation."""
        try:
            champion = registry.champion(advisor)
            promoted = (
                ServedAdapter(advisor, champion.version, champion.path)
                if champion
                else _legacy_adapter(registry, advisor)
            )
            # the older layout has no manifest to hash its files against
            problems = self._problems(promoted, registry if champion else None) if promoted else ()
        except MondrianError as error:
            if not isinstance(error, BadInput):
                raise
            promoted, problems = None, (error.problem,)
        before = self._serving.get(advisor)
        if problems:
            self._reasons[advisor] = f"the promoted adapter can't be used: {'; '.join(problems)}"
            serving = f"{before.version} keeps serving" if before else "the base answers"
            self._listen(StageNotice("adapters", f"{advisor}: {self._reasons[advisor]}; {serving}."))
            return
        self._reasons[advisor] = "" if promoted else "no adapter is promoted for this advisor"
        with self._lock:
            self._serving[advisor] = promoted
        if promoted != before:
            self._listen(
                StageNotice(
                    "adapters", f"{advisor}: {promoted.version if promoted else 'the base'} answers from now on."
                )
            )

    def _problems(self, adapter: ServedAdapter, registry: Registry | None = None) -> tuple[str, ...]:
        if adapter.folder in self._validated:
            return ()
        problems: tuple[str, ...] = ()
        if registry is not None and adapter.advisor:
            problems = registry.verify(adapter.advisor, adapter.version)
        problems = problems or self._validate(adapter.folder)
        if not problems:
            self._validated.add(adapter.folder)
        return problems


def _legacy_adapter(registry: Registry, advisor: str) -> ServedAdapter | None:
    """The adapter of the older layout, `adapters/ansel/adapters.safetensors`, for an advisor without history."""
    if registry.url is not None:
        return None
    try:
        found = registry.get(advisor, LEGACY_FLAT_NAME)
    except UnknownVersion:
        return None
    managed = any(entry.version is not None for entry in registry.history(advisor))  # looks alone name no version
    return None if managed else ServedAdapter(advisor, LEGACY_FLAT_NAME, found.path)


def _file_stamp(path: Path) -> FileStamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def require_adapter(
    adapters: ActiveAdapters, source: AdapterSource, advisors: Sequence[str] = (), overlooked: Path | None = None
) -> None:
    """Require at least one adapter that can serve.

    Args:
        adapters: the registry's adapters.
        source: what was named at start.
        advisors: of the workspace, for the suggested command.
        overlooked: another registry that may be meant.

    Raises:
        AdapterNotLoadable: there is none; with the reasons.
    """
    named = source.advisor if source is not None else None
    candidates = [named] if named else ["*"] if isinstance(source, ServedAdapter) else adapters.advisors()
    reasons = [] if candidates else [f"there is none in {adapters.location}"]
    for advisor in candidates:
        try:
            adapter, why = adapters.for_advisor(advisor)
        except (BadAdapter, BadInput) as error:
            adapter, why = None, error.problem
        if adapter is not None:
            return
        reasons.append(f"{advisor}: {why}" if advisor != "*" else why)
    raise AdapterNotLoadable(
        f"No adapter can be loaded ({'; '.join(reasons)}).",
        f"{_next_command(adapters, advisors, overlooked)} Or name an adapter's folder with --lora_path, or start with "
        "`--fallback base`.",
    )


def _next_command(adapters: ActiveAdapters, advisors: Sequence[str], overlooked: Path | None) -> str:
    """The command that leads to a promoted adapter: promote an existing version, or train one."""
    for advisor in adapters.advisors():
        registry = adapters.registry_of(advisor)
        waiting = [each.version for each in registry.versions(advisor) if each.state in ("candidate", "champion")]
        if waiting and registry.current(advisor) is None:
            return (
                f"Promote a version: `mondrian adapters promote --adapters {registry.url or registry.root} "
                f"--advisor {advisor} --version {waiting[-1]}`."
            )
    if overlooked is not None:
        return f"There are adapters in {overlooked}: name it with --adapters or MONDRIAN_ADAPTERS."
    if not advisors:
        return add_advisor_step()
    return f"{retrain_step(advisors[0])} It is promoted when it passes every gate."
