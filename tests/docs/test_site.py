"""The documentation's site: what makes the build fail, and what its pages look like to a browser without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.git_files import ROOT

pytestmark = pytest.mark.slow

PAGES = {
    "index.md": "# Site\n\n- [Decisions](decisions/index.md)\n- [Guides](guides/index.md)\n",
    "guides/index.md": "# Guides\n\n- [Second](second.md)\n- [First](first.md)\n",
    "guides/first.md": "# First\n\n[A part](second.md#a-part) of it.\n\n```sh\nmondrian start --yes\n```\n",
    "guides/second.md": "# Second\n\n## A part\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "decisions/index.md": "# Decisions\n\n- [One](0001-one.md)\n",
    "decisions/0001-one.md": "# One\n\nStatus: accepted\nDate: 2026-01-01\nTopic: Training\n",
}


def build_site(folder: Path, pages: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Build these pages with the project's settings, as `make docs` does."""
    for name, text in pages.items():
        (folder / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "docs" / name).write_text(text)
    shutil.copy(ROOT / "docs" / "conf.py", folder / "docs")
    shutil.copytree(ROOT / "docs" / "_static", folder / "docs" / "_static")
    shutil.copy(ROOT / "pyproject.toml", folder)
    options = re.search(r"-m sphinx (.+) -j auto", (ROOT / "Makefile").read_text())
    assert options
    command = [sys.executable, "-m", "sphinx", *options[1].split(), "-b", "html", "docs", "site"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_navigation_follows_the_index_pages_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    built = build_site(tmp_path, PAGES)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "site" / "guides" / "first.html").read_text()
    entries = re.findall(r'toctree-l\d[^"]*"><a class="[^"]*" href="([^"]*)"', page)
    assert entries == ["../decisions/index.html", "../decisions/0001-one.html", "index.html", "second.html", "#"]
    assert 'href="second.html#a-part"' in page and "--yes" in page
    assert "accepted<br />" in (tmp_path / "site" / "decisions" / "0001-one.html").read_text()
    for file in [file for file in (tmp_path / "site").rglob("*") if file.suffix in {".html", ".css"}]:
        loaded = re.findall(
            r'<(?:script|link|img)\b[^>]*(?:src|href)="(https?:[^"]*)"|url\((https?:[^)]*)', file.read_text()
        )
        assert loaded == [], file


def test_a_link_an_anchor_or_a_page_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    broken = "# First\n\n[No part](second.md#no-part), [no page](third.md), ![no picture](none.png)\n"
    built = build_site(tmp_path, {**PAGES, "guides/first.md": broken, "guides/unlisted.md": "# Unlisted\n"})
    assert built.returncode != 0
    for named in ("no-part", "third.md", "none.png", "unlisted.md"):
        assert named in built.stderr
