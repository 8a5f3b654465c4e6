"""`mondrian adapters verify` and `promote` hold a version against the base it names: quarantined, released, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.cli import main
from mondrian_core.models.base_model import BaseVLM, base_fingerprint, load_base
from mondrian_core.registry import Registry
from tests.models.conftest import make_adapter
from tests.registry.conftest import manifest, write_adapter

pytestmark = pytest.mark.mini
Mondrian = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def base() -> BaseVLM:
    return load_base("mini")


@pytest.fixture
def mondrian(registry: Registry, capsys: pytest.CaptureFixture[str]) -> Mondrian:
    def run(*words: str) -> tuple[int, Any]:
        status = main(["adapters", *words, "--advisor", "ansel", "--json", "--adapters", str(registry.root)])
        return status, json.loads(capsys.readouterr().out)

    return run


def of_mini(**values: Any) -> dict[str, Any]:
    return manifest(base={"name": "mini", "fingerprint": base_fingerprint("mini")}, **values)


def states(registry: Registry) -> list[str]:
    return [version.state for version in registry.versions("ansel")]


def test_only_what_fits_its_base_is_promoted(
    base: BaseVLM, registry: Registry, mondrian: Mondrian, tmp_path: Path
) -> None:
    registry.register("ansel", make_adapter(base, tmp_path / "sound", size=0.1), of_mini())
    registry.register("ansel", write_adapter(tmp_path / "foreign"), of_mini())
    status, told = mondrian("promote", "--version", "v0002")
    assert status == 2 and "damaged" in told["error"] and "layers.0.self_attn.q_proj" in told["error"]
    assert states(registry) == ["candidate", "quarantined"]
    assert mondrian("promote", "--version", "v0001") == (
        0,
        {"advisor": "ansel", "from": None, "to": "v0001", "rollout": None},
    )


def test_verify_says_what_it_found_and_what_it_could_not(
    base: BaseVLM, registry: Registry, mondrian: Mondrian, tmp_path: Path
) -> None:
    registry.register("ansel", make_adapter(base, tmp_path / "sound", size=0.1), of_mini())
    registry.register("ansel", make_adapter(base, tmp_path / "faint", size=1e-6), of_mini())
    registry.register("ansel", write_adapter(tmp_path / "other"), manifest())
    status, told = mondrian("verify")
    assert status == 1
    first, second, third = told
    assert (first["problems"], first["base"]) == ([], "mini") and first["change"] > 0.01
    assert "as good as nothing" in second["problems"][0]
    assert (third["problems"], third["base"]) == ([], None)
    assert states(registry) == ["candidate", "quarantined", "candidate"]
    assert "as good as nothing" in registry.history("ansel")[-1].reason


def test_verify_releases_what_is_sound_again_when_asked(
    base: BaseVLM, registry: Registry, mondrian: Mondrian, tmp_path: Path
) -> None:
    registry.register("ansel", make_adapter(base, tmp_path / "sound", size=0.1), of_mini())
    weights = registry.get("ansel", "v0001").weights
    sound = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    assert mondrian("verify")[0] == 1 and states(registry) == ["quarantined"]
    assert mondrian("verify", "--release")[0] == 1 and states(registry) == ["quarantined"]
    weights.write_bytes(sound)
    assert mondrian("verify")[0] == 0 and states(registry) == ["quarantined"], "only when asked"
    assert mondrian("verify", "--release")[0] == 0 and states(registry) == ["candidate"]
