"""The pages a person reads in the UI, and one paragraph instead of a traceback."""

from __future__ import annotations

import base64
import io
import logging
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from prefect.exceptions import FailedRun
from prefect.states import Completed

from mondrian_core.errors import BadInput, NothingToDo
from mondrian_core.service_address import DEFAULT_ADDRESS, SERVICE_LOCK, record_service_address
from mondrian_core.settings import Settings
from mondrian_core.stages import (
    DatasetSummary,
    EvaluateSummary,
    LinkSummary,
    PromoteSummary,
    TrainSummary,
)
from tasks import artifact_pages
from tasks.artifact_images import MAX_IMAGE_BYTES, embedded_image_markdown
from tasks.reporting import TracebackFilter, artifact_key, fail_without_traceback, without_local_paths
from tasks.served_pages import ServedPage, run_page, version_page

GATE = {
    "name": "score_error",
    "rule": "lower",
    "threshold": 0.05,
    "observed": 0.31234,
    "n": 20,
    "interval": [0.1, None],
    "verdict": "PASS",
    "sentence": "Lower | by far.\nReally.",
}


NO_SERVICE = ServedPage(
    path="/runs/a-run/report",
    command="mondrian runs show a-run --open",
    address=DEFAULT_ADDRESS,
    service="stopped",
)


def columns(markdown: str) -> set[int]:
    """Number of cells of the rows of every table in a page."""
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    return {len(re.findall(r"(?<!\\)\|", row)) - 1 for row in rows}


def test_a_table_survives_what_is_in_its_cells() -> None:
    text = artifact_pages.gate_table_markdown([GATE])
    assert columns(text) == {6}
    assert "0.312" in text and "\\[0.1, \\]" in text and "Lower \\| by far. Really." in text


def test_checks_that_did_not_pass_stand_below_their_gate() -> None:
    parts = [{**GATE, "name": "collapse", "verdict": "FAIL"}, {**GATE, "name": "leakage"}]
    text = artifact_pages.gate_table_markdown([{**GATE, "parts": parts}])
    assert "↳ collapse" in text and "leakage" not in text


@pytest.mark.parametrize("verdict", ["PASS", "FAIL", "INCONCLUSIVE"])
def test_the_verdict_comes_first(verdict: str) -> None:
    text = artifact_pages.gates_markdown(
        EvaluateSummary(report="r.json", html="r.html", verdict=verdict, gates=[GATE], split="test"), NO_SERVICE
    )
    assert verdict in text.splitlines()[0]
    assert text.index(verdict) < text.index("score_error") < text.index(NO_SERVICE.command)


def test_every_stage_has_an_artifact_page(tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"
    Image.new("RGB", (20, 20)).save(picture)
    preference = {
        "pairs": 9,
        "corrections": 2,
        "recommendations": 3,
        "crops": 0,
        "best_epoch": 1,
        "validation_pairs": 4,
        "accuracy": 0.75,
        "start_accuracy": 0.5,
        "margin": 0.25,
    }
    made = [
        artifact_pages.link_markdown(LinkSummary("m.json", 5, {"no_scores": 2}, "| a |\n| --- |\n| b |")),
        artifact_pages.dataset_markdown(
            DatasetSummary(
                path="d",
                digest="0123456789abcdef",
                photographs={"train": 4},
                rows={"train": 9},
                contact_sheet=str(picture),
            )
        ),
        artifact_pages.training_markdown(
            TrainSummary(
                adapter="a",
                curve=str(picture),
                log="log",
                steps=10,
                best_epoch=2,
                best_loss=0.5,
                seconds=3.0,
                preference=preference,
            ),
            {"rank": 8},
            NO_SERVICE,
        ),
        artifact_pages.promotion_markdown(
            PromoteSummary("candidate", "v0001", "Not sure.", "mondrian adapters promote"), "ansel", NO_SERVICE
        ),
    ]
    assert all(text.startswith("## ") for text in made)
    assert "5 critiques linked, 2 records left out" in made[0]
    assert [text.count("data:image/png;base64,") for text in made] == [0, 1, 1, 0]
    assert "mondrian adapters promote" in made[3]
    tuned = "Tuned on 9 pairs (2 corrections, 3 judged recommendations), after epoch 1."
    assert f"{tuned} Of 4 validation pairs, 75% are ordered correctly" in made[2]


def test_a_training_says_when_nothing_was_held_out(tmp_path: Path) -> None:
    def page(extent: str) -> str:
        on = {"extent": extent, "photographs": 12, "rows": 36}
        return artifact_pages.training_markdown(
            TrainSummary(
                adapter="a",
                curve=str(tmp_path / "none.png"),
                log="log",
                steps=9,
                best_epoch=1,
                best_loss=0.5,
                seconds=3.0,
                trained_on=on,
            ),
            {},
            NO_SERVICE,
        )

    assert "Trained on all 12 photographs (36 rows)" in page("all")
    assert "Trained on all" not in page("train")


def test_report_is_a_link_whose_text_says_whether_the_service_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "workspace"
    (root / "runs" / "service").mkdir(parents=True)
    stopped = run_page(root, "a-run", report=True)
    assert stopped == NO_SERVICE
    assert "`mondrian runs show a-run --open`" in stopped.markdown("Report")
    assert "was not running" in stopped.markdown("Report")
    record_service_address(Settings(workspace=root), "0.0.0.0", 5123)
    assert run_page(root, "a-run").service == "stopped", "an address is left of a service that has ended"

    url = "http://127.0.0.1:5123/runs/a-run/report"
    with FileLock(root / SERVICE_LOCK):  # what a service holds, whoever started it
        page = run_page(root, "a-run", report=True)
        assert version_page(root, "ansel", "v0003").text == "http://127.0.0.1:5123/registry/ansel/v0003"
    text = artifact_pages.gates_markdown(
        EvaluateSummary(report="r.json", html="r.html", verdict="PASS", gates=[GATE], split="test"), page
    )
    assert f"](<{url}>)" in text and str(tmp_path) not in text
    monkeypatch.setenv("MONDRIAN_WORKSPACE", str(root))
    assert f"](<{url}>)" in without_local_paths(text), "the filter of paths leaves the link whole"

    monkeypatch.setenv("MONDRIAN_SERVICE_URL", "https://studio.example/")
    elsewhere = run_page(root, "a-run").markdown("The run")
    assert elsewhere == "[The run](<https://studio.example/runs/a-run>) (the service of MONDRIAN_SERVICE_URL)"
    assert not [link for link in re.findall(r"\[([^]]*)\]\(<http", text + stopped.markdown("Report")) if "\\" in link]


def test_large_image_is_downscaled_for_page(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "sheet.png")
    data = base64.b64decode(
        embedded_image_markdown(tmp_path / "sheet.png", "sheet").partition("base64,")[2].removesuffix(")")
    )
    assert len(data) <= MAX_IMAGE_BYTES < (tmp_path / "sheet.png").stat().st_size
    assert Image.open(io.BytesIO(data)).size[0] > 100


def test_missing_image_is_omitted_from_page(tmp_path: Path) -> None:
    assert embedded_image_markdown(None, "x") == embedded_image_markdown(tmp_path / "none.png", "x") == ""


def test_artifact_keys_fit_prefect() -> None:
    assert artifact_key("gates", "ansel_adams") == "gates-ansel-adams"
    assert re.fullmatch(r"[a-z0-9-]+", artifact_key("Link", "A.b c/ü"))


def test_our_errors_lose_their_traceback_and_others_keep_it() -> None:
    def record(error: Exception) -> logging.LogRecord:
        try:
            raise error
        except Exception:  # noqa: BLE001
            made = logging.LogRecord("prefect", logging.ERROR, __file__, 1, "It broke: %r", (error,), sys.exc_info())
        TracebackFilter().filter(made)
        return made

    ours = record(BadInput("There is no room.", "Make some."))
    assert (ours.getMessage(), ours.exc_info) == ("There is no room. Make some.", None)
    assert record(FailedRun("There is no room.")).exc_info is None
    assert record(ValueError("a bug")).exc_info is not None


def test_our_errors_become_the_message_of_the_state() -> None:
    @fail_without_traceback
    def body(error: Exception) -> Any:
        raise error

    state = body(NothingToDo("No critique was found.", "Look at the link report."))
    assert (state.name, state.message) == ("Failed", "No critique was found. Look at the link report.")
    with pytest.raises(ZeroDivisionError):
        body(ZeroDivisionError())


def test_messages_name_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONDRIAN_WORKSPACE", str(tmp_path / "workspace"))

    @fail_without_traceback
    def body(answer: object) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    path = tmp_path / "workspace" / "runs" / "x" / "report.html"
    assert body(NothingToDo("Nothing.", f"Its log: {path}.")).message == "Nothing. Its log: runs/x/report.html."
    assert body(Completed(message=f"Report: {path}, /Users/mike/x.jpg")).message == (
        "Report: runs/x/report.html, .../x.jpg"
    )
    monkeypatch.setenv("MONDRIAN_MAX_MEGAPIXELS", "many")
    assert body(NothingToDo("Mistakes in the settings.")).message == "Mistakes in the settings."
