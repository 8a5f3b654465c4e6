"""Blind preference: the page hides the arms, choices are mapped back to them, and judges must be consistent."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from scipy import stats

from mondrian_core.cli import main
from mondrian_core.errors import BadInput
from mondrian_core.evaluation import EvaluationReport
from mondrian_core.evaluation.blind import preference
from mondrian_core.evaluation.blind.model_judge import make_model_judge, parse_judge_letter
from mondrian_core.evaluation.measure.samples import EvaluationSamples, load_evaluation_samples
from mondrian_core.photograph_model import Question

Run = Callable[..., EvaluationReport]


@pytest.fixture
def measured(run: Run, fake_model: Any, tmp_path: Path) -> Path:
    run(fake_model.FakeModel(critics={"base": fake_model.noisy_critic(2.0), "candidate": fake_model.noisy_critic(1.0)}))
    return tmp_path / "run"


@pytest.fixture
def samples(measured: Path) -> EvaluationSamples:
    return load_evaluation_samples(measured / "samples.jsonl")


def test_blind_page_reveals_neither_arm_nor_score(samples: EvaluationSamples) -> None:
    page = preference.blind_page(samples)
    body = page[page.index("<body>") :]
    assert "candidate" not in body and ">base" not in body
    assert '"score"' not in body and "dimensional_analysis" not in body
    assert 'src="http' not in page
    sides = {pair.left for pair in preference.blind_pairs(samples)}
    assert sides == {"base", "candidate"}  # a fixed side would reveal the arm


def test_side_assignment_is_deterministic(samples: EvaluationSamples) -> None:
    assert preference.blind_pairs(samples) == preference.blind_pairs(samples)


def test_identical_critiques_are_skipped(run: Run, fake_model: Any, tmp_path: Path) -> None:
    class Parrot(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            return super().ask(replace(question, adapter=None), **options)

    run(Parrot(critics={"base": fake_model.noisy_critic(2.0)}), out="same")
    found = load_evaluation_samples(tmp_path / "same" / "samples.jsonl")
    assert preference.blind_pairs(found) == []
    with pytest.raises(BadInput, match="No photograph has two different readable critiques"):
        preference.blind_page(found)


def choices(
    measured: Path, samples: EvaluationSamples, choose: Callable[[preference.BlindPair], str], path: Path
) -> Path:
    given = {pair.photograph: choose(pair) for pair in preference.blind_pairs(samples)}
    path.write_text(json.dumps({"run": preference.blind_run_key(samples), "choices": given}))
    return path


def test_choices_are_mapped_to_arms_and_reported(
    measured: Path, samples: EvaluationSamples, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def right(pair: preference.BlindPair) -> str:
        return "left" if pair.left == "candidate" else "right"

    file = choices(measured, samples, right, tmp_path / "choices.json")
    n = len(preference.blind_pairs(samples))
    before = EvaluationReport.load(measured / "comparison_report.json")
    arguments = ["evaluate", "--rescore", str(measured), "--choices", str(file), "--json"]
    main(arguments)
    printed = json.loads(capsys.readouterr().out)
    found = json.loads(Path(printed["report"]).read_text())["metrics"]["preferences"]["a person"]
    assert (found["candidate"], found["base"], found["same"], found["share"]) == (n, 0, 0, 1.0)
    assert found["p"] == pytest.approx(0.5**n)
    assert "Blind preference" in Path(printed["html"]).read_text()
    assert {gate["name"] for gate in printed["gates"]} == {
        gate.name for gate in before.gates
    }  # the gates are unchanged
    main(arguments)  # the same choices count once
    again = json.loads(Path(json.loads(capsys.readouterr().out)["report"]).read_text())
    assert again["metrics"]["preferences"]["a person"]["n"] == n


@pytest.mark.parametrize(
    "content", ["", "[]", '{"run": "x", "choices": {}}', '{"choices": {"photo-00": "left"}}', "{nonsense"]
)
def test_invalid_choices_file_is_rejected(
    measured: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "choices.json"
    path.write_text(content)
    before = (measured / "samples.jsonl").read_bytes()
    assert main(["evaluate", "--rescore", str(measured), "--choices", str(path)]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert (measured / "samples.jsonl").read_bytes() == before


def test_choices_of_another_run_are_refused(measured: Path, samples: EvaluationSamples, tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    path.write_text(json.dumps({"run": "0" * 64, "choices": {"photo-00": "left"}}))
    with pytest.raises(BadInput, match="another run"):
        preference.load_preference_choices(samples, path)


def test_position_biased_judge_gives_no_preference(samples: EvaluationSamples) -> None:
    found = preference.collect_judge_choices(
        lambda picture, first, second: "first", "biased", preference.blind_pairs(samples)
    )
    assert {choice.prefers for choice in found} == {"same"}
    assert preference.preference_summary(found)["biased"]["share"] is None


def test_consistent_judge_is_counted_in_both_orders(samples: EvaluationSamples) -> None:
    asked: list[tuple[str, str]] = []

    def stern(picture: str, first: str, second: str) -> str:
        asked.append((first, second))
        return "first" if "Stern" in first else "second"

    pairs = preference.blind_pairs(samples)
    found = preference.preference_summary(preference.collect_judge_choices(stern, "stern", pairs))["stern"]
    assert (found["candidate"], found["n"]) == (len(pairs), len(pairs))
    assert all((second, first) in asked for first, second in asked)


@pytest.mark.parametrize(("won", "lost"), [(9, 1), (5, 5), (0, 4), (20, 8)])
def test_sign_test_equals_scipy(won: int, lost: int) -> None:
    chosen = [preference.PreferenceChoice("j", str(k), "candidate" if k < won else "base") for k in range(won + lost)]
    expected = stats.binomtest(won, won + lost, alternative="greater").pvalue
    assert preference.preference_summary(chosen)["j"]["p"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "choice"),
    [("A", "first"), (" B.", "second"), ("**A**", "first"), ("Both", ""), ("Apples", ""), ("", ""), ("(B)", "second")],
)
def test_judge_letter_is_parsed(answer: str, choice: str) -> None:
    assert parse_judge_letter(answer) == choice


@pytest.mark.mini
def test_model_judge_refuses_its_own_critiques() -> None:
    from mondrian_core.models.base_model import load_base

    base = load_base("mini")
    with pytest.raises(BadInput, match="prefer its own"):
        make_model_judge(base, "mini", base.fingerprint)
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(buffer, "JPEG")
    ask = make_model_judge(base, "mini", "another")
    assert ask(base64.b64encode(buffer.getvalue()).decode(), "Dark.", "Bright.") in ("first", "second", "")


def test_blind_page_requires_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--advisor", "ansel", "--adapter", "v0001", "--blind", "page.html"]) == 2
    assert "--rescore" in capsys.readouterr().err


@pytest.fixture
def chromium() -> Iterator[object]:
    playwright = pytest.importorskip("playwright.sync_api")
    import shutil

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.browser
def test_blind_page_saves_choices(measured: Path, samples: EvaluationSamples, tmp_path: Path, chromium: Any) -> None:
    page_file = tmp_path / "blind.html"
    main(["evaluate", "--rescore", str(measured), "--blind", str(page_file)])
    page = chromium.new_page()
    mistakes: list[str] = []
    page.on("console", lambda message: mistakes.append(message.text) if message.type == "error" else None)
    page.goto(page_file.as_uri())
    fields = page.locator("fieldset")
    assert fields.count() == len(preference.blind_pairs(samples))
    assert page.locator("#save").is_disabled()
    fields.nth(0).locator("input[value=left]").check()
    fields.nth(1).locator("input[value=right]").check()
    fields.nth(1).locator("input[value=same]").check()  # the last choice counts
    assert re.match(r"2 of \d+", page.locator("#count").inner_text())
    with page.expect_download() as waiting:
        page.locator("#save").click()
    saved = tmp_path / "saved.json"
    waiting.value.save_as(saved)
    assert not mistakes
    found = {choice.photograph: choice.prefers for choice in preference.load_preference_choices(samples, saved)}
    first, second = preference.blind_pairs(samples)[:2]
    assert found == {first.photograph: first.left, second.photograph: "same"}
