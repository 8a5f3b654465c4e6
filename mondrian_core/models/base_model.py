"""The frozen base model: find its folder, compute its fingerprint, load it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mondrian_core.errors import BaseModelUnavailable
from mondrian_core.models.base_identity import BaseIdentity, load_base_identity
from mondrian_core.models.checkpoint_files import CONFIGURATION, find_file_problems, problems_as_text
from mondrian_core.models.family import FAMILIES, Family, find_family
from mondrian_core.models.hub_snapshot import find_hub_snapshot
from mondrian_core.next_steps import base_download_command
from mondrian_core.settings import MINI_BASE_MODEL

# Bundled with the package; found by its path, because the package `mini` is a layer above this one.
MINI_WEIGHTS = Path(__file__).resolve().parent.parent / "mini" / "weights"


@dataclass(frozen=True, eq=False, kw_only=True)
class BaseVLM:
    """A loaded base model. Use it only in the thread that loaded it, because mlx streams belong to threads.

    Attributes:
        name: what was asked for ("mini", a folder or a hub id).
        path: the folder it was read from.
        fingerprint: SHA-256 of configuration, weights, chat template, tokenizer and image processor settings,
            hexadecimal.
        model: mlx-vlm's module, frozen, in evaluation mode.
        processor: mlx-vlm's processor (image processor, tokenizer, chat template).
        tokenizer: the processor's tokenizer.
        cache: values of this base that are expensive to compute (grammar, compiled steps).
    """

    name: str
    path: Path
    fingerprint: str
    model: Any
    processor: Any
    tokenizer: Any
    cache: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def identity(self) -> BaseIdentity:
        """The digests behind the fingerprint."""
        return load_base_identity(self.path)

    @cached_property
    def family(self) -> Family:
        """What differs between its family and others."""
        family = find_family(self.model.config.model_type)
        if family is None:
            raise ValueError(f"{self.model.config.model_type!r} is not a supported family")
        return family

    @property
    def language_model(self) -> Any:
        """The part that LoRA adapts."""
        return self.model.language_model

    @property
    def hidden_size(self) -> int:
        """Hidden width of the language model."""
        return int(self.language_model.args.hidden_size)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self.family.end_tokens(self.tokenizer)

    @property
    def quantized(self) -> bool:
        """True when some of the weights are packed (4 or 8 bit)."""
        return "quantization" in self.configuration or "quantization_config" in self.configuration

    @property
    def configuration(self) -> dict[str, Any]:
        """The contents of config.json."""
        configuration: dict[str, Any] = json.loads((self.path / "config.json").read_text())
        return configuration


def device_name() -> str:
    """The device MLX computes on, for people: "Apple M3 Max (Metal)" or "CPU"."""
    import mlx.core as mx

    if mx.default_device() == mx.Device(mx.cpu):
        return "CPU"
    info = getattr(mx, "device_info", mx.metal.device_info)()
    return f"{info.get('device_name', 'GPU')} (Metal)" if mx.metal.is_available() else "GPU"


def is_hub_id(name: str) -> bool:
    """True for a name that can only be a model of the hub, such as owner/name."""
    folder = Path(name).expanduser()
    if name == MINI_BASE_MODEL or folder.is_dir() or folder.is_absolute() or name.startswith((".", "~")):
        return False
    return name.count("/") == 1


def resolve_base_path(name: str) -> Path:
    """The folder of a base model that is on this machine: "mini", a folder, or a hub id. Nothing is downloaded.

    Raises:
        BaseModelUnavailable: there is no such base here, files are missing or damaged, or it is of another family.
    """
    if name == MINI_BASE_MODEL:
        return MINI_WEIGHTS
    if is_hub_id(name):
        return require_known_family(_complete_snapshot(name), name)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise BaseModelUnavailable(
            f"The base model {name} doesn't exist.",
            "Check --base-model or MONDRIAN_BASE_MODEL: 'mini', a folder, or a hub id such as owner/name.",
        )
    return _complete_folder(require_known_family(folder.resolve(), name), name)


def local_base_path(name: str) -> Path | None:
    """The folder of a base that is on this machine and complete; nothing is downloaded."""
    try:
        return resolve_base_path(name)
    except BaseModelUnavailable:
        return None


def _complete_snapshot(name: str) -> Path:
    found = find_hub_snapshot(name)
    if found.folder is None:
        raise BaseModelUnavailable(
            f"The base model {name} isn't on this machine.", f"Download it: {base_download_command(name)}."
        )
    if found.problems:
        raise BaseModelUnavailable(
            f"The base model {name} is incomplete on this machine: {problems_as_text(found.problems)}.",
            f"Complete it: {base_download_command(name)} downloads only what is missing.",
        )
    return found.folder


def _complete_folder(folder: Path, name: str) -> Path:
    problems = find_file_problems(folder)
    if not problems:
        return folder
    step = "Copy these files again from where the checkpoint came from."
    if any(problem.is_pointer for problem in problems):
        step = "Run `git lfs install` and `git lfs pull` in that folder."
    raise BaseModelUnavailable(f"The base model {name} can't be used: in {folder} {problems_as_text(problems)}.", step)


def require_known_family(folder: Path, name: str) -> Path:
    """The folder, if its config.json is of a supported family.

    Raises:
        BaseModelUnavailable: it isn't, or can't be read.
    """
    try:
        configuration = json.loads((folder / CONFIGURATION).read_text())
        kind = configuration.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise BaseModelUnavailable(
            f"The base model {name} has no readable config.json in {folder}.",
            "Name a folder with a Qwen-VL checkpoint (config.json, safetensors, tokenizer).",
        ) from error
    if find_family(kind) is None:
        raise BaseModelUnavailable(
            f"The base model {name} is a '{kind}', not one of {', '.join(each.model_type for each in FAMILIES)}.",
            f"Use a checkpoint of {' or '.join(each.name for each in FAMILIES)}.",
        )
    return folder


def base_fingerprint(name: str) -> str:
    """`BaseVLM.fingerprint` without loading the model.

    Raises:
        BaseModelUnavailable: there is no such base.
    """
    return load_base_identity(resolve_base_path(name)).fingerprint


def base_record(name: str) -> dict[str, Any]:
    """What a manifest stores of the base (`BaseIdentity.record`), without loading the model.

    Raises:
        BaseModelUnavailable: there is no such base.
    """
    return load_base_identity(resolve_base_path(name)).record(name)


def load_base(name: str, *, weights: bool = True) -> BaseVLM:
    """Load a base model, frozen and in evaluation mode; on the CPU floating-point weights become float32.

    bfloat16 is slow on the CPU and has no fast BLAS. Nothing is cached here. With `weights` False no weights are read,
    which is enough to count tokens; the fingerprint of such a base is "".

    Raises:
        BaseModelUnavailable: it is missing, not of a supported family, or damaged.
    """
    import mlx.core as mx

    folder = resolve_base_path(name)
    with _loading_errors_explained(name):
        from mlx_vlm import load

        model, processor = load(str(folder), lazy=not weights)
        if weights and mx.default_device() == mx.Device(mx.cpu):
            model.set_dtype(mx.float32)
        model.freeze()
        model.eval()
        if weights:
            mx.eval(model.parameters())
        identity = load_base_identity(folder) if weights else None
    base = BaseVLM(
        name=name,
        path=folder,
        fingerprint=identity.fingerprint if identity else "",
        model=model,
        processor=processor,
        tokenizer=processor.tokenizer,
    )
    if identity is not None:
        vars(base)["identity"] = identity  # of the loaded weights, even if the files change later
    return base


@contextmanager
def _loading_errors_explained(name: str) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise BaseModelUnavailable(
            f"The base model {name} can't be loaded; its files are damaged or inconsistent "
            f"({type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}).",
            "Download the checkpoint again, or use the bundled one: MONDRIAN_BASE_MODEL=mini.",
        ) from error
