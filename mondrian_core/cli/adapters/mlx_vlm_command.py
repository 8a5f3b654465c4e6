"""The mlx-vlm command that uses an adapter without Mondrian."""

from __future__ import annotations

import shlex
from pathlib import Path

from mondrian_core.mini import mini_weights_path
from mondrian_core.prompts import CRITIQUE_INSTRUCTION, AdvisorPrompt
from mondrian_core.rubric import MAX_ANSWER_TOKENS


def mlx_vlm_command_words(
    base: str,
    adapter: Path,
    advisor_prompt: AdvisorPrompt | None,
    photograph: str = "PHOTO",
    *,
    max_tokens: int = MAX_ANSWER_TOKENS,
) -> list[str]:
    """The words of the `mlx_vlm.generate` command for one critique by this adapter.

    mlx-vlm's command puts the photograph before the instruction, Mondrian after it (see `prompts`), so words and scores
    may differ a little from `mondrian analyze`; through mlx-vlm's Python interface, with the messages of
    `prompts.critique_messages`, they are the same.

    Args:
        base: "mini", a folder or a hub ID.
        adapter: a version's folder.
        advisor_prompt: source of the system message; None: no system message.
        photograph: the image file.
        max_tokens: maximum length of the answer, in tokens.
    """
    from mondrian_core.settings import MINI_BASE_MODEL

    model = str(mini_weights_path()) if base == MINI_BASE_MODEL else base
    system = ["--system", advisor_prompt.system_message] if advisor_prompt else []
    return [
        "mlx_vlm.generate",
        "--model",
        model,
        "--adapter-path",
        str(adapter),
        "--image",
        photograph,
        *system,
        "--prompt",
        CRITIQUE_INSTRUCTION,
        "--max-tokens",
        str(max_tokens),
        "--temperature",
        "0",
        "--no-verbose",
    ]


def shell_line(command: list[str]) -> str:
    """The words as one line for a shell."""
    return shlex.join(command)
