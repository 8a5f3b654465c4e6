"""The prose linter reports what it should, at the right line, and nothing in code or sample data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.prose import findings

MODULE = '''"""Trains a model{docstring}."""

WORDS = ["beside"]  # one word is data{comment}


def run() -> str:
    """Return a message."""
    return f"The file is kept{message} and {{WORDS}}"
'''


def lint(folder: Path, name: str, text: str) -> list[tuple[int, str]]:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return [(finding.line, finding.found) for finding in findings(folder, [Path(name)])]


@pytest.mark.parametrize(
    ("place", "line", "word"),
    [
        ("docstring", 1, "anew"),
        ("comment", 3, "by hand"),
        ("message", 8, "held against"),
        ("docstring", 1, "recieve"),
        ("message", 8, "is no outlier"),
    ],
)
def test_words_of_the_list_and_misspellings_are_reported(tmp_path: Path, place: str, line: int, word: str) -> None:
    places = dict.fromkeys(("docstring", "comment", "message"), "")
    assert lint(tmp_path, "core/module.py", MODULE.format(**places)) == []
    text = MODULE.format(**{**places, place: f" and {word}"})
    assert lint(tmp_path, "core/module.py", text) == [(line, word)]


def test_idioms_with_no_are_not_reported(tmp_path: Path) -> None:
    idioms = "There is no file. It is no longer here, and is no better than before."
    assert lint(tmp_path, "core/module.py", MODULE.format(docstring=f". {idioms}", comment="", message="")) == []


def test_string_literals_of_tests_are_sample_data(tmp_path: Path) -> None:
    text = MODULE.format(docstring="", comment="", message=" beside it")
    assert lint(tmp_path, "core/module.py", text) == [(8, "beside")]
    assert lint(tmp_path, "tests/test_module.py", text) == []


def test_code_in_markdown_is_skipped(tmp_path: Path) -> None:
    text = "# Title\n\nRun `mend it`, then:\n\n```sh\nmend --anew  # beside\n```\n\nIt is\nmended.\n"
    assert lint(tmp_path, "page.md", text) == [(10, "mended")]


def test_interface_names_are_allowed_in_their_files_only(tmp_path: Path) -> None:
    assert lint(tmp_path, "docs/reference/gates.md", "The stuttering gate.\n") == []
    assert lint(tmp_path, "docs/other.md", "The stuttering gate.\n") == [(1, "stuttering")]
    assert lint(tmp_path, "tests/cli/test_commands.py", 'COMMAND = "trian"\n') == []
    assert lint(tmp_path, "tests/cli/test_other.py", 'COMMAND = "trian"\n') == [(1, "trian")]


def test_proselint_reads_markdown(tmp_path: Path) -> None:
    [(line, check)] = lint(tmp_path, "page.md", "# Title\n\nThis is a very unique model of the photograph.\n")
    assert (line, check.split(".")[0]) == (3, "uncomparables")


def test_html_is_read_without_tags_and_scripts(tmp_path: Path) -> None:
    page = '<p class="anew">Start</p>\n<script>let beside = 1</script>\n<b>Upload it anew</b>\n'
    assert lint(tmp_path, "page.html", page) == [(3, "anew")]


def test_yaml_comments_and_descriptions_are_read(tmp_path: Path) -> None:
    text = "name: anew\n# applied anew\nflow:\n  description: Promote it by hand.\n"
    assert lint(tmp_path, "prefect.yaml", text) == [(2, "anew"), (4, "by hand")]
