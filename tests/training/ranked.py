"""One of several processes: `python -m tests.training.ranked WHAT FOLDER`, with MLX_RANK and MLX_HOSTFILE set.

What it finds goes to FOLDER/<rank>.json, an error that a user may see as `{"error": ..., "kind": ...}` too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.errors import DiskFull, MondrianError
from mondrian_core.training import ranks as module
from mondrian_core.training.ranks import Ranks, here


def operations(ranks: Ranks) -> dict[str, Any]:
    """Every operation once."""
    rank = ranks.rank
    share = ranks.share([1, 2, 3]), ranks.share(["only"])
    figures, gradient = ranks.gradient(mx.array([1.0 + rank, 5.0]), {"a": mx.full((2, 3), 10.0**rank), "b": mx.ones(1)})
    settled = ranks.tree_from_first({"x": mx.array([0.1, -0.0]) * (1 - 2 * rank), "y": {"z": mx.array([7 + rank])}})
    file = Path(sys.argv[2]) / "file"
    if ranks.first:
        file.write_bytes(b"\0\1\2")
    ranks.same({"rows": "equal"})
    return {
        "share": share,
        "gradient": [np.array(array).tolist() for array in (figures, gradient["a"], gradient["b"])],
        "sums": ranks.sums(np.array([0.1, 1e-17 * (rank + 1)])).tolist(),
        "no number": ranks.sums(np.zeros(0)).tolist(),
        "settled": [str(np.array(settled["x"]).tolist()), np.array(settled["y"]["z"]).tolist()],
        "from_first": ranks.from_first(lambda: {"rank": rank, "text": "ä"}),
        "file": list(ranks.file_from_first(file if ranks.first else file / "not here") or b""),
        "no file": ranks.file_from_first(file.with_name("none")),
    }


def differ(ranks: Ranks) -> None:
    """Other rows on the second."""
    ranks.same({"rows": str(ranks.rank), "base": "b", "recipe": "r"})


def fail(ranks: Ranks) -> None:
    """The second fails while the first waits for a sum."""
    if ranks.rank:
        error = DiskFull("/some/file")
        ranks.leave(error)
        raise error
    ranks.sums(np.ones(1))


def fail_first(ranks: Ranks) -> None:
    """The first fails while it makes what the second waits for."""

    def broken() -> None:
        raise DiskFull("/first")

    ranks.from_first(broken)


def interrupt(ranks: Ranks) -> None:
    """Ctrl-C in the second while it waits in an operation; it takes effect when that is whole."""
    if ranks.first:
        time.sleep(1.0)
        ranks.sums(np.ones(1))
        ranks.sums(np.ones(1))
    else:
        os.posix_spawn("/bin/sh", ["sh", "-c", f"sleep 0.4; kill -INT {os.getpid()}"], dict(os.environ))
        try:
            ranks.sums(np.ones(1))
        except KeyboardInterrupt as error:
            ranks.leave(error)
            raise


def wander(ranks: Ranks) -> None:
    """The second does something else."""
    ranks.sums(np.ones(1 + ranks.rank))


def vanish(ranks: Ranks) -> None:
    """The second is killed while the first waits."""
    if ranks.rank:
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.sums(np.ones(1))


def stall(ranks: Ranks) -> None:
    """The second is there and never comes."""
    if ranks.rank:
        time.sleep(6)
    ranks.sums(np.ones(1))


TESTS: dict[str, Callable[[Ranks], Any]] = {
    each.__name__: each for each in (operations, differ, fail, fail_first, interrupt, wander, vanish, stall)
}


def main(what: str, folder: Path) -> int:
    """Do it and say what came of it."""
    if what == "stall":
        module.PATIENCE_SECONDS = 1.5
    ranks = here()
    try:
        found, status = TESTS[what](ranks), 0
    except MondrianError as error:
        found, status = {"error": str(error), "kind": type(error).__name__}, error.exit_status
    except KeyboardInterrupt:
        found, status = {"error": "", "kind": "KeyboardInterrupt"}, 130
    (folder / f"{ranks.rank}.json").write_text(json.dumps(found))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
