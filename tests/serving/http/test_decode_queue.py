"""Many large uploads at once: one decode at a time, /health stays responsive, the excess gets Retry-After."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image

from mondrian_core.serving.http.decode_queue import MAX_UPLOADS_IN_MEMORY, DecodeQueue
from mondrian_core.serving.jobs.worker import QueueFull

Start = Callable[..., Any]


def plain(shade: int, size: tuple[int, int]) -> bytes:
    """A large photograph in a few kilobytes."""
    stream = io.BytesIO()
    Image.new("RGB", size, (90, shade, 90)).save(stream, "JPEG", quality=20)
    return stream.getvalue()


def peak_mb(pid: int) -> float:
    """Peak memory of a process in MB."""
    line = next(each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@pytest.mark.parametrize("uploads", [16, pytest.param(45, marks=pytest.mark.soak)])
def test_health_answers_at_once_while_uploads_decode(start: Start, tmp_path: Path, uploads: int) -> None:
    running = start(log=tmp_path / "log", longest_queue=100)
    began, waits = time.monotonic(), []
    with ThreadPoolExecutor(uploads) as pool:
        sent = [
            pool.submit(running.post, plain(shade, (2000, 1600)), Prefer="respond-async") for shade in range(uploads)
        ]
        while not all(each.done() for each in sent):
            asked = time.monotonic()
            assert running.get("/health").status_code == 200
            waits.append(time.monotonic() - asked)
            time.sleep(0.05)
    whole = time.monotonic() - began
    assert {each.result().status_code for each in sent} <= {200, 202}  # 200: its critique was ready by then
    assert len(waits) >= 4
    assert max(waits) < whole / 3, "relative to the total time, because the machine may be loaded"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads a process's peak memory where Linux tells it")
def test_one_full_size_image_is_in_memory_at_a_time(
    start: Start, photograph: Callable[..., bytes], tmp_path: Path
) -> None:
    running = start(log=tmp_path / "log")
    size = (5000, 4000)
    running.post(photograph())
    before = peak_mb(running.process.pid)
    assert running.post(plain(0, size)).status_code == 200
    alone = peak_mb(running.process.pid)
    with ThreadPoolExecutor(4) as pool:
        jobs = [each.json()["job_id"] for each in pool.map(lambda shade: running.post(plain(shade, size)), range(1, 5))]
        shown = list(pool.map(lambda job: running.get(f"/jobs/{job}/photograph").status_code, jobs))
    assert shown == [200] * 4
    together = peak_mb(running.process.pid)
    assert together - alone < 0.5 * (alone - before), "the second image is decoded after the first is released"


def test_full_decode_queue_sends_retry_after() -> None:
    queue = DecodeQueue(most_waiting=2)

    async def run() -> None:
        leave = anyio.Event()

        async def wait() -> None:
            async with queue.slot():
                await leave.wait()

        async with anyio.create_task_group() as group:
            for _ in range(MAX_UPLOADS_IN_MEMORY + 2):
                group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(QueueFull) as refused:
                async with queue.slot():
                    pass
            assert refused.value.retry_after >= 1
            leave.set()
        async with queue.slot():
            pass  # there is room again

    anyio.run(run)


def test_decodes_run_one_at_a_time_and_a_failure_releases_the_turn() -> None:
    queue, inside, most = DecodeQueue(), [0], [0]
    lock = threading.Lock()

    def act(fail: bool) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        with lock:
            inside[0] -= 1
        if fail:
            raise ValueError("damaged")

    async def run() -> None:
        async def one(fail: bool) -> None:
            try:
                await queue.run(lambda: act(fail))
            except ValueError:
                assert fail

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(one, number % 3 == 0)

    anyio.run(run)
    assert most == [1]
