"""Every class of a page has its style there: a component that moves to another style sheet takes its pages along."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mondrian_core.serving.http.pages import STATIC

TEMPLATES = STATIC.parent / "templates"
PAGES = sorted(path.name for path in TEMPLATES.glob("*.html") if '{% extends "frame.html" %}' in path.read_text())
MARKUP_OR_QUOTED = r'class="((?:\{%.*?%\}|\{\{.*?\}\}|[^"])*)"'


def parts(name: str) -> Iterator[str]:
    """The text of a template and of all templates that it is made of."""
    text = (TEMPLATES / name).read_text()
    yield text
    for other in re.findall(r'\{% (?:extends|include|import|from) "([\w.]+)"', text):
        yield from parts(other)


def used_classes(markup: str) -> set[str]:
    """The classes in `class` attributes; a name that is put together from a value is left out."""
    values = (re.sub(r"\{\{.*?\}\}", "{}", value) for value in re.findall(MARKUP_OR_QUOTED, markup))
    names = {name for value in values for name in re.sub(r"\{%.*?%\}", " ", value).split()}
    return {name for name in names if "{}" not in name}


def selectors(sheet: str) -> list[str]:
    text = re.sub(r"/\*.*?\*/", "", (STATIC / sheet).read_text(), flags=re.DOTALL)
    return [each.strip() for each in re.findall(r"([^{}]+)\{", text)]


def styled_classes(sheet: str) -> set[str]:
    return {name for selector in selectors(sheet) for name in re.findall(r"\.([a-zA-Z][\w-]*)", selector)}


def own_classes(sheet: str) -> set[str]:
    """The classes with a rule of their own, `.drop {`: what a component is. `#import .drop {` only changes one."""
    return {found[1] for each in selectors(sheet) for found in re.finditer(r"(?:^|,\s*)\.([\w-]+)\s*(?=,|$)", each)}


LOADED = {name for page in PAGES for text in parts(page) for name in re.findall(r"/static/(\w+\.css)", text)}
SHEETS = {name: own_classes(name) for name in LOADED}
QUOTED = re.findall(r'"[^"\n]*"|`[^`]*`', "".join(script.read_text() for script in STATIC.glob("*.js")))
SELECTED = set(re.findall(r"\.([a-zA-Z][\w-]*)", " ".join(QUOTED)))


@pytest.mark.parametrize("page", PAGES)
def test_every_class_of_a_page_has_its_style_there(page: str) -> None:
    markup = "".join(parts(page))
    loaded = set(re.findall(r"/static/(\w+\.css)", markup))
    used = used_classes(markup)
    styled = set().union(*map(styled_classes, loaded))
    assert sorted(used - styled - SELECTED) == [], "no style sheet of this page, and no script, knows these classes"
    own = set().union(*(SHEETS[name] for name in loaded))
    elsewhere = set().union(*(classes for name, classes in SHEETS.items() if name not in loaded))
    assert sorted((used & styled & elsewhere) - own) == [], "these are components of a style sheet that isn't loaded"


def test_commands_break_between_words_only() -> None:
    loose = [
        (path.name, found)
        for path in TEMPLATES.glob("*.html")
        for found in re.findall(r"<code[^>]*>([^<]*)</code>", path.read_text())
        if "mondrian " in found or "--" in found
    ]
    assert loose == [], "write {{ command(...) }}"


def test_style_sheets_exist() -> None:
    named = {name for page in TEMPLATES.glob("*.html") for name in re.findall(r"/static/(\w+\.\w+)", page.read_text())}
    assert named <= {path.name for path in Path(STATIC).iterdir()}
