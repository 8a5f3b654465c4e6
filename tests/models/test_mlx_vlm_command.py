"""mlx-vlm's own command, without Mondrian, opens mini and an adapter and gives the adapter's answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.cli.adapters.mlx_vlm_command import mlx_vlm_command_words
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.inference.generation import generate
from mondrian_core.models.lora import lora_layers
from tests.models.conftest import ADVISOR

pytestmark = pytest.mark.mini
TOKENS = 40


def test_mlx_vlm_command_matches_adapter_answer(
    base: BaseVLM, messages: Any, image: Any, adapter: Path, tmp_path: Path
) -> None:
    """The command places the photograph before the text; asked so, we answer the same with and without adapter."""
    photograph = tmp_path / "photograph.png"
    image.save(photograph)
    words = mlx_vlm_command_words("mini", adapter, ADVISOR, str(photograph), max_tokens=TOKENS)
    script = Path(sys.executable).parent / words[0]
    done = subprocess.run([str(script), *words[1:]], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr

    system, user = messages
    first = [system, {**user, "content": user["content"][::-1]}]
    without = generate(base, first, image, max_tokens=TOKENS).text
    lora_layers.get_adapter_switch(base).use(adapter)
    assert done.stdout.strip().endswith(generate(base, first, image, max_tokens=TOKENS).text.strip())
    assert without.strip() not in done.stdout
