"""XMP sidecars: what other programs and people wrote survives, and a second run changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.errors import BadInput
from mondrian_core.rubric import DIMENSIONS, make_critique
from mondrian_core.xml_places import XmpError, XmpName
from mondrian_core.xmp import (
    NAMESPACE,
    SidecarCritique,
    SidecarOptions,
    label_from_scores,
    merge_critique,
    read_sidecar,
    sidecar_path,
    stars_from_grade,
    write_sidecar,
)
from mondrian_core.xmp_document import RDF, XmpDocument

SUBJECT = XmpName("http://purl.org/dc/elements/1.1/", "subject")
HIERARCHY = XmpName("http://ns.adobe.com/lightroom/1.0/", "hierarchicalSubject")
CAPTION = XmpName("http://purl.org/dc/elements/1.1/", "description")
RATING, LABEL = (XmpName("http://ns.adobe.com/xap/1.0/", name) for name in ("Rating", "Label"))
RDF_START = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"'

DARKTABLE = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <!-- history: do > not touch -->
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:darktable="http://darktable.sf.net/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
   xmp:Rating="4"
   darktable:xmp_version="5"
   darktable:params='a "quoted" &gt; value&#10;on two lines'>
   <darktable:history>
    <rdf:Seq>
     <rdf:li darktable:num="0" darktable:operation="exposure" darktable:params="gz02eJx=&#xA;"/>
     <rdf:li><![CDATA[raw < & data]]></rdf:li>
    </rdf:Seq>
   </darktable:history>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Iceland</rdf:li>
     <rdf:li>Weak lighting</rdf:li>
    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
LIGHTROOM = f"""\ufeff<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0">
 <r:RDF xmlns:r="{RDF}">
  <r:Description r:about="uuid:1" xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/" crs:Exposure2012="+0.35" crs:HasSettings="True">
   <dc:description><r:Alt><r:li xml:lang="x-default">Gr\u00f6nland, <![CDATA[<früh>]]></r:li></r:Alt></dc:description>
   <crs:ToneCurvePV2012><r:Seq><r:li>0, 0</r:li><r:li>255, 255</r:li></r:Seq></crs:ToneCurvePV2012>
  </r:Description>
 </r:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


def made(scores: list[int] | None = None, comment: str = "Good.", advisor: str = "ansel") -> SidecarCritique:
    given = dict(zip(DIMENSIONS, scores or [9, 2, 6, 6, 6, 6, 6, 6], strict=True))
    critique = make_critique(given, dict.fromkeys(DIMENSIONS, comment))
    return SidecarCritique(advisor=advisor, model="adapter v0003", critique=critique)


def foreign(data: bytes) -> list[Any]:
    """Everything in a document that is not a property of this module's: names, values and order."""
    ours = {f"{{{name.namespace}}}{name.local}" for name in (SUBJECT, HIERARCHY, CAPTION, RATING, LABEL)}
    found: list[Any] = []
    for description in ET.fromstring(data).iter(f"{{{RDF}}}Description"):
        found += [pair for pair in description.attrib.items() if pair[0] not in ours and NAMESPACE not in pair[0]]
        for child in description:
            if child.tag not in ours and NAMESPACE not in child.tag:
                found += [(each.tag, each.attrib, (each.text or "").strip()) for each in child.iter()]
    return [each for each in found if "about" not in each[0]]


def parsed(data: bytes) -> XmpDocument:
    return XmpDocument(data)


@pytest.mark.parametrize("text", [DARKTABLE, LIGHTROOM, LIGHTROOM.replace("\ufeff", "")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_what_other_programs_wrote_survives_and_twice_gives_the_same_bytes(text: str, encoding: str) -> None:
    if encoding == "utf-16":
        text = text.replace('encoding="UTF-8"', 'encoding="UTF-16"').lstrip("\ufeff")
    before = text.encode(encoding)
    options = SidecarOptions(label=True)
    once = merge_critique(before, made(), options)
    assert merge_critique(once, made(), options) == once
    again = merge_critique(merge_critique(once, made([3] * 8), options), made(), SidecarOptions())
    for after in (once, again):
        assert foreign(after)[: len(foreign(before))] == foreign(before)
        assert "do > not touch" in after.decode(encoding) or "darktable" not in text
    for kept in ("<![CDATA[raw < & data]]>", "gz02eJx=&#xA;", "value&#10;on two lines", 'begin="\ufeff"'):
        assert (kept in text) == (kept in again.decode(encoding)), "as bytes, not only in meaning"


def test_rating_caption_and_keywords_by_a_person_stay() -> None:
    after = parsed(merge_critique(DARKTABLE.encode(), made(), SidecarOptions()))
    assert after.text(RATING) == "4"
    assert after.items(SUBJECT)[:2] == ["Iceland", "Weak lighting"]
    assert after.items(HIERARCHY)[:2] == ["Iceland", "Weak lighting"], "darktable reads only these where they exist"
    strong = merge_critique(
        merge_critique(DARKTABLE.encode(), made(), SidecarOptions()), made([9] * 8), SidecarOptions()
    )
    assert parsed(strong).items(SUBJECT)[:2] == ["Iceland", "Weak lighting"], (
        "a keyword of theirs, though it looks ours"
    )
    assert "Strong lighting" in parsed(strong).items(SUBJECT)
    told = merge_critique(DARKTABLE.encode(), made(), SidecarOptions(overwrite_rating=True))
    assert parsed(told).text(RATING) == "3"
    assert parsed(merge_critique(LIGHTROOM.encode(), made(), SidecarOptions())).text(CAPTION) == "Grönland, <früh>"


def test_a_later_critique_replaces_exactly_what_the_earlier_one_wrote() -> None:
    options = SidecarOptions(label=True)
    first = merge_critique(None, made([2] * 8), options)
    assert (parsed(first).text(RATING), parsed(first).text(LABEL)) == ("1", "Red")
    later = parsed(merge_critique(first, made([9] * 8, "Superb."), SidecarOptions()))
    assert (later.text(RATING), later.text(LABEL)) == ("5", "Green")
    assert "Superb." in (later.text(CAPTION) or "") and "Good." not in (later.text(CAPTION) or "")
    assert not [keyword for keyword in later.items(SUBJECT) + later.items(HIERARCHY) if "Weak" in keyword]
    changed = parsed(first)
    changed.set_text("xmp", RATING, "5")
    assert parsed(merge_critique(changed.to_bytes(), made([2] * 8), options)).text(RATING) == "5", "now a person's"


def test_keywords_go_although_another_program_dropped_the_record() -> None:
    first = parsed(merge_critique(None, made([2] * 8), SidecarOptions()))
    first.replace_namespace("mondrian", NAMESPACE, {})
    again = parsed(merge_critique(first.to_bytes(), made([9] * 8), SidecarOptions()))
    assert not [keyword for keyword in again.items(SUBJECT) if keyword.startswith("Weak")]


@pytest.mark.parametrize(("grade", "stars"), [(0, 1), (2, 1), (3, 2), (4, 2), (5, 3), (7, 4), (8, 4), (9, 5), (10, 5)])
def test_stars_are_half_the_grade_and_never_zero(grade: int, stars: int) -> None:
    assert stars_from_grade(made([grade] * 8).critique) == stars


def test_the_label_shows_the_weakest_dimension() -> None:
    assert [label_from_scores(made([10] * 7 + [low]).critique) for low in (4, 5, 8)] == ["Red", "Yellow", "Green"]


@given(st.text(alphabet=st.characters(codec=None), max_size=80))
def test_any_text_is_written_and_read_back(text: str) -> None:
    options = SidecarOptions()
    once = merge_critique(None, made(comment=f"<{text}]]>\r\n\x00\ud800&"), options)
    ET.fromstring(once)
    assert merge_critique(once, made(comment=f"<{text}]]>\r\n\x00\ud800&"), options) == once
    kept = parsed(once).namespace_values(NAMESPACE)["lightingComment"]
    assert kept.startswith("<") and kept.endswith("]]>\r\n\ufffd\ufffd&")


ENTITY = f'<!DOCTYPE x [<!ENTITY a "aaaa">]>{RDF_START}/></x:xmpmeta>'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<x:xmpmeta",
        b"\xff\xfe<",
        b"<html/>",
        ENTITY.encode(),
        ENTITY.replace("[<!ENTITY", "SYSTEM 'file:///etc/passwd' [<!ENTITY").encode(),
        DARKTABLE.replace("Iceland", "\x01").encode(),
        DARKTABLE.replace("Iceland", "\xe9").encode("latin-1"),
        DARKTABLE.replace("UTF-8", "ISO-8859-1").encode(),
        DARKTABLE.replace("xmlns:darktable", "xmlns:other").encode(),
        DARKTABLE.encode() + DARKTABLE.encode(),
    ],
)
def test_what_is_not_xmp_is_refused_and_left_untouched(tmp_path: Path, data: bytes) -> None:
    sidecar = tmp_path / "a.jpg.xmp"
    sidecar.write_bytes(data)
    with pytest.raises(BadInput, match="left as it is") as refused:
        write_sidecar(tmp_path / "a.jpg", made(), SidecarOptions())
    assert str(refused.value).count("\n") == 0 and sidecar.read_bytes() == data
    assert os.listdir(tmp_path) == ["a.jpg.xmp"]


@pytest.mark.parametrize(
    "text",
    [
        f"{RDF_START}/></x:xmpmeta>",
        f"{RDF_START}></rdf:RDF></x:xmpmeta>",
        f'<RDF xmlns="{RDF}"><Description about="" /></RDF>',
        f'{RDF_START}><rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="0"/></rdf:RDF></x:xmpmeta>',
        f'{RDF_START}><rdf:Description xmlns:d="http://purl.org/dc/elements/1.1/"><d:subject><rdf:Bag/></d:subject>'
        '<d:description><rdf:Alt><rdf:li xml:lang="x-default"/></rdf:Alt></d:description></rdf:Description>'
        "</rdf:RDF></x:xmpmeta>",
    ],
)
def test_every_form_of_an_empty_document_is_filled(text: str) -> None:
    once = merge_critique(text.encode(), made(), SidecarOptions())
    found = parsed(once)
    assert found.text(RATING) == "3" and "Mondrian" in found.items(SUBJECT) and "Good." in (found.text(CAPTION) or "")
    assert merge_critique(once, made(), SidecarOptions()) == once


def test_deep_and_wide_documents_take_no_stack_and_little_time() -> None:
    deep = f"{RDF_START}>{'<a>' * 50_000}{'</a>' * 50_000}</rdf:RDF></x:xmpmeta>"
    wide = f'{RDF_START}><rdf:Description a="{"x>" * 2_000_000}"/></rdf:RDF></x:xmpmeta>'
    for text in (deep, wide):
        assert b"mondrian" in merge_critique(text.encode(), made(), SidecarOptions())
    with pytest.raises(XmpError, match="MiB"):
        XmpDocument(bytes(20 << 20))


def test_names_follow_the_programs(tmp_path: Path) -> None:
    photograph = tmp_path / "IMG_1.jpg"
    assert sidecar_path(photograph, "darktable").name == "IMG_1.jpg.xmp"
    assert sidecar_path(photograph, "lightroom").name == "IMG_1.xmp"
    (tmp_path / "IMG_1.XMP").write_bytes(b"")
    assert sidecar_path(photograph, "lightroom").name == "IMG_1.XMP"
    (tmp_path / "IMG_1.PNG").write_bytes(b"")
    with pytest.raises(BadInput, match=r"both IMG_1.jpg and IMG_1.PNG"):
        sidecar_path(photograph, "lightroom")


def test_links_and_folders_that_refuse_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.jpg.xmp").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="is a link"):
        write_sidecar(tmp_path / "a.jpg", made(), SidecarOptions())
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(BadInput, match="can't be written"):
        write_sidecar(tmp_path / f"{'n' * 253}.jpg", made(), SidecarOptions())


def test_read_sidecar_gives_the_critique_back(tmp_path: Path) -> None:
    path = write_sidecar(tmp_path / "a.jpg", made(comment="Größe\n< & >"), SidecarOptions())
    assert read_sidecar(path) == made(comment="Größe\n< & >")
    path.write_bytes(DARKTABLE.encode())
    assert read_sidecar(path) is None


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed (Debian: libimage-exiftool-perl)")
def test_exiftool_reads_the_sidecar_and_what_it_rewrites_is_merged(tmp_path: Path) -> None:
    photograph = tmp_path / "a.jpg"
    path = write_sidecar(photograph, made(comment="Größe <b> & ]]>"), SidecarOptions(label=True))

    def exiftool(*arguments: str) -> str:
        done = subprocess.run(["exiftool", *arguments, str(path)], capture_output=True, text=True, check=True)
        assert not done.stderr.strip() or "updated" in done.stderr
        return done.stdout

    (tags,) = json.loads(exiftool("-json", "-G1", "-validate", "-all"))
    assert tags["ExifTool:Validate"] == "OK"
    assert (tags["XMP-xmp:Rating"], tags["XMP-xmp:Label"]) == (3, "Red")
    assert {"Mondrian", "Strong composition", "Weak lighting"} <= set(tags["XMP-dc:Subject"])
    assert "Mondrian|Weak|Weak lighting" in tags["XMP-lr:HierarchicalSubject"]
    assert "Größe <b> & ]]>" in tags["XMP-dc:Description"]
    assert (tags["XMP-mondrian:Lighting"], tags["XMP-mondrian:LightingComment"]) == (2, "Größe <b> & ]]>")
    exiftool("-overwrite_original", "-XMP-dc:Subject+=mine", "-XMP-xmp:Rating=2")
    assert read_sidecar(path) == made(comment="Größe <b> & ]]>"), "exiftool rewrote the file"
    write_sidecar(photograph, made([9] * 8), SidecarOptions())
    (tags,) = json.loads(exiftool("-json", "-G1"))
    assert tags["XMP-xmp:Rating"] == 2 and "mine" in tags["XMP-dc:Subject"]
    assert not [keyword for keyword in tags["XMP-dc:Subject"] if "Weak" in keyword]
