"""The record of the service that was started for a workspace: its process and its options. No Prefect in here."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path

from mondrian_core.files import read_json
from mondrian_core.settings import Settings
from tasks.processes import ManagedProcess

SERVICE_NAME = "service"


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The service's command line options."""

    host: str = "127.0.0.1"
    port: int = 5100
    model_mode: str = "base"
    ab_test_split: float = 0.5
    lora_path: str | None = None
    fallback: bool = True

    @property
    def address(self) -> str:
        """Its base URL."""
        return f"http://{self.host}:{self.port}"

    def command(self) -> list[str]:
        """`mondrian serve` with these options."""
        words = [sys.executable, "-m", "mondrian_core.cli", "serve", "--host", self.host, "--port", str(self.port)]
        words += ["--model-mode", self.model_mode, "--ab-test-split", str(self.ab_test_split)]
        words += ["--fallback", "base"] if self.fallback else []
        return [*words, "--lora-path", self.lora_path] if self.lora_path else words


def service_record_path(settings: Settings) -> Path:
    """The file that records which process serves this workspace."""
    return settings.root / "runs" / SERVICE_NAME / "process.json"


def recorded_service(settings: Settings) -> tuple[ManagedProcess, ServeOptions] | None:
    """The process that was started last for this workspace, and its options; it may have ended."""
    try:
        record = read_json(service_record_path(settings))
        process, options = ManagedProcess.from_record(record["process"]), record["wanted"]
        known = {
            field.name: options[field.name] for field in fields(ServeOptions) if field.name in options
        }  # of another version
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return (process, ServeOptions(**known)) if process else None
