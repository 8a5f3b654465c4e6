"""The import contracts of pyproject.toml hold, and each of them bites when an import it forbids is planted."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from git_files import tracked_files

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
PACKAGES = ("mondrian_core", "tasks", "flows", "deployments")
RUN = "from importlinter.cli import lint_imports_command; lint_imports_command()"
ROOMS = ("data", "training", "evaluation", "serving")

# contract, {file: what it says}; a file that is not there yet is made
PLANTS: list[tuple[str, dict[str, str]]] = [
    ("floors", {"mondrian_core/rubric.py": "import tasks"}),
    ("floors", {"mondrian_core/data/planted.py": "def late():\n    import deployments"}),
    ("floors", {"tasks/planted.py": "import flows"}),
    ("floors", {"flows/planted.py": "import deployments"}),
    ("core", {"mondrian_core/errors.py": "import mondrian_core.rubric"}),
    ("core", {"mondrian_core/models/planted.py": "import mondrian_core.serving"}),
    ("core", {"mondrian_core/planted.py": "'''A module without a floor.'''"}),
    ("prefect", {"mondrian_core/rubric.py": "from prefect import task"}),
    ("prefect", {"mondrian_core/serving/planted.py": "def late():\n    import prefect.runtime"}),
    ("mlx", {"mondrian_core/evaluation/planted.py": "import mlx.core as mx"}),
    ("mlx", {"mondrian_core/serving/planted.py": "import mlx.nn"}),
    ("mlx", {"tasks/planted.py": "from mlx_vlm import load"}),
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
        ("rooms", {f"mondrian_core/{importer}/planted.py": f"import mondrian_core.{imported}"})
        for importer, imported in itertools.permutations(ROOMS, 2)
    ],
    (
        "rooms",
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
    """A copy of the packages as they are tracked, Python files alone."""
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
