"""Finding a record's photograph."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mondrian_core.data.paths import How, SourceIndex, is_temporary, parts_of

FILES = ("source/a.jpg", "source/trip/b.jpg", "source/home/b.jpg", "source/advisor/photographer/ansel/Moon.jpg",
         "source/x/deep/c.jpg", "source/y/deep/c.jpg")  # fmt: skip


@pytest.fixture
def index(tmp_path: Path) -> SourceIndex:
    return index_of(tmp_path, FILES)


def index_of(workspace: Path, files: tuple[str, ...]) -> SourceIndex:
    for name in files:
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_bytes(b"x")
    return SourceIndex(workspace)


@pytest.mark.parametrize(("text", "path", "how"), [
    ("source/a.jpg", "source/a.jpg", How.AS_GIVEN),
    ("./source//trip/b.jpg", "source/trip/b.jpg", How.AS_GIVEN),
    ("trip/b.jpg", "source/trip/b.jpg", How.AS_GIVEN),
    ("a.jpg", "source/a.jpg", How.AS_GIVEN),
    ("/Users/studio/mondrian/source/trip/b.jpg", "source/trip/b.jpg", How.TAIL),
    (r"C:\studio\source\trip\b.jpg", "source/trip/b.jpg", How.TAIL),
    ("/old/ansel/moon.JPG", "source/advisor/photographer/ansel/Moon.jpg", How.TAIL),
    ("Moon.jpg", "source/advisor/photographer/ansel/Moon.jpg", How.NAME),
    ("/elsewhere/Moon.jpg", "source/advisor/photographer/ansel/Moon.jpg", How.NAME),
    ("b.jpg", None, How.AMBIGUOUS),
    ("/somewhere/deep/c.jpg", None, How.AMBIGUOUS),
    ("/somewhere/y/deep/c.jpg", "source/y/deep/c.jpg", How.TAIL),
    ("none.jpg", None, How.MISSING),
    ("/", None, How.MISSING),
    ("../source/a.jpg", None, How.OUTSIDE),
    ("source/../../a.jpg", None, How.OUTSIDE),
    (r"..\a.jpg", None, How.OUTSIDE),
])  # fmt: skip
def test_the_rules(index: SourceIndex, text: str, path: str | None, how: How) -> None:
    resolved = index.resolve(text)
    assert (resolved.path, resolved.how) == (path, how)


def test_an_absolute_path_of_this_machine(index: SourceIndex) -> None:
    resolved = index.resolve(f"{index.workspace}/source/home/b.jpg")
    assert (resolved.path, resolved.how) == ("source/home/b.jpg", How.AS_GIVEN)


def test_upper_and_lower_case_decide_when_both_are_there(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    if (tmp_path / "SOURCE").exists():
        pytest.skip("this file system doesn't tell upper from lower case")
    index = index_of(tmp_path, ("source/one/Sea.jpg", "source/two/sea.jpg"))
    assert index.resolve("/old/Sea.jpg").path == "source/one/Sea.jpg"
    assert index.resolve("/old/SEA.jpg").how is How.AMBIGUOUS


def test_links_out_of_the_workspace_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "private"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(b"x")
    workspace = tmp_path / "workspace"
    (workspace / "source").mkdir(parents=True)
    (workspace / "source" / "linked").symlink_to(outside)
    (workspace / "source" / "secret.jpg").symlink_to(outside / "secret.jpg")
    index = SourceIndex(workspace)
    assert len(index) == 0
    assert index.resolve("linked/secret.jpg").path is None
    assert index.resolve("secret.jpg").path is None


def test_a_workspace_without_source(tmp_path: Path) -> None:
    assert SourceIndex(tmp_path).resolve("a.jpg").how is How.MISSING


names = st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(text=st.lists(names | st.sampled_from(["..", ".", "source", "b.jpg", "c.jpg", "trip", "", "C:"])).map("/".join))
def test_whatever_the_path_says_nothing_outside_source_is_found(index: SourceIndex, text: str) -> None:
    resolved = index.resolve(text)
    assert resolved.path is None or resolved.path in FILES
    if resolved.path is not None:
        assert ".." not in parts_of(text)
        assert resolved.path.rsplit("/", 1)[-1].casefold() == parts_of(text)[-1].casefold()


@given(st.sampled_from(FILES), st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), max_size=4))
def test_a_full_tail_is_found_from_any_machine(name: str, before: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        index = index_of(Path(folder), FILES)
        assert index.resolve("/" + "/".join([*before, name])).path == name


@pytest.mark.parametrize("text", [
    "/var/folders/px/T/analyze_image_temp.jpg", "/tmp/upload.jpg", "/private/tmp/a.jpg", "source/.DS_Store",
    "source/._IMG_1.jpg", "a.jpg.part", "a.crdownload", "~$a.jpg", "a.jpg~", "tmp_1234.jpg", "analyze-temp.png",
    r"C:\Users\x\AppData\Local\Temp\a.jpg",
])  # fmt: skip
def test_temporary_files(text: str) -> None:
    assert is_temporary(text)


@pytest.mark.parametrize("text", ["source/temple.jpg", "source/attempt.jpg", "contemporary.jpg", "source/tmpest/a.jpg",
                                  "/Volumes/card/temp/IMG_1.jpg", "Half_Dome.jpg"])  # fmt: skip
def test_photographs_that_only_sound_temporary(text: str) -> None:
    assert not is_temporary(text)
