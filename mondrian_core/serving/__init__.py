"""The service: critiques over HTTP and from the command line, by the base model or a promoted adapter.

Two processes: the API (`app`, no MLX) and the model process (`model_process`), which answers one question at a time.
`mondrian analyze` runs the same strategies in its own process. This file stays light: the command line imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mondrian_core.events import EventListener, ignore_events

if TYPE_CHECKING:
    from mondrian_core.serving.batch_analyze import AnalysisResult
    from mondrian_core.settings import Settings

__all__ = ["analyze_photographs", "run_service"]


def run_service(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 5100,
    model_mode: str | None = "base",
    lora_path: str | None = None,
    ab_test_split: float = 0.5,
    fallback: str | None = None,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Answer requests until SIGINT or SIGTERM; `ready` is called with the port once requests are taken.

    Args:
        model_mode: base, fine_tuned or ab_test; None follows ANALYSIS_MODE.

    Raises:
        NoWorkspace, NoDatabase, BaseModelUnavailable: exit status 2.
        PortInUse: naming who listens there; exit status 3.
        AdapterNotLoadable: a mode that needs an adapter has none and `fallback` is not "base"; exit status 1.
    """
    from mondrian_core.serving.server import ServerOptions, run_server

    run_server(
        settings,
        ServerOptions(
            host=host,
            port=port,
            model_mode=model_mode,
            lora_path=lora_path,
            ab_test_split=ab_test_split,
            fallback=fallback,
        ),
        ready=ready,
    )


def analyze_photographs(
    settings: Settings,
    paths: Sequence[Path],
    advisor: str,
    mode: str,
    listen: EventListener = ignore_events,
    *,
    lora_path: str | None = None,
    keep: Callable[[AnalysisResult], object] = lambda result: None,
) -> list[AnalysisResult]:
    """Critique photographs, and those in folders, in this process; each critique becomes a row of the jobs table.

    A photograph that can't be used, or whose critique fails, is a result with its error; the others go on.

    Args:
        mode: baseline, rag, lora, or "all": each photograph in the three of them, one after the other.
        keep: hears each result as it comes, so that an interruption loses none.

    Raises:
        NoWorkspace, NoDatabase, UnknownAdvisor, BaseModelUnavailable: exit status 2.
        BadInput: a folder without photographs, or a mode that there isn't.
    """
    from mondrian_core.serving.batch_analyze import run_batch_analysis

    return run_batch_analysis(settings, paths, advisor, mode, listen, lora_path=lora_path, keep=keep)
