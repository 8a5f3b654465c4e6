"""Values that the examples share, and the marks in them from which schemas follow."""

from __future__ import annotations

from typing import Any

from mondrian_core.rubric import DIMENSIONS

JOB_ID = "9ca1d868-a346-4c3a-bf90-5960f7f687b3"
OTHER_JOB_ID = "81cfaae8-e9d8-4ddf-b841-ad11757fe9e5"
GROUP_ID = "g225efde391934112b8b7bae72f458e50"
SHA256 = "fcc837cf8a10515ee03402c01bd124679f0ad29e04aa85bd2c70795477361f6c"
RUN = "2026-11-23T03-00-00-ansel"
OTHER_RUN = "2026-11-16T03-00-00-ansel"
CHAMPION, CANDIDATE = "v0003", "v0004"
TIME = "2026-11-29T14:45:23.984457"
COMMENTS = (
    "The river leads the eye from the corner to the peaks.",
    "Low sun from the left models the ridges.",
    "The foreground is sharp, the summit slightly soft.",
    "Restrained: blue shadows against warm rock.",
    "The tree stands clear of the far shore.",
    "Three planes, each lighter than the one before.",
    "The dark bank weighs on the left.",
    "Quiet, and a little cold.",
)
SCORES = (8, 9, 8, 7, 8, 9, 7, 7)


class ByKey(dict[str, Any]):
    """An object whose keys are values, such as dimensions or versions; all of them have the same form."""


BY_DIMENSION = ByKey({name: float(score) for name, score in zip(DIMENSIONS, SCORES, strict=True)})
ANALYSIS = {
    name: {"score": score, "comment": comment, "recommendation?": "", "regions?": []}
    for name, score, comment in zip(DIMENSIONS, SCORES, COMMENTS, strict=True)
}
