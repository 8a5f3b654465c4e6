"""Charts: geometry, escaping in SVG, and painted pixels in PNG."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mondrian_core.charts.axes_chart import AxesChart, LineSeries, grouped_bar_chart, line_chart
from mondrian_core.charts.drawing import CircleShape, Drawing, LinearScale, LineShape, Shape, TextShape, nice_ticks
from mondrian_core.charts.forest_plot import forest_plot
from mondrian_core.charts.png import PIXELS_PER_UNIT, png_bytes
from mondrian_core.charts.radar import radar_chart
from mondrian_core.charts.reliability_plot import quintile_means, reliability_plot
from mondrian_core.charts.score_history_chart import ScoreDot, score_history_chart, sparkline
from mondrian_core.charts.svg import svg_markup
from mondrian_core.rubric import DIMENSIONS

RED = (179, 55, 47)


def elements(drawing: Drawing, tag: str) -> list[ET.Element]:
    """The elements of that kind in the SVG, which must be well-formed."""
    return list(ET.fromstring(svg_markup(drawing)).iter(tag))


def drawing_of(*shapes: Shape, height: float = 20) -> Drawing:
    return Drawing(name="test", label="A test", origin=(0, 0), width=40, height=height, shapes=shapes)


def pixels(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == "PNG"
        return opened.convert("RGB")


def test_radar_has_one_axis_per_dimension_and_full_score_at_the_rim() -> None:
    drawing = radar_chart({"candidate": dict.fromkeys(DIMENSIONS, 10.0), "base": {}}, "Scores")
    assert len([text for text in elements(drawing, "text") if text.get("class") == "name"]) == len(DIMENSIONS)
    polygons = {shape.style: shape.points for shape in drawing.shapes if isinstance(shape, LineShape) and shape.closed}
    rings = [shape.points for shape in drawing.shapes if isinstance(shape, LineShape) and shape.style == "grid"]
    assert polygons["arm candidate"] in rings, "a full score lies on the outermost ring"
    assert set(polygons["arm base"]) == {(0.0, 0.0)}, "missing scores are drawn at 0"
    top = polygons["arm candidate"][0]
    assert top[0] == 0 and top[1] < 0, "the first axis points up"


def test_drawing_at_scale_has_its_size_in_pixels() -> None:
    drawing = drawing_of()
    assert 'width="40" height="20"' in svg_markup(drawing, at_scale=True) and 'width="' not in svg_markup(drawing)


def test_svg_escapes_every_text() -> None:
    hostile = '"><script>alert(1)</script>'
    drawing = Drawing(
        name=hostile,
        label=hostile,
        origin=(0, 0),
        width=1,
        height=1,
        shapes=(
            TextShape(at=(0, 0), text=hostile, style=hostile),
            CircleShape(center=(0, 0), radius=1, style=hostile, link=hostile, tooltip=hostile),
            LineShape(points=((0, 0), (1, 1)), style=hostile),
        ),
    )
    markup = svg_markup(drawing)
    assert "<script" not in markup
    assert ET.fromstring(markup).get("aria-label") == hostile


def test_forest_plot_clips_what_has_no_limit_and_colours_by_the_interval() -> None:
    known = {DIMENSIONS[0]: (0.5, (0.2, 0.7)), DIMENSIONS[1]: (-9.0, (-20, -5)), DIMENSIONS[2]: (0.1, (-0.2, 0.3))}
    rows = [
        {"name": name, "reduction": reduction, "interval": interval}
        for name in DIMENSIONS
        for reduction, interval in [known.get(name, (None, None))]
    ]
    drawing = forest_plot(rows, {"reduction": 0.1, "interval": None})
    assert drawing is not None
    dots = [shape for shape in drawing.shapes if isinstance(shape, CircleShape)]
    assert [dot.style for dot in dots[:3]] == ["dot good", "dot bad", "dot open"]
    assert len(dots) == len(known) + 1, "one for each known dimension, one for all together"
    assert all(0 <= dot.center[0] <= drawing.width for dot in dots)
    assert forest_plot([], {"reduction": None, "interval": None}) is None


def test_reliability_plot_puts_agreement_on_the_diagonal() -> None:
    pairs = [(score, score) for score in range(11)]
    drawing = reliability_plot({"candidate": pairs})
    dots = [shape.center for shape in drawing.shapes if isinstance(shape, CircleShape)]
    assert all(x + y == pytest.approx(drawing.width) for x, y in dots)
    curve = next(shape for shape in drawing.shapes if isinstance(shape, LineShape) and shape.style == "curve candidate")
    assert len(curve.points) == len(quintile_means(pairs)) == 5
    assert quintile_means(pairs[:9]) == []


def test_score_history_links_each_dot() -> None:
    dots = [ScoreDot(score=score, style="plain", link=f"/jobs/{score}", tooltip="a < b") for score in (0, 5, 10)]
    drawing = score_history_chart(dots, ("1 Oct", "3 Oct"), "Mean score of 3 photographs")
    links = [link.get("href") for link in elements(drawing, "a")]
    assert links == ["/jobs/0", "/jobs/5", "/jobs/10"]
    circles = [(circle.get("cx"), circle.get("cy")) for circle in elements(drawing, "circle")]
    assert circles == [("0", "150"), ("300", "75"), ("600", "0")]
    assert 'aria-hidden="true"' in svg_markup(sparkline([1, 2]))


def test_line_chart_skips_what_is_not_finite() -> None:
    chart = AxesChart(title="Loss", x_label="step", y_label="nats", from_zero=True, marked=(2, "chosen"))
    series = LineSeries(
        points=[(1, 2.0), (2, float("nan")), (3, 1.0)], style="first", label="training", marker="circle"
    )
    drawing = line_chart(chart, [series])
    curve = next(
        shape
        for shape in drawing.shapes
        if isinstance(shape, LineShape) and shape.style == "first" and shape.points[0][1] != shape.points[-1][1]
    )
    assert len(curve.points) == 2
    png_bytes([drawing, line_chart(chart, [])])


def test_png_has_the_size_of_the_drawings_and_the_colour_of_the_style() -> None:
    square = LineShape(points=((10, 5), (30, 5), (30, 15), (10, 15)), style="bad", closed=True)
    image = pixels(png_bytes([drawing_of(square)]))
    margin = 12
    assert image.size == (round((40 + 2 * margin) * PIXELS_PER_UNIT), round((20 + 2 * margin) * PIXELS_PER_UNIT))
    inside = (round((20 + margin) * PIXELS_PER_UNIT), round((10 + margin) * PIXELS_PER_UNIT))
    assert image.getpixel(inside) == RED and image.getpixel((1, 1)) == (255, 255, 255)


def test_png_paints_text_turned_around_its_anchor() -> None:
    level, turned = (
        pixels(
            png_bytes([drawing_of(TextShape(at=(5, 40), text="llllllll", style="name", rotation=rotation), height=60)])
        )
        for rotation in (0.0, -90.0)
    )
    boxes = [image.convert("L").point(lambda value: 255 * (value < 128)).getbbox() for image in (level, turned)]
    assert boxes[0] and boxes[1]
    assert boxes[0][2] - boxes[0][0] == pytest.approx(boxes[1][3] - boxes[1][1], abs=2)


def test_bars_start_at_the_axis_and_unknown_values_have_none() -> None:
    chart = AxesChart(title="Error", x_label="", y_label="", from_zero=True)
    drawing = grouped_bar_chart(chart, ["a", "b"], {"base": ("base", [1.0, 2.0]), "candidate": ("new", [0.5, None])})
    bars = [shape.points for shape in drawing.shapes if isinstance(shape, LineShape) and shape.style.startswith("bar ")]
    assert len(bars) == 3 and len({bar[2][1] for bar in bars}) == 1
    heights = [bar[2][1] - bar[0][1] for bar in bars]
    assert heights == pytest.approx([heights[0], heights[0] / 2, 2 * heights[0]], abs=1e-6)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 9))
def test_ticks_are_inside_and_few(low: float, span: float, count: int) -> None:
    ticks = nice_ticks(low, low + span, count)
    assert len(ticks) <= count + 1
    assert all(low - span / 100 <= tick <= low + span * 1.01 for tick in ticks)


@given(st.floats(-1e9, 1e9))
def test_scale_never_leaves_its_range(value: float) -> None:
    assert 3 <= LinearScale(-1, 1, 10, 3)(value) <= 10
