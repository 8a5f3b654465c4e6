"""Which adapter serves: --lora_path in all its forms, and promotions noticed by the next request."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mondrian_core.errors import AdapterNotLoadable
from mondrian_core.registry import Registry
from mondrian_core.serving.lookup import Adapters, Pointer, require_adapter, source_of
from mondrian_core.serving.strategies import Adapter

Promote = Callable[[str | None], None]


def sound(folder: Path) -> tuple[str, ...]:
    return ()


@pytest.mark.parametrize("path", ["v0002", "ansel/v0002", "{root}/ansel/v0002"])
def test_a_version_by_name_or_folder(registry: Registry, path: str) -> None:
    found = source_of(path.format(root=registry.root), registry)
    assert found == Adapter("ansel", "v0002", registry.root / "ansel" / "v0002")


def test_a_pointer_by_folder_or_advisor(registry: Registry, promote: Promote) -> None:
    assert source_of("ansel", registry) == Pointer("ansel", registry.root)
    with pytest.raises(AdapterNotLoadable, match="holds no adapter"):
        source_of(str(registry.root / "ansel"), registry)
    promote("v0001")
    assert source_of(str(registry.root / "ansel"), registry) == Pointer("ansel", registry.root)


def test_a_plain_folder_and_a_run(registry: Registry, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    (run / "adapter" / "adapters.safetensors").write_bytes(b"")
    assert source_of(str(run / "adapter"), registry) == Adapter(None, "adapter", run / "adapter")
    assert source_of(str(run), registry) == Adapter(None, "run", run / "adapter")


@pytest.mark.parametrize("path", ["v0009", "ansel/v0009", "nobody", "/no/such/folder", "a/b/c"])
def test_what_is_not_there_is_refused(registry: Registry, path: str) -> None:
    with pytest.raises(AdapterNotLoadable):
        source_of(path, registry)


def test_a_promotion_and_a_rollback_are_noticed_at_once(registry: Registry, promote: Promote) -> None:
    adapters = Adapters(registry, None, sound)
    assert adapters.of("ansel") == (None, "no adapter is promoted for this advisor")
    for version in ("v0001", "v0002"):
        promote(version)
        found, _ = adapters.of("ansel")
        assert found is not None and found.version == version
    promote(None)
    found, _ = adapters.of("ansel")
    assert found is not None and found.version == "v0001"
    assert adapters.serving == {"ansel": "v0001"}
    assert adapters.of("dorothea")[0] is None


def test_the_old_adapter_keeps_answering_while_the_new_one_is_unsound(registry: Registry, promote: Promote) -> None:
    adapters = Adapters(registry, None, lambda folder: ("broken",) if folder.name == "v0002" else ())
    promote("v0001")
    adapters.of("ansel")
    promote("v0002")
    found, why = adapters.of("ansel")
    assert found is not None and found.version == "v0001"
    assert "broken" in why


def test_a_damaged_pointer_keeps_the_old_adapter(registry: Registry, promote: Promote) -> None:
    adapters = Adapters(registry, None, sound)
    promote("v0001")
    adapters.of("ansel")
    (registry.root / "ansel" / "promoted.json").write_text("{")
    found, why = adapters.of("ansel")
    assert found is not None and found.version == "v0001"
    assert "can't be used" in why


def test_a_pinned_version_is_for_its_advisor_alone(registry: Registry, promote: Promote) -> None:
    promote("v0001")
    adapters = Adapters(registry, source_of("v0002", registry), sound)
    assert adapters.of("ansel")[0] == Adapter("ansel", "v0002", registry.root / "ansel" / "v0002")
    assert adapters.of("dorothea")[0] is None


def test_a_mode_that_needs_an_adapter_gets_one_or_a_reason(registry: Registry, promote: Promote) -> None:
    with pytest.raises(AdapterNotLoadable, match="no adapter is promoted"):
        require_adapter(Adapters(registry, None, sound), None)
    promote("v0001")
    require_adapter(Adapters(registry, None, sound), None)
    with pytest.raises(AdapterNotLoadable, match="wrong shape"):
        require_adapter(Adapters(registry, None, lambda folder: ("wrong shape",)), None)
