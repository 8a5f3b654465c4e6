"""Several processes that train one adapter together: each takes its share of the rows, sums are the same everywhere.

Every rank calls the same operations in the same order, each from its main thread and on the CPU, where the group's
transport lives. An operation begins with a short exchange of who is where: so a rank that fails or is interrupted ends
the others with its reason instead of leaving them waiting, and ranks that don't do the same are found out.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from mondrian_core.errors import BadInput, MondrianError, RankLost
from mondrian_core.settings import is_distributed_launch

Tree = Any
T = TypeVar("T")

PATIENCE_SECONDS = 1800.0  # longer than a slow rank's share of a validation; a dead connection is noticed at once
_MEETING_SECONDS = 300.0
_LEAVING_SECONDS = 120.0
_HEADER = struct.Struct("<BBQ")  # what is done, how this rank is, length of what follows
_FINE, _INTERRUPTED, _FAILED = range(3)
_REASON_BYTES = 600


class Ranks:
    """A process that trains alone: every operation gives back what it was given.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    rank, size = 0, 1

    @property
    def first(self) -> bool:
        """True on the rank that writes files and talks to the user."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """What of `items` is this rank's part; empty where there are fewer than ranks."""
        return list(items[self.rank :: self.size])

    def gradient(self, figures: mx.array, gradient: Tree) -> tuple[mx.array, Tree]:
        """Loss (and figures beside it) and gradient, added up over all ranks, in float32."""
        return figures, gradient

    def sums(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers, each added up over all ranks in the order of the ranks, in float64."""
        return numbers

    def same(self, facts: Mapping[str, str]) -> None:
        """Make sure that all ranks have the same facts.

        Raises:
            BadInput: naming those that differ, and where.
        """

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What `make` gives on the first rank (a value that JSON can hold), on every rank; the others wait for it."""
        return make()

    def file_from_first(self, path: Path) -> bytes | None:
        """The bytes of the first rank's file, on every rank; None where there is none."""
        return path.read_bytes() if path.exists() else None

    def tree_from_first(self, tree: Tree) -> Tree:
        """The first rank's arrays, bit for bit, on every rank; names and shapes are the same on all."""
        return tree

    def leave(self, error: BaseException) -> None:
        """Tell the others why this rank stops; they stop too, at their next operation."""

    @contextmanager
    def taking_part(self) -> Iterator[None]:
        """What this rank does with the others; when it fails or is interrupted, it leaves."""
        try:
            yield
        except BaseException as error:
            self.leave(error)
            raise


ALONE = Ranks()


class Group(Ranks):
    """Ranks that `mlx.launch` started."""

    def __init__(self, group: Any, patience: float) -> None:
        """`group`: from `mx.distributed.init`; `patience`: seconds that an operation may wait for the others."""
        self._group, self._patience, self._over = group, patience, False
        self.rank, self.size = group.rank(), group.size()

    def gradient(self, figures: mx.array, gradient: Tree) -> tuple[mx.array, Tree]:
        named = [("", figures), *tree_flatten(gradient)]
        mine = np.concatenate([np.array(array, dtype=np.float32).ravel() for _, array in named])
        with self._whole("gradient", len(mine)):
            total = self._total(mine)
        (_, summed), *parts = _cut(total, named)
        return summed, tree_unflatten(parts)

    def sums(self, numbers: np.ndarray) -> np.ndarray:
        mine = np.asarray(numbers, dtype=np.float64)
        return np.asarray(sum(self._each(mine.ravel()))).reshape(mine.shape)

    def same(self, facts: Mapping[str, str]) -> None:
        all_facts = [json.loads(text) for text in self._texts(json.dumps(dict(facts)))]
        different = {
            name: [rank for rank, theirs in enumerate(all_facts) if theirs[name] != all_facts[0][name]]
            for name in facts
        }
        found = [f"{name} (rank {', '.join(map(str, ranks))})" for name, ranks in different.items() if ranks]
        if found:
            self._over = True  # every rank knows
            raise BadInput(
                f"The processes don't train the same: different from rank 0 in {'; '.join(found)}.",
                "Give all of them the same recipe, base model and dataset (copy its folder), see docs/several-macs.md.",
            )

    def from_first(self, make: Callable[[], Any]) -> Any:
        mine = b""
        if self.first:
            with self.taking_part():
                mine = json.dumps(make()).encode()
        return json.loads(self._bytes(mine))

    def file_from_first(self, path: Path) -> bytes | None:
        present = self.from_first(lambda: path.exists())
        if not present:
            return None
        return self._bytes(path.read_bytes() if self.first else b"")

    def tree_from_first(self, tree: Tree) -> Tree:
        named = [(name, np.array(array)) for name, array in tree_flatten(tree)]
        mine = b"".join(array.tobytes() for _, array in named) if self.first else b""
        whole, start, found = self._bytes(mine), 0, []
        for name, array in named:
            part = np.frombuffer(whole, dtype=array.dtype, count=array.size, offset=start)
            found.append((name, mx.array(part.reshape(array.shape))))
            start += array.nbytes
        return tree_unflatten(found)

    def leave(self, error: BaseException) -> None:
        if self._over:
            return
        self._over = True
        state = _INTERRUPTED if isinstance(error, KeyboardInterrupt) else _FAILED
        text = f"{error}" if isinstance(error, MondrianError) else f"{type(error).__name__}: {error}"
        with suppress(MondrianError, KeyboardInterrupt), self._whole("", 0, state, text):
            pass

    # --- an operation -------------------------------------------------------------------------------------------------

    @contextmanager
    def _whole(self, what: str, length: int, state: int = _FINE, reason: str = "") -> Iterator[None]:
        """One operation: an interruption waits for its end, as the others would wait for its rest.

        Raises:
            KeyboardInterrupt: when some rank was interrupted.
            RankLost: when one stopped, can't be reached, or does something else.
        """
        waiting = reason or "The other processes of this training don't answer."
        with _uninterrupted(), self._watched(waiting, _LEAVING_SECONDS if state else self._patience):
            try:
                states = self._met(what, length, state)
                if any(states):
                    self._over = True
                    self._stop(states, reason)
                yield
            except RuntimeError as error:
                self._over = True
                raise RankLost("Another process of this training went away.", _AGAIN) from error

    def _met(self, what: str, length: int, state: int) -> list[int]:
        """How every rank is."""
        told = [_HEADER.unpack(row) for row in self._gathered(_HEADER.pack(_OPERATIONS.index(what), state, length))]
        if len({(doing, much) for doing, how, much in told if how == _FINE}) > 1:
            self._over = True
            raise RankLost(f"The processes of this training don't do the same ({what}).", _AGAIN)
        return [how for _, how, _ in told]

    def _stop(self, states: list[int], reason: str) -> None:
        """Every rank hears who stopped and why."""
        reasons = self._gathered(reason.encode()[:_REASON_BYTES].ljust(_REASON_BYTES, b"\0"))
        if states[self.rank]:
            return
        if _FAILED not in states:
            raise KeyboardInterrupt
        who = states.index(_FAILED)
        said = reasons[who].rstrip(b"\0").decode(errors="replace")
        raise RankLost(f"Process {who} of this training stopped: {said}", "Mend it there and run all of them again.")

    @contextmanager
    def _watched(self, waiting: str, seconds: float) -> Iterator[None]:
        """End the process when an operation takes too long: what waits there can't be interrupted otherwise."""
        timer = threading.Timer(seconds, _give_up, (f"{waiting} (waited {seconds:.0f} s) {_AGAIN}",))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _each(self, numbers: np.ndarray) -> list[np.ndarray]:
        """Every rank's numbers, float64."""
        with self._whole("numbers", numbers.size):
            return [np.frombuffer(row, dtype=np.float64) for row in self._gathered(numbers.tobytes())]

    def _texts(self, text: str) -> list[str]:
        """Every rank's text."""
        data = text.encode()
        longest = int(max(length[0] for length in self._each(np.array([len(data)], dtype=np.float64))))
        with self._whole("texts", longest):
            return [row.rstrip(b"\0").decode() for row in self._gathered(data.ljust(longest, b"\0"))]

    def _bytes(self, data: bytes) -> bytes:
        """The first rank's bytes."""
        length = int(self._each(np.array([len(data)], dtype=np.float64))[0][0])
        mine = np.frombuffer(data, dtype=np.uint8) if self.first else np.zeros(length, dtype=np.uint8)
        with self._whole("bytes", length):
            return self._total(mine).tobytes() if length else b""

    def _gathered(self, data: bytes) -> list[bytes]:
        row = mx.array(np.frombuffer(data, dtype=np.uint8)[None])
        return [bytes(each.tobytes()) for each in _done(mx.distributed.all_gather, row, self._group)]

    def _total(self, array: np.ndarray) -> np.ndarray:
        return _done(mx.distributed.all_sum, mx.array(array), self._group)


_OPERATIONS = ("", "numbers", "gradient", "texts", "bytes")
_AGAIN = "Run all of them again with --resume; the last checkpoint is kept."


def _done(operation: Any, array: mx.array, group: Any) -> np.ndarray:
    """On the CPU and finished before it returns: sums that wait in a graph beside a GPU's work have deadlocked mlx."""
    mx.eval(array)
    found = operation(array, group=group, stream=mx.cpu)
    mx.eval(found)
    return np.array(found)


def _cut(flat: np.ndarray, named: Sequence[tuple[str, mx.array]]) -> list[tuple[str, mx.array]]:
    """The arrays that lie one behind another in `flat`, shaped as those of `named`."""
    ends = np.cumsum([array.size for _, array in named])
    return [
        (name, mx.array(flat[end - array.size : end].reshape(array.shape)))
        for (name, array), end in zip(named, ends, strict=True)
    ]


def _give_up(message: str) -> None:
    os.write(2, f"{message}\n".encode())
    os._exit(MondrianError.exit_status)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C takes effect at the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


@cache
def here() -> Ranks:
    """The ranks that this process was started with: `mlx.launch` says so in its environment.

    Raises:
        BadInput: when the others can't be reached.
    """
    if not is_distributed_launch():
        return ALONE
    timer = threading.Timer(
        _MEETING_SECONDS,
        _give_up,
        ("The other processes of this training didn't come. Check that each host of the host file can be reached.",),
    )
    timer.daemon = True
    timer.start()
    try:
        group = mx.distributed.init(strict=True)
    except (RuntimeError, ValueError) as error:
        raise BadInput(
            f"The other processes of this training can't be reached: {error}.",
            "Check the addresses in the host file, and that nothing else uses the ports.",
        ) from error
    finally:
        timer.cancel()
    return Group(group, PATIENCE_SECONDS) if group.size() > 1 else ALONE
