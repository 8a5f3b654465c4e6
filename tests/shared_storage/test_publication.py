"""Publishing by digest, in a folder and in a real S3 server: complete or invisible, verified, idempotent, prunable."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.errors import BadInput
from mondrian_core.object_store import Unreachable
from mondrian_core.runs import RunCatalogue
from mondrian_core.shared_storage import (
    SharedStorage,
    fetch_dataset,
    fetch_published_runs,
    fetch_run,
    publish_dataset,
    publish_run,
    remove_unreferenced,
    unreferenced_published,
)
from mondrian_core.shared_storage.publication import DamagedPublication, object_path
from mondrian_core.shared_storage.runs import RunTakenOver
from tests.s3_server import s3_server, url

__all__ = ["s3_server", "url"]  # fixtures
DAY = 86400.0


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The shared root: an existing folder, or a place in a bucket."""
    if request.param == "s3":
        return str(request.getfixturevalue("url"))
    (tmp_path / "share").mkdir()
    return str(tmp_path / "share")


@pytest.fixture
def folder_root(tmp_path: Path) -> str:
    (tmp_path / "share").mkdir()
    return str(tmp_path / "share")


def make_dataset(workspace: Path, content: bytes = b"pixels") -> Path:
    """A folder with the shape of a dataset version."""
    folder = workspace / "datasets" / "ansel" / "d1"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "data.arrow").write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps({"digest": "d1"}))
    return folder


def make_run(workspace: Path, name: str = "20261128-120000-000001-ansel") -> Path:
    """A run as its stages leave it."""
    folder = workspace / "runs" / name
    (folder / "adapter").mkdir(parents=True)
    context = {
        "workspace": ".",
        "adapters": str(workspace / "adapters"),
        "base_model": str(workspace / "models" / "mini"),
        "advisor": "ansel",
        "recipe": {"name": "small"},
    }
    (folder / "context.json").write_text(json.dumps(context))
    (folder / "dataset.json").write_text(json.dumps({"path": "datasets/ansel/d1", "digest": "d1"}))
    (folder / "training_log.jsonl").write_text('{"kind": "step", "step": 1, "epoch": 1, "loss": 2.0}\n')
    (folder / "samples.jsonl").write_text("{}\n")
    (folder / "report.html").write_text("<p>report</p>")
    (folder / "loss.png").write_bytes(b"png")
    (folder / "adapter" / "adapters.safetensors").write_bytes(b"weights")
    (folder / "train.log").write_text(f"{workspace}/secret")
    return folder


def test_a_dataset_reaches_a_workspace_without_photographs(root: str, tmp_path: Path) -> None:
    storage, folder = SharedStorage(root), make_dataset(tmp_path / "a")
    publish_dataset(storage, folder)
    there = fetch_dataset(SharedStorage(root), tmp_path / "b", "ansel", "d1")
    assert (there / "train" / "data.arrow").read_bytes() == b"pixels"
    assert (there / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()
    assert sorted(path.name for path in there.parent.iterdir()) == ["d1"], "nothing temporary is left"
    with pytest.raises(BadInput, match="on the machine with the photographs"):
        fetch_dataset(storage, tmp_path / "b", "ansel", "d2")


def test_publishing_again_uploads_nothing(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, folder = SharedStorage(root), make_run(tmp_path / "a")
    make_dataset(tmp_path / "a")
    publish_run(storage, folder)
    monkeypatch.setattr(type(storage.store), "upload", lambda *given: pytest.fail("an upload"))
    assert publish_run(storage, folder).facts["revision"] == 2


def test_runs_come_to_every_machine(root: str, tmp_path: Path) -> None:
    storage, folder = SharedStorage(root), make_run(tmp_path / "a")
    publish_run(storage, folder)
    seen: dict[str, str] = {}
    assert fetch_published_runs(storage, tmp_path / "b", seen) == ([folder.name], [])
    record = RunCatalogue(tmp_path / "b").run(folder.name)
    assert (record.advisor, record.recipe, record.has_report, record.has_log) == ("ansel", "small", True, True)
    there = tmp_path / "b" / "runs" / folder.name
    assert (there / "adapter" / "adapters.safetensors").read_bytes() == b"weights"
    assert (there / "samples.jsonl").exists() and (there / "loss.png").exists() and not (there / "train.log").exists()
    assert fetch_published_runs(storage, tmp_path / "b", seen) == ([], [])
    (folder / "promote.json").write_text('{"decision": "promoted", "version": "v0001", "sentence": "good"}')
    publish_run(storage, folder)
    assert fetch_published_runs(storage, tmp_path / "b", seen) == ([folder.name], [])
    assert RunCatalogue(tmp_path / "b").run(folder.name).decision == "promoted"
    assert fetch_published_runs(storage, tmp_path / "a") == ([], []), "its own run is left alone"


def test_no_path_of_a_machine_is_published(folder_root: str, tmp_path: Path) -> None:
    make_dataset(tmp_path / "a")
    folder = make_run(tmp_path / "a")
    publish_run(SharedStorage(folder_root), folder)
    for file in Path(folder_root).rglob("*"):
        if file.is_file():
            assert str(tmp_path).encode() not in file.read_bytes(), file
    there = fetch_run(SharedStorage(folder_root), tmp_path / "b", folder.name)
    assert there is not None
    context = json.loads((there / "context.json").read_text())
    assert (context["adapters"], context["base_model"]) == ("adapters", "mini")


def test_who_lost_a_run_publishes_nothing_more(root: str, tmp_path: Path) -> None:
    storage, folder = SharedStorage(root), make_run(tmp_path / "a")
    publish_run(storage, folder)
    taken = fetch_run(storage, tmp_path / "b", folder.name)
    assert taken is not None
    (taken / "train.json").write_text("{}")
    assert publish_run(storage, taken).facts["revision"] == 2
    with pytest.raises(RunTakenOver):
        publish_run(storage, folder)
    assert not (folder / "train.json").exists(), "files at work are left alone"
    for file in folder.rglob("*"):
        os.utime(file, (0, 0))
    fetch_run(storage, tmp_path / "a", folder.name)
    assert (folder / "train.json").exists(), "nobody works on it here any more"


class Died(BaseException):
    """The process is gone."""


def died(at: int, storage: SharedStorage, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run `act` and die at the write with that number; True when it died."""
    count = iter(range(10_000))

    def fatal(name: str) -> Callable[..., Any]:
        real = getattr(storage.store, name)

        def call(*given: Any) -> Any:
            if next(count) == at:
                raise Died
            return real(*given)

        return call

    with monkeypatch.context() as patch:
        for name in ("upload", "write"):
            patch.setattr(storage.store, name, fatal(name))
        try:
            act()
        except Died:
            return True
    return False


def test_death_at_any_write_shows_everything_or_nothing(
    folder_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(tmp_path / "a")
    folder, seen = make_run(tmp_path / "a"), set()
    for point in range(100):
        shutil.rmtree(folder_root)
        Path(folder_root).mkdir()
        (folder / ".published.json").unlink(missing_ok=True)
        storage = SharedStorage(folder_root)
        gone = died(point, storage, lambda: publish_run(storage, folder), monkeypatch)  # noqa: B023
        there = fetch_run(storage, tmp_path / f"b{point}", folder.name)
        seen.add(there is not None)
        if there is not None:
            names = {path.name for path in there.rglob("*") if path.is_file()} - {".published.json"}
            assert names == {path.name for path in folder.rglob("*")} - {".published.json", "train.log", "adapter"}
            fetch_dataset(storage, tmp_path / f"b{point}", "ansel", "d1")
        publish_run(storage, folder)
        assert fetch_run(storage, tmp_path / f"c{point}", folder.name) is not None
        if not gone:
            break
    assert seen == {True, False} and point >= 10


def test_a_damaged_object_is_never_taken(root: str, tmp_path: Path) -> None:
    storage, folder = SharedStorage(root), make_dataset(tmp_path / "a")
    publish_dataset(storage, folder)
    from mondrian_core.files import file_sha256

    sha256 = file_sha256(folder / "train" / "data.arrow")
    storage.store.write(object_path(sha256), b"pixelz")
    with pytest.raises(DamagedPublication, match="doesn't match"):
        fetch_dataset(storage, tmp_path / "b", "ansel", "d1")
    storage.store.remove([object_path(sha256)])
    with pytest.raises(DamagedPublication, match="is missing"):
        fetch_dataset(storage, tmp_path / "b", "ansel", "d1")
    assert list((tmp_path / "b" / "datasets" / "ansel").iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil"])
def test_a_manifest_leads_nowhere_else(folder_root: str, tmp_path: Path, name: str) -> None:
    storage = SharedStorage(folder_root)
    evil = {"format": 1, "revision": 1, "files": {name: {"sha256": "0" * 64, "bytes": 1}}}
    storage.store.write("runs/evil.json", json.dumps(evil).encode())
    changed, problems = fetch_published_runs(storage, tmp_path / "b")
    assert changed == [] and len(problems) == 1 and "evil" in problems[0]
    assert not (tmp_path / "b" / "runs").exists()


def test_what_nobody_names_is_found_after_a_while(
    folder_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, folder = SharedStorage(folder_root), make_run(tmp_path / "a")
    publish_run(storage, folder)
    (folder / "report.html").write_text("<p>another</p>")
    publish_run(storage, folder)
    assert unreferenced_published(storage) == []
    newest = max(path.stat().st_mtime for path in Path(folder_root).rglob("*"))
    found = unreferenced_published(storage, days=7, now=newest + 8 * DAY)
    contents = {(Path(folder_root) / each.path).read_bytes() for each in found}
    assert contents == {b"<p>report</p>"}, "the report of the first revision"
    assert remove_unreferenced(storage, found) == len(b"<p>report</p>")
    there = fetch_run(storage, tmp_path / "b", folder.name)
    assert there is not None and (there / "report.html").read_text() == "<p>another</p>"


def test_a_share_that_is_not_mounted_is_not_created(tmp_path: Path) -> None:
    storage = SharedStorage(str(tmp_path / "share"))
    with pytest.raises(Unreachable, match="Mount the share"):
        publish_dataset(storage, make_dataset(tmp_path / "a"))
    assert not (tmp_path / "share").exists()
