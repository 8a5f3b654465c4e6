"""Path resolution: the photograph of a record."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mondrian_core.photograph_paths import (
    PathResolution,
    ResolvedPath,
    SourceTree,
    is_temporary_path,
    path_parts,
)

FILES = (
    "source/a.jpg",
    "source/trip/b.jpg",
    "source/home/b.jpg",
    "source/advisor/photographer/ansel/Moon.jpg",
    "source/x/deep/c.jpg",
    "source/y/deep/c.jpg",
)


@pytest.fixture
def index(tmp_path: Path) -> SourceTree:
    return index_of(tmp_path, FILES)


def index_of(workspace: Path, files: tuple[str, ...]) -> SourceTree:
    for name in files:
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_bytes(b"x")
    return SourceTree(workspace)


@pytest.mark.parametrize(
    ("text", "path", "how"),
    [
        ("source/a.jpg", "source/a.jpg", PathResolution.AS_GIVEN),
        ("./source//trip/b.jpg", "source/trip/b.jpg", PathResolution.AS_GIVEN),
        ("trip/b.jpg", "source/trip/b.jpg", PathResolution.AS_GIVEN),
        ("a.jpg", "source/a.jpg", PathResolution.AS_GIVEN),
        ("/Users/studio/mondrian/source/trip/b.jpg", "source/trip/b.jpg", PathResolution.TAIL),
        (r"C:\studio\source\trip\b.jpg", "source/trip/b.jpg", PathResolution.TAIL),
        ("/old/ansel/moon.JPG", "source/advisor/photographer/ansel/Moon.jpg", PathResolution.TAIL),
        ("Moon.jpg", "source/advisor/photographer/ansel/Moon.jpg", PathResolution.NAME),
        ("/elsewhere/Moon.jpg", "source/advisor/photographer/ansel/Moon.jpg", PathResolution.NAME),
        ("b.jpg", None, PathResolution.AMBIGUOUS),
        ("/somewhere/deep/c.jpg", None, PathResolution.AMBIGUOUS),
        ("/somewhere/y/deep/c.jpg", "source/y/deep/c.jpg", PathResolution.TAIL),
        ("none.jpg", None, PathResolution.MISSING),
        ("/", None, PathResolution.MISSING),
        ("../source/a.jpg", None, PathResolution.OUTSIDE),
        ("source/../../a.jpg", None, PathResolution.OUTSIDE),
        (r"..\a.jpg", None, PathResolution.OUTSIDE),
    ],
)
def test_path_resolution_rules(index: SourceTree, text: str, path: str | None, how: PathResolution) -> None:
    resolved = index.resolve(text)
    assert (resolved.path, resolved.how) == (path, how)


def test_absolute_path_in_workspace_is_resolved(index: SourceTree) -> None:
    resolved = index.resolve(f"{index.workspace}/source/home/b.jpg")
    assert (resolved.path, resolved.how) == ("source/home/b.jpg", PathResolution.AS_GIVEN)


def test_case_decides_between_two_matching_names(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    if (tmp_path / "SOURCE").exists():
        pytest.skip("this file system doesn't tell upper from lower case")
    index = index_of(tmp_path, ("source/one/Sea.jpg", "source/two/sea.jpg"))
    assert index.resolve("/old/Sea.jpg").path == "source/one/Sea.jpg"
    assert index.resolve("/old/SEA.jpg").how is PathResolution.AMBIGUOUS


def test_links_to_another_disk_are_followed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    index_of(disk / "ansel", ("moon.jpg", "deep/b.jpg"))
    (disk / "single.jpg").write_bytes(b"x")
    workspace = tmp_path / "workspace"
    (workspace / "source" / "advisor" / "photographer").mkdir(parents=True)
    (workspace / "source" / "advisor" / "photographer" / "ansel").symlink_to(disk / "ansel")
    (workspace / "source" / "linked.jpg").symlink_to(disk / "single.jpg")
    index = SourceTree(workspace)
    portfolio = "source/advisor/photographer/ansel"
    assert index.files == [f"{portfolio}/deep/b.jpg", f"{portfolio}/moon.jpg", "source/linked.jpg"]
    for text in (f"{portfolio}/moon.jpg", f"{workspace}/{portfolio}/moon.jpg", "moon.jpg", "/Users/x/ansel/moon.jpg"):
        assert index.resolve(text).path == f"{portfolio}/moon.jpg"


def test_symlink_cycle_terminates(tmp_path: Path) -> None:
    index_of(tmp_path, ("source/trip/a.jpg", "source/trip/deep/b.jpg"))
    source = tmp_path / "source"
    (source / "trip" / "deep" / "round").symlink_to(source)
    (source / "again").symlink_to(source / "trip")
    (source / "again.jpg").symlink_to(source / "trip" / "a.jpg")
    (source / "workspace").symlink_to(tmp_path)
    (source / "everything").symlink_to("/")
    (source / "itself").symlink_to(source / "itself")
    (source / "unplugged").symlink_to(tmp_path / "not-mounted")
    index = SourceTree(tmp_path)
    assert index.files == ["source/trip/a.jpg", "source/trip/deep/b.jpg"]
    for text in ("source/again/a.jpg", "again.jpg", "source/trip/deep/round/trip/a.jpg"):
        assert index.resolve(text) == ResolvedPath("source/trip/a.jpg", PathResolution.AS_GIVEN)
    for name in ("workspace", "everything", "itself", "unplugged"):
        assert index.resolve(f"source/{name}/x.jpg") == ResolvedPath(None, PathResolution.BROKEN_LINK)


def test_folder_with_two_links_is_listed_once(tmp_path: Path) -> None:
    index_of(tmp_path / "disk", ("a.jpg",))
    (tmp_path / "workspace" / "source").mkdir(parents=True)
    for name in ("one", "two"):
        (tmp_path / "workspace" / "source" / name).symlink_to(tmp_path / "disk")
    index = SourceTree(tmp_path / "workspace")
    assert index.files == ["source/one/a.jpg"]
    assert index.resolve("two/a.jpg") == ResolvedPath("source/one/a.jpg", PathResolution.AS_GIVEN)


NFC, NFD = "Sch\u00f6n \u00e9t\u00e9.jpg", "Scho\u0308n e\u0301te\u0301.jpg"


@pytest.mark.parametrize(("stored", "asked"), [(NFC, NFD), (NFD, NFC), (NFD, NFD), (NFC, NFC.upper())])
def test_composed_and_decomposed_names_match(tmp_path: Path, stored: str, asked: str) -> None:
    index = index_of(tmp_path, (f"source/{stored}",))
    for text in (asked, f"source/{asked}", f"{tmp_path}/source/{asked}", f"/Users/x/{asked}"):
        assert index.resolve(text).path == f"source/{stored}"


def test_exact_spelling_is_preferred(tmp_path: Path) -> None:
    index = index_of(tmp_path, (f"source/{NFC}", f"source/{NFD}"))
    if len(index) == 1:
        return  # a file system that knows them as one name, as macOS's do
    assert [index.resolve(name).path for name in (NFC, NFD)] == [f"source/{NFC}", f"source/{NFD}"]


def test_workspace_under_tmp_has_no_temporary_files(tmp_path: Path) -> None:
    workspace = Path("/tmp") / f"mondrian-{tmp_path.name}-{os.getpid()}"
    try:
        index = index_of(workspace, ("source/a.jpg",))
        assert not index.is_temporary(f"{workspace}/source/a.jpg")
        assert index.is_temporary(f"{workspace}/source/._a.jpg")
        assert index.is_temporary("/tmp/elsewhere/a.jpg")
        assert index.resolve(f"{workspace}/source/a.jpg").how is PathResolution.AS_GIVEN
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def test_workspace_without_source_folder(tmp_path: Path) -> None:
    assert SourceTree(tmp_path).resolve("a.jpg").how is PathResolution.MISSING


names = st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(text=st.lists(names | st.sampled_from(["..", ".", "source", "b.jpg", "c.jpg", "trip", "", "C:"])).map("/".join))
def test_resolution_never_leaves_source_folder(index: SourceTree, text: str) -> None:
    resolved = index.resolve(text)
    assert resolved.path is None or resolved.path in FILES
    if resolved.path is not None:
        assert ".." not in path_parts(text)
        assert resolved.path.rsplit("/", 1)[-1].casefold() == path_parts(text)[-1].casefold()


@given(st.sampled_from(FILES), st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), max_size=4))
def test_longest_path_tail_is_found_for_paths_of_other_machines(name: str, before: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        index = index_of(Path(folder), FILES)
        assert index.resolve("/" + "/".join([*before, name])).path == name


@pytest.mark.parametrize(
    "text",
    [
        "/var/folders/px/T/analyze_image_temp.jpg",
        "/tmp/upload.jpg",
        "/private/tmp/a.jpg",
        "source/.DS_Store",
        "source/._IMG_1.jpg",
        "a.jpg.part",
        "a.crdownload",
        "~$a.jpg",
        "a.jpg~",
        "tmp_1234.jpg",
        "analyze-temp.png",
        r"C:\Users\x\AppData\Local\Temp\a.jpg",
    ],
)
def test_temporary_files_are_detected(text: str) -> None:
    assert is_temporary_path(text)


@pytest.mark.parametrize(
    "text",
    [
        "source/temple.jpg",
        "source/attempt.jpg",
        "contemporary.jpg",
        "source/tmpest/a.jpg",
        "/Volumes/card/temp/IMG_1.jpg",
        "Half_Dome.jpg",
    ],
)
def test_temporary_sounding_names_are_not_temporary(text: str) -> None:
    assert not is_temporary_path(text)
