"""Adapter selection: --lora_path in all its forms, and promotions applied to the next request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mondrian_core.errors import AdapterNotLoadable
from mondrian_core.registry import Registry
from mondrian_core.serving.critique.active_adapters import ActiveAdapters, require_adapter
from mondrian_core.serving.critique.adapter_source import PointerSource, ServedAdapter, find_adapter_source

Promote = Callable[[str | None], None]


def sound(folder: Path) -> tuple[str, ...]:
    return ()


@pytest.mark.parametrize("path", ["v0002", "ansel/v0002", "{root}/ansel/v0002"])
def test_version_by_name_or_folder(registry: Registry, path: str) -> None:
    found = find_adapter_source(path.format(root=registry.root), registry)
    assert found == ServedAdapter("ansel", "v0002", registry.root / "ansel" / "v0002")


def test_pointer_by_folder_or_advisor(registry: Registry, promote: Promote) -> None:
    assert find_adapter_source("ansel", registry) == PointerSource("ansel", registry.root)
    with pytest.raises(AdapterNotLoadable, match="No version in"):
        find_adapter_source(str(registry.root / "ansel"), registry)
    promote("v0001")
    assert find_adapter_source(str(registry.root / "ansel"), registry) == PointerSource("ansel", registry.root)


def test_adapter_folder_and_run_folder_are_resolved(registry: Registry, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    (run / "adapter" / "adapters.safetensors").write_bytes(b"")
    assert find_adapter_source(str(run / "adapter"), registry) == ServedAdapter(None, "adapter", run / "adapter")
    assert find_adapter_source(str(run), registry) == ServedAdapter(None, "run", run / "adapter")


@pytest.mark.parametrize("path", ["v0009", "ansel/v0009", "nobody", "/no/such/folder", "a/b/c"])
def test_missing_adapter_source_is_rejected(registry: Registry, path: str) -> None:
    with pytest.raises(AdapterNotLoadable):
        find_adapter_source(path, registry)


def test_promotion_and_rollback_apply_at_once(registry: Registry, promote: Promote) -> None:
    adapters = ActiveAdapters(registry, None, sound)
    assert adapters.for_advisor("ansel") == (None, "no adapter is promoted for this advisor")
    for version in ("v0001", "v0002"):
        promote(version)
        found, _ = adapters.for_advisor("ansel")
        assert found is not None and found.version == version
    promote(None)
    found, _ = adapters.for_advisor("ansel")
    assert found is not None and found.version == "v0001"
    assert adapters.active_versions == {"ansel": "v0001"}
    assert adapters.for_advisor("dorothea")[0] is None


def test_invalid_new_adapter_keeps_the_old_one(registry: Registry, promote: Promote) -> None:
    adapters = ActiveAdapters(registry, None, lambda folder: ("broken",) if folder.name == "v0002" else ())
    promote("v0001")
    adapters.for_advisor("ansel")
    promote("v0002")
    found, why = adapters.for_advisor("ansel")
    assert found is not None and found.version == "v0001"
    assert "broken" in why


def test_damaged_pointer_keeps_the_old_adapter(registry: Registry, promote: Promote) -> None:
    adapters = ActiveAdapters(registry, None, sound)
    promote("v0001")
    adapters.for_advisor("ansel")
    (registry.root / "ansel" / "promoted.json").write_text("{")
    found, why = adapters.for_advisor("ansel")
    assert found is not None and found.version == "v0001"
    assert "can't be used" in why


def test_pinned_version_serves_only_its_advisor(registry: Registry, promote: Promote) -> None:
    promote("v0001")
    adapters = ActiveAdapters(registry, find_adapter_source("v0002", registry), sound)
    assert adapters.for_advisor("ansel")[0] == ServedAdapter("ansel", "v0002", registry.root / "ansel" / "v0002")
    assert adapters.for_advisor("dorothea")[0] is None


def test_required_adapter_is_found_or_the_reason_is_given(registry: Registry, promote: Promote) -> None:
    with pytest.raises(AdapterNotLoadable, match="no adapter is promoted"):
        require_adapter(ActiveAdapters(registry, None, sound), None)
    promote("v0001")
    require_adapter(ActiveAdapters(registry, None, sound), None)
    with pytest.raises(AdapterNotLoadable, match="wrong shape"):
        require_adapter(ActiveAdapters(registry, None, lambda folder: ("wrong shape",)), None)


def test_registry_root_serves_all_its_advisors(registry: Registry, promote: Promote, tmp_path: Path) -> None:
    promote("v0002")
    elsewhere = Registry(tmp_path / "another")
    assert find_adapter_source(str(registry.root), registry) is None, "its own root is the default"
    source = find_adapter_source(str(registry.root), elsewhere)
    assert source == PointerSource(None, registry.root)
    adapters = ActiveAdapters(elsewhere, source, sound)
    found, _ = adapters.for_advisor("ansel")
    assert found is not None and found.version == "v0002"
    assert adapters.advisors() == ["ansel"] and adapters.has_promoted("ansel") and not adapters.has_promoted("dorothea")
    require_adapter(adapters, source)
    assert adapters.version("ansel", "v0001")[0] is not None, "the previous version is found in the same registry"


def flat_adapter(root: Path, advisor: str = "ansel") -> Path:
    folder = root / advisor
    folder.mkdir(parents=True)
    (folder / "adapters.safetensors").write_bytes(b"x")
    (folder / "adapter_config.json").write_text("{}")
    return folder


def test_flat_folder_of_the_older_project_serves_its_advisor(registry: Registry, tmp_path: Path) -> None:
    flat = flat_adapter(tmp_path / "older")
    source = find_adapter_source(str(tmp_path / "older"), registry)
    assert source == PointerSource(None, tmp_path / "older")
    adapters = ActiveAdapters(registry, source, sound)
    assert adapters.for_advisor("ansel")[0] == ServedAdapter("ansel", "legacy", flat)
    assert adapters.for_advisor("dorothea")[0] is None
    assert adapters.has_promoted("ansel")
    require_adapter(adapters, source)


def test_flat_folder_in_the_registry_serves_until_the_first_version(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "adapters")
    flat = flat_adapter(registry.root)
    assert ActiveAdapters(registry, None, sound).for_advisor("ansel")[0] == ServedAdapter("ansel", "legacy", flat)
    made = tmp_path / "made"
    made.mkdir()
    for file in flat.iterdir():
        (made / file.name).write_bytes(file.read_bytes())
    from tests.registry.conftest import manifest, write_adapter

    registry.register("ansel", write_adapter(made, 1), manifest())
    assert ActiveAdapters(registry, None, sound).for_advisor("ansel")[0] is None, "versions have priority"


@pytest.mark.parametrize("place", ["nothing", "unpromoted", "overlooked"])
def test_missing_adapter_error_names_the_next_command(registry: Registry, tmp_path: Path, place: str) -> None:
    chosen = registry if place == "unpromoted" else Registry(tmp_path / "empty")
    overlooked = tmp_path / "other" if place == "overlooked" else None
    with pytest.raises(AdapterNotLoadable) as caught:
        require_adapter(ActiveAdapters(chosen, None, sound), None, ["ansel"], overlooked)
    told = str(caught.value)
    assert "valid advisor ID" not in told
    expected = {
        "nothing": f"there is none in {tmp_path / 'empty'}). Train an adapter: `mondrian retrain --advisor ansel`",
        "unpromoted": f"mondrian adapters promote --adapters {registry.root} --advisor ansel --version v0002`",
        "overlooked": f"There are adapters in {tmp_path / 'other'}",
    }
    assert expected[place] in told


def test_advisor_folder_without_champion_names_the_promote_command(registry: Registry) -> None:
    with pytest.raises(AdapterNotLoadable, match=r"adapters promote .* --advisor ansel --version v0002"):
        find_adapter_source(str(registry.root / "ansel"), registry)
