"""docs/reference/files.md, and the comparison of the formats with files that were really written."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mondrian_core.markdown import Markdown, markdown_table
from mondrian_core.samples_file import SAMPLES_NAME
from tests.architecture.reference.docstrings import docstring_names
from tests.architecture.reference.file_format import Fields, FileFormat
from tests.architecture.reference.prose_markup import escaped_prose
from tests.architecture.reference.run_files import RUN_FILES
from tests.architecture.reference.stored_files import (
    BACKUP_FILES,
    DATASET_COLUMNS,
    DATASET_FILES,
    REGISTRY_FILES,
    REPORTS,
)

PAGE = "docs/reference/files.md"
_SECTIONS = {"Runs": RUN_FILES, "Registry": REGISTRY_FILES, "Backups": BACKUP_FILES, "Reports and tables": REPORTS}
_NOT_WRITTEN = "not written"
_KINDS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "Path": "string", "None": "null"}
_START = """# Files

This page is generated from the classes whose values are written. JSON is UTF-8. Important files are written under a
temporary name and renamed, so a reader sees the old or the new one, and a manifest is written last. In a `.jsonl` file
each line is a JSON object; a last line without its newline doesn't count.

```text
WORKSPACE/
  mondrian.db                     advisors, critiques, jobs
  source/                         photographs; source/advisor/KIND/ADVISOR/ is that advisor's portfolio
  analysis_md/                    answers, a fenced JSON block each
  datasets/ADVISOR/DIGEST/        a dataset version
  runs/RUN/                       a training with its evaluation
ADAPTERS/ADVISOR/VERSION/         an adapter version
BACKUP/                           snapshots and their contents
```

Described elsewhere: the [database](database.md), [recipes](recipes.md), [files of critiques](critique-files.md),
[XMP sidecars](../how-to/photographers-tools.md), [shared storage](../how-to/shared-storage.md), the
[self-test's report](../how-to/selftest.md).
"""
_ROWS = """Where people judged advice, the folder `advice_pairs` holds the pairs of answers that follow. `messages`
ends with the preferred one, `rejected` is the other one, `related` names photographs of the dataset that show the same.

The folders `train`, `validation`, `test` and `held_out_variants` are Hugging Face datasets
(`datasets.load_from_disk`) with these columns:"""


def files_page() -> str:
    """The page as Markdown."""
    parts = [_START, "## Datasets", _dataset_columns()]
    parts += [_section(each) for each in DATASET_FILES]
    for title, formats in _SECTIONS.items():
        parts += [f"## {title}", *map(_section, formats)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def written_keys(fields: Fields) -> dict[str, tuple[str, str]]:
    """(type, meaning) by key."""
    found: dict[str, tuple[str, str]] = {}
    for given in fields:
        if isinstance(given, Mapping):
            found |= {key: _split(text) for key, text in given.items()}
            continue
        texts = docstring_names(given, "Attributes")
        for each in dataclasses.fields(given):
            if each.repr:  # a field that isn't shown isn't stored either
                found.setdefault(each.name, (json_type(str(each.type)), _in_json(texts.get(each.name, ""))))
    return {key: value for key, value in found.items() if value[0] != _NOT_WRITTEN}


def _in_json(text: str) -> str:
    """A text about Python's values, for a reader of JSON."""
    for ours, theirs in (("None", "null"), ("True", "true"), ("False", "false")):
        text = re.sub(rf"\b{ours}\b", theirs, text)
    return text.rstrip(".")


def _split(text: str) -> tuple[str, str]:
    kind, _, meaning = text.partition(": ")
    return kind, meaning


def json_type(annotation: str) -> str:
    """An annotation as JSON's types: "integer or null", "list of object"."""
    kinds = []
    for part in annotation.split(" | "):
        name, _, inside = part.partition("[")
        if name in ("list", "tuple", "Sequence"):
            item = json_type(inside.rstrip("]").split(",")[0]) if "[" not in inside else "object"
            kinds.append(f"list of {item}")
        else:
            kinds.append(_KINDS.get(name, "string" if name in ("Verdict", "Cause", "OutcomeStatus") else "object"))
    return " or ".join(kinds)


def _section(file: FileFormat) -> str:
    parts = [f"### {file.name}", file.about]
    if file.kinds:
        rows = [(Markdown(f"`{kind}`"), Markdown(meaning)) for kind, meaning in file.kinds.items()]
        parts.insert(2, markdown_table((Markdown(f"`{file.kind_key}`"), "meaning of the line"), rows))
    parts.append(_key_table(file.fields))
    for key, fields in file.inside.items():
        parts += [f"In `{key}`:", _key_table(fields)]
    return "\n\n".join(parts)


def _key_table(fields: Fields) -> str:
    rows = [
        (Markdown(f"`{key}`"), kind, Markdown(meaning if "](" in meaning else escaped_prose(meaning)))
        for key, (kind, meaning) in written_keys(fields).items()
    ]
    return markdown_table(("key", "type", "meaning"), rows)


def _dataset_columns() -> str:
    from mondrian_core.data.dataset.writer import _features

    rows = [
        (Markdown(f"`{name}`"), _column_type(kind), Markdown(escaped_prose(DATASET_COLUMNS[name])))
        for name, kind in _features().items()
    ]
    return f"{_ROWS}\n\n{markdown_table(('column', 'type', 'meaning'), rows)}"


def _column_type(kind: Any) -> str:
    if isinstance(kind, dict):
        return "object"
    name = type(kind).__name__
    return {"Value": getattr(kind, "dtype", ""), "Image": "image"}.get(name, "list")


def undocumented(root: Path) -> list[str]:
    """What files below a folder hold and the page doesn't say, or the other way round; one line each.

    Args:
        root: holds `workspace/`, `adapters/` and `backup/`; a format without a file there is left out.
    """
    return [
        f"{file.name}: {problem}"
        for file in (*DATASET_FILES, *RUN_FILES, *REGISTRY_FILES, *BACKUP_FILES)
        for path in (root.glob(file.place) if file.place else ())
        for problem in _problems(file, path)
    ]


def _problems(file: FileFormat, path: Path) -> Iterator[str]:
    documented = written_keys(file.fields)
    if path.suffix != ".jsonl":
        values = json.loads(path.read_text(encoding="utf-8"))
        yield from _differences(values, documented, file.optional)
        for key, fields in file.inside.items():
            items = values[key] if isinstance(values[key], list) else [values[key]]
            known = written_keys(fields)
            yield from (f"{key}.{name} is not documented" for item in items for name in item.keys() - known.keys())
        return
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        kind = line.pop(file.kind_key)
        if kind not in file.kinds:
            yield f"the line {kind} is not documented"
        if file.name != SAMPLES_NAME or kind == "answer":  # of samples, the page lists the keys of answers only
            yield from _differences(line, documented, (*file.optional, file.kind_key))


def _differences(values: Mapping[str, Any], documented: Mapping[str, Any], optional: tuple[str, ...]) -> Iterator[str]:
    yield from (f"{key} is not documented" for key in values.keys() - documented.keys())
    yield from (f"{key} is missing" for key in documented.keys() - values.keys() - set(optional))


def kinds_in_code(root: Path) -> set[str]:
    """The kinds of lines that the evaluation appends to samples.jsonl."""
    found = {"identity"}
    for module in (root / "mondrian_core" / "evaluation").rglob("*.py"):
        found |= set(re.findall(r'(?:samples|journal)\.append\("(\w+)", ', module.read_text(encoding="utf-8")))
    return found
