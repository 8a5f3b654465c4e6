"""Label Studio's JSON: tasks with annotations and predictions, and the labeling configuration that they need.

A critique by a person is an annotation, one by a model a prediction. `data.mondrian` has what an annotation can't hold
(id, origin, date, other details), and the digest of the critique, which shows whether somebody edited it since.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from mondrian_core.critique_files.columns import recognized_column
from mondrian_core.critique_files.json_forms import array_lines
from mondrian_core.critique_files.records import (
    HUMAN,
    MODEL,
    CritiqueRecord,
    FileRow,
    row_from_values,
    split_details,
    values_from_record,
)
from mondrian_core.critique_regions import is_list_of_regions
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, MAX_SCORE
from mondrian_core.store.cells import normalized_timestamp
from mondrian_core.store.records import LIST_DETAILS

IMAGE_NAME = "image"
LOCAL_FILES = "/data/local-files/?d="
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_TEXT_CONTROLS = (
    ("overall_grade", "Overall grade", 1),
    ("strengths", "Strengths", 2),
    ("priority_improvements", "Priority improvements", 2),
    ("advisor_notes", "Notes", 3),
)


def labeling_config() -> str:
    """The labeling configuration (XML): a rating and two texts for each dimension, grade, strengths and notes.

    A rating of Label Studio has no zero: a score of 0 is imported from a file only.
    """
    lines = ["<View>", f'  <Image name="{IMAGE_NAME}" value="$image" zoom="true" zoomControl="true"/>']
    for name in DIMENSIONS:
        lines += [
            f"  <Header value={quoteattr(DIMENSION_TITLES[name])}/>",
            f'  <Rating name="{name}_score" toName="{IMAGE_NAME}" maxRating="{MAX_SCORE}" required="true"/>',
            _text_area(f"{name}_comment", "Comment", 3, required=True),
            _text_area(f"{name}_recommendation", "Recommendation", 2),
            f'  <Rectangle name="{name}_regions" toName="{IMAGE_NAME}"/>',
        ]
    for name, title, rows in _TEXT_CONTROLS:
        lines += [f"  <Header value={quoteattr(title)}/>", _text_area(name, title, rows, many=name in LIST_DETAILS)]
    return "\n".join([*lines, "</View>", ""])


def _text_area(name: str, placeholder: str, rows: int, *, required: bool = False, many: bool = False) -> str:
    limits = ("" if many else ' maxSubmissions="1"') + (' required="true"' if required else "")
    return (
        f'  <TextArea name="{name}" toName="{IMAGE_NAME}" placeholder={quoteattr(placeholder)} rows="{rows}" '
        f'editable="true"{limits}/>'
    )


def write_tasks(records: Iterable[CritiqueRecord]) -> Iterator[str]:
    """A JSON array of tasks, one in a line."""
    yield from array_lines(task_from_record(record) for record in records)


def task_from_record(record: CritiqueRecord) -> dict[str, Any]:
    """A task with one annotation or prediction."""
    values = values_from_record(record)
    controls = {name: value for name, value in values.items() if _is_control(name)}
    named, rest = split_details(record.details)
    kept = rest | {name: value for name, value in named.items() if name not in controls}
    written = {
        "id": record.id,
        "origin": record.origin,
        "created_at": record.created_at or None,
        "digest": record.digest,
        **({"details": kept} if kept else {}),
    }
    result = [each for name, value in controls.items() for each in _results(name, value)]
    moment = f"{record.created_at}Z" if record.created_at else None
    if record.origin == HUMAN:
        times = {"created_at": moment, "updated_at": moment} if moment else {}
        judged = {"annotations": [{"result": result, "was_cancelled": False, **times}], "predictions": []}
    else:
        judged = {"annotations": [], "predictions": [{"model_version": "mondrian", "result": result}]}
    image = f"{LOCAL_FILES}{quote(record.photograph, safe='/')}"
    facts = {"photograph": record.photograph, "sha256": record.sha256, "advisor": record.advisor, "mondrian": written}
    return {"data": {IMAGE_NAME: image, **facts}, **judged}


def is_task(value: Any) -> bool:
    """True for an object that is a task of Label Studio."""
    return isinstance(value, Mapping) and isinstance(value.get("data"), Mapping) and "annotations" in value


def row_from_task(place: str, task: Mapping[str, Any]) -> FileRow:
    """The critique of a task: its newest annotation that was not skipped; else the prediction that Mondrian wrote."""
    data = task["data"]
    written = data.get("mondrian") if isinstance(data.get("mondrian"), Mapping) else {}
    annotations = [
        each for each in _objects(task.get("annotations")) if not each.get("was_cancelled") and each.get("result")
    ]
    predictions = _objects(task.get("predictions")) if written.get("origin") == MODEL else []
    if not annotations and not predictions:
        return FileRow(place, None, "nobody has annotated this task yet", skipped=True)
    chosen = max(annotations, key=_moment) if annotations else predictions[0]
    notice = ""
    if len(annotations) > 1:
        notice = f"{len(annotations)} annotations; the newest, by annotator {_annotator(chosen)}, counts"
    results = _objects(chosen.get("result"))
    notice = "; ".join(filter(None, (notice, _unread_rectangles(results))))
    values: dict[str, Any] = {**_task_values(data), **_result_values(results)}
    if details := written.get("details"):
        values["details"] = details
    unedited = row_from_values(place, {**values, **_written_values(written)}, notice)
    same = unedited.record is not None and unedited.record.digest == written.get("digest")
    if unedited.record is None or same:
        return unedited
    # a person's annotation of a model's critique is a critique of its own
    identity = {"id": written.get("id")} if written.get("origin") == HUMAN else {}
    dates = {"created_at": _moment(chosen)} if _moment(chosen) else {}
    return row_from_values(place, {**values, **identity, **dates, "origin": HUMAN}, notice)


def _written_values(written: Mapping[str, Any]) -> dict[str, Any]:
    return {name: written[name] for name in ("id", "origin", "created_at") if name in written}


def _is_control(name: str) -> bool:
    parts = ("_score", "_comment", "_recommendation", "_regions")
    return name.endswith(parts) or name in {each[0] for each in _TEXT_CONTROLS}


def _results(name: str, value: Any) -> list[dict[str, Any]]:
    """The results of one control: several rectangles, or one rating or text."""
    if not name.endswith("_regions"):
        return [_result(name, value)]
    return [
        {
            "id": f"{name}_{number}",
            "from_name": name,
            "to_name": IMAGE_NAME,
            "type": "rectangle",
            "value": _rectangle(region),
            "mondrian_region": region,
        }
        for number, region in enumerate(value, 1)
    ]


def _rectangle(region: Sequence[float]) -> dict[str, float]:
    """A box as Label Studio writes it: the left upper corner, width and height in percent of the photograph's."""
    left, top, right, bottom = (100 * value for value in region)
    return {"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}


def _region_of_result(result: Mapping[str, Any]) -> list[float] | None:
    """The upright box of a rectangle, clipped to the photograph; None for one that has no place there.

    The box that was exported comes back to the last digit unless somebody moved its rectangle.
    """
    value, written = result["value"], result.get("mondrian_region")
    if isinstance(written, list) and is_list_of_regions([written]) and _rectangle(written) == value:
        return written
    numbers = [value.get(key) for key in ("x", "y", "width", "height")]
    if not all(isinstance(number, int | float) for number in numbers) or value.get("rotation"):
        return None
    x, y, width, height = (float(number) / 100 for number in numbers)
    box = [max(0.0, x), max(0.0, y), min(1.0, x + width), min(1.0, y + height)]
    return box if is_list_of_regions([box]) else None


def _unread_rectangles(results: Sequence[Mapping[str, Any]]) -> str:
    """What a person should know about rectangles that no region was made of; "" without any."""
    drawn = [
        each["value"]
        for each in results
        if (recognized_column(str(each.get("from_name", ""))) or "").endswith("_regions")
        and isinstance(each.get("value"), Mapping)
        and _region_of_result(each) is None
    ]
    turned = sum(bool(value.get("rotation")) for value in drawn)
    parts = [
        f"{turned} rotated rectangle{'' if turned == 1 else 's'}" if turned else "",
        f"{len(drawn) - turned} without a place in the photograph" if turned < len(drawn) else "",
    ]
    return f"left out: {', '.join(filter(None, parts))}; regions are upright boxes" if drawn else ""


def _result(name: str, value: Any) -> dict[str, Any]:
    kind = "rating" if name.endswith("_score") else "textarea"
    content = {"rating": value} if kind == "rating" else {"text": value if isinstance(value, list) else [value]}
    return {"id": name, "from_name": name, "to_name": IMAGE_NAME, "type": kind, "value": content}


def _result_values(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Values by column of an annotation's results; several texts of one control are lines of one text."""
    values: dict[str, Any] = {}
    for result in results:
        name = recognized_column(str(result.get("from_name", "")))
        value = result.get("value")
        if name is None or not isinstance(value, Mapping):
            continue
        if name.endswith("_regions"):
            if (region := _region_of_result(result)) is not None:
                values[name] = [*values.get(name, []), region]
        elif name in LIST_DETAILS:
            values[name] = [*values.get(name, []), *_texts(value.get("text"))]
        elif "text" in value:
            values[name] = "\n".join(([values[name]] if name in values else []) + _texts(value["text"]))
        else:
            values[name] = value.get("rating", value.get("number"))
    return values


def _texts(value: Any) -> list[str]:
    given = value if isinstance(value, list) else [value]
    return [each for each in given if isinstance(each, str)]


def _task_values(data: Mapping[str, Any]) -> dict[str, Any]:
    """The photograph and the advisor; a foreign project names the photograph by the address of its image."""
    values = {name: data[name] for name in ("photograph", "sha256", "advisor") if data.get(name)}
    if "photograph" not in values and "sha256" not in values:
        for key, given in data.items():
            if recognized_column(key) == "photograph" and isinstance(given, str):
                values["photograph"] = photograph_from_address(given)
    return values


def photograph_from_address(address: str) -> str:
    """The path or file name in the address of an image: of local storage, of an upload, or of any other kind."""
    parts = urlsplit(address)
    if local := parse_qs(parts.query).get("d"):
        return local[0]
    path = unquote(parts.path)
    name = path.rsplit("/", 1)[-1]
    return _UPLOAD_PREFIX.sub("", name) if "/upload/" in path else (name if parts.scheme else path)


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _moment(annotation: Mapping[str, Any]) -> str:
    """When an annotation was last changed, in a spelling that sorts; "" when it doesn't say."""
    return normalized_timestamp(annotation.get("updated_at") or annotation.get("created_at")) or ""


def _annotator(annotation: Mapping[str, Any]) -> str:
    by = annotation.get("completed_by")
    if isinstance(by, Mapping):
        by = by.get("email") or by.get("id")
    return str(by)[:80] if by is not None else "unknown"
