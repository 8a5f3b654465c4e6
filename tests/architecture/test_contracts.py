"""The import contracts of pyproject.toml hold, and each one reports a forbidden import that a test adds."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.git_files import tracked_files

ROOT = Path(__file__).resolve().parents[2]
IMPORT_LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS = IMPORT_LINTER["contracts"]
PACKAGES = IMPORT_LINTER["root_packages"]
RUN = "from importlinter.cli import lint_imports_command; lint_imports_command()"
INDEPENDENT = ("data", "training", "evaluation", "serving")

# (contract, {file: text to append}); missing files are created
PLANTS: list[tuple[str, dict[str, str]]] = [
    ("layers", {"mondrian_core/rubric.py": "import tasks"}),
    ("layers", {"mondrian_core/data/planted.py": "def late():\n    import deployments"}),
    ("layers", {"tasks/planted.py": "import flows"}),
    ("layers", {"flows/planted.py": "import deployments"}),
    ("layers", {"deployments/planted.py": "import mondrian"}),
    ("mini_training", {"mondrian_core/models/planted.py": "def late():\n    import mini_training.train"}),
    ("mini_training", {"deployments/planted.py": "import mini_training"}),
    ("core", {"mondrian_core/errors.py": "import mondrian_core.rubric"}),
    ("core", {"mondrian_core/models/planted.py": "import mondrian_core.serving"}),
    ("core", {"mondrian_core/planted.py": "'''A module that no layer lists.'''"}),
    ("serving", {"mondrian_core/serving/engine/planted.py": "import mondrian_core.serving.critique.routing"}),
    ("serving", {"mondrian_core/serving/jobs/planted.py": "import mondrian_core.serving.http.pages"}),
    ("serving", {"mondrian_core/serving/planted.py": "'''A module without a layer.'''"}),
    ("prefect", {"mondrian_core/rubric.py": "from prefect import task"}),
    ("prefect", {"mondrian_core/serving/planted.py": "def late():\n    import prefect.runtime"}),
    ("mlx", {"mondrian_core/evaluation/planted.py": "import mlx.core as mx"}),
    ("mlx", {"mondrian_core/serving/planted.py": "import mlx.nn"}),
    ("mlx", {"tasks/planted.py": "from mlx_vlm import load"}),
    ("mini_training", {"mondrian_core/mini/planted.py": "def late():\n    import mini_training.architecture"}),
    ("torch", {"mondrian_core/models/planted.py": "import torch"}),
    ("torch", {"mondrian_core/training/planted.py": "def late():\n    from torch import nn"}),
    (
        "cycles",
        {
            "mondrian_core/models/planted_a.py": "import mondrian_core.models.planted_b",
            "mondrian_core/models/planted_b.py": "import mondrian_core.models.planted_a",
        },
    ),
    (
        "cycles",
        {
            "tasks/planted_a.py": "import tasks.planted_b",
            "tasks/planted_b.py": "from tasks import planted_a",
        },
    ),
    *[
        ("independent", {f"mondrian_core/{importer}/planted.py": f"import mondrian_core.{imported}"})
        for importer, imported in itertools.permutations(INDEPENDENT, 2)
    ],
    (
        "independent",
        {
            "mondrian_core/serving/planted.py": "import mondrian_core.planted",
            "mondrian_core/planted.py": "import mondrian_core.training",
        },
    ),
]


def lint(tree: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the packages of `tree`, not on the installed ones."""
    only = [part for contract in contracts for part in ("--contract", contract)]
    return subprocess.run(
        [sys.executable, "-c", RUN, "--no-logo", "--no-cache", "--config", "pyproject.toml", *only],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the tracked Python files of the packages."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for source in tracked_files():
        if source.parts[0] in PACKAGES and source.suffix == ".py":
            (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / source, tmp_path / source)
    return tmp_path


def plant(tree: Path, path: str, text: str) -> None:
    file = tree / path
    for folder in [folder for folder in file.parents if folder.is_relative_to(tree) and folder != tree]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
    before = file.read_text() if file.exists() else ""
    file.write_text(f"{before}\n{text}\n")


def test_every_contract_holds(tree: Path) -> None:
    result = lint(tree)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("contract", "files"), PLANTS, ids=[f"{contract}-{'+'.join(files)}" for contract, files in PLANTS]
)
def test_forbidden_import_is_reported(tree: Path, contract: str, files: dict[str, str]) -> None:
    for path, text in files.items():
        plant(tree, path, text)
    result = lint(tree, contract)
    name = next(entry["name"] for entry in CONTRACTS if entry["id"] == contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{name} BROKEN" in result.stdout, result.stdout + result.stderr


def test_every_import_contract_has_a_violation_case() -> None:
    assert {contract for contract, _ in PLANTS} == {entry["id"] for entry in CONTRACTS}
