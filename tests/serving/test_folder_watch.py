"""`mondrian watch`: complete files only, each once, over restarts and a folder that goes away and comes back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mondrian_core.cli import main
from mondrian_core.errors import BadInput, DatabaseBusy
from mondrian_core.events import StageNotice
from mondrian_core.files import file_sha256
from mondrian_core.serving import batch_analyze, folder_watch
from mondrian_core.serving.batch_analyze import AnalysisResult, BatchRequest, open_analyzer
from mondrian_core.serving.folder_watch import FolderScanner, FolderWatch, folder_ticks
from mondrian_core.serving.service_client import ServiceClient
from mondrian_core.settings import Settings
from mondrian_core.store import COMPLETED, FAILED, Store
from mondrian_core.xmp import SidecarOptions, read_sidecar
from tests.waiting import wait_until

Photograph = Callable[..., bytes]


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scanner(inbox: Path, clock: Clock) -> FolderScanner:
    return FolderScanner(folder=inbox, settle_seconds=1.0, clock=clock)


def names(scanner: FolderScanner, clock: Clock) -> list[str]:
    """What is complete after more than the settling time without changes."""
    scanner.complete()
    clock.now += 1.1
    return [path.name for path, _ in scanner.complete()]


def test_a_file_that_grows_is_not_complete(scanner: FolderScanner, clock: Clock, inbox: Path) -> None:
    for size in (10, 20, 30):
        (inbox / "a.jpg").write_bytes(bytes(size))
        clock.now += 1.1
        assert scanner.complete() == [], "it changed since the last look"
        assert scanner.has_waiting
    clock.now += 1.1
    ((path, state),) = scanner.complete()
    scanner.handle(path, state)
    assert names(scanner, clock) == [] and not scanner.has_waiting
    (inbox / "a.jpg").write_bytes(bytes(40))
    assert names(scanner, clock) == ["a.jpg"], "it was saved again"


def test_temporary_hidden_and_foreign_files_are_ignored(scanner: FolderScanner, clock: Clock, inbox: Path) -> None:
    (inbox / "deep" / ".hidden").mkdir(parents=True)
    (inbox / "deep" / "loop").symlink_to(inbox)
    for name in (".a.jpg", "a.jpg.part", "a.jpg.xmp", "a.tmp", "deep/.hidden/b.jpg", "deep/c.HEIC"):
        (inbox / name).write_bytes(b"x")
    (inbox / "gone.jpg").symlink_to(inbox / "nowhere")
    (inbox / "d.jpg").mkdir()
    assert names(scanner, clock) == ["c.HEIC"]
    os.replace(inbox / "a.tmp", inbox / "a.jpg")
    assert names(scanner, clock) == ["c.HEIC", "a.jpg"] or names(scanner, clock) == ["a.jpg", "c.HEIC"]


def test_the_workspace_inside_a_watched_folder_is_left_out(inbox: Path, clock: Clock) -> None:
    (inbox / "workspace" / "thumbnails").mkdir(parents=True)
    (inbox / "workspace" / "thumbnails" / "a.jpg").write_bytes(b"a")
    (inbox / "b.jpg").write_bytes(b"b")
    assert names(FolderScanner(folder=inbox, excluded=inbox / "workspace", settle_seconds=1.0, clock=clock), clock) == [
        "b.jpg"
    ]


def test_what_was_there_stays_handled_when_a_drive_comes_back(
    scanner: FolderScanner, clock: Clock, inbox: Path, tmp_path: Path
) -> None:
    (inbox / "a.jpg").write_bytes(b"a")
    assert scanner.skip_present() == 1
    os.rename(inbox, tmp_path / "unplugged")
    assert names(scanner, clock) == []
    inbox.mkdir()  # an empty mount point
    assert names(scanner, clock) == []
    inbox.rmdir()
    os.rename(tmp_path / "unplugged", inbox)
    (inbox / "b.jpg").write_bytes(b"b")
    assert names(scanner, clock) == ["b.jpg"]


@contextmanager
def watching(
    settings: Settings, inbox: Path, engine: Any, sidecars: SidecarOptions | None = None
) -> Iterator[tuple[FolderWatch, list[AnalysisResult], list[str]]]:
    """A watch of the folder in a thread, with the fake model; what it returned, and its notices."""
    seen: list[AnalysisResult] = []
    notices: list[str] = []
    request = BatchRequest(paths=(inbox,), advisor="ansel", mode="baseline", sidecars=sidecars)
    with Store(settings.database) as store, open_analyzer(settings, request, engine=engine) as analyze:
        watch = FolderWatch(
            request=request,
            scanner=FolderScanner(folder=inbox, settle_seconds=0.3),
            store=store,
            analyze=analyze,
            on_result=seen.append,
            listen=lambda event: notices.append(event.message) if isinstance(event, StageNotice) else None,
        )
        thread = threading.Thread(target=watch.run)
        thread.start()
        try:
            yield watch, seen, notices
        finally:
            watch.stop.set()
            thread.join()


def completed(settings: Settings) -> int:
    with Store(settings.database, read_only=True) as store:
        return sum(job.status == COMPLETED for job in store.jobs())


def test_photographs_are_critiqued_as_they_appear_each_once_and_over_restarts(
    settings: Settings, inbox: Path, fake_engine: Any, photograph: Photograph, tmp_path: Path
) -> None:
    with watching(settings, inbox, fake_engine, SidecarOptions()) as (watch, seen, notices):
        data = photograph(1)
        with (inbox / "slow.jpg").open("wb") as stream:  # a copy that takes its time
            stream.write(data[:500])
            stream.flush()
            wait_until(lambda: [each for each in seen if each.error], "the half photograph to be told")
            stream.write(data[500:])
        wait_until(lambda: watch.summary.critiqued == 1, "the whole one")
        assert "damaged" in (seen[0].error or "") and seen[1].critique is not None
        assert read_sidecar(inbox / "slow.jpg.xmp") is not None
        (inbox / "day two").mkdir()
        (inbox / "day two" / "b.jpg").write_bytes(photograph(2))
        wait_until(lambda: watch.summary.critiqued == 2, "a new sub-folder")
        os.rename(inbox / "slow.jpg", inbox / "renamed.jpg")
        wait_until(lambda: notices, "the notice about the new name")
        assert "renamed.jpg was critiqued before: 5.0" in notices[0]
        assert read_sidecar(inbox / "renamed.jpg.xmp") is not None
        assert watch.summary.known == 1, "a rename is no new photograph"
        os.rename(inbox, tmp_path / "away")
        wait_until(lambda: not inbox.exists(), "the folder to be gone")
        os.rename(tmp_path / "away", inbox)
        (inbox / "c.jpg").write_bytes(photograph(3))
        wait_until(lambda: watch.summary.critiqued == 3, "the folder that came back")
    shutil.rmtree(inbox / "day two")
    with watching(settings, inbox, fake_engine) as (watch, seen, notices):
        (inbox / "d.jpg").write_bytes(photograph(4))
        wait_until(lambda: watch.summary.critiqued == 1, "the only new one")
        wait_until(lambda: watch.summary.known == 2, "those of the first watch")
        assert notices == [], "what was there at the start is only counted"
    assert completed(settings) == 4 and [each.path.name for each in seen] == ["d.jpg"]


def test_a_locked_database_keeps_the_photograph_in_line(
    settings: Settings, inbox: Path, clock: Clock, scanner: FolderScanner, photograph: Photograph
) -> None:
    (inbox / "a.jpg").write_bytes(photograph(1))
    calls: list[Path] = []

    def analyze(path: Path) -> list[AnalysisResult]:
        calls.append(path)
        if len(calls) == 1:
            raise DatabaseBusy("The database is locked.", "Close the other program.")
        return []

    with Store(settings.database) as store:
        watch = FolderWatch(
            request=BatchRequest(paths=(inbox,), advisor="ansel", mode="baseline"),
            scanner=scanner,
            store=store,
            analyze=analyze,
            on_result=lambda result: None,
        )
        scanner.complete()
        for _ in range(3):
            clock.now += 1.1
            watch.step()
    assert len(calls) == 2


def test_without_watches_of_the_system_time_alone_decides(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("no space left for inotify watches")

    monkeypatch.setattr("watchfiles.watch", refuse)
    monkeypatch.setattr(folder_watch, "TICK_SECONDS", 0.01)
    stop = threading.Event()
    ticks = folder_ticks(inbox, stop)
    assert [next(ticks) for _ in range(4)] == [True, False, False, False]
    inbox.rmdir()
    assert next(ticks) is False
    inbox.mkdir()
    wait_until(lambda: next(ticks), "a scan of the new folder", 0)
    stop.set()
    assert list(ticks) == []


def run_watch(settings: Settings, inbox: Path, *options: str) -> int:
    where = ["--workspace", str(settings.root), "--adapters", str(settings.adapters_root), "--mode", "baseline"]
    return main(["watch", str(inbox), *where, *options])


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_the_command_ends_clean_and_goes_on_after_a_restart(
    settings: Settings,
    inbox: Path,
    fake_engine: Any,
    photograph: Photograph,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: str,
) -> None:
    for number in (1, 2, 3):
        (inbox / f"{number}.jpg").write_bytes(photograph(number))
    (inbox / os.fsdecode(b"\xff.jpg")).write_bytes(photograph(4))
    asked, limit = fake_engine.ask, [2]

    def ask(*arguments: Any) -> Any:
        if fake_engine.asked == limit[0]:
            if how == "Ctrl-C":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGTERM)
        return asked(*arguments)

    fake_engine.ask = ask
    monkeypatch.setattr(batch_analyze, "_local_engine", lambda *_: fake_engine)
    assert run_watch(settings, inbox, "--existing", "--advisor", "ansel", "--xmp", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    done = [line for line in lines if line["critique"]]
    assert len(done) == 2 and all(Path(line["sidecar"]).is_file() for line in done)
    with Store(settings.database, read_only=True) as store:
        assert [job.status for job in store.jobs()] == [COMPLETED, COMPLETED, FAILED]
    if how == "SIGTERM":
        return
    limit[0] = 3
    (inbox / "5.jpg").write_bytes(photograph(5))
    assert run_watch(settings, inbox, "--existing", "--advisor", "ansel") == 0
    text = capsys.readouterr().out
    assert "Stopped: 1 photographs critiqued, 2 critiqued before" in text
    assert completed(settings) == 3


def test_bad_input_of_the_command_is_one_paragraph(
    settings: Settings, inbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_watch(settings, inbox / "none") == 2
    assert "is not a folder" in capsys.readouterr().err
    assert run_watch(settings, settings.root) == 2
    assert "belongs to the workspace" in capsys.readouterr().err
    assert run_watch(settings, inbox) == 2
    assert "2 advisors" in capsys.readouterr().err
    assert run_watch(settings, inbox, "--advisor", "ansel", "--service", "http://127.0.0.1:9") == 2
    assert "mondrian serve" in capsys.readouterr().err


def test_a_running_service_critiques(
    settings: Settings, inbox: Path, start: Callable[..., Any], photograph: Photograph
) -> None:
    running = start()
    client = ServiceClient(address=f"http://127.0.0.1:{running.port}", pause=lambda seconds: None)
    client.check()
    (inbox / "a.jpg").write_bytes(photograph(1))
    (inbox / "b.jpg").write_bytes(b"no photograph")
    request = BatchRequest(paths=(inbox,), advisor="ansel", mode="baseline", sidecars=SidecarOptions())
    (done,) = client.analyze(inbox / "a.jpg", request)
    assert done.critique is not None and done.critique.mean == 5 and done.job and done.sidecar == inbox / "a.jpg.xmp"
    (refused,) = client.analyze(inbox / "b.jpg", request)
    assert "can't be used as a photograph" in (refused.error or "")
    with Store(settings.database, read_only=True) as store:
        known = store.completed_job("ansel", file_sha256(inbox / "a.jpg"), "baseline")
        assert known is not None and known.id == done.job, "a restarted watch knows it"
        assert store.completed_job("dorothea", known.photograph_sha256 or "") is None


def test_a_busy_service_is_asked_again_and_one_with_a_token_is_named(
    inbox: Path, photograph: Photograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox / "a.jpg").write_bytes(photograph(1))
    job = {"job_id": "j", "status": "running"}
    answers: list[Any] = [
        httpx.ConnectError("refused"),
        httpx.Response(503, headers={"retry-after": "7"}),
        httpx.Response(202, json=job),
        httpx.Response(200, json={**job, "status": "canceled"}),
        httpx.Response(401, json={"title": "The token is missing or wrong."}),
    ]

    def answer(*_: Any, **__: Any) -> httpx.Response:
        following = answers.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    monkeypatch.setattr("httpx.request", answer)
    pauses: list[float] = []
    client = ServiceClient(address="http://127.0.0.1:1", pause=pauses.append)
    request = BatchRequest(paths=(inbox,), advisor="ansel", mode="baseline")
    (result,) = client.analyze(inbox / "a.jpg", request)
    assert pauses == [1.0, 7.0, 2.0] and "canceled" in (result.error or "")
    with pytest.raises(BadInput, match="MONDRIAN_SERVICE_TOKEN"):
        list(client.analyze(inbox / "a.jpg", request))
