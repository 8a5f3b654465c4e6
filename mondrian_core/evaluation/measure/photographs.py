"""Photographs of an evaluation: decoded once, with a digest of their pixels, and as records of the report."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mondrian_core.errors import BadPhotograph
from mondrian_core.evaluation.measure.answer_cache import pixel_digest
from mondrian_core.events import EventListener, StageNotice
from mondrian_core.images import downscale_to_fit, jpeg_bytes, open_photograph
from mondrian_core.samples_file import PhotographOrigin

STAGE = "evaluate"
FILE_INFO = "file"  # key of `Image.info`: the file of a photograph without labels, below the workspace, for people
_THUMBNAIL = 240  # pixels of the longer side


@dataclass(frozen=True, kw_only=True)
class LabelledPhotograph:
    """A photograph of the evaluation split with the advisor's scores (0-10) and, if known, the full critique."""

    photograph: str
    image: Image.Image | Path
    scores: Mapping[str, float]
    critique: str | None = None
    title: str | None = None  # for people, such as its file name


@dataclass(frozen=True, kw_only=True)
class EvaluationPhotograph:
    """A decoded photograph that the models are asked about; `digest` is the SHA-256 of its pixels."""

    name: str
    image: Image.Image
    digest: str
    labelled: bool
    origin: PhotographOrigin = PhotographOrigin.OWN


def open_labelled_photographs(
    labelled: Sequence[LabelledPhotograph], listen: EventListener
) -> tuple[list[EvaluationPhotograph], list[LabelledPhotograph]]:
    """Each labelled photograph once, decoded, with its entry; later ones of the same name are variants, left out."""
    subjects, kept, seen = [], [], set()
    for entry in labelled:
        if entry.photograph in seen:
            listen(StageNotice(STAGE, f"{entry.photograph} appears more than once; only the first counts."))
            continue
        seen.add(entry.photograph)
        image = open_photograph(entry.image).image if isinstance(entry.image, Path) else entry.image
        digest = pixel_digest(image)
        subjects.append(EvaluationPhotograph(name=entry.photograph, image=image, digest=digest, labelled=True))
        kept.append(entry)
    return subjects, kept


def open_unlabelled_photographs(
    photographs: Sequence[Path | Image.Image],
    wanted: int,
    known: set[str],
    listen: EventListener,
    origin: PhotographOrigin = PhotographOrigin.OWN,
) -> list[EvaluationPhotograph]:
    """Up to `wanted` photographs without labels, decoded.

    Duplicates and damaged files are left out.

    Args:
        photographs: files or decoded photographs.
        wanted: maximum number.
        known: pixel digests of photographs to leave out.
        listen: receives a notice for every damaged file.
        origin: of all of them.
    """
    subjects: list[EvaluationPhotograph] = []
    digests = set(known)
    for source in photographs:
        if len(subjects) >= wanted:
            break
        try:
            image = open_photograph(source).image if isinstance(source, Path) else source
        except BadPhotograph as error:
            listen(StageNotice(STAGE, f"Left out of the format check: {error.problem}"))
            continue
        digest = pixel_digest(image)
        if digest in digests:
            continue
        digests.add(digest)
        name = f"unlabelled-{digest[:12]}"
        subjects.append(EvaluationPhotograph(name=name, image=image, digest=digest, labelled=False, origin=origin))
    return subjects


def label_record(subject: EvaluationPhotograph, entry: LabelledPhotograph) -> dict[str, Any]:
    """The record of a labelled photograph for `samples.jsonl`, with a thumbnail (JPEG, base64)."""
    return {
        "photograph": subject.name,
        "title": entry.title,
        "digest": subject.digest,
        "scores": dict(entry.scores),
        "critique": entry.critique,
        "picture": thumbnail_text(subject.image),
    }


def thumbnail_text(image: Image.Image) -> str:
    """A thumbnail for the report (JPEG, base64)."""
    return base64.b64encode(jpeg_bytes(downscale_to_fit(image.convert("RGB"), _THUMBNAIL), 80)).decode()
