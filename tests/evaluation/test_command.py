"""`mondrian evaluate`: exit status, rescoring without a model, the page, and resuming after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mondrian_core import stages
from mondrian_core.cli import main
from mondrian_core.evaluation import EvaluationReport
from mondrian_core.recipes import Recipe
from mondrian_core.stages import EvaluateSummary

Run = Callable[..., EvaluationReport]


@pytest.fixture
def measured(run: Run, fake_model: Any, tmp_path: Path) -> Path:
    """A run of a sound adapter."""
    run(fake_model.FakeModel(critics={"base": fake_model.noisy_critic(2.0), "candidate": fake_model.noisy_critic(1.0)}))
    return tmp_path / "run"


@pytest.fixture
def refused(run: Run, fake_model: Any, tmp_path: Path) -> Path:
    """A run of an adapter that a gate refuses."""
    run(
        fake_model.FakeModel(critics={"base": fake_model.noisy_critic(1.0), "candidate": fake_model.noisy_critic(3.0)}),
        out="refused",
    )
    return tmp_path / "refused"


@pytest.fixture
def plain(tmp_path: Path, recipe: Recipe) -> list[str]:
    """--recipe with the recipe of the runs."""
    path = tmp_path / "plain.toml"
    lines = [
        f"{key} = {value}"
        for key, value in recipe.evaluate.model_dump().items()
        if isinstance(value, int) and not isinstance(value, bool)
    ]
    path.write_text("[evaluate]\n" + "\n".join(lines) + "\n")
    return ["--recipe", str(path)]


def test_exit_status_follows_verdict(measured: Path, refused: Path, plain: list[str]) -> None:
    assert main(["evaluate", "--rescore", str(measured), *plain]) == 0
    assert main(["evaluate", "--rescore", str(refused), *plain]) == 1


def test_inconclusive_exit_status_is_1(measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strict = tmp_path / "strict.toml"
    strict.write_text("[evaluate]\nedited_photographs = 0\n[gates]\nscore_improvement = 0.99\n")
    assert main(["evaluate", "--rescore", str(measured), "--recipe", str(strict), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "INCONCLUSIVE"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rescore", "no-such-run"],
        [],
        ["--advisor", "ansel"],
        ["--rescore", "{run}", "--recipe", "no-such-file.toml"],
    ],
)
def test_bad_input_exit_status_is_2(
    measured: Path, tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(run=measured) for argument in arguments]
    assert main(["evaluate", *given, "--workspace", str(tmp_path)]) == 2
    told = capsys.readouterr().err.strip()
    assert told and "Traceback" not in told and "\n\n" not in told


def test_internal_failure_exit_status_is_3(
    measured: Path, plain: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("a fault of the program")

    monkeypatch.setattr("mondrian_core.evaluation.rescore_evaluation", breaks)
    assert main(["evaluate", "--rescore", str(measured), *plain]) == 3
    assert "--debug" in capsys.readouterr().err


def test_rescore_does_not_change_run(measured: Path, plain: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in measured.iterdir()}
    main(["evaluate", "--rescore", str(measured), *plain, "--json"])
    told = json.loads(capsys.readouterr().out)
    again = EvaluationReport.load(Path(told["report"]))
    assert {path.name: path.read_bytes() for path in measured.iterdir() if path.is_file()} == before
    assert Path(told["report"]).parent.parent == measured / "rescored"
    assert again.gates == EvaluationReport.load(measured / "comparison_report.json").gates


def test_rescore_finds_run_by_name_and_uses_its_recipe(
    measured: Path, tmp_path: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    measured.rename(tmp_path / "runs" / "tonight")
    values = {"recipe": recipe.model_dump(mode="json")}
    (tmp_path / "runs" / "tonight" / "context.json").write_text(json.dumps(values))
    assert main(["evaluate", "--rescore", "tonight", "--workspace", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == recipe.digest


def test_html_option_sets_report_path(
    measured: Path, plain: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["evaluate", "--rescore", str(measured), *plain, "--html"])
    main(["evaluate", "--rescore", str(measured), *plain, "--html", "out/of.html"])
    for page in ("report.html", "out/of.html"):
        assert (tmp_path / page).read_text().startswith("<!doctype html>")


def test_samples_of_another_version_are_rejected(
    measured: Path, plain: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    samples = measured / "samples.jsonl"
    samples.write_text(samples.read_text().replace('"format": 2', '"format": 1', 1))
    assert main(["evaluate", "--rescore", str(measured), *plain]) == 2
    assert "another version" in capsys.readouterr().err


@pytest.fixture
def workspace(legacy_workspace_copy: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A workspace, an adapter's folder, and a stage that only notes what it was called with."""
    adapter = legacy_workspace_copy / "an-adapter"
    adapter.mkdir()
    seen: list[Any] = []

    def stage(context: stages.StageContext, listen: Any) -> EvaluateSummary:
        seen.append(context)
        (context.run_folder / "samples.jsonl").parent.mkdir(parents=True, exist_ok=True)
        (context.run_folder / "samples.jsonl").touch()
        if len(seen) == 1:
            raise KeyboardInterrupt
        (context.run_folder / "evaluate.json").write_text("{}")
        (context.run_folder / "report.html").write_text("")
        (context.run_folder / "comparison_report.json").write_text("{}")
        return EvaluateSummary(
            report=str(context.run_folder / "comparison_report.json"),
            html=str(context.run_folder / "report.html"),
            verdict="PASS",
            gates=[],
            split="test",
        )

    monkeypatch.setattr(stages, "evaluate_stage", stage)
    monkeypatch.setattr("mondrian_core.cli.evaluate.link_and_build_dataset", lambda *_: None)
    arguments = ["evaluate", "--advisor", "ansel", "--adapter", str(adapter), "--workspace", str(legacy_workspace_copy)]
    return SimpleNamespace(seen=seen, arguments=[*arguments, "--base-model", "mini"])


def test_same_command_resumes_after_interruption(workspace: SimpleNamespace) -> None:
    assert main(workspace.arguments) == 130
    assert main(workspace.arguments) == 0
    first, second = workspace.seen
    assert first.run == second.run
    assert main(workspace.arguments) == 0
    assert workspace.seen[-1].run != first.run  # the second was finished: this is a new evaluation


def test_other_recipe_starts_new_evaluation(workspace: SimpleNamespace) -> None:
    assert main(workspace.arguments) == 130
    assert main([*workspace.arguments, "--folds", "3"]) == 0
    first, second = workspace.seen
    assert first.run != second.run
    assert (first.recipe.evaluate.folds, second.recipe.evaluate.folds) == (0, 3)


def test_single_fold_is_rejected(workspace: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*workspace.arguments, "--folds", "1"]) == 2
    assert "folds: at least 2" in capsys.readouterr().err
