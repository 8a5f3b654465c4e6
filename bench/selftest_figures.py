"""Publish the figures of a self-test, and write the tables of docs/how-to/selftest.md.

    python -m bench.selftest_figures [REPORT.json]

The entries of the report replace those of the same device, stream and base. Without a report the tables are written
again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mondrian_core.files import write_atomic
from mondrian_core.selftest.published import (
    PUBLISHED_FILE,
    checks_table,
    entries_of_report,
    published_table,
    read_published,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "selftest.md"
_IDENTITY = ("device", "stream", "fingerprint")


def selftest_page(text: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """The page with its two generated tables."""
    for name, table in (("checks", checks_table()), ("published figures", published_table(entries))):
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{table}\n{end}{rest.partition(end)[2]}"
    return text


def main(arguments: list[str] | None = None) -> int:
    """Add the report's entries, and write the page."""
    parser = argparse.ArgumentParser(prog="bench.selftest_figures", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path, nargs="?", help="JSON file of `mondrian selftest`; its verdict must be ok")
    options = parser.parse_args(arguments)
    entries = read_published()
    if options.report is not None:
        added = entries_of_report(json.loads(options.report.read_text(encoding="utf-8")))
        known = {tuple(entry[key] for key in _IDENTITY) for entry in added}
        entries = [entry for entry in entries if tuple(entry[key] for key in _IDENTITY) not in known] + added
        write_atomic(PUBLISHED_FILE, json.dumps({"schema_version": 1, "entries": entries}, indent=1) + "\n")
    write_atomic(PAGE, selftest_page(PAGE.read_text(encoding="utf-8"), entries))
    print(f"{len(entries)} entries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
