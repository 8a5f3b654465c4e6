"""The repository's documents match its contents, and no file names a machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.architecture import generated_docs
from tests.architecture.generated_docs import with_generated_parts
from tests.git_files import copy_tracked_files, tracked_files
from tests.record_slow_tests import read_slow_tests

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# pages that name commands for the first time; tests/docs runs their blocks
COMMAND_PAGES = ("README.md", "docs/tutorials/each-stage.md")
# Folders that only ever exist on one machine. Homebrew's is the same everywhere, so /opt alone isn't a sign.
MACHINE_PATH = re.compile(r"(?<![\w.$~}>)/-])/(?:root|work|opt/(?!homebrew)\w+|home/(?!me\b|you\b|user\b)\w+|tmp/v)/\w")


def test_file_map_and_page_lists_are_up_to_date() -> None:
    for path, text in with_generated_parts().items():
        advice = f"{path}: run `python -m tests.architecture.generated_docs`"
        assert (ROOT / path).read_text(encoding="utf-8") == text, advice


def test_every_entry_of_the_file_map_has_a_description() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = next(text for _, text in FENCE.findall(page) if text.startswith("mondrian_core/")).splitlines()
    assert [line for line in lines if len(line.split()) < 2] == [], "a package without a docstring"


def shell_lines() -> list[list[str]]:
    pages = "".join((ROOT / page).read_text(encoding="utf-8") for page in COMMAND_PAGES)
    lines = [line for language, text in FENCE.findall(pages) if language == "sh" for line in text.splitlines()]
    inline = re.findall(r"`(make [a-z]+)`", pages)
    words = [shlex.split(line, comments=True) for line in [*lines, *inline]]
    return [line for line in words if line]


def test_documented_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {line[1] for line in shell_lines() if line[0] == "make"}
    assert {"demo", "test"} <= named <= targets


def test_documented_commands_parse() -> None:
    from mondrian import DEPLOYMENT_COMMANDS
    from mondrian_core.cli import normalize_words, parse_command
    from mondrian_core.errors import BadInput

    named = [line[1:] for line in shell_lines() if line[0] == "mondrian"]
    for arguments in named:
        plain = [word.strip("[]") for word in arguments]
        try:
            parse_command(normalize_words(plain), print, DEPLOYMENT_COMMANDS)
        except BadInput as error:
            pytest.fail(f"mondrian {' '.join(arguments)}: {error}")
    assert named  # reference/command-line.md, which is generated, has them all


def test_documented_deployments_exist() -> None:
    file = ROOT / "prefect.yaml"
    deployments = yaml.safe_load(file.read_text())["deployments"]
    flows = {entry["entrypoint"].split(":")[0].split("/")[-1].removesuffix(".py") for entry in deployments}
    names = {entry["name"] for entry in deployments}
    for line in shell_lines():
        if line[:4] == ["mondrian", "prefect", "deployment", "run"]:
            flow, name = line[4].split("/")
            assert flow in flows, line
            assert name in names, line


def test_documentation_links_resolve() -> None:
    """The template of the page on gates is written for the folder of that page."""
    for document in [file for file in tracked_files() if file.suffix == ".md"]:
        folder = ROOT / "docs" / "reference" if document.parent.name == "templates" else (ROOT / document).parent
        for target in _link_targets(document):
            assert (folder / target).exists(), f"{document}: {target}"


def _link_targets(document: Path) -> list[str]:
    """Paths that a page links to, without anchors and addresses."""
    targets = re.findall(r"\]\(([^)#\s]+)", (ROOT / document).read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target]


def test_every_page_is_listed_by_the_index_of_its_folder() -> None:
    """The site takes its navigation from the same links."""
    pages = {file for file in tracked_files() if file.parts[0] == "docs" and file.suffix == ".md"}
    for page in pages - {Path("docs/index.md")}:
        index = page.parent.parent / "index.md" if page.name == "index.md" else page.parent / "index.md"
        linked = {Path(os.path.normpath(index.parent / target)) for target in _link_targets(index)}
        assert page in linked, f"{index} does not link to {page}"


def test_decisions_are_grouped_and_need_their_first_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path("docs/decisions/0001-one.md")
    (tmp_path / page.parent).mkdir(parents=True)
    lines = "# 0001. One\n\nStatus: superseded by [0002](0002-two.md): removed\nDate: 2026-01-01, revised\n"
    monkeypatch.setattr(generated_docs, "ROOT", tmp_path)
    (tmp_path / page).write_text(f"{lines}Topic: Training\n")
    row = "| [0001. One](0001-one.md) | superseded by [0002](0002-two.md) | 2026-01-01 |"
    assert f"## Training\n\n| decision | status | date |\n|---|---|---|\n{row}\n" in generated_docs.decision_tables(
        [page]
    )
    for missing in (lines, f"{lines}Topic: Travelling\n"):
        (tmp_path / page).write_text(missing)
        with pytest.raises(ValueError, match="needs the lines `Status"):
            generated_docs.decision_tables([page])


def test_every_guide_ends_with_how_to_check_it() -> None:
    guides = [file for file in tracked_files() if file.parent == Path("docs/how-to") and file.name != "index.md"]
    sections = {
        guide: re.findall(r"^## (.+)$", (ROOT / guide).read_text(encoding="utf-8"), re.MULTILINE) for guide in guides
    }
    # of the self-test the whole page is the check
    assert [guide.stem for guide, found in sections.items() if found[-1:] != ["Check"]] == ["selftest"]


def test_packaging_contains_no_urls() -> None:
    for name in ("requirements.lock", "pyproject.toml", "Makefile", ".ci/run"):
        assert "://" not in (ROOT / name).read_text(), name


def test_lock_file_contains_only_hashed_pins() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pin = re.compile(r"[a-z0-9-]+==[\w.]+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not pin.fullmatch(line)] == []


def test_lock_covers_the_declared_dependencies_and_leaves_torch_out() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    wanted = {re.split(r"[\[<>=;~! ]", line)[0].lower().replace("_", "-") for line in declared}
    text = (ROOT / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==([\w.]+)", text, re.MULTILINE))
    assert wanted <= set(locked)
    assert "torch" not in locked
    assert locked["mlx"] == locked["mlx-cpu"] == locked["mlx-metal"]
    assert re.search(r"^mlx-cpu==\S+ ; sys_platform == 'linux' ", text, re.MULTILINE)


def test_changelog_begins_with_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    first = re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first and first[1] == version
    install = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    assert f"mondrian-{version}" not in install, "a page that names the file of a version is soon outdated"


def test_no_file_contains_a_machine_name() -> None:
    found = []
    for file in tracked_files():
        try:
            text = (ROOT / file).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        paths = MACHINE_PATH.findall(text)
        here = [str(ROOT)] if len(ROOT.parts) > 2 and str(ROOT) in text else []
        if (paths or here) and file != Path(__file__).relative_to(ROOT):
            found.append((str(file), paths + here))
    assert found == [], json.dumps(found, indent=1)


def test_no_link_is_tracked() -> None:
    """A link is not read as a file, and what it leads to may be on one machine only."""
    tracked_files()  # skips where there is no checkout
    staged = subprocess.run(["git", "ls-files", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line for line in staged.splitlines() if line.startswith("120000")] == []


@pytest.mark.slow
def test_untracked_files_fail_no_test(tmp_path: Path) -> None:
    """These tests look at tracked files only, whatever else a person leaves in the folder."""
    checkout = copy_tracked_files(tmp_path / "checkout")
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "All"]):
        subprocess.run([*git, *arguments], cwd=checkout, check=True, capture_output=True)
    for place in ("install.log", "notes/today.md", "docs/my-notes.md", "mondrian_core/debug.log", "tests/run.log"):
        (checkout / place).parent.mkdir(exist_ok=True)
        (checkout / place).write_text("see /" + "home/somebody/.venv and [this](missing.md)\n")
    (checkout / "mondrian_core" / "scratch.py").write_text("import prefect\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "not planted",
        "-m",
        "not slow",
        "tests/architecture",
    ]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_every_environment_variable_is_explained_and_no_other() -> None:
    from mondrian_core.settings import Settings

    table = re.findall(
        r"^\| `([A-Z0-9_]+)` \|", (ROOT / "docs" / "reference" / "settings.md").read_text(), re.MULTILINE
    )
    names = [field.validation_alias.choices for field in Settings.model_fields.values()]
    assert sorted(table) == sorted(str(first) for first, *_ in names)


def test_slow_tests_exist() -> None:
    """`make slow-tests` writes the list; a renamed test has to be renamed there."""
    defined = {
        f"{file}::{name}"
        for file in tracked_files()
        if file.parts[0] == "tests" and file.suffix == ".py"
        for name in re.findall(r"^def (test_\w+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert read_slow_tests() - defined == set()


def test_a_build_machine_repeats_a_failed_test_and_names_it(tmp_path: Path) -> None:
    (match,) = re.findall(r'ARGS="(.+)"', (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    (tmp_path / "test_unsteady.py").write_text(
        "import pathlib\n\n\ndef test_second_time():\n    mark = pathlib.Path(__file__).with_name('mark')\n"
        "    seen = mark.exists()\n    mark.touch()\n    assert seen, 'the first time'\n"
        "\n\ndef test_never():\n    assert False\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        *match.split(),
    ]
    ran = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed, 2 rerun" in ran.stdout, ran.stdout + ran.stderr
    assert "RERUN test_unsteady.py::test_second_time" in ran.stdout and "AssertionError: the first time" in ran.stdout
