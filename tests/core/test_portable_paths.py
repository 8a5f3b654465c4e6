"""What leaves the machine names no folder of it, and what is read here again is found again."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core.markdown import escape_markdown
from mondrian_core.portable_paths import (
    absolute_from_portable,
    base_model_name,
    portable_path,
    redacted_path,
    without_absolute_paths,
)
from mondrian_core.recipes import Recipe
from mondrian_core.registry import version_writer
from mondrian_core.stages import DatasetSummary, RegisterSummary, StageContext, read_stage_summary
from mondrian_core.stages.summaries import write_stage_summary

WORKSPACE, ADAPTERS, HOME = (
    Path("/home/user lovelace/ws"),
    Path("/home/user lovelace/registry"),
    Path("/home/user lovelace"),
)
PLACES = {WORKSPACE: "", ADAPTERS: "adapters/", HOME: "~/"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{WORKSPACE}/runs/x/report.html", "runs/x/report.html"),
        (f"The file {WORKSPACE}/mondrian.db is gone.", "The file mondrian.db is gone."),
        (f"'{ADAPTERS}/ansel/v0001'", "'adapters/ansel/v0001'"),
        (f"Nothing in {ADAPTERS}.", "Nothing in adapters."),
        (f"{HOME}/other/x.txt", "~/other/x.txt"),
        (f"{WORKSPACE}2/x.txt", "~/ws2/x.txt"),
        ("/Users/mike/Pictures/x.jpg: cut off", ".../x.jpg: cut off"),
        (r"C:\Users\mike\x.jpg", ".../x.jpg"),
        (r"\\server\mike\x.jpg", ".../x.jpg"),
        ("file:///Users/mike/x.jpg", ".../x.jpg"),
        ("`/var/log/mike/service.log`.", "`.../service.log`."),
    ],
)
def test_absolute_paths_are_reduced_to_file_names(text: str, expected: str) -> None:
    assert without_absolute_paths(text, PLACES) == expected
    assert without_absolute_paths({"a": [text, 3]}, PLACES) == {"a": [expected, 3]}


def test_escaped_paths_lose_their_folders_too() -> None:
    root = Path("/Volumes/ada_b/my_ws (2)/w~s_")
    text = escape_markdown(
        f"{root}/runs/a_/x.log, /Volumes/ada_b/_c/report.html, C:\\Users\\mike\\_x.jpg, C:\\mike\\y.jpg"
    )
    reduced = without_absolute_paths(text, {root: ""})
    assert "mike" not in reduced and "ada" not in reduced and "Volumes" not in reduced
    assert reduced.startswith(r"runs/a\_/x.log, .../report.html, ...")
    assert without_absolute_paths(r"C:\Users\mike\_x.jpg", {}) == ".../_x.jpg"


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5100/jobs/x/events",
        "f/8, 1/125 s",
        "and/or",
        "datasets/ansel/abc",
        "owner/name",
        "7/10",
        "",
        "data:image/jpeg;base64,/9j/4AAQ/SkZ/JRg==",
        "![a](data:image/png;base64,/a/b/c)",
    ],
)
def test_relative_paths_and_urls_are_unchanged(text: str) -> None:
    assert without_absolute_paths(text, PLACES) == text


@given(st.binary(min_size=200))
def test_base64_data_is_not_mistaken_for_paths(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert without_absolute_paths(text, PLACES) == text


names = st.from_regex(r"[A-Za-z0-9äöü_][A-Za-z0-9äöü_. -]{0,10}[A-Za-z0-9äöü_]", fullmatch=True)


@given(
    st.lists(names, min_size=1, max_size=4),
    st.sampled_from([WORKSPACE, ADAPTERS, HOME]),
    st.sampled_from(["{}", "It lies in {}.", "({})", "`{}`", "'{}': gone"]),
)
def test_known_folders_never_appear_in_output(parts: list[str], root: Path, sentence: str) -> None:
    reduced = without_absolute_paths(sentence.format(root.joinpath(*parts)), PLACES)
    assert "lovelace" not in reduced and "/home" not in reduced


def test_a_whole_path_with_spaces_keeps_its_name_alone() -> None:
    assert redacted_path("/Users/Mike Smith/My Photos/x y.jpg", [WORKSPACE]) == ".../x y.jpg"
    assert redacted_path(r"C:\Users\Mike Smith\x.jpg", [WORKSPACE]) == ".../x.jpg"
    assert redacted_path(f"{WORKSPACE}/source/none.jpg", [WORKSPACE]) == "source/none.jpg"
    assert redacted_path("source/none.jpg", [WORKSPACE]) == "source/none.jpg"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mini", "mini"),
        ("owner/name", "owner/name"),
        ("/home/you/models/qwen", "qwen"),
        ("~/models/qwen/", "qwen"),
        (r"C:\models\qwen", "qwen"),
        (
            "/home/you/.cache/huggingface/hub/models--mlx-community--Qwen3-VL-4B/snapshots/1a2b",
            "mlx-community/Qwen3-VL-4B",
        ),
    ],
)
def test_a_base_model_has_a_name(name: str, expected: str) -> None:
    assert base_model_name(name) == expected


def context_in(root: Path, adapters: Path) -> StageContext:
    return StageContext(
        workspace=str(root), adapters=str(adapters), base_model="mini", advisor="ansel", run="r1", recipe=Recipe()
    )


def test_summaries_move_with_the_workspace_and_old_ones_are_read(tmp_path: Path) -> None:
    old, new = tmp_path / "old" / "workspace", tmp_path / "new" / "workspace"
    before = context_in(old, tmp_path / "old" / "adapters")
    built = DatasetSummary(
        path=str(old / "datasets" / "ansel" / "abc"), digest="abc", photographs={"train": 1}, rows={"train": 1}
    )
    made = RegisterSummary("v0001", str(tmp_path / "old" / "adapters" / "ansel" / "v0001"), "candidate")
    write_stage_summary(before, "dataset", built, lambda event: None)
    write_stage_summary(before, "register", made, lambda event: None)
    before.save(before.run_folder / "context.json")
    assert all(str(tmp_path) not in file.read_text() for file in before.run_folder.iterdir())
    assert read_stage_summary(before, "dataset", DatasetSummary) == built
    (tmp_path / "old").rename(tmp_path / "new")
    after = StageContext.load(new / "runs" / "r1" / "context.json")
    assert after == context_in(new, tmp_path / "new" / "adapters")
    assert read_stage_summary(after, "dataset", DatasetSummary).path == str(new / "datasets" / "ansel" / "abc")
    assert read_stage_summary(after, "register", RegisterSummary).path == str(
        tmp_path / "new" / "adapters" / "ansel" / "v0001"
    )
    (after.run_folder / "dataset.json").write_text(json.dumps(built.as_dict()))
    assert read_stage_summary(after, "dataset", DatasetSummary) == built, "absolute, as older versions wrote it"
    (after.run_folder / "context.json").write_text(json.dumps(before.as_dict()))
    assert StageContext.load(after.run_folder / "context.json") == before


def test_stored_path_round_trip(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "a" / "b", Path("/elsewhere/x")):
        assert absolute_from_portable(portable_path(path, tmp_path), tmp_path) == str(path)


def test_version_files_contain_no_absolute_paths(tmp_path: Path) -> None:
    """What comes in from anywhere, PEFT's own files too, is cleaned before its hashes are taken."""
    source = tmp_path / "peft"
    source.mkdir()
    jpeg = "/9j/4AAQSkZJRg/abc/def" * 20
    config = {"base_model_name_or_path": "/Users/mike/models/qwen", "picture": jpeg, "r": 8}
    (source / "adapter_config.json").write_text(json.dumps(config))
    (source / "README.md").write_text("Trained on C:\\Users\\mike\\data.")
    (source / "log.jsonl").write_text('{"step": 1, "seen": "/Users/mike/x/y.jpg"}\n{"step": 2}\n')
    vocabulary = json.dumps({"vocab": {"/usr/bin/x": 1, "/home/user/y": 2}})
    (source / "tokenizer.json").write_text(vocabulary)
    (source / "tokenizer_config.json").write_text(json.dumps({"name_or_path": "/Users/mike/models/qwen"}))
    untouched = '{"rank":   8}'
    (source / "other.json").write_text(untouched)
    files = {path.name: path for path in source.iterdir()}
    folder = tmp_path / "adapters" / "ansel" / "v0001"
    written = version_writer.write_version(
        folder, files, {"from": f"{tmp_path}/adapters/ansel", "notes": ["/Volumes/mike/x"]}
    )
    assert (written["from"], written["notes"]) == ("adapters/ansel", [".../x"])
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    assert all("mike" not in text and str(tmp_path) not in text for text in texts.values())
    assert json.loads(texts["adapter_config.json"]) == {**config, "base_model_name_or_path": "qwen"}
    assert (texts["tokenizer.json"], json.loads(texts["tokenizer_config.json"])) == (
        vocabulary,
        {"name_or_path": "qwen"},
    )
    assert [json.loads(line)["step"] for line in texts["log.jsonl"].splitlines()] == [1, 2]
    assert texts["other.json"] == untouched
    assert version_writer.manifest_problems(folder) == ()
