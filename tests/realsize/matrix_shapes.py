"""The bases of the matrix: every family with and without a tied output layer, in bfloat16 and packed into 4 bits."""

from __future__ import annotations

from tests.skeleton_bases import SkeletonShape

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
MATRIX_SHAPES = [
    SkeletonShape(family=family, bits=bits, tied=tied)
    for family in FAMILIES
    for tied in (None, False)
    for bits in (16, 4)
]
# half of them, in which each pair of family, bits and output layer occurs; the suite takes these
SUITE_SHAPES = [
    shape for shape in MATRIX_SHAPES if ((shape.bits == 4) == (shape.tied is None)) == (shape.family != "qwen2_5_vl")
]
# one of each family among them, with both packings and both output layers: the suite runs the product on these
PRODUCT_SHAPES = [shape for shape in SUITE_SHAPES if (shape.bits == 4) == (shape.family == "qwen3_vl")]
WHOLE_SHAPE = SkeletonShape(family="qwen3_vl", size="4b", bits=4)  # what most users train on
