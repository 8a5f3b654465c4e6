"""Export, import into another workspace, export: the same bytes, in every format, whatever people write."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondrian_core.critique_files.columns import COLUMN_NAMES, cell_from_value, value_from_cell
from mondrian_core.critique_files.formats import WRITTEN_FORMATS, critique_format
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store import DimensionalProfile
from tests.critique_files.conftest import PHOTOGRAPHS, Workspace, critique

TRICKY = ("=1+1", "'=1", "''@x", "+49 30", "-5 °", "@SUM(A1)", "\t=x", '"', 'a"b', ";", ",", "a\r\nb", "\r", "a\n\n b ")
texts = st.one_of(
    st.sampled_from(TRICKY),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40),
).filter(lambda text: bool(text.strip()))
values = st.recursive(st.none() | st.booleans() | st.integers(-(2**40), 2**40) | texts, lambda inner: st.lists(inner))
spans = st.tuples(st.floats(0, 1), st.floats(0, 1)).filter(lambda pair: pair[0] != pair[1]).map(sorted)
boxes = st.tuples(spans, spans).map(lambda sides: [sides[0][0], sides[1][0], sides[0][1], sides[1][1]])
details = st.fixed_dictionaries(
    {},
    optional={
        "advisor_notes": texts | values,
        "image_description": texts,
        "strengths": st.lists(texts, max_size=3) | values,
        "priority_improvements": st.lists(texts, max_size=3),
        "regions": st.dictionaries(st.sampled_from(DIMENSIONS), st.lists(boxes, min_size=1, max_size=3)) | values,
        "written_with": values,
    },
)
times = st.none() | st.datetimes().map(lambda moment: moment.isoformat(timespec="microseconds"))


@st.composite
def profiles(draw: st.DrawFn) -> list[DimensionalProfile]:
    """Critiques as the database may hold them: several of one photograph, without date, grade, by people or models."""
    found = []
    for number in range(draw(st.integers(0, 4))):
        scores = st.floats(0, 10) | st.integers(0, 10).map(float)
        found.append(
            critique(
                number,
                id=draw(st.just(f"p{number}") | texts.map(f"{number}{{}}".format)),
                image_path=draw(st.sampled_from(PHOTOGRAPHS)),
                advisor=draw(st.sampled_from(("ansel", "dorothea"))),
                origin=draw(st.sampled_from(("human", "model"))),
                scores={name: draw(scores) for name in DIMENSIONS},
                comments={name: draw(texts) for name in DIMENSIONS},
                recommendations={name: draw(texts) for name in draw(st.sets(st.sampled_from(DIMENSIONS)))},
                overall_grade=draw(st.none() | st.just("8,5/10") | texts),
                created_at=draw(times.map(lambda moment: moment or "")),
                details=draw(details),
            )
        )
    return found


@pytest.mark.no_cover  # the same lines for each example and format
def test_an_exported_file_comes_back_to_the_byte(new_workspace: Callable[[], Workspace]) -> None:
    first, second = new_workspace(), new_workspace()

    @settings(max_examples=25)
    @given(written=profiles())
    def comes_back(written: list[DimensionalProfile]) -> None:
        """Drawing an example costs as much as a format, so each goes through all of them."""
        first.forget()
        first.store.save_profiles(written)
        for name in WRITTEN_FORMATS:
            second.forget()
            exported = first.export(name)
            file = second.file(exported, f"critiques{critique_format(name).suffixes[0]}")
            result = second.take(file, advisor=None)
            assert [row.reason for row in result.rows if row.outcome != "new"] == [], name
            assert second.export(name) == exported, name
            again = second.take(file, advisor=None)
            assert {row.outcome.value for row in again.rows} <= {"same"}, name

    comes_back()


@given(text=texts, name=st.sampled_from([name for name in COLUMN_NAMES if name.endswith("_comment")]))
def test_no_cell_is_a_formula_and_every_cell_reads_back(text: str, name: str) -> None:
    cell = cell_from_value(text)
    assert cell[0] not in "=+-@\t\r\n＝＋－＠"
    assert value_from_cell(name, cell) == text


def test_formats_agree_on_what_they_hold(workspace: Workspace, new_workspace: Callable[[], Workspace]) -> None:
    workspace.store.save_profiles(
        [critique(1, details={"strengths": ["a", "b"], "seconds": 4}), critique(2, origin="model", id="m")]
    )
    expected = workspace.export("jsonl")
    for name in WRITTEN_FORMATS:
        other = new_workspace()
        other.take(other.file(workspace.export(name), f"x{critique_format(name).suffixes[0]}"))
        assert other.export("jsonl") == expected, name


def test_export_leaves_out_what_is_not_a_critique(workspace: Workspace) -> None:
    workspace.store.save_profiles(
        [
            critique(1),
            critique(2, scores=dict.fromkeys(DIMENSIONS)),
            critique(3, origin="index"),
            critique(4, image_path="/Users/studio/pictures/gone.jpg"),
        ]
    )
    lines = [json.loads(line) for line in workspace.export("jsonl").splitlines()]
    assert [line["id"] for line in lines] == ["p1", "p4"]
    assert lines[1]["photograph"] == ".../gone.jpg"  # no folder of another machine
    assert lines[0]["sha256"] and not lines[1]["sha256"]
