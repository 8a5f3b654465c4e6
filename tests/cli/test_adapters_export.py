"""`mondrian adapters export` in each of its forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.cli import main
from mondrian_core.models.base_model import load_base
from mondrian_core.registry import Registry
from tests.models.conftest import make_adapter

pytestmark = pytest.mark.mini


@pytest.fixture(scope="module")
def adapters_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("registry")
    base = load_base("mini")
    folder = make_adapter(base, root / "trained", size=0.2)
    Registry(root / "adapters").register(
        "ansel", folder, {"base": {"name": "mini", "fingerprint": base.fingerprint}}, "candidate"
    )
    return root / "adapters"


@pytest.mark.parametrize(
    ("form", "file"),
    [("mlx", "adapters.safetensors"), ("peft", "adapter_model.safetensors"), ("merged", "model.safetensors")],
)
def test_export_formats_for_other_tools(
    form: str, file: str, adapters_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "adapters",
        "export",
        "v0001",
        "--advisor",
        "ansel",
        "--adapters",
        str(adapters_root),
        "--format",
        form,
        "--out",
        str(tmp_path / form),
        "--json",
    ]
    assert main(words) == 0
    value = json.loads(capsys.readouterr().out)
    assert Path(value["folder"], file).is_file()
    if form == "merged":
        assert value["parity"]["same_answers"] == value["parity"]["photographs"] == 3
    assert main(words) == 2, "a folder that is there is not written over"


def test_default_export_format_is_archive(adapters_root: Path, tmp_path: Path) -> None:
    words = [
        "adapters",
        "export",
        "v0001",
        "--advisor",
        "ansel",
        "--adapters",
        str(adapters_root),
        "--out",
        str(tmp_path),
    ]
    assert main(words) == 0
    assert (tmp_path / "ansel-v0001.tar").is_file()
