"""Batch analysis: file selection, all modes side by side, CSV and HTML reports."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.cli import main
from mondrian_core.errors import BadInput
from mondrian_core.events import StageProgressed
from mondrian_core.rubric import DIMENSIONS, make_critique
from mondrian_core.serving import batch_analyze
from mondrian_core.serving.batch_analyze import AnalysisResult, BatchRequest, analyze_photographs
from mondrian_core.serving.batch_report import change_by_adapter, mode_summaries, write_batch_html, write_csv
from mondrian_core.serving.http.pages import compared_photograph_jpeg
from mondrian_core.serving.named_photographs import find_photographs
from mondrian_core.settings import Settings
from mondrian_core.store import DimensionalProfile, Store
from mondrian_core.store.embeddings import Embedding, EmbeddingStore

Photograph = Callable[..., bytes]


@pytest.fixture
def folder(tmp_path: Path, photograph: Photograph) -> Path:
    """Two photographs, one of them deeper down, and what is none."""
    found = tmp_path / "shoot"
    (found / "day one" / ".cache").mkdir(parents=True)
    (found / "b.JPG").write_bytes(photograph(1))
    (found / "day one" / "a.jpg").write_bytes(photograph(2))
    (found / "day one" / ".cache" / "c.jpg").write_bytes(photograph(3))
    (found / "._b.JPG").write_bytes(b"a Mac's shadow file")
    (found / "notes.txt").write_text("no photograph")
    return found


def test_folders_are_searched_and_named_files_kept(folder: Path, tmp_path: Path) -> None:
    found = [folder / "b.JPG", folder / "day one" / "a.jpg"]
    assert find_photographs([folder]) == found
    assert find_photographs([folder / "b.JPG", folder, Path("none.jpg")]) == [*found, Path("none.jpg")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no photographs in"):
        find_photographs([tmp_path / "empty"])


@pytest.fixture
def compared(settings: Settings, photograph: Photograph) -> None:
    """One photograph of ansel's to compare with."""
    (settings.root / "source" / "near.jpg").write_bytes(photograph(9))
    with Store(settings.database) as store:
        store.add_profiles(
            [
                DimensionalProfile(
                    id="p",
                    advisor="ansel",
                    image_path="source/near.jpg",
                    scores=dict.fromkeys(DIMENSIONS, 6),
                    comments=dict.fromkeys(DIMENSIONS, "Said long ago."),
                    overall_grade="6.0",
                )
            ]
        )


def all_modes(settings: Settings, folder: Path, engine: Any, **more: Any) -> list[AnalysisResult]:
    request = BatchRequest(paths=[folder], advisor="ansel", mode="all")
    return analyze_photographs(settings, request, more.pop("listen", lambda event: None), engine=engine, **more)


@pytest.mark.usefixtures("compared")
def test_batch_compares_all_modes(
    settings: Settings, folder: Path, fake_engine: Any, promote: Callable[[str], None], tmp_path: Path
) -> None:
    promote("v0002")
    (folder / "z.jpg").write_bytes(b"no photograph")
    heard: list[StageProgressed] = []
    kept: list[AnalysisResult] = []
    results = all_modes(
        settings,
        folder,
        fake_engine,
        on_result=kept.append,
        listen=lambda event: heard.append(event) if isinstance(event, StageProgressed) else None,
    )
    assert kept == results and [event.done for event in heard] == list(range(1, 10)) and heard[0].total == 9
    assert [result.answered_by for result in results[:3]] == [
        "baseline: base model",
        "rag: base model",
        "lora: adapter v0002",
    ]
    write_csv(tmp_path / "out.csv", results)
    with (tmp_path / "out.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [(line["requested_mode"], line["model_used"], line["composition_score"]) for line in lines[:3]] == [
        ("baseline", "base", "5"),
        ("rag", "base", "5"),
        ("lora", "fine_tuned", "2"),
    ]
    assert "not in a format that a camera writes" in lines[-1]["error"]
    write_batch_html(tmp_path / "out.html", results)
    page = (tmp_path / "out.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4, "the third file is not a photograph"
    assert page.count('change">-3</td>') == 16, "adapter against base on eight dimensions of two photographs"
    figures = {row["mode"]: row for row in mode_summaries(results)}
    assert figures["lora"] | {"seconds": 0} == {
        "mode": "lora",
        "n": 3,
        "failed": 1,
        "fell_back": 0,
        "mean": 2.0,
        "seconds": 0,
    }
    with Store(settings.database, read_only=True) as store:
        assert sum(job.explicit_mode for job in store.jobs()) == 6


@pytest.mark.usefixtures("compared")
def test_fallback_is_named_and_gives_no_difference(settings: Settings, folder: Path, fake_engine: Any) -> None:
    results = all_modes(settings, folder, fake_engine)
    assert results[2].answered_by == "lora, answered by rag: base model"
    assert change_by_adapter(results[:3]) is None


def test_enabled_embeddings_decide_between_equal_scores(
    settings: Settings, folder: Path, fake_engine: Any, control: Callable[..., None], photograph: Photograph
) -> None:
    """Three references with the same scores: by scores alone the first name wins, with embeddings the nearest view."""
    views = {"a.jpg": (1.0, 0.0), "b.jpg": (0.0, 1.0), "c.jpg": (0.6, 0.8)}
    words = dict.fromkeys(DIMENSIONS, "Said long ago.")
    with Store(settings.database) as store:
        for number, (name, vector) in enumerate(views.items()):
            (settings.root / "source" / name).write_bytes(photograph(30 + number))
            store.add_profiles(
                [
                    DimensionalProfile(
                        id=name,
                        advisor="ansel",
                        image_path=f"source/{name}",
                        scores=dict.fromkeys(DIMENSIONS, 6),
                        comments=words,
                        overall_grade="6.0",
                    )
                ]
            )
            EmbeddingStore(store).save(
                Embedding(
                    advisor="ansel",
                    sha256=name,
                    image_path=f"source/{name}",
                    base="fake",
                    perceptual_hashes=(0, 0),
                    vector=vector,
                )
            )
        EmbeddingStore(store).save(
            Embedding(
                advisor="ansel",
                sha256="x",
                image_path="source/a.jpg",
                base="another base",
                perceptual_hashes=(0, 0),
                vector=(0.0, 1.0),
            )
        )
    control(embedding=(0.0, 1.0))
    fake_engine.fingerprint = "fake"
    for enabled, order in ((False, ["a.jpg", "b.jpg", "c.jpg"]), (True, ["b.jpg", "c.jpg", "a.jpg"])):
        place = settings.model_copy(update={"embeddings_enabled": enabled})
        (result,) = analyze_photographs(
            place, BatchRequest(paths=[folder / "b.JPG"], advisor="ansel", mode="rag"), engine=fake_engine
        )
        assert [each["photograph"] for each in result.details["compared_with"]] == order


def test_same_names_and_linked_folders_are_compared_with(
    settings: Settings, folder: Path, fake_engine: Any, control: Callable[..., None], photograph: Photograph
) -> None:
    """Two files of one name, one on another disk, one decomposed: three references, each with its own embedding."""
    source, disk = settings.root / "source", settings.root.parent / "disk"
    disk.mkdir()
    (source / "2023").mkdir()
    (source / "2024").symlink_to(disk)
    files = {"2023/DSC_1.jpg": (1.0, 0.0), "2024/DSC_1.jpg": (0.0, 1.0), "Scho\u0308n.jpg": (0.6, 0.8)}
    words = dict.fromkeys(DIMENSIONS, "Said long ago.")
    with Store(settings.database) as store:
        for number, (name, vector) in enumerate(files.items()):
            (source / name).write_bytes(photograph(30 + number))
            path = f"source/{unicodedata.normalize('NFC', name)}"
            store.add_profiles(
                [
                    DimensionalProfile(
                        id=name,
                        advisor="ansel",
                        image_path=path,
                        scores=dict.fromkeys(DIMENSIONS, 6),
                        comments=words,
                        overall_grade="6.0",
                    )
                ]
            )
            EmbeddingStore(store).save(
                Embedding(
                    advisor="ansel",
                    sha256=name,
                    image_path=f"source/{name}",
                    base="fake",
                    perceptual_hashes=(0, 0),
                    vector=vector,
                )
            )
    control(embedding=(0.0, 1.0))
    fake_engine.fingerprint = "fake"
    place = settings.model_copy(update={"embeddings_enabled": True})
    (result,) = analyze_photographs(
        place, BatchRequest(paths=[folder / "b.JPG"], advisor="ansel", mode="rag"), engine=fake_engine
    )
    named = [each["path"] for each in result.details["compared_with"]]
    assert named == ["source/2024/DSC_1.jpg", "source/Sch\u00f6n.jpg", "source/2023/DSC_1.jpg"]
    with Store(settings.database, read_only=True) as store:
        job = store.job(result.job)
    shown = [compared_photograph_jpeg(settings.root, job, number) for number in (1, 2, 3)]
    assert len(set(shown)) == 3


def test_reports_escape_markup_and_formulas(tmp_path: Path) -> None:
    evil = dict.fromkeys(DIMENSIONS, "=1+1<script>alert(1)</script>")
    result = AnalysisResult(
        path=Path("<b>.jpg"),
        advisor="ansel",
        requested_mode="baseline",
        critique=make_critique(dict.fromkeys(DIMENSIONS, 4), evil),
        mode="baseline",
    )
    write_batch_html(tmp_path / "out.html", [result])
    page = (tmp_path / "out.html").read_text()
    assert (
        page.count("<script") == 1
        and "<script>alert" not in page
        and "<b>.jpg" not in page
        and "&lt;script&gt;" in page
    )
    write_csv(tmp_path / "out.csv", [result])
    assert ",'=1+1<script>" in (tmp_path / "out.csv").read_text()


def test_interruption_keeps_finished_critiques(
    settings: Settings, folder: Path, fake_engine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = fake_engine.ask

    def ask(*arguments: Any) -> Any:
        if fake_engine.asked == 1:
            raise KeyboardInterrupt
        return asked(*arguments)

    fake_engine.ask = ask
    monkeypatch.setattr(batch_analyze, "_local_engine", lambda *_: fake_engine)
    status = main(
        [
            "analyze",
            str(folder),
            "--advisor",
            "ansel",
            "--mode",
            "baseline",
            "--csv",
            str(tmp_path / "o.csv"),
            "--workspace",
            str(settings.root),
        ]
    )
    assert status not in (0, None)
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 2


def test_command_accepts_a_folder_and_older_option_names(
    settings: Settings,
    folder: Path,
    fake_engine: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    promote: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    promote("v0002")
    monkeypatch.setattr(batch_analyze, "_local_engine", lambda *_: fake_engine)
    where = ["--workspace", str(settings.root), "--adapters", str(settings.adapters_root), "--advisor", "ansel"]
    assert main(["analyze", str(folder), "--use_fine_tuned", "--json", *where]) == 0
    assert {each["model_used"] for each in json.loads(capsys.readouterr().out)} == {"fine_tuned"}
    page = tmp_path / "out.html"
    assert main(["analyze", str(folder), "--mode", "all", "--html", str(page), *where]) == 0
    assert "v0002" in capsys.readouterr().out and "adapter v0002" in page.read_text()


def test_ab_table_is_readable(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--days", "7", "--workspace", str(settings.root)]) == 1
    assert "took part in an A/B test" in capsys.readouterr().out
    answer = {"dimensional_analysis": {name: {"score": 6, "comment": "c"} for name in DIMENSIONS}}
    with Store(settings.database) as store:
        for number in range(12):
            arm = "fine_tuned" if number % 2 else "base"
            job, _ = store.add_job("ansel", "one.jpg", arm=arm)
            store.finish_job(
                job.id,
                answer=answer,
                model_used=f"ab_test_{arm}",
                mode="lora",
                details={"seconds": number + 1, "rating": 1 + number % 5},
            )
    assert main(["compare", "--days", "7", "--workspace", str(settings.root)]) == 0
    text = capsys.readouterr().out
    assert "mean rating, 1-5" in text and "fine_tuned" in text and "(rate 0 to 0.3903)" in text


def test_file_that_is_not_a_photograph_is_bad_input(
    settings: Settings,
    fake_engine: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = tmp_path / "page.jpg"
    wrong.write_text("<html>no photograph</html>")
    monkeypatch.setattr(batch_analyze, "_local_engine", lambda *_: fake_engine)
    words = ["analyze", str(wrong), "--advisor", "ansel", "--mode", "baseline", "--workspace", str(settings.root)]
    assert main(words) == 2
    assert "can't be used as a photograph" in capsys.readouterr().out


def test_several_advisors_critique_each_photograph(
    settings: Settings, fake_engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settings.root / "source" / "one.jpg"
    for named in ("all", "dorothea, ansel"):
        request = BatchRequest(paths=[path], advisor=named, mode="baseline")
        results = analyze_photographs(settings, request, engine=fake_engine)
        assert sorted(result.advisor for result in results) == ["ansel", "dorothea"]
        assert all(result.critique is not None for result in results)
    assert results[0].title_among(results) == "dorothea, baseline: base model"
    assert results[0].title_among(results[:1]) == "baseline: base model"
    write_batch_html(tmp_path / "page.html", results)
    assert "dorothea, baseline: base model" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(("advisor", "says"), [("ansel,nobody", "no advisor 'nobody'"), ("ansel,", "not a valid")])
def test_unknown_advisors_are_told_before_the_model_is_loaded(settings: Settings, advisor: str, says: str) -> None:
    path = settings.root / "source" / "one.jpg"
    with pytest.raises(BadInput, match=says):
        analyze_photographs(settings, BatchRequest(paths=[path], advisor=advisor, mode="baseline"))
