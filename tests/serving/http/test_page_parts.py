"""Parts of pages without a service: commands in sentences, and the place of a photograph before it arrives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mondrian_core.serving.http.pages import command_markup, photograph_size, with_commands
from mondrian_core.store import Job


def test_commands_in_sentences_are_marked_and_escaped() -> None:
    text = with_commands("Add <one>: `mondrian advisors add '<b>' --workspace W`, or ` alone.")
    command = "mondrian advisors add &#39;&lt;b&gt;&#39; <span>--workspace</span> W"
    assert text == f'Add &lt;one&gt;: <code class="command">{command}</code>, or ` alone.'
    assert command_markup("mondrian start") == '<code class="command">mondrian start</code>'


@pytest.mark.parametrize("pixels", [None, "x", [1], [0, 5], ["1", "2"], [1.5, 2]])
def test_photograph_has_its_upright_size_before_the_critique_is_ready(tmp_path: Path, pixels: Any) -> None:
    (tmp_path / "source").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (90, 60)).save(tmp_path / "source" / "a.jpg", exif=turned)
    job = Job(id="j", advisor="ansel", status="queued", filename="a.jpg", details={"pixels": pixels})
    gone = replace(job, filename="gone.jpg")
    assert photograph_size(tmp_path, job) == (60, 90)
    assert photograph_size(tmp_path, gone) is None
    assert photograph_size(tmp_path, replace(gone, details={"pixels": [3, 2]})) == (3, 2)
