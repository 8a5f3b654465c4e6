"""Complete evaluations: interrupted, repeated, rescored, and their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.errors import BadInput
from mondrian_core.evaluation import EvaluationReport, LabelledPhotograph, rescore_evaluation
from mondrian_core.evaluation.measure.samples import load_evaluation_samples
from mondrian_core.photograph_model import Question
from mondrian_core.recipes import Recipe, recipe_from_values

Run = Callable[..., EvaluationReport]


def sound(fake_model: Any, **changes: Any) -> Any:
    return replace(
        fake_model.FakeModel(critics={"base": fake_model.noisy_critic(2.0), "candidate": fake_model.noisy_critic(1.0)}),
        **changes,
    )


def test_evaluation_writes_run_files(run: Run, fake_model: Any, tmp_path: Path) -> None:
    report = run(sound(fake_model))
    written = json.loads((tmp_path / "run" / "comparison_report.json").read_text(), parse_constant=pytest.fail)
    assert EvaluationReport.from_dict(written) == report
    assert written["verdict"] == report.verdict
    assert (tmp_path / "run" / "evaluation.png").read_bytes().startswith(b"\x89PNG")


def test_interrupted_evaluation_resumes_at_next_photograph(run: Run, fake_model: Any, tmp_path: Path) -> None:
    whole = run(sound(fake_model), out="whole")

    class Impatient(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            if len(self.asked) == 31:
                raise KeyboardInterrupt
            return super().ask(question, **options)

    first = Impatient(critics=sound(fake_model).critics)
    with pytest.raises(KeyboardInterrupt):
        run(first)
    journal = tmp_path / "run" / "samples.jsonl"
    with journal.open("a") as stream:
        stream.write('{"kind": "answer", "photogr')  # a write interrupted by a kill
    second = sound(fake_model)
    report = run(second)
    assert len(second.asked) == 120 - 31
    assert not set(first.asked) & set(second.asked)
    assert report.gates == whole.gates
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_adapter_change_invalidates_evaluation(run: Run, fake_model: Any, tmp_path: Path) -> None:
    run(sound(fake_model))
    (tmp_path / "candidate" / "other.safetensors").write_bytes(b"more")
    again = sound(fake_model)
    run(again)
    assert len(again.asked) == 120


def test_second_evaluation_uses_cached_base_answers(run: Run, fake_model: Any, tmp_path: Path) -> None:
    first, second = sound(fake_model), sound(fake_model)
    one = run(first, cache=tmp_path / "cache", out="one")
    two = run(second, cache=tmp_path / "cache", out="two")
    assert {arm for arm, _ in second.asked} == {"candidate"}
    assert one.gate("score_error") == two.gate("score_error")
    other = sound(fake_model, fingerprint="another base")
    run(other, cache=tmp_path / "cache", out="three")
    assert len(other.asked) == 120


def test_interrupted_evaluation_starts_again_with_other_software(
    run: Run, fake_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(sound(fake_model))
    monkeypatch.setattr("mondrian_core.evaluation.evaluator.software_digest", lambda: "an update")
    again = sound(fake_model)
    run(again)
    assert len(again.asked) == 120


def test_corrupt_answer_cache_is_recomputed(run: Run, fake_model: Any, tmp_path: Path) -> None:
    run(sound(fake_model), cache=tmp_path / "cache", out="one")
    for path in (tmp_path / "cache").glob("*.json"):
        path.write_text("{")
    again = sound(fake_model)
    run(again, cache=tmp_path / "cache", out="two")
    assert len(again.asked) == 120


def test_rescore_gives_same_report_without_model(run: Run, fake_model: Any, tmp_path: Path, recipe: Recipe) -> None:
    report = run(sound(fake_model), champion=None)
    page = (tmp_path / "run" / "report.html").read_text()
    for name in ("comparison_report.json", "report.html", "evaluation.png"):
        (tmp_path / "run" / name).unlink()
    assert rescore_evaluation(tmp_path / "run", recipe) == report
    assert (tmp_path / "run" / "report.html").read_text() == page


def test_rescore_with_other_recipe_changes_verdict(run: Run, fake_model: Any, tmp_path: Path) -> None:
    assert run(sound(fake_model)).verdict == "PASS"
    strict = rescore_evaluation(tmp_path / "run", recipe_from_values({"gates": {"score_improvement": 0.99}}))
    assert strict.gate("score_error").verdict == "INCONCLUSIVE"


def test_rescore_without_samples_is_rejected(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(BadInput, match="no samples"):
        rescore_evaluation(tmp_path, recipe)


def test_failed_answer_is_neither_wrong_nor_unparsable(run: Run, fake_model: Any, tmp_path: Path) -> None:
    def broken(arm: str, number: int) -> BaseException | None:
        return RuntimeError("out of memory") if (arm, number) in {("candidate", 3), ("base", 4)} else None

    report = run(sound(fake_model, broken=broken))
    formats = {arm: found["format"] for arm, found in report.metrics["arms"].items()}
    assert (formats["candidate"]["asked"], formats["candidate"]["ran"], formats["candidate"]["valid"]) == (60, 59, 59)
    compared = report.metrics["against_base"]
    assert (compared["n"], compared["no_answer"], compared["penalised"]) == (18, 2, 0)
    assert report.gate("score_error").verdict == "INCONCLUSIVE"  # a tenth of the labelled photographs is missing
    outcome = next(o for o in load_evaluation_samples(tmp_path / "run" / "samples.jsonl").outcomes if not o.ran)
    assert outcome.reason == "RuntimeError: out of memory"


def test_unreadable_base_answers_are_excluded_and_reported(run: Run, fake_model: Any) -> None:
    class Mumbling(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            said = super().ask(question, **options)
            mumbles = self.arm == "base" and self.asked and self.asked[-1][1] % 4 == 0
            if question.exact_tokens or not mumbles:
                return said
            return replace(said, text="Well.", expected_scores={})

    report = run(Mumbling(critics=sound(fake_model).critics))
    assert (report.metrics["against_base"]["n"], report.metrics["against_base"]["left_out"]) == (15, 5)
    assert "left out because the other answer lacks scores" in report.gate("score_error").sentence


def test_evaluation_without_photographs_is_rejected(run: Run, fake_model: Any) -> None:
    with pytest.raises(BadInput, match="no photographs"):
        run(sound(fake_model), [], unlabelled=[])


def test_photograph_with_variants_counts_once(run: Run, fake_model: Any, labelled: list[LabelledPhotograph]) -> None:
    twice = [entry for entry in labelled for _ in range(2)]
    assert run(sound(fake_model), twice).metrics["against_base"]["n"] == len(labelled)


def test_evaluation_restores_base_model(run: Run, fake_model: Any) -> None:
    model = sound(fake_model)
    run(model)
    assert model.arm == "base"


def test_model_output_is_escaped_in_report(run: Run, fake_model: Any, tmp_path: Path) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)>"

    class Attacker(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            said = super().ask(question, **options)
            return replace(said, text=said.text.replace("light on the ridge", attack))

    run(Attacker(critics=sound(fake_model).critics))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<img src=x" not in page
    assert 'src="http' not in page and "url(" not in page


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("Half \\ud83d of it.", "not_json"),
        ("Half \ud83d of it.", "not_json"),
        ("\u2028 \x85 \ufffe \U0001f305", None),
    ],
)
def test_report_is_written_for_any_characters_in_answer(
    run: Run, fake_model: Any, tmp_path: Path, written: str, reason: str | None
) -> None:
    """A lone surrogate, escaped or raw, isn't text: the answer is unparsable, and the report is still written."""

    class Odd(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            said = super().ask(question, **options)
            return replace(said, text=said.text.replace("light on the ridge", written))

    run(Odd(critics=sound(fake_model).critics))
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert {each.get("reason") for each in samples if each.get("arm") == "candidate" and "status" in each} == {reason}
    assert "<html" in (tmp_path / "run" / "report.html").read_text()


def test_page_starts_with_verdict_and_names_every_gate(run: Run, fake_model: Any, tmp_path: Path) -> None:
    report = run(sound(fake_model))
    page = (tmp_path / "run" / "report.html").read_text()
    body = page[page.index("<body>") :]
    assert body.index("Pass.") < min(body.index(f">{gate.name}<") for gate in report.gates)
    assert body.count("<article>") >= 4


def test_markdown_has_one_line_per_gate(run: Run, fake_model: Any) -> None:
    report = run(sound(fake_model))
    lines = report.markdown().splitlines()
    assert lines[0].startswith("## PASS")
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")][1:] == [g.name for g in report.gates]


def test_report_warns_when_constant_baseline_is_better(run: Run, fake_model: Any) -> None:
    model = sound(fake_model)
    model.critics |= {"base": fake_model.noisy_critic(0.5, shift=3), "candidate": fake_model.noisy_critic(1.2)}
    steps = run(model).next_steps
    assert any("the base with shifted scores" in step and step.endswith("needs no adapter.") for step in steps)


def test_broken_format_with_all_scores_fails_format_only(run: Run, fake_model: Any, complete_recipe: Recipe) -> None:
    """The candidate's closing brace is missing on a third of the photographs, but every score is there."""

    class Careless(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            said = super().ask(question, **options)
            careless = self.arm == "candidate" and self.asked[-1][1] % 3 == 0 and not question.exact_tokens
            return replace(said, text=said.text[:-1] + ",") if careless else said

    careless, neat = (
        run(Careless(critics=sound(fake_model).critics), out="careless", recipe=complete_recipe),
        run(sound(fake_model), out="neat"),
    )
    assert careless.gate("format_compliance").verdict == "FAIL"
    assert careless.gate("score_error") == neat.gate("score_error")
    assert careless.metrics["against_base"]["penalised"] == 0


def test_missing_score_penalizes_its_dimension_only(run: Run, fake_model: Any) -> None:
    class Forgetful(fake_model.FakeModel):
        def ask(self, question: Question, **options: Any) -> Any:
            said = super().ask(question, **options)
            if self.arm != "candidate" or question.exact_tokens or self.asked[-1][1] != 0:
                return said
            known = {name: score for name, score in said.expected_scores.items() if name != "lighting"}
            return replace(said, text="{", expected_scores=known)

    first = run(Forgetful(critics=sound(fake_model).critics), out="forgetful").metrics["against_base"]
    whole = run(sound(fake_model), out="whole").metrics["against_base"]
    added = first["error_ours"] - whole["error_ours"]
    assert first["penalised"] == 1
    assert 0 < added <= 100 / 8 / 20


def test_a_report_says_that_its_gates_were_loosened(run: Run, fake_model: Any, tmp_path: Path) -> None:
    """In its verdict, on its page and as data; a stricter recipe is none."""
    run(sound(fake_model))
    values = {"gates": {"p_value": 0.5}, "evaluate": {"latency_tokens": 100}}
    loose = rescore_evaluation(tmp_path / "run", recipe_from_values(values), tmp_path / "loose")
    assert "with loosened gates (gates.p_value is 0.5, not 0.05)" in loose.meaning
    assert "not promoted automatically" in loose.meaning and "can go live" not in loose.meaning
    assert loose.meaning in loose.markdown() and "with loosened gates" in (tmp_path / "loose/report.html").read_text()
    stored = json.loads((tmp_path / "loose" / "comparison_report.json").read_text())
    assert stored["loosened"] == [{"name": "gates.p_value", "value": 0.5, "reference": 0.05}]
    assert EvaluationReport.load(tmp_path / "loose" / "comparison_report.json").loosened == loose.loosened
    strict = rescore_evaluation(tmp_path / "run", recipe_from_values({"gates": {"p_value": 0.01}}), tmp_path / "strict")
    assert strict.loosened == () and "loosened" not in strict.meaning
