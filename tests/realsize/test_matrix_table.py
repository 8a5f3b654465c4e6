"""The table that `make realsize` prints."""

from __future__ import annotations

from tests.realsize.matrix_table import cell_of, figures_table, matrix_table

FILE = "tests/realsize/test_matrix_model.py::"


def test_rows_are_bases_and_columns_are_capabilities_in_the_order_of_the_tests() -> None:
    outcomes = [
        (f"{FILE}test_load[qwen3_vl-tiny-4bit-tied]", "passed"),
        (f"{FILE}test_mac_step[qwen3_vl-tiny-4bit-tied]@qwen3_vl-tiny-4bit-tied", "failed"),
        (f"{FILE}test_load[qwen2_vl-tiny-16bit-tied]", "skipped"),
        (f"{FILE}test_unknown_size_is_rejected", "passed"),
    ]
    assert matrix_table(outcomes).splitlines() == [
        "| base | load | mac step |",
        "| --- | --- | --- |",
        "| qwen2_vl-tiny-16bit-tied | skipped |  |",
        "| qwen3_vl-tiny-4bit-tied | yes | NO |",
    ]


def test_tests_with_other_parameters_are_not_cells() -> None:
    assert cell_of(f"{FILE}test_configuration[qwen2_vl-2b]") is None


def test_figures_keep_their_order() -> None:
    assert figures_table(["load|12.0|11.0|3.1", "swap|0.1|0.1|3.2"]).splitlines()[2:] == [
        "| load | 12.0 | 11.0 | 3.1 |",
        "| swap | 0.1 | 0.1 | 3.2 |",
    ]
