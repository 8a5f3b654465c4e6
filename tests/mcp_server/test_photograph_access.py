"""Programs read photographs below the allowed folders and nothing else, whatever they call them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mondrian_core.errors import BadInput
from mondrian_core.mcp_server.photograph_access import PhotographAccess


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """(allowed, outside), each with a file, and links from one to the other."""
    allowed, outside = tmp_path / "allowed", tmp_path / "outside"
    for folder in (allowed, outside):
        (folder / "sub").mkdir(parents=True)
        (folder / "a.jpg").write_bytes(b"x")
    (allowed / "sub" / "b.jpg").write_bytes(b"x")
    (allowed / "file-link.jpg").symlink_to(outside / "a.jpg")
    (allowed / "folder-link").symlink_to(outside)
    (allowed / "loop").symlink_to(allowed / "loop")
    (outside / "into.jpg").symlink_to(allowed / "a.jpg")
    return allowed, outside


@pytest.mark.parametrize("name", ["a.jpg", "sub/b.jpg", "sub/../a.jpg"])
def test_photographs_inside_are_found(folders: tuple[Path, Path], name: str) -> None:
    allowed, _ = folders
    access = PhotographAccess([allowed])
    assert access.resolve(name) == access.resolve(str(allowed / name)) == (allowed / name).resolve()


def test_a_link_to_the_inside_is_followed(folders: tuple[Path, Path]) -> None:
    allowed, outside = folders
    assert PhotographAccess([allowed]).resolve(str(outside / "into.jpg")) == (allowed / "a.jpg").resolve()


def test_a_relative_path_is_looked_for_in_each_folder(folders: tuple[Path, Path]) -> None:
    allowed, outside = folders
    (outside / "only.jpg").write_bytes(b"x")
    assert PhotographAccess([allowed, outside]).resolve("only.jpg") == (outside / "only.jpg").resolve()


@pytest.mark.parametrize(
    "name",
    [
        "../outside/a.jpg",
        "../outside/none.jpg",
        "file-link.jpg",
        "folder-link/a.jpg",
        "loop",
        "/etc/passwd",
        "~/x",
        "a\0.jpg",
    ],
)
def test_everything_else_is_refused_with_the_same_words(folders: tuple[Path, Path], name: str) -> None:
    with pytest.raises(BadInput) as refused:
        PhotographAccess([folders[0]]).resolve(name)
    assert "is not in a folder that this server may read" in str(refused.value)
    assert "--folder" in refused.value.next_step and len(str(refused.value)) < 700


@pytest.mark.parametrize("name", ["none.jpg", "sub", "", "x" * 5000])
def test_a_missing_photograph_inside_is_said_to_be_missing(folders: tuple[Path, Path], name: str) -> None:
    with pytest.raises(BadInput, match="No photograph is at"):
        PhotographAccess([folders[0]]).resolve(name)


def test_an_allowed_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a folder"):
        PhotographAccess([tmp_path / "none"])
