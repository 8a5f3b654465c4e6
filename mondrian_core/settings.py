"""The only reader of environment variables.

Command-line options win over the environment, the environment over the defaults here.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import psutil
from pydantic import AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mondrian_core.errors import BadInput, NoWorkspace

ADVISOR_ID = re.compile(r"[a-z0-9_-]{1,64}")
MACHINE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")  # part of the names of workers, queues and deployments
ROLES = (
    "control",
    "serving",
    "data",
    "accelerator",
)  # of a machine of a shared server; docs/how-to/several-machines.md
ALL_ADVISORS = "all"  # no advisor's ID: it stands for all of them
METAL_BASE_MODEL = "mlx-community/Qwen3-VL-4B-Instruct-4bit"
MINI_BASE_MODEL = "mini"
DESKTOP_NOTIFICATIONS, NO_NOTIFICATIONS = "desktop", "none"  # MONDRIAN_NOTIFICATIONS; otherwise a Prefect block
REGISTRY_CACHE_SUBFOLDER = "registries"  # folder of the cache

AnalysisMode = Literal["baseline", "rag", "lora"]


def _env(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class Settings(BaseSettings):
    """Paths and service settings. Paths are made absolute when they are used."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True)

    workspace: Path = Field(default=Path("workspace"), validation_alias=_env("MONDRIAN_WORKSPACE"))
    adapters: Path | None = Field(default=None, validation_alias=_env("MONDRIAN_ADAPTERS"))
    shared: Path | None = Field(default=None, validation_alias=_env("MONDRIAN_SHARED"))
    backup: Path | None = Field(default=None, validation_alias=_env("MONDRIAN_BACKUP"))
    cache: Path = Field(default=Path("~/.cache/mondrian"), validation_alias=_env("MONDRIAN_CACHE"))
    config_home: Path = Field(default=Path("~/.config"), validation_alias=_env("XDG_CONFIG_HOME"))
    base_model: str | None = Field(default=None, validation_alias=_env("MONDRIAN_BASE_MODEL"))
    analysis_mode: AnalysisMode = Field(
        default="lora", validation_alias=_env("ANALYSIS_MODE", "MONDRIAN_ANALYSIS_MODE")
    )
    embeddings_enabled: bool = Field(default=False, validation_alias=_env("EMBEDDINGS_ENABLED"))
    tensorboard_enabled: bool = Field(default=False, validation_alias=_env("TENSORBOARD_ENABLED"))
    exif_enabled: bool = Field(default=False, validation_alias=_env("EXIF_ENABLED", "MONDRIAN_EXIF_ENABLED"))
    max_megapixels: int = Field(default=80, ge=1, le=900, validation_alias=_env("MONDRIAN_MAX_MEGAPIXELS"))
    adapter_cache_mb: int | None = Field(
        default=None, ge=0, le=1_000_000, validation_alias=_env("MONDRIAN_ADAPTER_CACHE_MB")
    )
    lora_adapter_dir: Path | None = Field(default=None, validation_alias=_env("LORA_ADAPTER_DIR"))
    prefect_api: str | None = Field(default=None, validation_alias=_env("PREFECT_API_URL"))
    prefect_auth: str | None = Field(default=None, validation_alias=_env("PREFECT_API_AUTH_STRING"), repr=False)
    prefect_port: int | None = Field(default=None, ge=1, le=65535, validation_alias=_env("MONDRIAN_PREFECT_PORT"))
    prefect_database: str | None = Field(
        default=None,
        pattern=r"^postgresql(\+asyncpg)?://",
        validation_alias=_env("MONDRIAN_PREFECT_DATABASE"),
        repr=False,
    )
    prefect_redis: str | None = Field(
        default=None, pattern=r"^rediss?://", validation_alias=_env("MONDRIAN_PREFECT_REDIS"), repr=False
    )
    prefect_host: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9.:-]+$", validation_alias=_env("MONDRIAN_PREFECT_HOST")
    )
    machine: str | None = Field(
        default=None, pattern=f"^{MACHINE_NAME.pattern}$", validation_alias=_env("MONDRIAN_MACHINE")
    )
    machine_roles: str = Field(
        default=",".join(ROLES),
        pattern=rf"^({'|'.join(ROLES)})(,({'|'.join(ROLES)}))*$",
        validation_alias=_env("MONDRIAN_ROLES"),
    )
    service_token: str | None = Field(default=None, min_length=16, validation_alias=_env("MONDRIAN_SERVICE_TOKEN"))
    service_url: str | None = Field(
        default=None, pattern=r"^https?://\S+$", validation_alias=_env("MONDRIAN_SERVICE_URL")
    )
    accelerator_lock: Path | None = Field(default=None, validation_alias=_env("MONDRIAN_ACCELERATOR_LOCK"))
    memory_gb: float | None = Field(default=None, gt=0, validation_alias=_env("MONDRIAN_MEMORY_GB"))
    growth_step: int = Field(default=10, ge=1, le=1_000_000, validation_alias=_env("MONDRIAN_GROWTH_STEP"))
    notifications: str = Field(
        default=DESKTOP_NOTIFICATIONS,
        pattern=r"^(desktop|none|[a-z0-9-]+/[a-z0-9-]+)$",
        validation_alias=_env("MONDRIAN_NOTIFICATIONS"),
    )
    log_level: str = Field(default="INFO", validation_alias=_env("MONDRIAN_LOG_LEVEL"))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment. Files have none of them, and looking there doubled the time."""
        return init_settings, env_settings

    def __init__(self, **values: Any) -> None:
        """Read the environment; `values` override it.

        Raises:
            BadInput: naming every variable with an invalid value.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            errors = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise BadInput(f"Invalid settings: {errors}.", "Fix or unset these variables.") from error

    @property
    def root(self) -> Path:
        """The workspace folder, absolute."""
        return self.workspace.expanduser().resolve()

    @property
    def adapters_root(self) -> Path:
        """The registry's root, absolute; for a URL its folder in the cache.

        The default is `adapters` next to the workspace. So it doesn't depend on the current folder when the workspace
        is given.
        """
        if self.adapters is None:
            return self.root.parent / "adapters"
        url = _url_from_path(self.adapters)
        return (
            cache_folder_from_url(url, self.cache.expanduser().resolve())
            if url
            else self.adapters.expanduser().resolve()
        )

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of this machine, in the order of `ROLES`."""
        given = self.machine_roles.split(",")
        return tuple(role for role in ROLES if role in given)

    @property
    def machine_name(self) -> str:
        """The name of this machine: MONDRIAN_MACHINE, else from the name of the host."""
        host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-")
        return self.machine or host[:40].strip("-") or "mondrian"

    @property
    def shared_root(self) -> str | None:
        """Where datasets, runs and checkpoints are published: a URL, or an absolute folder; None: nowhere."""
        if self.shared is None:
            return None
        return _url_from_path(self.shared) or str(self.shared.expanduser().resolve())

    @property
    def shared_folder(self) -> Path | None:
        """The shared folder, through which trainings are handed out; None where nothing or a URL is shared."""
        root = self.shared_root
        return None if root is None or "://" in root else Path(root)

    @property
    def overlooked_registry(self) -> Path | None:
        """The folder `adapters` of the checkout or the current folder, if it has advisors and the default has none."""
        if self.adapters is not None or _has_subfolders(self.adapters_root):
            return None
        places = (Path.cwd() / "adapters", Path(__file__).resolve().parents[1] / "adapters")
        return next((place for place in places if place != self.adapters_root and _has_subfolders(place)), None)

    @property
    def is_analysis_mode_set(self) -> bool:
        """True when ANALYSIS_MODE is set explicitly."""
        return "analysis_mode" in self.model_fields_set

    @property
    def local_registry(self) -> Path | None:
        """The registry's root, absolute; None when it is a URL."""
        return None if self.adapters is not None and _url_from_path(self.adapters) else self.adapters_root

    def require_backup_folder(self, given: Path | None = None) -> Path:
        """The folder for backups, absolute: `given`, otherwise MONDRIAN_BACKUP.

        Raises:
            BadInput: neither is set.
        """
        folder = given or self.backup
        if folder is None:
            raise BadInput(
                "No backup folder was given.", "Give one (`mondrian backup FOLDER`), or set MONDRIAN_BACKUP."
            )
        return folder.expanduser().resolve()

    @property
    def database(self) -> Path:
        """`mondrian.db` of the workspace."""
        return self.root / "mondrian.db"

    @property
    def adapter_cache_bytes(self) -> int:
        """Memory for adapters: MONDRIAN_ADAPTER_CACHE_MB, else a twentieth of the machine's, but at least 256 MB."""
        if self.adapter_cache_mb is not None:
            return self.adapter_cache_mb << 20
        return max(256 << 20, psutil.virtual_memory().total // 20)

    @property
    def max_pixels(self) -> int:
        """Maximum number of pixels of a photograph."""
        return self.max_megapixels * 1_000_000

    @property
    def workspace_id(self) -> str:
        """Identifies the workspace to other processes of this machine without disclosing its path: `name-1a2b3c4d`.

        The folder's name and the first 8 hex digits of the SHA-256 of its absolute path.
        """
        return f"{self.root.name}-{hashlib.sha256(str(self.root).encode()).hexdigest()[:8]}"

    @cached_property
    def base(self) -> str:
        """The base model: the configured one; otherwise the 4-bit Qwen3-VL-4B on Apple Silicon, mini elsewhere."""
        if self.base_model:
            return self.base_model
        return METAL_BASE_MODEL if on_apple_silicon() else MINI_BASE_MODEL

    def require_workspace(self) -> Path:
        """The workspace folder, absolute.

        Raises:
            NoWorkspace: the folder doesn't exist.
        """
        if not self.root.is_dir():
            raise NoWorkspace(self.root)
        return self.root

    def run_folder(self, run: str) -> Path:
        """`runs/<run>/` of the workspace."""
        return self.root / "runs" / run


def current_settings() -> Settings:
    """`Settings()`, but read again only when a variable has changed: for what is asked for every photograph.

    Raises:
        BadInput: a variable has an invalid value.
    """
    names = _upper_case_names()
    return _settings_of(tuple((name, value) for name, value in os.environ.items() if name.upper() in names))


@lru_cache(maxsize=1)
def _settings_of(_variables: tuple[tuple[str, str], ...]) -> Settings:
    return Settings()


@cache
def _upper_case_names() -> frozenset[str]:
    return frozenset(name.upper() for name in environment_names())


def environment_names() -> tuple[str, ...]:
    """The names of all environment variables that `Settings` reads."""
    aliases = [field.validation_alias for field in Settings.model_fields.values()]
    return tuple(str(name) for alias in aliases if isinstance(alias, AliasChoices) for name in alias.choices)


def absolute_settings(settings: Settings) -> dict[str, str]:
    """Variables that give another process, in any folder, the paths of these settings."""
    found = {}
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if (
            isinstance(value, Path)
            and name in settings.model_fields_set
            and isinstance(field.validation_alias, AliasChoices)
        ):
            url = _url_from_path(value)
            found[str(field.validation_alias.choices[0])] = url or str(value.expanduser().absolute())
    return found


def _has_subfolders(place: Path) -> bool:
    try:
        return any(entry.is_dir() and ADVISOR_ID.fullmatch(entry.name) for entry in place.iterdir())
    except OSError:
        return False


def _url_from_path(path: Path) -> str | None:
    """The URL in a path (`Path` drops one of its two slashes); None for an ordinary path."""
    found = re.fullmatch(r"([a-z][a-z0-9+.-]+):/+(.+)", str(path))
    return f"{found[1]}://{found[2]}" if found else None


def cache_folder_from_url(url: str, cache: Path) -> Path:
    """The cache folder for the registry at `url`; its name is the quoted URL."""
    return cache / REGISTRY_CACHE_SUBFOLDER / quote(url.rstrip("/"), safe="")


def url_from_cache_folder(root: Path) -> str | None:
    """The URL of the registry that a cache folder belongs to; None for any other folder."""
    url = unquote(root.name) if root.parent.name == REGISTRY_CACHE_SUBFOLDER else ""
    return url if "://" in url else None


def on_apple_silicon() -> bool:
    """True on a Mac with Apple Silicon, the only platform where the large default base model is practical."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def validate_advisor_id(advisor: str) -> str:
    """Return the ID unchanged.

    Raises:
        BadInput: it doesn't match `[a-z0-9_-]{1,64}`. IDs become folder names, so nothing else is accepted.
    """
    if not ADVISOR_ID.fullmatch(advisor):
        raise BadInput(f"'{advisor}' is not a valid advisor ID.", "Use 1-64 of the characters a-z, 0-9, _ and -.")
    return advisor
