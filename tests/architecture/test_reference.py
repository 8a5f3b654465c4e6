"""The generated reference pages say what the code does; their text itself is compared in test_repository.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mondrian_core.importing.import_report import ImportedFile, ImportOutcome, ImportReport
from mondrian_core.registry.history import EVENTS
from mondrian_core.selftest.report import PrivateWords, SelfTestReport
from mondrian_core.serving.batch_report import COLUMNS
from tests.architecture.reference.docstrings import docstring_names
from tests.architecture.reference.error_types import SourceTexts
from tests.architecture.reference.files_page import kinds_in_code, undocumented, written_keys
from tests.architecture.reference.run_files import RUN_FILES
from tests.architecture.reference.stored_files import HISTORY_EVENTS, REPORTS
from tests.git_files import ROOT

FILES = {file.name: file for file in (*RUN_FILES, *REPORTS)}


def test_kinds_of_lines_are_those_of_the_code() -> None:
    assert kinds_in_code(ROOT) == FILES["samples.jsonl"].kinds.keys()
    assert HISTORY_EVENTS.keys() == EVENTS


def test_reports_have_the_documented_keys() -> None:
    report = ImportReport(kept=[ImportedFile(file="a.jpg", outcome=ImportOutcome.REJECTED, reason="empty")]).as_dict()
    imported = FILES["imports/TIME.json"]
    assert report.keys() == written_keys(imported.fields).keys()
    assert report["files"][0].keys() <= written_keys(imported.inside["files"]).keys()
    tested = SelfTestReport(results=[], bases={}, seconds=0.0).as_dict(PrivateWords([], {}))
    assert tested.keys() == written_keys(FILES["mondrian-selftest-TIME.json"].fields).keys()
    named = {name for key in written_keys(FILES["analyze --csv"].fields) for name in key.split(", ")}
    assert {re.sub(r".+(?=_(score|comment)$)", "DIMENSION", column) for column in COLUMNS} == named


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"seconds": 1}, ["link.json: seconds is not documented"]),
        ({"table": None}, ["link.json: table is missing"]),
    ],
)
def test_a_file_that_differs_from_the_page_is_found(
    tmp_path: Path, change: dict[str, object], found: list[str]
) -> None:
    values = {"manifest": "m", "used": 1, "left_out": {}, "table": ""} | change
    folder = tmp_path / "workspace" / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "link.json").write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    assert undocumented(tmp_path) == found


def test_messages_of_errors_are_read_from_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "mondrian_core" / "planted" / "one.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        'STEP = "Try `again`."\n'
        "def fail(path, size):\n"
        '    raise BadInput(f"{path.name} has {size:,} bytes{len(path)}.", STEP)\n'
        "def advise(again):\n"
        '    return "Wait." if again else STEP\n'
        "def fail_later(path, again):\n"
        '    problem, size = f"{path} is gone", 1\n'
        '    raise BadInput(problem + "." + path.why, advise(again))\n'
        "def refuse(path):\n"
        '    raise BadPhotograph(path, "unreadable", "it is a film")\n'
        "class Own(Broken):\n"
        "    def __init__(self, port):\n"
        '        super().__init__("Closed." if port else "Open.", quoted_command("up", "--port", str(port)))\n'
    )
    monkeypatch.setattr("tests.architecture.reference.error_types.ROOT", tmp_path)
    found = SourceTexts([Path("mondrian_core/planted/one.py")]).messages()
    names = ("BadInput", "BadPhotograph", "Own")
    shown = {name: sorted((each.area, each.problem, each.next_step) for each in found[name]) for name in names}
    assert shown == {
        "BadInput": [
            ("planted", "{name} has {size} bytes{...}.", "Try `again`."),
            ("planted", "{path} is gone.{...}", "Wait. / Try `again`."),
        ],
        "BadPhotograph": [("planted", "it is a film", "")],
        "Own": [("planted", "Closed. / Open.", "`mondrian up --port {...}`")],
    }


def test_names_of_a_docstring_section() -> None:
    def documented() -> None:
        """Do it.

        Args:
            before, after: the champion before
                and after.
            other: a thing.

        Raises:
            ValueError: never.
        """

    texts = docstring_names(documented, "Args")
    assert texts == {"before": "the champion before and after.", "after": texts["before"], "other": "a thing."}
