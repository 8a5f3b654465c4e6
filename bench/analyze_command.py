"""`mondrian analyze` against the command `mlx_vlm.generate`, including process start.

python -m bench terminal --pairs 10
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from bench.critique_speed import ADVISOR, MAX_TOKENS
from bench.paired_timing import time_in_pairs

MONDRIAN_SCRIPT = "import sys; from mondrian_core.cli import main; sys.exit(main())"


def measure_analyze_command(pairs: int, base_model: str) -> dict[str, Any]:
    """Measure on rendered photographs in a temporary workspace."""
    with tempfile.TemporaryDirectory(prefix="mondrian-bench-") as folder:
        workspace = Path(folder) / "workspace"
        _run_python("-c", MONDRIAN_SCRIPT, "init", "--sample", "--workspace", str(workspace))
        photographs = sorted(path for path in (workspace / "source").rglob("*") if path.suffix in (".jpg", ".png"))
        ours, rival = (
            _Ours(workspace, base_model, cycle(photographs)),
            _Rival(workspace, base_model, cycle(photographs)),
        )
        times = time_in_pairs(ours, rival, pairs=pairs)
    return {
        "bench": "terminal",
        "ours": "mondrian analyze --mode baseline",
        "rival": "mlx_vlm.generate",
        "base_model": base_model,
        "seconds": times.as_dict(),
        "usable_ours": ours.usable,
        "usable_rival": rival.usable,
        "answers": pairs + 1,
    }


class _Ours:
    def __init__(self, workspace: Path, base_model: str, photographs: Iterator[Path]) -> None:
        self.usable = 0
        self._options = ["--advisor", ADVISOR, "--mode", "baseline", "--json", "--workspace", str(workspace)]
        self._options += ["--base-model", base_model]
        self._photographs = photographs

    def __call__(self) -> None:
        answers = json.loads(
            _run_python("-c", MONDRIAN_SCRIPT, "analyze", str(next(self._photographs)), *self._options)
        )
        self.usable += sum(bool(answer.get("critique")) for answer in answers)


class _Rival:
    def __init__(self, workspace: Path, base_model: str, photographs: Iterator[Path]) -> None:
        from mondrian_core.models.base_model import resolve_base_path
        from mondrian_core.prompts import CRITIQUE_INSTRUCTION
        from mondrian_core.store import Store

        self.usable = 0
        advisor_prompt = Store(workspace / "mondrian.db", read_only=True).advisor(ADVISOR)
        self._options = [
            "--model",
            str(resolve_base_path(base_model)),
            "--system",
            advisor_prompt.system_message,
            "--prompt",
            CRITIQUE_INSTRUCTION,
        ]
        self._options += ["--max-tokens", str(MAX_TOKENS), "--temperature", "0", "--no-verbose"]
        self._photographs = photographs

    def __call__(self) -> None:
        from mondrian_core.critique_parsing import CritiqueParseError, parse_critique_strict

        text = _run_python("-m", "mlx_vlm.generate", "--image", str(next(self._photographs)), *self._options).strip()
        try:
            parse_critique_strict(text)
        except CritiqueParseError:
            return
        self.usable += 1


def _run_python(*arguments: str) -> str:
    """Run this Python interpreter with `arguments`; returns its standard output."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments[:3])} ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return done.stdout
