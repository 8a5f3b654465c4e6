"""The older project's analyses: a text file for each photograph, with a model's critique as JSON in a fence.

The file doesn't name its photograph. The job that names the file does; without one, a photograph with the file's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mondrian_core.critique_files.json_forms import values_from_object
from mondrian_core.critique_files.records import MODEL, FileRow, row_from_values
from mondrian_core.critique_parsing import CritiqueParseError, parse_answer_object
from mondrian_core.store import Store
from mondrian_core.text_decoding import UnknownEncodingError, decode_text

MAX_ANALYSIS_FILE_BYTES = 1_000_000
_FILE_NAME = re.compile(r"analysis-(?P<advisor>[a-z0-9_-]+?)-(?P<job>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


@dataclass(frozen=True)
class AnalysisOrigin:
    """What a job says about its analysis: photograph, advisor, and when it was completed."""

    photograph: str
    advisor: str
    completed_at: str


def analysis_origins(store: Store) -> dict[str, AnalysisOrigin]:
    """What the jobs of a workspace say, by the name of the analysis file and by the job's id."""
    found: dict[str, AnalysisOrigin] = {}
    for job in store.jobs():
        if job.filename:
            origin = AnalysisOrigin(job.filename, job.advisor or "", job.completed_at or job.created_at or "")
            found[job.id] = origin
            if job.analysis_markdown:
                found[Path(job.analysis_markdown.replace("\\", "/")).name] = origin
    return found


def read_analysis(path: Path, origins: Mapping[str, AnalysisOrigin]) -> Iterator[FileRow]:
    """The one critique of an analysis file, with everything that it says besides its dimensions in its details."""
    place = ""  # the file is the critique
    if path.stat().st_size > MAX_ANALYSIS_FILE_BYTES:
        yield FileRow(place, None, f"it is larger than {MAX_ANALYSIS_FILE_BYTES:,} bytes")
        return
    try:
        text, _ = decode_text(path.read_bytes())
        answer, repairs = parse_answer_object(text)
    except UnknownEncodingError as error:
        yield FileRow(place, None, str(error))
        return
    except CritiqueParseError as error:
        yield FileRow(place, None, f"it holds no critique ({error.detail or error.reason})")
        return
    named = _FILE_NAME.fullmatch(path.stem)
    origin = origins.get(path.name) or (origins.get(named["job"]) if named else None)
    values = {"photograph": path.stem, "origin": MODEL} | values_from_object(answer)
    if named:
        values.setdefault("advisor", named["advisor"])
    if origin is not None:
        values |= {"photograph": origin.photograph, "created_at": origin.completed_at}
        values |= {"advisor": origin.advisor} if origin.advisor else {}
    read = [repair for repair in repairs if repair not in ("fence", "older_form")]
    yield row_from_values(place, values, f"read with repairs: {', '.join(read)}" if read else "")
