"""Whatever a text says, a Markdown parser finds text in it: no markup, no link, no broken table."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from mondrian_core.data.linking.link_manifest import ExcludedRecord, ExclusionReason, LinkManifest
from mondrian_core.markdown import Markdown, code_block, code_span, escape_markdown, markdown_cell, markdown_table
from mondrian_core.stages import DatasetSummary, EvaluateSummary, LinkSummary, PromoteSummary, RegisterSummary
from tasks import artifact_pages
from tasks.served_pages import ServedPage

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
# What GitHub's dialect makes a link of without brackets, as `marked` looks for it in the source.
BARE_LINK = re.compile(r"(?<!\\)((?:https?|ftp)://|www\.)\S|[\w.+-]+@[\w-]+\.\w|(mailto|xmpp):\S", re.IGNORECASE)
EVIL = [
    "# a heading",
    "## a ##",
    "- a list",
    "+ a list",
    "1. a list",
    "1) a list",
    "> a quote",
    "    code",
    "\tcode",
    "---",
    "===",
    "***",
    "* * *",
    "a | b",
    "a\n| --- |\n| b |",
    "*a* **a** _a_ __a__ ~~a~~",
    "`code` ``code``",
    "```\ncode\n```",
    "~~~\ncode\n~~~",
    "[a](http://x.y)",
    "![a](http://x.y/z.png)",
    "[a]: http://x.y",
    "[a][b]",
    "<b>a</b>",
    "<script>alert(1)</script>",
    "<!-- a -->",
    "<http://x.y>",
    "<a@b.cd>",
    "http://x.y",
    "https://x.y/z",
    "www.x.yz",
    "a@b.cd",
    "mailto:a@b.cd",
    "&amp; &lt; &#35;",
    "a\\",
    "a\\\\*b*",
    "a  \nb",
    "a\\\nb",
    "\u2028# a",
    "a\r\n\r\n# b",
    "x_y_z",
    "_x_",
    "a\x00b",
    "[^1]",
    "- [ ] a task",
    "$a$",
    ":a:",
    "a `|` b",
    "|",
    "`",
    "``",
    "a_",
    "\\|",
    "!",
    "![",
    "Setext\n===",
    "a\n---",
    "1986. A great year",
    "<details>",
    "javascript:alert(1)",
    "data:text/html,x",
]
texts = st.one_of(
    st.sampled_from(EVIL),
    st.text(st.sampled_from("a1 \\`*_{}[]()<>#+-.!|~&:@/=\"'\n\t$^%"), max_size=30),
    st.text(max_size=20),
    st.lists(st.sampled_from(EVIL), max_size=3).map(" ".join),
)


def inline(markdown: str) -> list[Token]:
    return [child for token in PARSER.parse(markdown) for child in token.children or []]


def shown(markdown: str) -> str:
    return "".join(token.content for token in inline(markdown))


def one_line(text: str) -> str:
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text).split())


FRAMES = {"{}": "", "Before {}": "Before ", "## {}": "", "- {}": "", "- x FAIL: {}": "x FAIL: "}


@settings(max_examples=200)
@given(texts)
@example("#")
def test_markdown_text_is_escaped(text: str) -> None:
    for frame, before in FRAMES.items():
        markdown = frame.format(escape_markdown(text))
        assert {token.type for token in inline(markdown)} <= {"text"}, markdown
        assert shown(markdown).strip() == (before + one_line(text)).strip()
        assert not BARE_LINK.search(markdown), markdown
    kinds = {token.type for token in PARSER.parse(escape_markdown(text))}
    assert kinds <= {"paragraph_open", "inline", "paragraph_close"}, (text, kinds)


@settings(max_examples=150)
@given(st.lists(st.tuples(texts, texts), max_size=3), texts)
def test_markdown_table_survives_special_characters(rows: list[tuple[str, str]], heading: str) -> None:
    markdown = markdown_table((heading, "b"), rows)
    tokens = PARSER.parse(markdown)
    assert tokens[0].type == "table_open" and tokens[-1].type == "table_close"
    assert sum(token.type == "tr_open" for token in tokens) == len(rows) + 1
    found = ["".join(child.content for child in token.children or []) for token in tokens if token.type == "inline"]
    assert found == [one_line(text) for text in (heading, "b", *(each for row in rows for each in row))]
    assert {child.type for token in tokens for child in token.children or []} <= {"text"}


@given(texts)
def test_code_block_is_not_interpreted(text: str) -> None:
    tokens = inline(f"Files: {code_span(text)}")
    assert {token.type for token in tokens} <= {"text", "code_inline"}
    if one_line(text):
        assert [token.content for token in tokens if token.type == "code_inline"] == [one_line(text)]
    fences = PARSER.parse(f"Before\n\n{code_block(text)}\n\nAfter")
    assert [token.type for token in fences].count("fence") == 1
    assert fences[-2].content == "After"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (0.31234, "0.312"),
        (-0.5, "-0.5"),
        (12345.6, "12346"),
        ([0.1, None], "\\[0.1, \\]"),
        (7, "7"),
        ("score_error", "score_error"),
        (Markdown("**now**"), "**now**"),
    ],
)
def test_markdown_cell_formatting(value: object, expected: str) -> None:
    assert markdown_cell(value) == expected


def pages_with(text: str) -> list[str]:
    """Every page of a stage, with the text wherever a person's, a model's or a file's words can stand."""
    part = {"name": text, "verdict": "FAIL", "sentence": text}
    gate: dict[str, Any] = {
        **part,
        "observed": text,
        "threshold": 0.5,
        "n": 3,
        "interval": [0.1, None],
        "parts": [part],
    }
    page = ServedPage(
        path=f"/runs/{text}", command=f"mondrian runs show {text}", address="http://127.0.0.1:8000", service="stopped"
    )
    manifest = LinkManifest("ansel", (), (ExcludedRecord(text, ExclusionReason.NO_PATH, text),))
    return [
        artifact_pages.link_markdown(LinkSummary("m.json", 0, {"no_path": 1}, manifest.table())),
        artifact_pages.dataset_markdown(
            DatasetSummary(path=f"datasets/{text}", digest=text, photographs={text: 1}, rows={text: 2})
        ),
        artifact_pages.gates_markdown(
            EvaluateSummary(report="r.json", html=f"runs/{text}", verdict="FAIL", gates=[gate], split=text), page
        ),
        artifact_pages.registration_markdown(RegisterSummary(text, f"adapters/{text}", "candidate"), text, page),
        artifact_pages.promotion_markdown(
            PromoteSummary("candidate", text, text, f"mondrian adapters promote {text}"), text, page
        ),
        artifact_pages.version_markdown(text, [gate], [text], page, {"base": text, "change": 0.1}),
        artifact_pages.champion_change_markdown(text, text, text, text, text),
    ]


PAGES = pages_with("x")


@settings(max_examples=60, deadline=None)
@given(texts)
def test_pages_escape_markup_in_text(text: str) -> None:
    for markdown, empty in zip(pages_with(text), PAGES, strict=True):
        ours = {token.type for token in (*PARSER.parse(empty), *inline(empty))}
        found = {token.type for token in (*PARSER.parse(markdown), *inline(markdown))}
        assert found <= ours | {"code_inline", "fence"}, markdown
        headings = [sum(token.type == "heading_open" for token in PARSER.parse(each)) for each in (markdown, empty)]
        assert headings[0] == headings[1]
