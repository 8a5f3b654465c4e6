"""XMP documents: read properties, and change some of them without touching the bytes of any other.

A sidecar belongs to other programs: darktable keeps its history there, Lightroom its develop settings. So nothing is
parsed and written back. The document is parsed to find the places of properties; an edit replaces only those bytes, and
everything else stays as it was, down to spaces, prefixes, comments and CDATA.

Parsing is safe: a document with a DTD is refused, so there are no entities.

The form of XMP in RDF/XML: ISO 16684-1:2019, section 7 (a property is an attribute or an element of `rdf:Description`;
arrays are `rdf:Bag`, `rdf:Seq` or `rdf:Alt` with `rdf:li`).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XML = "http://www.w3.org/XML/1998/namespace"
EMPTY_DOCUMENT = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Mondrian">\n'
    b' <rdf:RDF xmlns:rdf="' + RDF.encode() + b'">\n </rdf:RDF>\n</x:xmpmeta>\n'
)
MAX_XMP_BYTES = 16 << 20
_CONTAINERS = ("Bag", "Seq", "Alt")
_SPACE = b" \t\r\n"
_TAG = re.compile(rb"(?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+>")
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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


class XmpDocument:
    """A parsed XMP document and the edits to make.

    Args:
        data: UTF-8, or UTF-16 with a byte order mark.

    Raises:
        XmpError: the document is too large, is not well-formed, has a DTD, or is not XMP.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_XMP_BYTES:
            raise XmpError(f"it has more than {MAX_XMP_BYTES >> 20} MiB")
        self._encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
        self._original = data
        try:
            self._data = data if self._encoding == "utf-8" else data.decode(self._encoding).encode()
        except UnicodeError:
            raise XmpError("its encoding is damaged") from None
        found = [each for each in _elements(_Parser(self._data).root) if each.name == XmpName(RDF, "RDF")]
        if len(found) != 1:
            raise XmpError(f"it has {len(found)} elements rdf:RDF instead of one")
        self._rdf = found[0]
        self._descriptions = [each for each in self._rdf.children if each.name == XmpName(RDF, "Description")]
        self._edits: list[tuple[int, int, bytes]] = []
        self._added: list[str] = []

    def text(self, name: XmpName) -> str | None:
        """The value of a simple property, or the default text (else the first) of an array; None when it is missing."""
        place = self._find(name)
        if place is None:
            return None
        if isinstance(place, _Attribute):
            return place.value
        items = _items(place)
        if not items:
            return None if place.children else place.text
        return next((item.text for item in items if item.is_default), items[0].text)

    def items(self, name: XmpName) -> list[str]:
        """The texts of an array; of a simple property its one value."""
        place = self._find(name)
        if isinstance(place, XmlElement) and (place.children or not place.text.strip()):
            return [item.text for item in _items(place)]
        value = self.text(name)
        return [value] if value else []

    def namespace_values(self, namespace: str) -> dict[str, str]:
        """The simple properties of a namespace, by local name."""
        values: dict[str, str] = {}
        for description in self._descriptions:
            values |= {name.local: text for name, text in description.attributes.items() if name.namespace == namespace}
            values |= {each.name.local: each.text for each in description.children if each.name.namespace == namespace}
        return values

    def set_text(self, prefix: str, name: XmpName, value: str) -> None:
        """Set a simple property, in place where it exists."""
        value, place = without_forbidden_characters(value), self._find(name)
        if self.text(name) == value:
            return
        if place is None:
            self._add(prefix, name, _escaped(value))
        elif isinstance(place, _Attribute):
            self._edit(place.start, place.end, quoteattr(value))
        else:
            self._set_inner(place, _escaped(value))

    def set_default_text(self, prefix: str, name: XmpName, value: str) -> None:
        """Set the default text of a language alternative; texts in other languages stay."""
        value, place = without_forbidden_characters(value), self._find(name)
        if self.text(name) == value:
            return
        items = _items(place) if isinstance(place, XmlElement) else []
        default = next((each for each in items if each.is_default), None)
        if default is not None:
            self._set_inner(default, _escaped(value))
        elif items:
            tag = items[0].tag
            item = f'<{tag} xml:lang="x-default">{_escaped(value)}</{tag}>'
            self._edit(items[0].start, items[0].start, item)
        else:
            if place is not None:
                self._remove(place)
            self._add(prefix, name, f'<rdf:Alt><rdf:li xml:lang="x-default">{_escaped(value)}</rdf:li></rdf:Alt>')

    def update_items(self, prefix: str, name: XmpName, remove: Collection[str], add: Sequence[str]) -> None:
        """Take items out of an unordered array and add others; items that stay keep their bytes and order."""
        place, present, add = self._find(name), self.items(name), [without_forbidden_characters(text) for text in add]
        gone = [text for text in present if text in remove and text not in add]
        new = [text for text in dict.fromkeys(add) if text not in present]
        if not gone and not new:
            return
        kept = [text for text in present if text not in gone]
        items = _items(place) if isinstance(place, XmlElement) else []
        staying = [item for item in items if item.text not in gone]
        if not staying:
            if place is not None:
                self._remove(place)
            if kept or new:
                self._add(prefix, name, f"<rdf:Bag>{''.join(map(_item, [*kept, *new]))}</rdf:Bag>")
            return
        for item in items:
            if item.text in gone:
                self._remove(item)
        last = staying[-1]
        space = self._data[self._before_space(last.start) : last.start].decode()
        tag = last.tag
        self._edit(last.end, last.end, "".join(f"{space}<{tag}>{_escaped(text)}</{tag}>" for text in new))

    def replace_namespace(self, prefix: str, namespace: str, values: Mapping[str, str]) -> None:
        """Make these the only properties of a namespace, all of them simple."""
        cleaned = {name: without_forbidden_characters(value) for name, value in values.items()}
        if self.namespace_values(namespace) == cleaned:
            return
        for description in self._descriptions:
            self._remove_namespace(description, namespace)
        lines = "".join(f"\n   <{prefix}:{name}>{_escaped(value)}</{prefix}:{name}>" for name, value in cleaned.items())
        self._added.append(self._description(prefix, namespace, f"{lines}\n  "))

    def to_bytes(self) -> bytes:
        """The document with the edits; the given bytes when there are none."""
        if self._added:
            self._insert_into_rdf("".join(f"\n  {block}" for block in self._added))
            self._added = []
        if not self._edits:
            return self._original
        parts, place = [], 0
        for start, end, replacement in sorted(self._edits, key=lambda edit: edit[:2]):
            if start < place:  # inside a part that is removed as a whole
                continue
            parts += [self._data[place:start], replacement]
            place = end
        changed = b"".join([*parts, self._data[place:]])
        return changed if self._encoding == "utf-8" else changed.decode().encode(self._encoding)

    def _find(self, name: XmpName) -> XmlElement | _Attribute | None:
        for description in self._descriptions:
            for child in description.children:
                if child.name == name:
                    return child
            if name in description.attributes:
                return next(each for each in self._attributes(description) if each.name == name)
        return None

    def _attributes(self, element: XmlElement) -> Iterator[_Attribute]:
        """The attributes of a start tag with their places, declarations of namespaces left out."""
        tag = self._data[element.start : element.inside]
        for found in _ATTRIBUTE.finditer(tag, 1 + len(element.tag.encode())):
            written = found.group(1).decode()
            if not _is_declaration(written):
                name = _resolve(written, element.prefixes, attribute=True)
                first, last = (element.start + offset for offset in found.span(2))
                yield _Attribute(name, element.attributes[name], element.start + found.start(), first, last)

    def _remove_namespace(self, description: XmlElement, namespace: str) -> None:
        elements = [each for each in description.children if each.name.namespace == namespace]
        attributes = [each for each in self._attributes(description) if each.name.namespace == namespace]
        about = {XmpName(RDF, "about"), XmpName("", "about")}
        other_attributes = set(description.attributes) - {each.name for each in attributes} - about
        if len(elements) == len(description.children) and not other_attributes and (elements or attributes):
            self._remove(description)
            return
        places: list[XmlElement | _Attribute] = [*elements, *attributes]
        for place in places:
            self._remove(place)

    def _remove(self, place: XmlElement | _Attribute) -> None:
        """Remove an element with the space before it, or an attribute."""
        start = place.space if isinstance(place, _Attribute) else self._before_space(place.start)
        self._edit(start, place.end, "")

    def _before_space(self, offset: int) -> int:
        while offset and self._data[offset - 1] in _SPACE:
            offset -= 1
        return offset

    def _set_inner(self, element: XmlElement, content: str) -> None:
        if element.close < element.end:
            self._edit(element.inside, element.close, content)
            return
        opened = self._data[element.start : element.inside].decode().removesuffix("/>").rstrip()
        self._edit(element.start, element.end, f"{opened}>{content}</{element.tag}>")

    def _add(self, prefix: str, name: XmpName, content: str) -> None:
        inner = f"\n   <{prefix}:{name.local}>{content}</{prefix}:{name.local}>\n  "
        self._added.append(self._description(prefix, name.namespace, inner))

    def _description(self, prefix: str, namespace: str, content: str) -> str:
        """An `rdf:Description` about the same photograph as the others."""
        first = self._descriptions[0].attributes if self._descriptions else {}
        about = first.get(XmpName(RDF, "about"), first.get(XmpName("", "about"), ""))
        rdf = "" if self._rdf.prefixes.get("rdf") == RDF else f' xmlns:rdf="{RDF}"'
        start = f'<rdf:Description{rdf} rdf:about={quoteattr(about)} xmlns:{prefix}="{namespace}">'
        return f"{start}{content}</rdf:Description>"

    def _insert_into_rdf(self, blocks: str) -> None:
        if self._rdf.close < self._rdf.end:
            place = self._rdf.children[-1].end if self._rdf.children else self._rdf.inside
            self._edit(place, place, blocks)
        else:
            self._set_inner(self._rdf, f"{blocks}\n ")

    def _edit(self, start: int, end: int, text: str) -> None:
        if start != end or text:
            self._edits.append((start, end, text.encode()))


class _Attribute(NamedTuple):
    """A property as an attribute: its value as read, and the offsets of the space before it and of its quoted value."""

    name: XmpName
    value: str
    space: int
    start: int
    end: int


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
        own = {name.partition(":")[2]: value for name, value in given.items() if _is_declaration(name)}
        prefixes = {**outer, **own} if own else outer
        place = self._parser.CurrentByteIndex
        element = XmlElement(
            tag=tag,
            name=_resolve(tag, prefixes),
            start=place,
            inside=self._after_tag(place),
            attributes={
                _resolve(name, prefixes, attribute=True): value
                for name, value in given.items()
                if not _is_declaration(name)
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


def _is_declaration(attribute: str) -> bool:
    """True for xmlns="..." and xmlns:prefix="..."."""
    return attribute.partition(":")[0] == "xmlns"


def _resolve(tag: str, prefixes: Mapping[str, str], *, attribute: bool = False) -> XmpName:
    """The name that a tag or attribute stands for; an attribute without a prefix has no namespace."""
    prefix, colon, local = tag.partition(":")
    if not colon:
        return XmpName("" if attribute else prefixes.get("", ""), tag)
    if prefix not in prefixes:
        raise XmpError(f"the prefix {prefix} is not declared")
    return XmpName(prefixes[prefix], local)


def _elements(root: XmlElement | None) -> Iterator[XmlElement]:
    waiting = [root] if root is not None else []
    while waiting:
        element = waiting.pop()
        yield element
        waiting += reversed(element.children)


def _items(element: XmlElement) -> list[XmlElement]:
    """The `rdf:li` elements of an array."""
    return [
        item
        for container in element.children
        if container.name.namespace == RDF and container.name.local in _CONTAINERS
        for item in container.children
        if item.name == XmpName(RDF, "li")
    ]


def without_forbidden_characters(text: str) -> str:
    """The text without characters that XML 1.0 doesn't allow, such as control characters; each becomes U+FFFD."""
    return _NOT_XML.sub("\ufffd", text)


def _escaped(text: str) -> str:
    return escape(without_forbidden_characters(text), {"\r": "&#13;"})


def _item(text: str) -> str:
    return f"<rdf:li>{_escaped(text)}</rdf:li>"
