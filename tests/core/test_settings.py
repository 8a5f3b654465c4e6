"""Settings: environment, defaults, advisor ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondrian_core import settings as module
from mondrian_core.errors import BadInput, NoWorkspace
from mondrian_core.settings import METAL_BASE_MODEL, Settings, current_settings, validate_advisor_id


def test_default_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings()
    assert settings.root == tmp_path / "workspace"
    assert settings.adapters_root == tmp_path / "adapters"
    assert settings.database == tmp_path / "workspace" / "mondrian.db"
    assert settings.run_folder("r1") == tmp_path / "workspace" / "runs" / "r1"


def test_arguments_override_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONDRIAN_WORKSPACE", str(tmp_path / "environment"))
    monkeypatch.setenv("ANALYSIS_MODE", "rag")
    monkeypatch.setenv("EMBEDDINGS_ENABLED", "true")
    monkeypatch.setenv("LORA_ADAPTER_DIR", "/somewhere")
    settings = Settings()
    assert settings.root == tmp_path / "environment"
    assert (settings.analysis_mode, settings.embeddings_enabled) == ("rag", True)
    assert settings.lora_adapter_dir == Path("/somewhere")
    assert Settings(workspace=tmp_path / "option").root == tmp_path / "option"


def test_the_default_base_depends_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "on_apple_silicon", lambda: True)
    assert Settings().base == METAL_BASE_MODEL
    monkeypatch.setattr(module, "on_apple_silicon", lambda: False)
    assert Settings().base == "mini"
    monkeypatch.setenv("MONDRIAN_BASE_MODEL", "/models/other")
    assert Settings().base == "/models/other"


def test_empty_environment_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONDRIAN_BASE_MODEL", "")
    monkeypatch.setenv("LORA_ADAPTER_DIR", "")
    monkeypatch.setenv("ANALYSIS_MODE", "")
    settings = Settings()
    assert settings.base_model is None
    assert settings.lora_adapter_dir is None
    assert settings.analysis_mode == "lora"


def test_bad_variables_are_named_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYSIS_MODE", "lorra")
    monkeypatch.setenv("EMBEDDINGS_ENABLED", "perhaps")
    with pytest.raises(BadInput, match=r"(?s)ANALYSIS_MODE.*EMBEDDINGS_ENABLED"):
        Settings()


def test_current_settings_are_read_once_and_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONDRIAN_MAX_MEGAPIXELS", "7")
    seven = current_settings()
    assert seven.max_megapixels == 7 and current_settings() is seven
    monkeypatch.setenv("mondrian_max_megapixels", "8")  # the case of a name makes no difference
    monkeypatch.delenv("MONDRIAN_MAX_MEGAPIXELS")
    assert current_settings() == Settings() and current_settings().max_megapixels == 8
    monkeypatch.setenv("mondrian_max_megapixels", "many")
    with pytest.raises(BadInput, match="valid integer"):
        current_settings()


def test_missing_workspace_error_suggests_next_step(tmp_path: Path) -> None:
    with pytest.raises(NoWorkspace, match="mondrian init"):
        Settings(workspace=tmp_path / "none").require_workspace()
    (tmp_path / "file").write_text("")
    with pytest.raises(NoWorkspace):
        Settings(workspace=tmp_path / "file").require_workspace()


@given(st.from_regex(r"[a-z0-9_-]{1,64}", fullmatch=True))
def test_valid_advisor_ids_are_accepted(advisor: str) -> None:
    assert validate_advisor_id(advisor) == advisor


@pytest.mark.parametrize("advisor", ["", "Ansel", "../ansel", "a" * 65, "ansel\n", "an sel", "ansel/x", ".", "änsel"])
def test_invalid_advisor_ids_are_rejected(advisor: str) -> None:
    with pytest.raises(BadInput, match="not a valid advisor ID"):
        validate_advisor_id(advisor)


def test_workspace_id_identifies_the_path_and_does_not_contain_it(tmp_path: Path) -> None:
    one, other = (Settings(workspace=tmp_path / name / "photos").workspace_id for name in ("a", "b"))
    assert one != other
    assert one.startswith("photos-")
    assert str(tmp_path) not in one
    assert Settings(workspace=tmp_path / "b" / ".." / "a" / "photos").workspace_id == one


def test_registry_lies_beside_the_workspace_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONDRIAN_WORKSPACE", str(tmp_path / "photos" / "workspace"))
    roots = set()
    for place in (tmp_path, tmp_path / "elsewhere", tmp_path / "photos"):
        place.mkdir(exist_ok=True)
        monkeypatch.chdir(place)
        roots.add(Settings().adapters_root)
    assert roots == {tmp_path / "photos" / "adapters"}
    assert Settings(adapters=Path("named")).adapters_root == tmp_path / "photos" / "named"


def test_registry_in_former_location_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "adapters" / "ansel").mkdir(parents=True)
    (tmp_path / "far").mkdir()
    monkeypatch.chdir(tmp_path)
    far = Settings(workspace=tmp_path / "far" / "workspace")
    assert far.overlooked_registry == tmp_path / "adapters"
    assert Settings(workspace=tmp_path / "workspace").overlooked_registry is None, "that is its own"
    assert Settings(workspace=far.workspace, adapters=tmp_path / "x").overlooked_registry is None
    (tmp_path / "far" / "adapters" / "ada").mkdir(parents=True)
    assert far.overlooked_registry is None


def test_explicit_analysis_mode_is_distinguished_from_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Settings().is_analysis_mode_set
    monkeypatch.setenv("ANALYSIS_MODE", "")
    assert not Settings().is_analysis_mode_set
    monkeypatch.setenv("ANALYSIS_MODE", "lora")
    assert Settings().is_analysis_mode_set
