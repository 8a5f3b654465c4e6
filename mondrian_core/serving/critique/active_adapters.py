"""Which adapter serves an advisor: the promoted one, or what --lora_path names.

A promotion is noticed by the next request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mondrian_core.errors import AdapterNotLoadable, BadAdapter, BadInput, MondrianError, UnknownVersion
from mondrian_core.events import EventListener, StageNotice, ignore_events
from mondrian_core.files import read_json
from mondrian_core.registry import Registry
from mondrian_core.registry.champion_pointer import POINTER
from mondrian_core.registry.version import LEGACY_FLAT_NAME, MANIFEST, PEFT_WEIGHTS, VERSION_NAME, WEIGHTS
from mondrian_core.rollout import Rollout, active_rollout
from mondrian_core.rollout.rollout_store import ROLLOUT_FILE as ROLLOUT
from mondrian_core.serving.critique.strategies import ServedAdapter
from mondrian_core.settings import ADVISOR_ID


@dataclass(frozen=True)
class PointerSource:
    """An advisor's promoted version, whichever that is. Without an advisor: everybody's, in the registry at `root`."""

    advisor: str | None
    root: Path


AdapterSource = ServedAdapter | PointerSource | None


def find_adapter_source(lora_path: str | None, registry: Registry) -> AdapterSource:
    """What --lora_path or LORA_ADAPTER_DIR names.

    A folder with an adapter, a version ("v0003", "ansel/v0003"), an advisor's promoted pointer (the id, or the folder
    `adapters/ansel`), or a registry's root.

    Raises:
        AdapterNotLoadable: there is no such thing.
    """
    if not lora_path:
        return None
    path = Path(lora_path).expanduser()
    if path.is_dir():
        return None if path.resolve() == registry.root.resolve() else _source_in(path.resolve())
    parts = lora_path.strip("/").split("/")
    if len(parts) == 1 and ADVISOR_ID.fullmatch(parts[0]) and not VERSION_NAME.fullmatch(parts[0]):
        if parts[0] in registry.advisors():
            return PointerSource(parts[0], registry.root)
    elif VERSION_NAME.fullmatch(parts[-1]) and len(parts) <= 2:
        return _named_version(registry, parts)
    raise AdapterNotLoadable(
        f"--lora_path {lora_path}: there is no such folder, version or advisor under {registry.root}.",
        "`mondrian adapters list` shows what there is.",
    )


def _source_in(folder: Path) -> AdapterSource:
    if VERSION_NAME.fullmatch(folder.name) and (folder / MANIFEST).is_file():
        advisor = _advisor_in(folder / MANIFEST)
        return ServedAdapter(advisor, folder.name, folder)
    if (folder / POINTER).is_file():
        return PointerSource(folder.name, folder.parent)
    if (folder / WEIGHTS).is_file() or (folder / PEFT_WEIGHTS).is_file():
        return ServedAdapter(None, folder.name, folder)
    if (folder / "adapter" / WEIGHTS).is_file():  # the folder of a training run
        return ServedAdapter(None, folder.name, folder / "adapter")
    if versions := sorted(each.name for each in folder.iterdir() if VERSION_NAME.fullmatch(each.name)):
        raise AdapterNotLoadable(
            f"{folder} holds no adapter that is promoted, only {', '.join(versions[-3:])}.",
            f"Promote one: `mondrian adapters promote --adapters {folder.parent} --advisor {folder.name} "
            f"--version {versions[-1]}`, or name its folder, {folder / versions[-1]}.",
        )
    if _is_registry(folder):
        return PointerSource(None, folder)
    raise AdapterNotLoadable(
        f"{folder} holds no adapter and no {POINTER}.",
        f"Name a folder with {WEIGHTS}, a version such as {folder.name}/v0001, or promote one first.",
    )


def _is_registry(folder: Path) -> bool:
    """True for a folder with advisors' folders in it: a registry's root, or the older project's `adapters/`."""
    inside = [each for each in folder.iterdir() if each.is_dir() and ADVISOR_ID.fullmatch(each.name)]
    return any((each / name).is_file() for each in inside for name in (POINTER, WEIGHTS, PEFT_WEIGHTS)) or any(
        VERSION_NAME.fullmatch(version.name) for each in inside for version in each.iterdir()
    )


def _advisor_in(manifest: Path) -> str | None:
    try:
        advisor = read_json(manifest).get("advisor")
    except (OSError, ValueError, AttributeError):
        return None
    return advisor if isinstance(advisor, str) else None


def _named_version(registry: Registry, parts: list[str]) -> ServedAdapter:
    advisors = [parts[0]] if len(parts) == 2 else registry.advisors()
    found = [each for advisor in advisors for each in registry.versions(advisor) if each.version == parts[-1]]
    if len(found) == 1:
        return ServedAdapter(found[0].advisor, found[0].version, found[0].path)
    names = ", ".join(f"{each.advisor}/{each.version}" for each in found)
    why = f"several advisors have it ({names})" if found else "there is no such version"
    raise AdapterNotLoadable(
        f"--lora_path {'/'.join(parts)}: {why}.",
        "Name the advisor too, such as ansel/v0003.",
    )


FileStamp = tuple[int, int, int] | None


class ActiveAdapters:
    """The adapters that serve. `soundness` gives the problems of one on the loaded base.

    What serves an advisor changes only when the new one is sound; until then the old one keeps answering. Use from one
    thread at a time, except `serving`.
    """

    def __init__(
        self,
        registry: Registry,
        source: AdapterSource,
        soundness: Callable[[Path], tuple[str, ...]],
        listen: EventListener = ignore_events,
    ) -> None:
        self._registry, self._source, self._soundness, self._listen = registry, source, soundness, listen
        self._seen: dict[str, FileStamp] = {}
        self._serving: dict[str, ServedAdapter | None] = {}
        self._why: dict[str, str] = {}
        self._sound: set[Path] = set()
        self._promoted: dict[str, tuple[FileStamp, bool]] = {}
        self._rollouts: dict[str, tuple[tuple[FileStamp, FileStamp], Rollout | None]] = {}
        self._lock = threading.Lock()

    @property
    def active_versions(self) -> dict[str, str]:
        """Version by advisor, for those who were asked for so far."""
        with self._lock:
            return {advisor: adapter.version for advisor, adapter in self._serving.items() if adapter is not None}

    def for_advisor(self, advisor: str) -> tuple[ServedAdapter | None, str]:
        """The adapter that serves an advisor now, and why there is none.

        Raises:
            ModelProcessDied: it went away while a new adapter was checked.
        """
        pinned = self._pinned(advisor)
        if pinned is not None:
            return self._checked(pinned)
        registry = self.registry_of(advisor)
        stamp = _file_stamp(registry.root / advisor / POINTER)
        if advisor not in self._seen or stamp != self._seen[advisor]:
            self._follow(registry, advisor)
            self._seen[advisor] = stamp
        return self._serving.get(advisor), self._why.get(advisor, "")

    def version(self, advisor: str, version: str) -> tuple[ServedAdapter | None, str]:
        """A version that needn't be the champion, such as the one before it during a rollout."""
        registry = self.registry_of(advisor)
        found = registry.get(advisor, version)
        adapter = ServedAdapter(advisor, version, found.path)
        problems = self._problems(adapter, registry)
        return (None, f"{version} can't be used: {'; '.join(problems)}") if problems else (adapter, "")

    def rollout(self, advisor: str) -> Rollout | None:
        """The rollout in force; None when the champion answers everything, or an adapter was named at start."""
        if (
            self._source is not None
            and self._source.advisor in (None, advisor)
            and isinstance(self._source, ServedAdapter)
        ):
            return None
        registry = self.registry_of(advisor)
        home = registry.root / advisor
        stamps = (_file_stamp(home / ROLLOUT), _file_stamp(home / POINTER))
        if stamps[0] is None:
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
                    found = (
                        _legacy_adapter(registry, advisor) is not None
                        if stamp is None
                        else bool(registry.current(advisor))
                    )
                except MondrianError:
                    found = True  # whoever is to answer with it finds out what is wrong, and tells
                self._promoted[advisor] = (stamp, found)
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
            there = Registry(self._source.root).advisors()
            return there if self._source.advisor is None else sorted({*self._registry.advisors(), self._source.advisor})
        return self._registry.advisors()

    def registry_of(self, advisor: str) -> Registry:
        """Where this advisor's versions lie."""
        source = self._source
        elsewhere = isinstance(source, PointerSource) and source.advisor in (None, advisor)
        return Registry(source.root) if isinstance(source, PointerSource) and elsewhere else self._registry

    def refresh(self) -> None:
        """Look at the pointers of all advisors who were asked for so far."""
        for advisor in list(self._seen):
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

    def _follow(self, registry: Registry, advisor: str) -> None:
        """Go where the pointer points, when that is sound."""
        try:
            champion = registry.champion(advisor)
            found = (
                ServedAdapter(advisor, champion.version, champion.path)
                if champion
                else _legacy_adapter(registry, advisor)
            )
            # the older layout has no manifest to hash its files against
            problems = self._problems(found, registry if champion else None) if found else ()
        except MondrianError as error:
            if not isinstance(error, BadInput):
                raise
            found, problems = None, (error.problem,)
        before = self._serving.get(advisor)
        if problems:
            self._why[advisor] = f"the promoted adapter can't be used: {'; '.join(problems)}"
            kept = f"{before.version} keeps answering" if before else "the base answers"
            self._listen(StageNotice("adapters", f"{advisor}: {self._why[advisor]}; {kept}."))
            return
        self._why[advisor] = "" if found else "no adapter is promoted for this advisor"
        with self._lock:
            self._serving[advisor] = found
        if found != before:
            self._listen(
                StageNotice("adapters", f"{advisor}: {found.version if found else 'the base'} answers from now on.")
            )

    def _problems(self, adapter: ServedAdapter, registry: Registry | None = None) -> tuple[str, ...]:
        if adapter.folder in self._sound:
            return ()
        problems: tuple[str, ...] = ()
        if registry is not None and adapter.advisor:
            problems = registry.verify(adapter.advisor, adapter.version)
        problems = problems or self._soundness(adapter.folder)
        if not problems:
            self._sound.add(adapter.folder)
        return problems


def _legacy_adapter(registry: Registry, advisor: str) -> ServedAdapter | None:
    """The adapter of the older layout, `adapters/ansel/adapters.safetensors`, of an advisor with no history here."""
    if registry.url is not None:
        return None
    try:
        found = registry.get(advisor, LEGACY_FLAT_NAME)
    except UnknownVersion:
        return None
    return None if registry.history(advisor) else ServedAdapter(advisor, LEGACY_FLAT_NAME, found.path)


def _file_stamp(path: Path) -> FileStamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def require_adapter(
    adapters: ActiveAdapters, source: AdapterSource, advisors: Sequence[str] = (), overlooked: Path | None = None
) -> None:
    """Make sure that there is at least one adapter to serve with.

    Args:
        advisors: of the workspace, for the command that makes what is missing.
        overlooked: another registry that may be meant.

    Raises:
        AdapterNotLoadable: there is none, with the reason.
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
    """The next command on the way to a promoted adapter: promote what is there, else make one."""
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
    advisor = advisors[0] if advisors else "ADVISOR"
    return f"Make one: `mondrian retrain --advisor {advisor}`, which promotes it when it passes every gate."
