"""JSON in its forms, files of Label Studio and Argilla as these programs write them, and the older analyses."""

from __future__ import annotations

import json
import tracemalloc
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from mondrian_core.critique_files.exporting import ExportCounts, export_critiques, exported_records
from mondrian_core.critique_files.formats import CritiqueFile, critique_format
from mondrian_core.critique_files.label_studio import labeling_config, photograph_from_address
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, canonical_answer, make_critique
from mondrian_core.store import COMPLETED, Job
from tests.critique_files.conftest import Workspace, critique


def load(workspace: Workspace, name: str, critiques: list[Any]) -> list[Any]:
    """Save critiques and read the export of a JSON format."""
    workspace.store.save_profiles(critiques)
    return list(json.loads(workspace.export(name)))


def taken(workspace: Workspace, value: Any, name: str = "x.json", **options: Any) -> Any:
    """Import one value and return its row."""
    result = workspace.take(workspace.file(json.dumps(value), name), **options)
    return result.rows[0]


def older_answer(**changes: Any) -> dict[str, Any]:
    dimensions = [
        {"name": DIMENSION_TITLES[name], "score": 7, "comment": f"On {name}.", "recommendation": f"Try {name}."}
        for name in DIMENSIONS
    ]
    return {
        "image_description": "A church at night.",
        "dimensions": dimensions,
        "overall_score": 7.2,
        "key_strengths": ["Light", "Line"],
        "priority_improvements": ["Edge"],
        "technical_notes": "f/8",
        **changes,
    }


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("shape", ["object", "array", "wrapped"])
def test_answers_of_a_model_are_read_in_every_shape(workspace: Workspace, indent: int | None, shape: str) -> None:
    written = make_critique(dict.fromkeys(DIMENSIONS, 8.0), dict.fromkeys(DIMENSIONS, "The road leads in."))
    answer = json.loads(canonical_answer(written))
    answer["photograph"] = "one.jpg"
    value = {"object": answer, "array": [answer], "wrapped": {"critiques": [answer]}}[shape]
    result = workspace.take(workspace.file(json.dumps(value, indent=indent), "a.json"))
    assert result.counts["new"] == 1 and workspace.store.profiles()[0].overall_grade == "8.0"


def test_a_damaged_line_is_one_bad_row(workspace: Workspace) -> None:
    workspace.store.save_profile(critique())
    good = workspace.export("jsonl").decode()
    result = workspace.take(workspace.file(f"{good}{{broken\n[1]\n{good}", "a.jsonl"))
    assert [row.outcome.value for row in result.rows] == ["same", "refused", "refused", "same"]
    assert "line 2" in result.rows[1].place and "not valid JSON" in result.rows[1].reason


@pytest.mark.parametrize("text", ['{"composition_score": NaN}', '["\\ud800"]', "9" * 400, "[" * 5000])
def test_json_that_no_program_should_write_is_a_bad_row(workspace: Workspace, text: str) -> None:
    result = workspace.take(workspace.file(f"{text}\n{text}\n", "a.jsonl"), format="jsonl", skip_bad=True)
    assert {row.outcome.value for row in result.rows} == {"refused"}


# --- Label Studio -----------------------------------------------------------------------------------------------------


def test_the_labeling_configuration_has_a_rating_and_two_texts_for_each_dimension() -> None:
    view = ElementTree.fromstring(labeling_config())
    names = {tag.get("name"): tag.tag for tag in view if tag.get("name")}
    for name in DIMENSIONS:
        assert names[f"{name}_score"] == "Rating"
        assert names[f"{name}_comment"] == names[f"{name}_recommendation"] == "TextArea"
    assert {tag.get("toName") for tag in view if tag.tag in ("Rating", "TextArea")} == {"image"}
    assert [tag.get("value") for tag in view if tag.tag == "Image"] == ["$image"]


def exported_by_label_studio(task: dict[str, Any], *annotations: dict[str, Any]) -> dict[str, Any]:
    """A task as Label Studio exports it: with ids, times of its own, and other annotations."""
    made = []
    for number, changes in enumerate(annotations, 1):
        result = [dict(each) for each in task["annotations"][0]["result"]]
        for each in result:
            if each["from_name"] in changes:
                value = changes[each["from_name"]]
                each["value"] = {"rating": value} if each["type"] == "rating" else {"text": [value]}
        more = {key: value for key, value in changes.items() if key in ("completed_by", "was_cancelled", "updated_at")}
        made.append({"id": number, "result": result, "created_at": "2026-11-01T10:00:00.5Z", "lead_time": 9.1, **more})
    return {"id": 7, "project": 2, "file_upload": None, "drafts": [], **task, "annotations": made}


def test_an_edited_annotation_replaces_the_critique_it_was_made_of(workspace: Workspace) -> None:
    (task,) = load(workspace, "label-studio", [critique(0)])
    unedited = exported_by_label_studio(task, {"completed_by": 1})
    assert taken(workspace, [unedited]).outcome.value == "same"
    edited = exported_by_label_studio(task, {"lighting_score": 2, "updated_at": "2026-11-02T10:00:00Z"})
    assert taken(workspace, [edited]).outcome.value == "changed"
    saved = workspace.store.profile("p0")
    assert saved is not None and saved.scores["lighting"] == 2.0
    assert saved.created_at == "2026-11-02T10:00:00.000000"


def test_of_several_annotators_the_newest_counts_and_is_named(workspace: Workspace) -> None:
    (task,) = load(workspace, "label-studio", [critique(0)])
    value = exported_by_label_studio(
        task,
        {"lighting_score": 3, "updated_at": "2026-11-05T10:00:00Z", "completed_by": {"id": 4, "email": "a@b.c"}},
        {"lighting_score": 4, "updated_at": "2026-11-03T10:00:00Z", "completed_by": 2},
        {"lighting_score": 5, "updated_at": "2026-11-09T10:00:00Z", "was_cancelled": True},
    )
    row = taken(workspace, [value], dry_run=True)
    assert row.outcome.value == "changed"
    result = workspace.take(workspace.file(json.dumps([value]), "x.json"))
    assert "2 annotations" in result.rows[0].reason and "a@b.c" in result.rows[0].reason
    assert workspace.store.profile("p0").scores["lighting"] == 3.0


def test_a_task_that_nobody_annotated_is_skipped_and_keeps_nothing_from_being_saved(workspace: Workspace) -> None:
    (task,) = load(workspace, "label-studio", [critique(0)])
    empty = {"data": {"image": "/data/upload/1/0a1b2c3d-two.jpg"}, "annotations": [], "predictions": []}
    new = {**task, "data": {"image": "/data/upload/1/0a1b2c3d-two.jpg"}}
    result = workspace.take(workspace.file(json.dumps([empty, new]), "x.json"))
    assert [row.outcome.value for row in result.rows] == ["skipped", "new"] and result.saved
    assert result.rows[1].photograph == "source/two.jpg"


def test_a_person_annotating_a_models_prediction_writes_a_critique_of_their_own(workspace: Workspace) -> None:
    (task,) = load(workspace, "label-studio", [critique(0, origin="model")])
    assert task["annotations"] == [] and len(task["predictions"]) == 1
    annotated = {**task, "annotations": [{"result": task["predictions"][0]["result"], "updated_at": "2026-11-03"}]}
    annotated["annotations"][0]["result"][0]["value"] = {"rating": 1}
    assert taken(workspace, [annotated]).outcome.value == "new"
    assert sorted(each.origin for each in workspace.store.profiles()) == ["human", "model"]


def test_rectangles_that_are_no_upright_boxes_are_left_out_and_counted(workspace: Workspace) -> None:
    box = {"lighting": [[0.1, 0.2, 0.4, 0.8]]}
    advised = critique(0, recommendations={"lighting": "Wait."}, details={"regions": box})
    (task,) = load(workspace, "label-studio", [advised])
    (drawn,) = [each for each in task["annotations"][0]["result"] if each["type"] == "rectangle"]
    turned = {**drawn, "id": "turned", "value": {**drawn["value"], "rotation": 12.5}}
    outside = {**drawn, "id": "outside", "value": {**drawn["value"], "x": 120}}
    task["annotations"][0]["result"] += [turned, outside]
    row = taken(workspace, [task])
    assert "1 rotated rectangle, 1 without a place in the photograph" in row.reason
    assert workspace.store.profile("p0").details["regions"] == box


def test_a_rating_without_stars_is_refused_and_named(workspace: Workspace) -> None:
    (task,) = load(workspace, "label-studio", [critique(0)])
    task["annotations"][0]["result"] = [
        each for each in task["annotations"][0]["result"] if each["from_name"] != "lighting_score"
    ]
    row = taken(workspace, [task])
    assert row.outcome.value == "refused" and "no score for lighting" in row.reason


@pytest.mark.parametrize(
    ("address", "photograph"),
    [
        ("/data/local-files/?d=source/a%20b.jpg", "source/a b.jpg"),
        ("/data/upload/3/0a1b2c3d-DSC_1.jpg", "DSC_1.jpg"),
        ("https://example.org/2023/DSC_1.jpg?size=9", "DSC_1.jpg"),
        ("source/2023/DSC_1.jpg", "source/2023/DSC_1.jpg"),
    ],
)
def test_the_photograph_of_an_image_address(address: str, photograph: str) -> None:
    assert photograph_from_address(address) == photograph


# --- Argilla ----------------------------------------------------------------------------------------------------------


def test_argilla_records_have_the_keys_of_its_own_files(workspace: Workspace) -> None:
    human, model = load(workspace, "argilla", [critique(0), critique(1, origin="model", image_path="source/two.jpg")])
    assert {"id", "fields", "metadata", "suggestions", "responses", "vectors"} <= set(human)
    assert human["suggestions"] == {} and model["responses"] == {}
    for answers in human["responses"].values():
        assert set(answers[0]) == {"value", "user_id"}
    for suggestion in model["suggestions"].values():
        assert set(suggestion) == {"value", "score", "agent"}
    ratings = [human["responses"][f"{name}_score"][0]["value"] for name in DIMENSIONS]
    assert all(isinstance(rating, int) and 0 <= rating <= 10 for rating in ratings)
    assert all(isinstance(value, str | int | float) for value in human["metadata"].values())


def test_scores_that_argilla_rounds_come_back_unless_somebody_changed_them(workspace: Workspace) -> None:
    scores = dict.fromkeys(DIMENSIONS, 6.5)
    (record,) = load(workspace, "argilla", [critique(0, scores=scores)])
    assert taken(workspace, [record]).outcome.value == "same"
    record["responses"]["lighting_score"][0]["value"] = 2
    assert taken(workspace, [record]).outcome.value == "changed"
    saved = workspace.store.profile("p0").scores
    assert saved["lighting"] == 2.0 and saved["composition"] == 6.5


def test_of_several_people_in_argilla_one_counts_and_drafts_do_not(workspace: Workspace) -> None:
    (record,) = load(workspace, "argilla", [critique(0)])
    for name, answers in record["responses"].items():
        value = 1 if name.endswith("_score") else answers[0]["value"]
        answers.append({"value": value, "user_id": "someone"})
        answers.append({"value": value, "user_id": "undecided", "status": "draft"})
    row = taken(workspace, [record])
    assert row.outcome.value == "changed"
    assert set(workspace.store.profile("p0").scores.values()) == {1.0}
    assert taken(workspace, [{**record, "responses": {}}]).outcome.value == "skipped"


# --- older analyses ---------------------------------------------------------------------------------------------------


def test_an_older_analysis_keeps_everything_that_it_says(workspace: Workspace) -> None:
    workspace.store.import_jobs(
        [
            Job(
                id="j1",
                filename="two.jpg",
                advisor="ansel",
                status=COMPLETED,
                analysis_markdown="a.md",
                completed_at="2026-01-02T03:04:05",
            )
        ]
    )
    answer = older_answer(mood="solemn")
    answer["dimensions"][0]["regions"] = [[0, 0, 0.5, 0.5]]
    result = workspace.take(workspace.file(f"# Analysis\n\n```json\n{json.dumps(answer, indent=1)}\n```\n", "a.md"))
    assert result.counts["new"] == 1
    (saved,) = workspace.store.profiles()
    assert (saved.image_path, saved.origin) == ("source/two.jpg", "model")
    assert saved.created_at == "2026-01-02T03:04:05.000000"
    assert saved.recommendations == {name: f"Try {name}." for name in DIMENSIONS} and saved.overall_grade == "7.2"
    assert saved.details == {
        "mood": "solemn",
        "regions": {"composition": [[0, 0, 0.5, 0.5]]},
        "image_description": "A church at night.",
        "advisor_notes": "f/8",
        "strengths": ["Light", "Line"],
        "priority_improvements": ["Edge"],
    }


def test_an_analysis_without_a_job_belongs_to_the_photograph_of_its_name(workspace: Workspace) -> None:
    text = f"```json\n{json.dumps(older_answer())[:-1]},}}\n```"  # with a trailing comma
    result = workspace.take(workspace.file(text, "one.md"), workspace.file("```json\n{\n", "two.md"), skip_bad=True)
    assert [row.outcome.value for row in result.rows] == ["new", "refused"]
    assert result.rows[0].photograph == "source/one.jpg" and "trailing_comma" in result.rows[0].reason


# --- large files ------------------------------------------------------------------------------------------------------


@pytest.mark.soak  # tracing every allocation takes a minute on a busy machine
@pytest.mark.parametrize("name", ["csv", "json"])
def test_memory_does_not_grow_with_the_file(workspace: Workspace, name: str) -> None:
    text = "Light. " * 250
    workspace.store.save_profiles(
        critique(number, comments=dict.fromkeys(DIMENSIONS, f"{number} {text}")) for number in range(600)
    )
    tracemalloc.start()
    exported = workspace.folder / f"large.{name}"
    records = exported_records(workspace.store, workspace.folder, None, ExportCounts())
    export_critiques(critique_format(name), records, exported)
    workspace.forget()
    result = workspace.take(CritiqueFile(exported, exported.name))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = exported.stat().st_size
    assert result.counts["new"] == 600 and size > 8e6
    assert peak < size / 2, f"{peak / 1e6:.1f} MB for a file of {size / 1e6:.0f} MB"
