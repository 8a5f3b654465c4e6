"""mlx-vlm's own command, without Mondrian, opens mini and an adapter and gives the adapter's answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.cli.library import library_command
from mondrian_core.models import adapters
from mondrian_core.models.base import Base
from mondrian_core.models.generation import generate
from tests.models.conftest import VOICE

pytestmark = pytest.mark.mini
TOKENS = 40


def test_the_command_gives_the_adapters_answer(
    base: Base, messages: Any, image: Any, adapter: Path, tmp_path: Path
) -> None:
    """The command places the photograph before the text; asked so, we answer the same with and without adapter."""
    photograph = tmp_path / "photograph.png"
    image.save(photograph)
    words = library_command("mini", adapter, VOICE, str(photograph), max_tokens=TOKENS)
    script = Path(sys.executable).parent / words[0]
    done = subprocess.run([str(script), *words[1:]], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr

    system, user = messages
    first = [system, {**user, "content": user["content"][::-1]}]
    without = generate(base, first, image, max_tokens=TOKENS).text
    adapters.mount(base).use(adapter)
    assert done.stdout.strip().endswith(generate(base, first, image, max_tokens=TOKENS).text.strip())
    assert without.strip() not in done.stdout
