"""Walking folders: links are followed once, loops and links out are reported, nothing else than files is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mondrian_core.importing.folder_walk import (
    FoundFile,
    OtherFile,
    SkippedLink,
    UnreadablePlace,
    walk_photographs,
)
from tests.importing.conftest import write_photograph


def found(*named: Path, excluded: tuple[Path, ...] = ()) -> tuple[list[str], dict[str, str], list[str]]:
    """Photographs, what was not followed or read with the reason, and suffixes of other files."""
    everything = list(walk_photographs(named, excluded))
    return (
        [each.shown for each in everything if isinstance(each, FoundFile)],
        {each.shown: each.detail for each in everything if isinstance(each, SkippedLink | UnreadablePlace)},
        [each.suffix for each in everything if isinstance(each, OtherFile)],
    )


def test_files_come_in_the_order_of_their_names_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.jpg", "z/c.png", "m/d.jpg", ".hidden.jpg", ".cache/e.jpg", "x.lrdata/f.jpg", "._a.jpg"):
        write_photograph(tmp_path / "top" / name)
    (tmp_path / "top" / "a.xmp").write_text("x")
    (tmp_path / "top" / "README").write_text("x")
    paths, links, others = found(tmp_path / "top")
    assert paths == ["top/a.jpg", "top/b.jpg", "top/m/d.jpg", "top/z/c.png"]
    assert (links, others) == ({}, ["", ".xmp"])


def test_links(tmp_path: Path) -> None:
    top, outside = tmp_path / "top", tmp_path / "outside"
    write_photograph(top / "sub" / "a.jpg")
    write_photograph(outside / "b.jpg", 1)
    (top / "album").mkdir()
    for name, target in {
        "album/b.jpg": outside / "b.jpg",
        "album/again.jpg": outside / "b.jpg",
        "album/a.jpg": top / "sub" / "a.jpg",
        "loop": top,
        "up": tmp_path,
        "inner": top / "sub",
        "outside": outside,
        "broken.jpg": top / "nowhere",
        "self.jpg": top / "self.jpg",
    }.items():
        (top / name).symlink_to(target)
    paths, links, _ = found(top)
    assert paths == ["top/album/a.jpg", "top/album/again.jpg"], "each file once, under the first name"
    assert {name.removeprefix("top/"): detail.partition(";")[0] for name, detail in links.items()} == {
        "loop": "a link to a folder that contains it: a loop",
        "up": "a link to a folder that contains it: a loop",
        "inner": "a link to a folder of this import, which is imported under its own name",
        "outside": "a link to a folder outside the named ones",
        "broken.jpg": "a broken link",
        "self.jpg": "a link in a loop",
    }
    assert found(top, outside)[0] == ["top/album/a.jpg", "top/album/again.jpg"], "what was seen is not walked again"


def test_a_named_folder_may_be_a_link_and_the_names_are_spelled_as_given(tmp_path: Path) -> None:
    write_photograph(tmp_path / "disk" / "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert found(tmp_path / "link")[0] == ["link/a.jpg"]
    assert found(tmp_path / "disk" / "a.jpg")[0] == ["a.jpg"]


def test_pipes_are_not_opened_and_photographs_without_suffix_are_found(tmp_path: Path) -> None:
    top = tmp_path / "top"
    write_photograph(top / "IMG", format="JPEG")
    write_photograph(top / "picture.dat", 1, format="WEBP")
    os.mkfifo(top / "pipe.jpg")
    os.mkfifo(top / "pipe")
    paths, links, _ = found(top)
    assert paths == ["top/IMG", "top/picture.dat"]
    assert set(links) == {"top/pipe", "top/pipe.jpg"}


def test_folder_that_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/a.jpg", "locked/b.jpg", "z/c.jpg"):
        write_photograph(tmp_path / "top" / name)
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # permissions don't stop root
    paths, others, _ = found(tmp_path / "top")
    assert paths == ["top/a/a.jpg", "top/z/c.jpg"]
    assert others == {"top/locked": "the folder can't be read (Permission denied)"}


def test_folders_of_the_program_are_left_out(tmp_path: Path) -> None:
    write_photograph(tmp_path / "ws" / "thumbnails" / "a.jpg")
    write_photograph(tmp_path / "ws" / "source" / "b.jpg")
    assert found(tmp_path / "ws", excluded=(tmp_path / "ws" / "thumbnails",))[0] == ["ws/source/b.jpg"]
