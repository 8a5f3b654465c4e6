"""The bases of the matrix: each family with both output layers, in bfloat16 and packed into 4 bits."""

from __future__ import annotations

from tests.skeleton_bases import SkeletonShape

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
MATRIX_SHAPES = [
    SkeletonShape(family=family, bits=bits, tied=tied)
    for family in FAMILIES
    for tied in (True, False)
    for bits in (16, 4)
]
WHOLE_SHAPE = SkeletonShape(family="qwen3_vl", size="4b", bits=4)  # what most users train on
