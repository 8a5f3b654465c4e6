"""XML parsed into elements that know their place in the bytes of the document.

Parsing is safe: a document with a DTD is refused, so there are no entities, and no file or address is ever opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat

XML = "http://www.w3.org/XML/1998/namespace"
_TAG = re.compile(rb"(?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+>")


class XmpError(ValueError):
    """The bytes are not an XMP document that can be edited; the text says why."""


class XmpName(NamedTuple):
    """The name of a property: the namespace's URI and the local name."""

    namespace: str
    local: str


@dataclass(kw_only=True)
class XmlElement:
    """An element and its place in the bytes of the document.

    Attributes:
        tag: as written, with its prefix.
        name: namespace and local name.
        start: offset of "<" of the start tag.
        inside: offset after the start tag.
        close: offset of the end tag; `end` when the start tag is also the end tag.
        end: offset after the end tag.
        attributes: values by name; without declarations of namespaces.
        prefixes: namespaces in scope, by prefix.
        children: elements directly inside.
        parts: text directly inside, in pieces.
    """

    tag: str
    name: XmpName
    start: int
    inside: int
    close: int = 0
    end: int = 0
    attributes: Mapping[XmpName, str]
    prefixes: Mapping[str, str]
    children: list[XmlElement] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text directly inside."""
        return "".join(self.parts)

    @property
    def is_default(self) -> bool:
        """True for the default text of a language alternative."""
        return self.attributes.get(XmpName(XML, "lang")) == "x-default"


def parse_xml(data: bytes) -> XmlElement | None:
    """The root element of a document in UTF-8.

    Raises:
        XmpError: it is not well-formed, is not UTF-8, or has a DTD.
    """
    return _Parser(data).root


class _Parser:
    """Parses UTF-8 into `XmlElement` values without recursion."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._open: list[XmlElement] = []
        self._parser = expat.ParserCreate("utf-8")
        self._parser.ordered_attributes = True
        self._parser.buffer_text = True
        self._parser.XmlDeclHandler = self._declaration
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self.root: XmlElement | None = None
        try:
            self._parser.Parse(data, True)
        except expat.ExpatError as error:
            raise XmpError(f"it is not well-formed XML ({error})") from None
        except ValueError as error:
            raise error if isinstance(error, XmpError) else XmpError(f"it is not UTF-8 ({error})") from None

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if (encoding or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii", "utf-16"):
            raise XmpError(f"its encoding is {encoding} instead of UTF-8")

    def _doctype(self, *_: object) -> None:
        raise XmpError("it has a DTD, which XMP doesn't have")

    def _start(self, tag: str, pairs: list[str]) -> None:
        given = dict(zip(pairs[::2], pairs[1::2], strict=True))
        outer = self._open[-1].prefixes if self._open else {"xml": XML, "": ""}
        own = {name.partition(":")[2]: value for name, value in given.items() if is_namespace_declaration(name)}
        prefixes = {**outer, **own} if own else outer
        place = self._parser.CurrentByteIndex
        element = XmlElement(
            tag=tag,
            name=resolve_xml_name(tag, prefixes),
            start=place,
            inside=self._after_tag(place),
            attributes={
                resolve_xml_name(name, prefixes, attribute=True): value
                for name, value in given.items()
                if not is_namespace_declaration(name)
            },
            prefixes=prefixes,
        )
        if self._open:
            self._open[-1].children.append(element)
        elif self.root is None:
            self.root = element
        self._open.append(element)

    def _end(self, tag: str) -> None:
        element, place = self._open.pop(), self._parser.CurrentByteIndex
        if self._data.endswith(b"/>", element.start, element.inside):
            element.close = element.end = element.inside
        else:
            element.close, element.end = place, self._data.index(b">", place) + 1

    def _text(self, text: str) -> None:
        if self._open:
            self._open[-1].parts.append(text)

    def _after_tag(self, place: int) -> int:
        """The offset after a start tag; ">" may stand in a quoted value."""
        found = _TAG.match(self._data, place)
        if found is None:
            raise XmpError("a tag has no end")
        return found.end()


def is_namespace_declaration(attribute: str) -> bool:
    """True for xmlns="..." and xmlns:prefix="..."."""
    return attribute.partition(":")[0] == "xmlns"


def resolve_xml_name(tag: str, prefixes: Mapping[str, str], *, attribute: bool = False) -> XmpName:
    """The name that a tag or attribute stands for; an attribute without a prefix has no namespace."""
    prefix, colon, local = tag.partition(":")
    if not colon:
        return XmpName("" if attribute else prefixes.get("", ""), tag)
    if prefix not in prefixes:
        raise XmpError(f"the prefix {prefix} is not declared")
    return XmpName(prefixes[prefix], local)


def descendants(root: XmlElement | None) -> Iterator[XmlElement]:
    """The element itself and all inside it, in the order of the document."""
    waiting = [root] if root is not None else []
    while waiting:
        element = waiting.pop()
        yield element
        waiting += reversed(element.children)
