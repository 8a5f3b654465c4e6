"""What processes of one training say to one another: real processes over the ring on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.errors import BadInput
from mondrian_core.settings import is_distributed_launch
from mondrian_core.training import ranks
from mondrian_core.training.ranks import ALONE
from tests.training.starting import ended, started

pytestmark = pytest.mark.mini


def _run(root: Path, folder: Path, what: str, size: int = 2) -> tuple[list[int], list[Any], list[str]]:
    """(status, findings, errors) of each rank."""
    with started(root, folder, "tests.training.ranked", what, str(folder), size=size) as running:
        said = ended(running, 60)
    files = [folder / f"{rank}.json" for rank in range(size)]
    return (
        [status for status, _, _ in said],
        [json.loads(file.read_text()) if file.exists() else None for file in files],
        [errors for _, _, errors in said],
    )


def test_single_process_operations_are_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLX_RANK", raising=False)
    ranks.here.cache_clear()
    assert ranks.here() is ALONE and not is_distributed_launch() and ALONE.first
    tree, numbers, figures = {"a": mx.ones(2)}, np.ones(2), mx.array(1.0)
    assert ALONE.share([1, 2]) == [1, 2] and ALONE.sums(numbers) is numbers and ALONE.tree_from_first(tree) is tree
    assert ALONE.gradient(figures, tree) == (figures, tree)
    assert ALONE.file_from_first(tmp_path / "none") is None
    ALONE.leave(ValueError())
    # `mlx.launch -n 1` leaves an empty host file
    (tmp_path / "hosts").write_text("\n")
    monkeypatch.setenv("MLX_RANK", "0")
    monkeypatch.setenv("MLX_HOSTFILE", str(tmp_path / "hosts"))
    assert not is_distributed_launch()


def test_a_host_file_that_is_not_there_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_RANK", "1")
    monkeypatch.setenv("MLX_HOSTFILE", str(tmp_path / "none"))
    ranks.here.cache_clear()
    with pytest.raises(BadInput, match="can't be reached"):
        ranks.here()
    ranks.here.cache_clear()


def test_collective_operations_agree_on_all_ranks(root: Path, tmp_path: Path) -> None:
    statuses, found, errors = _run(root, tmp_path, "operations", size=3)
    assert statuses == [0, 0, 0], errors
    assert [each.pop("share") for each in found] == [[[1], ["only"]], [[2], []], [[3], []]]
    assert found[0] == found[1] == found[2]
    assert found[0]["gradient"] == [[6.0, 15.0], [[111.0] * 3] * 2, [3.0]]
    assert found[0]["sums"] == [0.1 + 0.1 + 0.1, 1e-17 + 2e-17 + 3e-17] and found[0]["no number"] == []
    assert found[0]["settled"] == [str(np.array([0.1, -0.0], dtype=np.float32).tolist()), [7]]
    assert found[0]["from_first"] == {"rank": 0, "text": "ä"}
    assert found[0]["file"] == [0, 1, 2] and found[0]["no file"] is None


@pytest.mark.parametrize(
    ("what", "statuses", "kinds", "says"),
    [
        ("differ", [2, 2], ["BadInput", "BadInput"], "different from rank 0 in rows (rank 1)"),
        ("fail", [3, 3], ["RankLost", "DiskFull"], "Process 1 of this training stopped: The disk is full"),
        ("fail_first", [3, 3], ["DiskFull", "RankLost"], "disk is full while writing /first"),
        ("interrupt", [130, 130], ["KeyboardInterrupt", "KeyboardInterrupt"], ""),
        ("wander", [3, 3], ["RankLost", "RankLost"], "don't do the same"),
        ("vanish", [3, -9], ["RankLost", None], "went away"),
    ],
)
def test_failed_rank_ends_other_ranks(
    root: Path, tmp_path: Path, what: str, statuses: list[int], kinds: list[str | None], says: str
) -> None:
    found = _run(root, tmp_path, what)
    assert (found[0], [each and each["kind"] for each in found[1]]) == (statuses, kinds), found[2]
    assert says in found[1][0]["error"]


def test_absent_rank_times_out(root: Path, tmp_path: Path) -> None:
    """Nothing can interrupt what waits in native code, so the process ends and says why."""
    statuses, found, errors = _run(root, tmp_path, "stall")
    assert statuses[0] == 3 and found[0] is None and "don't answer. (waited 2 s)" in errors[0]
    assert statuses[1] == 3 and found[1]["kind"] == "RankLost"
