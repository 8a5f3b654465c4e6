"""Creating workspaces: the content of a sample; nothing is overwritten or left incomplete."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from mondrian_core.data import sample_workspace as module
from mondrian_core.data.dataset.builder import build_dataset
from mondrian_core.data.linking.link import link_critiques
from mondrian_core.data.sample_workspace import add_sample_critiques, create_workspace
from mondrian_core.errors import BadInput
from mondrian_core.events import StageEvent, StageProgressed
from mondrian_core.images import read_photograph_header
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import AnswerForm
from mondrian_core.store import Store


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("mondrian.db")
    }


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "workspace"
    create_workspace(root, sample=True)
    return root


def test_sample_contains_every_kind_of_invalid_record(workspace: Path) -> None:
    with Store(workspace / "mondrian.db", read_only=True) as store:
        manifest = link_critiques(store, workspace, "ansel")
    assert manifest.counts["used"] == 80
    kinds = {
        "job_not_completed",
        "temporary_file",
        "missing_photograph",
        "empty_photograph",
        "not_a_photograph",
        "unreadable_photograph",
        "unparsable_answer",
        "missing_dimensions",
        "no_scores",
        "score_out_of_range",
        "no_comments",
        "placeholder_comments",
        "duplicate_of",
        "superseded",
        "model_written",
        "missing_analysis",
        "outside_workspace",
    }
    assert set(manifest.counts) == kinds | {"used"}
    found = Counter(each.found for each in manifest.used)
    assert found["tail"] == 16  # paths from another machine
    sideways = [each for each in manifest.used if _orientation(workspace / each.photograph) == 6]
    assert len(sideways) == 10
    assert all((each.width, each.height) == _upright(workspace / each.photograph) for each in sideways)


def _orientation(path: Path) -> int:
    with Image.open(path) as image:
        return image.getexif().get(0x0112, 1)


def _upright(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size[::-1]


def test_sample_split_has_configured_shares(workspace: Path) -> None:
    with Store(workspace / "mondrian.db", read_only=True) as store:
        version = build_dataset(
            link_critiques(store, workspace, "ansel"), store.advisor("ansel"), DataRecipe(), workspace
        )
    assert version.photographs == {"train": 48, "validation": 12, "test": 20}


def test_sample_has_three_advisors_and_uncritiqued_photographs(workspace: Path) -> None:
    with Store(workspace / "mondrian.db", read_only=True) as store:
        assert [advisor.advisor for advisor in store.advisors()] == ["ansel", "okonkwo", "watkins"]
        assert store.advisor("ansel").prompt
        assert store.profiles("watkins") == []
    unlabelled = list((workspace / "source" / "visitors").iterdir())
    assert len(unlabelled) >= 30
    assert all(read_photograph_header(path).width > 100 for path in unlabelled)


def test_sample_critiques_advise(workspace: Path) -> None:
    with Store(workspace / "mondrian.db", read_only=True) as store:
        manifest = link_critiques(store, workspace, "ansel")
        version = build_dataset(manifest, store.advisor("ansel"), DataRecipe(variants=0), workspace)
    assert version.answer_form is AnswerForm.ADVICE
    assert sum(bool(record.recommendations) for record in manifest.used) > 70
    assert sum(bool(record.regions) for record in manifest.used) > 40
    assert sum(bool(record.strengths) for record in manifest.used) > 40


def test_same_seed_gives_same_workspace(tmp_path: Path) -> None:
    for name in ("one", "two"):
        create_workspace(tmp_path / name, sample=True, photographs=6, seed=3)
    create_workspace(tmp_path / "three", sample=True, photographs=6, seed=4)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "three")
    manifests = []
    for name in ("one", "two"):
        with Store(tmp_path / name / "mondrian.db", read_only=True) as store:
            manifests.append(link_critiques(store, tmp_path / name, "ansel"))
    assert manifests[0] == manifests[1]


def test_empty_workspace_is_created(tmp_path: Path) -> None:
    made = create_workspace(tmp_path / "deep" / "w", sample=False)
    assert made["photographs"] == 0
    assert {path.name for path in (tmp_path / "deep" / "w").iterdir()} == {
        "mondrian.db",
        "source",
        "analysis_md",
        "datasets",
        "runs",
    }
    with Store(tmp_path / "deep" / "w" / "mondrian.db", read_only=True) as store:
        assert store.advisors() == []


def test_existing_database_is_not_overwritten(tmp_path: Path) -> None:
    create_workspace(tmp_path / "w", sample=False)
    before = (tmp_path / "w" / "mondrian.db").read_bytes()
    for sample in (True, False):
        with pytest.raises(BadInput, match="already"):
            create_workspace(tmp_path / "w", sample=sample)
    assert (tmp_path / "w" / "mondrian.db").read_bytes() == before


def test_existing_photographs_are_not_mixed_with_a_sample(tmp_path: Path) -> None:
    (tmp_path / "w" / "source").mkdir(parents=True)
    (tmp_path / "w" / "source" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(BadInput, match="empty folder"):
        create_workspace(tmp_path / "w", sample=True, photographs=4)
    create_workspace(tmp_path / "w", sample=False)
    assert (tmp_path / "w" / "source" / "mine.jpg").read_bytes() == b"mine"
    assert (tmp_path / "w" / "mondrian.db").is_file()
    assert not list(tmp_path.glob(".w-*"))


def test_folder_with_unrelated_files_can_become_a_sample(tmp_path: Path) -> None:
    (tmp_path / "w" / "prefect").mkdir(parents=True)
    (tmp_path / "w" / "runs").mkdir()
    create_workspace(tmp_path / "w", sample=True, photographs=4)
    assert (tmp_path / "w" / "prefect").is_dir()
    assert (tmp_path / "w" / "mondrian.db").is_file()


def test_file_at_workspace_path_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        create_workspace(tmp_path / "w", sample=False)


def test_interrupted_sample_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(event: StageEvent) -> None:
        if isinstance(event, StageProgressed) and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_workspace(tmp_path / "w", sample=True, photographs=6, listen=interrupt)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(module, "past_jobs", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        create_workspace(tmp_path / "w", sample=True, photographs=2)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    create_workspace(tmp_path / "w", sample=True, photographs=2)


@pytest.mark.parametrize("photographs", [1, 2, 5])
def test_small_sample_workspaces_build(tmp_path: Path, photographs: int) -> None:
    made = create_workspace(tmp_path / "w", sample=True, photographs=photographs)
    assert made["critiques"] == photographs
    with Store(tmp_path / "w" / "mondrian.db", read_only=True) as store:
        manifest = link_critiques(store, tmp_path / "w", "ansel")
        assert manifest.counts["used"] == photographs
        version = build_dataset(manifest, store.advisor("ansel"), DataRecipe(), tmp_path / "w")
    assert sum(version.photographs.values()) == photographs


def test_added_sample_critiques_are_linked(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    create_workspace(root, sample=True, photographs=8)
    assert [add_sample_critiques(root, 4), add_sample_critiques(root, 4)] == [12, 16]
    with Store(root / "mondrian.db", read_only=True) as store:
        assert len(link_critiques(store, root, "ansel").used) == 16
