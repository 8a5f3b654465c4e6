"""A terminal recording as an animated SVG: text that can be selected, no script and no font from elsewhere.

Each version of a line is one element with the time in which it shows, so a line that stays is written once. The
animation ends with the last screen, which is also what a viewer without animations shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from xml.sax.saxutils import escape

from rich.color import Color, ColorType
from rich.style import Style
from rich.text import Text

from bench.screenshots.terminal_recording import COLUMNS, ROWS, TerminalRecording, replay_terminal

CELL, LINE, EDGE, BAR = 8.4, 17, 14, 30  # pixels: a character, a line, the margin, the window's bar
LONGEST_WAIT = 1.0  # seconds of the animation; the program's own clocks show the true time
MOST_REPAINTS = 30  # screens that only repaint: progress bars
REPAINT_SECONDS = 0.35
BURST_SECONDS = 0.02  # screens that follow one another sooner are one
COMMAND, TYPING = "make demo", 0.09  # seconds a character
# one dark palette, which a light and a dark page both show well; the names are those of a terminal
_COLORS = ("#5b6172", "#ff7b72", "#7ee787", "#e3b341", "#79c0ff", "#d2a8ff", "#76e3ea", "#e6edf3")
_BAR_COLORS = ((249, 38, 114), (114, 156, 31), (58, 58, 58))  # of rich's bars: at work, done, ahead
_STYLE = f"""text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  fill: {_COLORS[7]}; white-space: pre; }}
.b {{ font-weight: 700; }} .d {{ fill-opacity: .65; }} .gone {{ visibility: hidden; }}
@keyframes wait {{ from, to {{ visibility: hidden; }} }}
@keyframes show {{ from, to {{ visibility: visible; }} }}"""


@dataclass(frozen=True)
class ShownLine:
    """A version of a line: its row, its text with control sequences, and when it shows (`until` None: to the end)."""

    row: int
    text: str
    since: float
    until: float | None


def terminal_svg(recording: TerminalRecording, title: str, names: Sequence[tuple[str, str]] = ()) -> str:
    """The animation.

    Args:
        recording: of `make demo`.
        title: for screen readers and the window's bar.
        names: (text, what is shown instead), such as a temporary folder and its stand-in.
    """
    screens = list(_timed(_chosen(_screens(recording, names))))
    shown = list(_shown_lines(screens))
    width, height = round(COLUMNS * CELL + 2 * EDGE), ROWS * LINE + 2 * EDGE + BAR
    body = "\n".join(_line_markup(each) for each in shown)
    scroll, moves = _scroll(screens)
    colors = " ".join(f".c{number} {{ fill: {color}; }}" for number, color in enumerate(_COLORS))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>{escape(title)}</title>
<style>
{_STYLE}
{colors}
{scroll}
</style>
<rect width="{width}" height="{height}" rx="8" fill="#0d1117" stroke="#30363d"/>
<g fill="#484f58"><circle cx="20" cy="16" r="5"/><circle cx="38" cy="16" r="5"/><circle cx="56" cy="16" r="5"/></g>
<svg x="{EDGE}" y="{BAR + EDGE / 2:g}" width="{width - 2 * EDGE}" height="{ROWS * LINE + 6}">
<g{moves}>
{body}
</g>
</svg>
</svg>
"""


def _screens(recording: TerminalRecording, names: Sequence[tuple[str, str]]) -> Iterator[tuple[float, list[str]]]:
    """What the terminal shows: the prompt while the command is typed, then its lines below it, long ones broken."""
    for typed in range(len(COMMAND) + 1):
        yield (typed - len(COMMAND) - 4) * TYPING, [_prompt(COMMAND[:typed])]
    for seconds, lines in replay_terminal(recording):
        rows = [_prompt(COMMAND)]
        for line in lines:
            for name, stand_in in names:
                line = line.replace(name, stand_in)
            rows += _rows_of(line)
        yield seconds, rows


def _prompt(typed: str) -> str:
    return f"\x1b[1;32m$\x1b[0m {typed}"


@lru_cache(maxsize=4096)  # most lines are those of the screen before
def _rows_of(line: str) -> tuple[str, ...]:
    """A line as a terminal breaks it."""
    text = Text.from_ansi(line).plain
    if len(text) <= COLUMNS:
        return (line,)
    return tuple(text[start : start + COLUMNS] for start in range(0, len(text), COLUMNS))


def _chosen(screens: Iterable[tuple[float, list[str]]]) -> list[tuple[float, list[str]]]:
    """The screens that add a line, and at most about `MOST_REPAINTS` of the others, evenly.

    A program erases what it repaints, so only a screen that stays for a moment counts.
    """
    found = list(screens)
    every = [one for one, after in pairwise(found) if after[0] - one[0] > BURST_SECONDS] + found[-1:]
    grows = [not at or len(rows) > len(every[at - 1][1]) for at, (_, rows) in enumerate(every)]
    step = max(1, grows.count(False) // MOST_REPAINTS)
    kept, repaints = [], 0
    for at, screen in enumerate(every):
        repaints += not grows[at]
        if grows[at] or repaints % step == 0 or at == len(every) - 1:
            kept.append(screen)
    return kept


def _timed(screens: Sequence[tuple[float, list[str]]]) -> Iterator[tuple[float, list[str]]]:
    """The same with times of the animation: waits are cut, repaints follow one another quickly."""
    now = 0.0
    for at, (seconds, rows) in enumerate(screens):
        if at:
            grows = len(rows) > len(screens[at - 1][1])
            now += min(seconds - screens[at - 1][0], LONGEST_WAIT if grows else REPAINT_SECONDS)
        yield round(now, 2), rows


def _shown_lines(screens: Sequence[tuple[float, list[str]]]) -> Iterator[ShownLine]:
    for row in range(max(len(rows) for _, rows in screens)):
        text, since = "", 0.0
        for seconds, rows in screens:
            now = rows[row] if row < len(rows) else ""
            if now != text:
                if text.strip() and seconds > since:
                    yield ShownLine(row, text, since, seconds)
                text, since = now, seconds
        if text.strip():
            yield ShownLine(row, text, since, None)


def _scroll(screens: Sequence[tuple[float, list[str]]]) -> tuple[str, str]:
    """Keyframes that move all lines up as the terminal scrolls, and the attribute of the group that they move."""
    end = max(screens[-1][0], 0.01)
    last, steps = 0, ["0% { transform: none; }"]
    for seconds, rows in screens:
        if (above := max(0, len(rows) - ROWS)) != last:
            last = above
            steps.append(f"{100 * seconds / end:.2f}% {{ transform: translateY({-LINE * above}px); }}")
    if last == 0:
        return "", ""
    rule = f".all {{ transform: translateY({-LINE * last}px); animation: scroll {end}s step-end; }}"
    return f"@keyframes scroll {{ {' '.join(steps)} }}\n{rule}", ' class="all"'


def _line_markup(line: ShownLine) -> str:
    if line.until is None:
        css, moment = "", f' style="animation:wait {line.since:g}s"' if line.since else ""
    else:
        css, moment = ' class="gone"', f' style="animation:show {line.until - line.since:.2f}s {line.since:g}s"'
    spans = "".join(_span_markup(*each) for each in _spans(line.text))
    return f'<text y="{(line.row + 1) * LINE - 4}"{css}{moment}>{spans}</text>'


def _spans(line: str) -> Iterator[tuple[int, str, Style]]:
    """(column, text, style) of each piece that is not blank."""
    text = Text.from_ansi(line)
    edges = sorted({0, len(text), *(edge for span in text.spans for edge in (span.start, span.end))})
    pieces = [(start, text.plain[start:end], _style_at(text, start)) for start, end in pairwise(edges)]
    for style, alike in groupby(pieces, key=lambda piece: piece[2]):
        (start, first, _), *others = alike
        piece = first + "".join(more for _, more, _ in others)
        if piece.strip():
            yield start + len(piece) - len(piece.lstrip()), piece.strip(), style


def _style_at(text: Text, place: int) -> Style:
    """The style of a character. Of the shades that rich moves over the bar of a waiting stage, the nearest color."""
    covering = [span.style for span in text.spans if span.start <= place < span.end]
    style = Style.combine([Style.null(), *(each for each in covering if isinstance(each, Style))])
    shade = style.color.triplet if style.color is not None and style.color.type is not ColorType.STANDARD else None
    if shade is None:
        return style
    nearest = min(_BAR_COLORS, key=lambda color: math.dist(color, shade))
    return Style(color=Color.from_rgb(*nearest), bold=style.bold, dim=style.dim)


def _span_markup(column: int, piece: str, style: Style) -> str:
    classes = [name for name, on in (("b", style.bold), ("d", style.dim)) if on]
    fill = ""
    if style.color is not None and style.color.type is ColorType.STANDARD and style.color.number is not None:
        classes.append(f"c{style.color.number % len(_COLORS)}")
    elif style.color is not None and style.color.triplet is not None:
        fill = f' fill="{style.color.triplet.hex}"'
    named = f' class="{" ".join(classes)}"' if classes else ""
    place = f'x="{column * CELL:g}" textLength="{len(piece) * CELL:g}"'
    return f"<tspan {place}{named}{fill}>{escape(piece)}</tspan>"
