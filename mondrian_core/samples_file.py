"""samples.jsonl: everything that one evaluation measured, one JSON object per line. This is its only reader and writer.

A record has a `kind` ("identity", "label", "answer", "pair", ...) and that kind's values. The evaluation derives its
report from the file; comparisons of versions and the service read the candidate's answers from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from mondrian_core.errors import translate_foreign_errors
from mondrian_core.json_lines import append_json_line, cut_incomplete_line, read_json_lines

SAMPLES_NAME = "samples.jsonl"
SAMPLES_FORMAT = 2  # raise it when the records of a file change their meaning
# The arms of an evaluation: whose answer a record holds.
BASE, CANDIDATE, CHAMPION = "base", "candidate", "champion"
BEST_CHAMPION = "best_champion"  # asked where it is not the present champion


class PhotographOrigin(StrEnum):
    """Where a photograph of an evaluation comes from."""

    OWN = "own"  # a photograph of the workspace
    RENDERED = "rendered"  # drawn by Mondrian, to make up the number
    UNKNOWN = "unknown"  # not recorded: measured by an earlier release


class SamplesFile:
    """One `samples.jsonl`; an interrupted evaluation resumes from the records that are complete."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> Iterator[dict[str, Any]]:
        """The complete records in order; damaged lines and lines without a `kind` are skipped."""
        return (record for record in read_json_lines(self.path) if "kind" in record)

    def candidate_answers(self) -> Iterator[dict[str, Any]]:
        """The records of the candidate's answers, in order."""
        return (record for record in self.records() if (record["kind"], record.get("arm")) == ("answer", CANDIDATE))

    def labels(self) -> Iterator[dict[str, Any]]:
        """The records with the advisor's scores of a photograph, in order."""
        return (record for record in self.records() if record["kind"] == "label")

    def resume_or_start(self, identity: Mapping[str, Any]) -> bool:
        """Continue the file when it belongs to the same evaluation, otherwise start it again; True when it continues.

        Args:
            identity: what determines the measurements: model, adapters, prompt, photographs and sampling.
        """
        first = next(self.records(), None)
        if first is not None and first["kind"] == "identity" and first["values"] == dict(identity):
            cut_incomplete_line(self.path)
            return True
        with translate_foreign_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text("", encoding="utf-8")
        self.append("identity", {"values": dict(identity)})
        return False

    def append(self, kind: str, record: Mapping[str, Any]) -> None:
        """Append one record.

        Raises:
            DiskFull: when no space is left; earlier records stay readable.
        """
        append_json_line(self.path, {"kind": kind, **record})
