"""XMP documents: read properties, and change some of them without touching the bytes of any other.

A sidecar belongs to other programs: darktable keeps its history there, Lightroom its develop settings. So nothing is
parsed and written back. The document is parsed to find the places of properties; an edit replaces only those bytes, and
everything else stays as it was, down to spaces, prefixes, comments and CDATA.

The form of XMP in RDF/XML: ISO 16684-1:2019, section 7 (a property is an attribute or an element of `rdf:Description`;
arrays are `rdf:Bag`, `rdf:Seq` or `rdf:Alt` with `rdf:li`).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from mondrian_core.xml_places import (
    XmlElement,
    XmpError,
    XmpName,
    descendants,
    is_namespace_declaration,
    parse_xml,
    resolve_xml_name,
)

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
EMPTY_DOCUMENT = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Mondrian">\n'
    b' <rdf:RDF xmlns:rdf="' + RDF.encode() + b'">\n </rdf:RDF>\n</x:xmpmeta>\n'
)
MAX_XMP_BYTES = 16 << 20
_CONTAINERS = ("Bag", "Seq", "Alt")
_SPACE = b" \t\r\n"
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
        found = [each for each in descendants(parse_xml(self._data)) if each.name == XmpName(RDF, "RDF")]
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
            if not is_namespace_declaration(written):
                name = resolve_xml_name(written, element.prefixes, attribute=True)
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
