"""Critiques in XMP sidecars, next to photographs that stay untouched (docs/decisions/0124-xmp-sidecars.md).

A sidecar holds one critique, the latest. What Mondrian wrote is recorded in its own namespace, so a later critique
replaces exactly that: a rating, a label, a caption or a keyword by a person stays.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mondrian_core.errors import BadInput, DiskFull
from mondrian_core.files import write_atomic
from mondrian_core.images import PHOTOGRAPH_SUFFIXES
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, Assessment, Critique, int_if_whole
from mondrian_core.xml_places import XmpError, XmpName
from mondrian_core.xmp_document import EMPTY_DOCUMENT, MAX_XMP_BYTES, XmpDocument, without_forbidden_characters

SidecarStyle = Literal["darktable", "lightroom"]
NAMESPACE, PREFIX = "urn:mondrian:critique/1.0/", "mondrian"
STRONG_SCORE, WEAK_SCORE = 8, 5  # a score of at least 8 is strong, one below 5 is weak
KEYWORD_ROOT = "Mondrian"
_SUFFIXES = sorted({*PHOTOGRAPH_SUFFIXES, *(suffix.upper() for suffix in PHOTOGRAPH_SUFFIXES)})
_RATING = XmpName("http://ns.adobe.com/xap/1.0/", "Rating")
_LABEL = XmpName("http://ns.adobe.com/xap/1.0/", "Label")
_SUBJECT = XmpName("http://purl.org/dc/elements/1.1/", "subject")
_DESCRIPTION = XmpName("http://purl.org/dc/elements/1.1/", "description")
_HIERARCHY = XmpName("http://ns.adobe.com/lightroom/1.0/", "hierarchicalSubject")
_LEFT_ALONE = "It was left as it is. Repair it or move it away, and run the command again."


@dataclass(frozen=True, kw_only=True)
class SidecarCritique:
    """What a sidecar says about a photograph: who critiqued it (`model`: such as "adapter v0003"), and the critique."""

    advisor: str
    model: str
    critique: Critique


@dataclass(frozen=True, kw_only=True)
class SidecarOptions:
    """How sidecars are written.

    Attributes:
        style: "darktable" names them IMG_1.jpg.xmp, "lightroom" IMG_1.xmp.
        overwrite_rating: replace a person's rating too.
        label: also write a colour label from the weakest dimension.
        caption: write the critique into the caption where a photograph has none.
    """

    style: SidecarStyle = "darktable"
    overwrite_rating: bool = False
    label: bool = False
    caption: bool = True


def sidecar_path(photograph: Path, style: SidecarStyle) -> Path:
    """The sidecar's place; an existing one that ends in .XMP is found too.

    Raises:
        BadInput: in the style "lightroom", when several photographs would share the sidecar.
    """
    name = photograph.name if style == "darktable" else photograph.stem
    if style == "lightroom":
        others = (photograph.with_suffix(each).name for each in _SUFFIXES if photograph.with_suffix(each).is_file())
        shared = sorted(other for other in others if other.lower() != photograph.name.lower())
        if shared:
            raise BadInput(
                f"{name}.xmp would be the sidecar of both {photograph.name} and {shared[0]}.",
                "Rename one of them, or use --xmp-style darktable, where each has its own.",
            )
    upper = photograph.with_name(f"{name}.XMP")
    return upper if upper.is_file() else photograph.with_name(f"{name}.xmp")


def write_sidecar(photograph: Path, made: SidecarCritique, options: SidecarOptions) -> Path:
    """Write a critique into the photograph's sidecar, and return its path; an unchanged sidecar isn't written.

    Raises:
        BadInput: the sidecar can't be read as XMP or can't be written; it is left as it is.
        DiskFull: no space is left; the old sidecar is unchanged.
    """
    path = photograph.with_name(f"{photograph.name}.xmp")
    try:
        path = sidecar_path(photograph, options.style)
        if path.is_symlink():
            raise BadInput(f"The sidecar {path} is a link.", "Put the file itself there, and run the command again.")
        before = _read(path)
        after = merge_critique(before, made, options)
        if after != before:
            write_atomic(path, after)
    except XmpError as error:
        raise BadInput(f"The sidecar {path} can't be read as XMP: {error}.", _LEFT_ALONE) from None
    except DiskFull:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BadInput(
            f"The sidecar of {photograph} can't be written: {reason}.", "Check the folder and its permissions."
        ) from error
    return path


def merge_critique(before: bytes | None, made: SidecarCritique, options: SidecarOptions) -> bytes:
    """The bytes of a sidecar with the critique; the same bytes when it holds it already.

    Args:
        before: the present sidecar; None for a new one.
        made: the critique.
        options: what to write.

    Raises:
        XmpError: `before` is not an XMP document that can be edited.
    """
    document = XmpDocument(EMPTY_DOCUMENT if before is None else before)
    recorded = document.namespace_values(NAMESPACE)
    record = _record(made)
    rating = (document.text(_RATING) or "").strip()
    if options.overwrite_rating or rating in ("", "0", recorded.get("writtenRating")):
        record["writtenRating"] = str(stars_from_grade(made.critique))
        document.set_text("xmp", _RATING, record["writtenRating"])
    label = (document.text(_LABEL) or "").strip()
    if label == recorded.get("writtenLabel") or (options.label and not label):
        record["writtenLabel"] = label_from_scores(made.critique)
        document.set_text("xmp", _LABEL, record["writtenLabel"])
    caption = document.text(_DESCRIPTION) or ""
    if _digest(caption) == recorded.get("writtenCaptionDigest") or (options.caption and not caption.strip()):
        record["writtenCaptionDigest"] = _digest(caption_text(made))
        document.set_default_text("dc", _DESCRIPTION, caption_text(made))
    _merge_keywords(document, recorded, record, made)
    document.replace_namespace(PREFIX, NAMESPACE, record)
    return document.to_bytes()


def read_sidecar(path: Path) -> SidecarCritique | None:
    """The critique in a sidecar; None when it holds none of Mondrian's.

    Raises:
        BadInput: the file can't be read, or is not XMP.
    """
    try:
        found = XmpDocument(_read(path) or b"").namespace_values(NAMESPACE)
        if "advisor" not in found:
            return None
        assessments = {
            name: Assessment(
                float(found[_camel(name)]),
                found.get(f"{_camel(name)}Comment", ""),
                found.get(f"{_camel(name)}Recommendation"),
            )
            for name in DIMENSIONS
        }
    except (XmpError, OSError, KeyError, ValueError) as error:
        raise BadInput(f"The sidecar {path} can't be read as XMP: {error}.", _LEFT_ALONE) from None
    critique = Critique(
        assessments,
        found.get("grade", ""),
        found.get("advisorNotes"),
        strengths=_lines(found.get("strengths")),
        priority_improvements=_lines(found.get("priorityImprovements")),
    )
    return SidecarCritique(advisor=found["advisor"], model=found.get("model", ""), critique=critique)


def grade_number(critique: Critique) -> float:
    """The overall grade as a number, 0-10; the mean score where the grade is not a number."""
    found = re.match(r"\s*(\d+(?:\.\d+)?)", critique.overall_grade)
    return min(10.0, float(found.group(1))) if found else critique.mean


def stars_from_grade(critique: Critique) -> int:
    """Stars from 1 to 5: half the grade, rounded half up. Never 0, which means that nobody rated the photograph."""
    return max(1, min(5, math.floor(grade_number(critique) / 2 + 0.5)))


def label_from_scores(critique: Critique) -> str:
    """A colour for what the mean hides, the weakest dimension: "Red" below 5, "Green" from 8, otherwise "Yellow"."""
    weakest = min(critique.scores.values())
    return "Red" if weakest < WEAK_SCORE else "Green" if weakest >= STRONG_SCORE else "Yellow"


def keyword_paths(made: SidecarCritique) -> list[str]:
    """Hierarchical keywords, levels separated by "|". Each last level tells what it is without the levels above it."""
    paths = [f"{KEYWORD_ROOT}|Advisor|Advisor {made.advisor}"]
    paths.append(f"{KEYWORD_ROOT}|Grade|Grade {math.floor(grade_number(made.critique))}")
    for name, score in made.critique.scores.items():
        title = DIMENSION_TITLES[name].lower()
        if score >= STRONG_SCORE:
            paths.append(f"{KEYWORD_ROOT}|Strong|Strong {title}")
        elif score < WEAK_SCORE:
            paths.append(f"{KEYWORD_ROOT}|Weak|Weak {title}")
    return paths


def caption_text(made: SidecarCritique) -> str:
    """The critique as plain text: a line per dimension."""
    lines = [f"Critique by {made.advisor} ({made.model}): {made.critique.overall_grade}"]
    for name, assessment in made.critique.assessments.items():
        advice = f" {assessment.recommendation}" if assessment.recommendation else ""
        lines.append(f"{DIMENSION_TITLES[name]} {int_if_whole(assessment.score)}: {assessment.comment}{advice}")
    for title, texts in (("Strengths", made.critique.strengths), ("Improve", made.critique.priority_improvements)):
        if texts:
            lines.append(f"{title}: {' '.join(texts)}")
    if made.critique.advisor_notes:
        lines.append(made.critique.advisor_notes)
    return without_forbidden_characters("\n".join(lines))


def _read(path: Path) -> bytes | None:
    if not path.exists():
        return None
    if path.stat().st_size > MAX_XMP_BYTES:
        raise XmpError(f"it has more than {MAX_XMP_BYTES >> 20} MiB")
    return path.read_bytes()


def _record(made: SidecarCritique) -> dict[str, str]:
    """The critique as simple properties of Mondrian's namespace."""
    record = {"advisor": made.advisor, "model": made.model, "grade": made.critique.overall_grade}
    for name, assessment in made.critique.assessments.items():
        record[_camel(name)] = str(int_if_whole(assessment.score))
        record[f"{_camel(name)}Comment"] = assessment.comment
        if assessment.recommendation:
            record[f"{_camel(name)}Recommendation"] = assessment.recommendation
    for key, texts in (
        ("strengths", made.critique.strengths),
        ("priorityImprovements", made.critique.priority_improvements),
    ):
        if texts:
            record[key] = "\n".join(" ".join(text.split()) for text in texts)
    if made.critique.advisor_notes:
        record["advisorNotes"] = made.critique.advisor_notes
    return record


def _lines(text: str | None) -> tuple[str, ...]:
    return tuple((text or "").splitlines())


def _merge_keywords(
    document: XmpDocument, recorded: dict[str, str], record: dict[str, str], made: SidecarCritique
) -> None:
    """Replace Mondrian's keywords, in both forms.

    darktable reads only the hierarchical form where it exists, so a new one repeats a person's flat keywords too.
    """
    flat, paths = document.items(_SUBJECT), document.items(_HIERARCHY)
    wanted = keyword_paths(made)
    leaves = [KEYWORD_ROOT, *(path.rpartition("|")[2] for path in wanted)]
    own_paths = [path for path in paths if path.startswith(f"{KEYWORD_ROOT}|")]
    earlier = _earlier_keywords(recorded, own_paths)
    by_people = [keyword for keyword in flat if keyword not in earlier] if not paths else []
    document.update_items("dc", _SUBJECT, earlier, leaves)
    document.update_items("lr", _HIERARCHY, own_paths, [*by_people, *wanted])
    record["writtenKeywords"] = "|".join(leaf for leaf in leaves if leaf in earlier or leaf not in flat)


def _earlier_keywords(recorded: Mapping[str, str], own_paths: Sequence[str]) -> Sequence[str]:
    """The flat keywords that Mondrian wrote; another program may have dropped the record but kept the keywords."""
    if "writtenKeywords" in recorded:
        return recorded["writtenKeywords"].split("|")
    return [level for path in own_paths for level in path.split("|")]


def _camel(dimension: str) -> str:
    """focus_sharpness -> focusSharpness, as names in XMP are spelled."""
    first, *others = dimension.split("_")
    return first + "".join(part.capitalize() for part in others)


def _digest(text: str) -> str:
    """A short digest of a caption, with line ends as XML has them."""
    return hashlib.sha256(text.replace("\r\n", "\n").strip().encode(errors="replace")).hexdigest()[:16]
