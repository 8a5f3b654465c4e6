"""Where the serving adapter comes from: what --lora_path or LORA_ADAPTER_DIR names, in every form it may have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mondrian_core.errors import AdapterNotLoadable
from mondrian_core.files import read_json
from mondrian_core.lora_files import adapter_answer_form
from mondrian_core.registry import Registry
from mondrian_core.registry.champion_pointer import POINTER
from mondrian_core.registry.version import MANIFEST, PEFT_WEIGHTS, VERSION_NAME, WEIGHTS
from mondrian_core.rubric import AnswerForm
from mondrian_core.settings import ADVISOR_ID


@dataclass(frozen=True)
class ServedAdapter:
    """An adapter that serves: its advisor (None: every advisor), its version, and its folder for the model process."""

    advisor: str | None
    version: str
    folder: Path

    @cached_property
    def answer_form(self) -> AnswerForm:
        """The form in which it answers."""
        return adapter_answer_form(self.folder)


@dataclass(frozen=True)
class PointerSource:
    """Whichever version of an advisor is promoted in the registry at `root`; None: of every advisor."""

    advisor: str | None
    root: Path


AdapterSource = ServedAdapter | PointerSource | None


def find_adapter_source(lora_path: str | None, registry: Registry) -> AdapterSource:
    """Resolve --lora_path or LORA_ADAPTER_DIR; None stands for the promoted versions of the registry.

    It may name a folder with an adapter, a version ("v0003", "ansel/v0003"), an advisor (the id, or the folder
    `adapters/ansel`: whichever version is promoted), or the root of a registry.

    Raises:
        AdapterNotLoadable: it names none of these.
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
        f"--lora_path {lora_path}: no such folder, version or advisor under {registry.root}.",
        "`mondrian adapters list` shows the versions.",
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
            f"No version in {folder} is promoted; the latest are {', '.join(versions[-3:])}.",
            f"Promote one: `mondrian adapters promote --adapters {folder.parent} --advisor {folder.name} "
            f"--version {versions[-1]}`, or name its folder, {folder / versions[-1]}.",
        )
    if _is_registry(folder):
        return PointerSource(None, folder)
    raise AdapterNotLoadable(
        f"{folder} has neither an adapter nor {POINTER}.",
        f"Name a folder with {WEIGHTS}, a version such as {folder.name}/v0001, or promote one first.",
    )


def _is_registry(folder: Path) -> bool:
    """True for the root of a registry or the older project's `adapters/`: a folder with a folder per advisor."""
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
    matches = [match for advisor in advisors for match in registry.versions(advisor) if match.version == parts[-1]]
    if len(matches) == 1:
        return ServedAdapter(matches[0].advisor, matches[0].version, matches[0].path)
    names = ", ".join(f"{match.advisor}/{match.version}" for match in matches)
    why = f"several advisors have it ({names})" if matches else "there is no such version"
    raise AdapterNotLoadable(
        f"--lora_path {'/'.join(parts)}: {why}.",
        "Name the advisor too, such as ansel/v0003.",
    )
