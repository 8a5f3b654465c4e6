"""The table that `make realsize` prints."""

from __future__ import annotations

from itertools import combinations

from tests.realsize.matrix_shapes import MATRIX_SHAPES, SUITE_SHAPES
from tests.realsize.matrix_table import cell_of, figures_table, matrix_table
from tests.skeleton_bases import SkeletonShape

FILE = "tests/realsize/test_matrix_model.py::"


def test_rows_are_bases_and_columns_are_capabilities_in_the_order_of_the_tests() -> None:
    outcomes = [
        (f"{FILE}test_load[qwen3_vl-tiny-4bit]", "passed"),
        (f"{FILE}test_mac_step[qwen3_vl-tiny-4bit]@qwen3_vl-tiny-4bit", "failed"),
        (f"{FILE}test_load[qwen2_vl-tiny-16bit]", "skipped"),
        (f"{FILE}test_unknown_size_is_rejected", "passed"),
    ]
    assert matrix_table(outcomes).splitlines() == [
        "| base | load | mac step |",
        "| --- | --- | --- |",
        "| qwen2_vl-tiny-16bit | skipped |  |",
        "| qwen3_vl-tiny-4bit | yes | NO |",
    ]


def test_tests_with_other_parameters_are_not_cells() -> None:
    assert cell_of(f"{FILE}test_configuration[qwen2_vl-2b]") is None


def test_figures_keep_their_order() -> None:
    assert figures_table(["load|12.0|11.0|3.1", "swap|0.1|0.1|3.2"]).splitlines()[2:] == [
        "| load | 12.0 | 11.0 | 3.1 |",
        "| swap | 0.1 | 0.1 | 3.2 |",
    ]


def test_the_suite_takes_half_of_the_bases_and_every_pair_of_properties() -> None:
    def pairs(shapes: list[SkeletonShape]) -> set[object]:
        properties = [(("family", each.family), ("bits", each.bits), ("tied", each.tied)) for each in shapes]
        return {pair for each in properties for pair in combinations(each, 2)}

    assert len(SUITE_SHAPES) == len(MATRIX_SHAPES) / 2
    assert pairs(SUITE_SHAPES) == pairs(MATRIX_SHAPES)
