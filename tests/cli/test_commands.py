"""The command line: exit status, errors of one paragraph without traceback, spellings, help and completion."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mondrian import DEPLOYMENT_COMMANDS
from mondrian_core.cli import main, normalize_words, parse_command
from mondrian_core.cli.app import ADAPTER_COMMANDS, COMMANDS, ROLLOUT_COMMANDS, build_app
from mondrian_core.store import Store


@pytest.fixture
def empty_workspace(tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    (root / "source").mkdir(parents=True)
    Store.create(root / "mondrian.db")
    return root


def test_underscores_and_dashes_name_the_same_option() -> None:
    spelled = normalize_words(["serve", "--model_mode=ab_test", "--lora_path", "some_dir", "--", "--not_mine"])
    assert spelled == ["serve", "--model-mode=ab_test", "--lora-path", "some_dir", "--", "--not_mine"]
    words = normalize_words(["serve", "--model_mode", "fine_tuned", "--ab_test_split", "0.1"])
    options = parse_command(words, print)[1].arguments["options"]
    assert (options.model_mode, options.ab_test_split) == ("fine_tuned", 0.1)


def test_init_is_idempotent(empty_workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (empty_workspace / "mondrian.db").read_bytes()
    assert main(["init", "--workspace", str(empty_workspace)]) == 0
    assert "exists already" in capsys.readouterr().out
    assert (empty_workspace / "mondrian.db").read_bytes() == before
    assert main(["init", "--sample", "--workspace", str(empty_workspace)]) == 2


@pytest.mark.parametrize("command", ["link", "dataset", "train", "retrain"])
def test_no_workspace_is_bad_input(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main([command, "--advisor", "ansel", "--workspace", str(tmp_path / "nowhere")])
    printed = capsys.readouterr().err.strip()
    assert status == 2
    assert "mondrian init" in printed and "Traceback" not in printed and "\n\n" not in printed
    assert not (tmp_path / "nowhere").exists()


def test_no_database_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["link", "--advisor", "ansel", "--workspace", str(tmp_path)]) == 2
    assert "mondrian.db" in capsys.readouterr().err


def test_unknown_advisor_names_the_known_ones(empty_workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["link", "--advisor", "nobody", "--workspace", str(empty_workspace)]) == 2
    assert "nobody" in capsys.readouterr().err


def test_advisor_id_with_path_separator_is_rejected(empty_workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["link", "--advisor", "../evil", "--workspace", str(empty_workspace)]) == 2
    assert "advisor ID" in capsys.readouterr().err


def test_json_option_prints_errors_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["link", "--advisor", "ansel", "--workspace", str(tmp_path / "x"), "--json"]) == 2
    output = json.loads(capsys.readouterr().out)
    assert output["exit_status"] == 2 and output["error"] and output["next_step"]


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["link", "--advisor", "ansel", "--workspace", str(tmp_path / "x"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_missing_base_model_is_bad_input(
    empty_workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["doctor", "--workspace", str(empty_workspace), "--base-model", str(tmp_path / "no-model"), "--json"])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert status == 1
    assert checks["base model"]["ok"] is False and checks["base model"]["next_step"]
    assert checks["database"]["ok"] is True


def test_invalid_recipe_reports_all_errors(
    empty_workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[train]\nrnk = 4\nepochs = 0\n")
    status = main(["retrain", "--advisor", "ansel", "--workspace", str(empty_workspace), "--recipe", str(recipe)])
    printed = capsys.readouterr().err
    assert status == 2 and "train.rnk" in printed and "train.epochs" in printed


def test_help_does_not_load_the_model_libraries() -> None:
    heavy = ("mlx", "datasets", "torch", "fastapi", "prefect", "numpy", "pydantic")
    code = (
        f"import sys; from mondrian_core.cli import main; main(['--help']); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("\n[]")


def test_commands_of_prefect_are_loaded_without_prefect() -> None:
    """Prefect reads its home when it is imported, and tells people at a terminal that it collects data."""
    modules = {place.partition(":")[0] for group in DEPLOYMENT_COMMANDS.values() for place, _ in group.values()}
    code = f"import importlib, sys; [importlib.import_module(name) for name in {sorted(modules)}]; "
    done = subprocess.run(
        [sys.executable, "-c", code + "print('prefect' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("words", [[], ["adapters"], ["adapters", "unknown"], ["train"], ["link", "--advisor"]])
def test_incomplete_command_is_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert "mondrian" in printed.out + printed.err and "Traceback" not in printed.err


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [(["trian", "--advisor", "a"], "train"), (["train", "--advisor", "a", "--rnk", "4"], "--rank")],
)
def test_misspelled_word_gets_a_suggestion(
    words: list[str], suggestion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f'Did you mean "{suggestion}"' in error or f"Did you mean {suggestion}" in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--advisor", "a", "--rank", "2.7"],
        ["init", "--seed", "-1"],
        ["serve", "--port", "many"],
        ["serve", "--model-mode", "none"],
        ["train", "--advisor", "a", "--target-modules"],
        ["dataset", "--advisor", "a", "--export", "chat"],
    ],
)
def test_invalid_option_value_is_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    option = [word for word in words if word.startswith("--")][-1]
    assert answer["exit_status"] == 2 and option in answer["error"]


@pytest.mark.parametrize("word", ["none", "null", "None"])
@pytest.mark.parametrize(
    "option", [("serve", "--model-mode"), ("serve", "--port"), ("train", "--seed"), ("train", "--rank")]
)
def test_words_for_nothing_are_not_read_as_options_that_are_missing(
    option: tuple[str, str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, name = option
    assert main([command, *(["--advisor", "a"] if command == "train" else []), name, word]) == 2
    assert name in capsys.readouterr().err


def test_train_help_shows_expert_settings_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    short = capsys.readouterr().out
    assert main(["train", "--help-all"]) == 0
    long = capsys.readouterr().out
    assert "--rank" in short and "--help-all" in short and "--preference-beta" not in short
    assert "--rank" in long and "--preference-beta" in long


def test_options_of_prefect_are_passed_on() -> None:
    words = ["prefect", "--workspace", "w", "deployment", "run", "retrain/scheduled", "-p", "a=1", "--help", "--x_y"]
    bound = parse_command(normalize_words(words), print)[1]
    assert bound.arguments["words"] == tuple(words[3:])
    assert bound.arguments["options"].workspace == Path("w")


def test_every_command_can_be_imported_and_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    named = [name for group in COMMANDS.values() for name in group]
    nested = [("adapters", name) for name in ADAPTER_COMMANDS] + [("rollout", name) for name in ROLLOUT_COMMANDS]
    for words in [*((name,) for name in named), *nested]:
        assert main([*words, "--help"]) == 0
        assert "--workspace" in capsys.readouterr().out


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("command", ["adapters show", "adapters verify", "adapters", "analyze", "evaluate"])
def test_version_of_an_adapter_is_not_mistaken_for_the_programs(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--version", "v0001"]) == 2
    printed = capsys.readouterr()
    assert "--version" in printed.err and not printed.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_names_commands_and_options(shell: str) -> None:
    script = build_app().generate_completion(shell=shell)
    assert "retrain" in script and "learning-rate" in script
