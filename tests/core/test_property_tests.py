"""Property tests hold in a process whose other threads draw random numbers, as Prefect's clients do."""

from __future__ import annotations

import random
import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

values: st.SearchStrategy[Any] = st.recursive(st.none() | st.integers(), lambda inner: st.lists(inner, max_size=3))


@given(values)
def accept_any(value: Any) -> None:
    assert value is None or isinstance(value, int | list)


def test_threads_that_draw_random_numbers_fail_no_property_test() -> None:
    stopped = threading.Event()

    def draw() -> None:
        while not stopped.is_set():
            random.getrandbits(32)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        accept_any()
    finally:
        stopped.set()
        thread.join()
