"""Versions, promotion, rollback, quarantine, retention."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mondrian_core.errors import BadAdapter, BadInput, ChampionChanged, GateFailed, NothingToDo, UnknownVersion
from mondrian_core.registry import Registry, diff_versions, version_summary
from tests.registry.conftest import manifest, write_adapter


def promote(registry: Registry, version: str) -> None:
    registry.promote("ansel", version, expected=registry.current("ansel"), actor="person:test", reason="by test")


def states(registry: Registry) -> dict[str, str]:
    return {version.version: version.state for version in registry.versions("ansel")}


def test_a_version_holds_everything_and_its_hashes(registry: Registry, adapter: Path, tmp_path: Path) -> None:
    report = tmp_path / "comparison_report.json"
    report.write_text("{}")
    version = registry.register(
        "ansel", adapter, manifest(), actor="flow:x", attachments=[report, tmp_path / "absent.png"]
    )
    assert (version.version, version.state, version.verdict) == ("v0001", "candidate", "PASS")
    assert set(version.manifest["files"]) == {"adapters.safetensors", "adapter_config.json", "comparison_report.json"}
    assert version.manifest["created_at"] and version.manifest["run"] == "run-1"
    assert registry.verify("ansel", "v0001") == ()
    assert all(path.stat().st_mode & 0o222 == 0 for path in version.path.iterdir())
    assert (version.path / "adapters.safetensors").read_bytes() == (adapter / "adapters.safetensors").read_bytes()
    assert registry.history("ansel")[0].event == "register" and registry.history("ansel")[0].actor == "flow:x"


def test_numbers_go_up_and_are_never_used_again(filled: Registry, adapter: Path) -> None:
    assert filled.prune("ansel", keep=1, actor="person:test") == ["v0002"]
    assert filled.prune("ansel", keep=0, actor="person:test") == ["v0003"]
    assert filled.register("ansel", adapter, manifest()).version == "v0004"
    assert states(filled) == {"v0001": "champion", "v0004": "candidate"}
    assert [entry.event for entry in filled.history("ansel")].count("remove") == 2


def test_promote_then_roll_back_step_by_step(filled: Registry) -> None:
    promote(filled, "v0002")
    promote(filled, "v0003")
    assert states(filled) == {"v0001": "retired", "v0002": "retired", "v0003": "champion"}
    went = []
    for _ in range(3):
        back = filled.rollback("ansel", actor="person:test", reason="worse")
        went.append(back.version if back else None)
    assert went == ["v0002", "v0001", None]
    assert filled.champion("ansel") is None
    with pytest.raises(NothingToDo):
        filled.rollback("ansel", actor="person:test", reason="again")


def test_after_a_rollback_the_next_one_does_not_return_to_what_was_left(filled: Registry) -> None:
    promote(filled, "v0002")
    filled.rollback("ansel", actor="a", reason="worse")
    promote(filled, "v0003")
    back = filled.rollback("ansel", actor="a", reason="worse")
    assert back is not None and back.version == "v0001"


def test_promote_compares_and_swaps(filled: Registry) -> None:
    with pytest.raises(ChampionChanged) as caught:
        filled.promote("ansel", "v0002", expected=None, actor="a", reason="late")
    assert (caught.value.expected, caught.value.found, caught.value.exit_status) == (None, "v0001", 1)
    assert filled.current("ansel") == "v0001"
    with pytest.raises(ChampionChanged):
        filled.rollback("ansel", actor="a", reason="late", expected="v0002")
    with pytest.raises(NothingToDo):
        promote(filled, "v0001")


def test_history_says_who_why_from_to_and_verdicts(filled: Registry) -> None:
    seen = {"effect": "PASS"}
    filled.promote("ansel", "v0002", expected="v0001", actor="flow:brave-otter", reason="better", verdicts=seen)
    entry = filled.history("ansel")[-1]
    assert (entry.event, entry.before, entry.after) == ("promote", "v0001", "v0002")
    assert (entry.actor, entry.reason, entry.verdicts) == ("flow:brave-otter", "better", seen)
    pointer = json.loads((filled.root / "ansel" / "promoted.json").read_text())
    assert (pointer["version"], pointer["previous"]) == ("v0002", "v0001")


def test_a_failed_version_is_promoted_only_by_force_with_a_reason(registry: Registry, adapter: Path) -> None:
    registry.register("ansel", adapter, manifest("FAIL"), "rejected")
    with pytest.raises(GateFailed):
        promote(registry, "v0001")
    with pytest.raises(BadInput):
        registry.promote("ansel", "v0001", expected=None, actor="a", reason=" ", forced=True)
    registry.promote("ansel", "v0001", expected=None, actor="a", reason="for the exhibition", forced=True)
    entry = registry.history("ansel")[-1]
    assert entry.forced and entry.reason == "for the exhibition"
    assert entry.verdicts["effect"] == "FAIL"


def test_a_damaged_version_is_quarantined_at_promotion(filled: Registry) -> None:
    weights = filled.get("ansel", "v0002").weights
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(data)
    assert "SHA-256" in filled.verify("ansel", "v0002")[0]
    with pytest.raises(BadAdapter):
        promote(filled, "v0002")
    assert states(filled)["v0002"] == "quarantined" and filled.current("ansel") == "v0001"
    with pytest.raises(BadAdapter):
        promote(filled, "v0002")
    data[-1] ^= 1
    weights.write_bytes(data)
    assert filled.release("ansel", "v0002", actor="a", reason="copied anew").state == "candidate"
    promote(filled, "v0002")


def test_model_problems_quarantine_version(filled: Registry) -> None:
    with pytest.raises(BadAdapter, match="missing keys"):
        filled.promote("ansel", "v0002", expected="v0001", actor="a", reason="r", problems=["missing keys: q_proj"])
    assert states(filled)["v0002"] == "quarantined"


def test_an_edited_manifest_is_seen_and_never_served(filled: Registry) -> None:
    promote(filled, "v0002")
    path = filled.get("ansel", "v0002").path / "manifest.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    assert filled.verify("ansel", "v0002") == ("manifest.json was changed after registration",)
    assert states(filled)["v0002"] == "quarantined"
    with pytest.raises(BadAdapter):
        filled.champion("ansel")
    back = filled.quarantine("ansel", "v0002", actor="a", reason="edited by hand")
    assert back is not None and back.version == "v0001" and filled.champion("ansel") == back


def test_rollback_skips_a_damaged_target(filled: Registry) -> None:
    promote(filled, "v0002")
    promote(filled, "v0003")
    (filled.get("ansel", "v0002").path / "adapter_config.json").unlink()
    back = filled.rollback("ansel", actor="a", reason="r")
    assert back is not None and back.version == "v0001"
    assert states(filled)["v0002"] == "quarantined"


def test_a_half_copied_folder_is_no_version(filled: Registry, adapter: Path) -> None:
    write_adapter(filled.root / "ansel" / "v0007")
    assert "v0007" not in states(filled)
    with pytest.raises(UnknownVersion, match="folder is incomplete"):
        promote(filled, "v0007")
    assert filled.register("ansel", adapter, manifest()).version == "v0008"


def test_a_version_copied_in_whole_is_adopted(filled: Registry, tmp_path: Path) -> None:
    import shutil

    other = Registry(tmp_path / "elsewhere")
    shutil.copytree(filled.root / "ansel" / "v0002", other.root / "ansel" / "v0002")
    assert states(other) == {"v0002": "candidate"}
    other.promote("ansel", "v0002", expected=None, actor="a", reason="r")
    assert [entry.event for entry in other.history("ansel")] == ["adopt", "promote"]


@pytest.mark.parametrize("name", ["../v0001", "v1", "v0001/..", "/etc", "", "v0001\n", "..", ".incoming-1"])
def test_version_names_cannot_escape_root(filled: Registry, name: str) -> None:
    with pytest.raises(UnknownVersion):
        filled.get("ansel", name)
    with pytest.raises(BadInput):
        filled.get(f"../{name}", "v0001")


def test_pickle_files_are_rejected(registry: Registry, adapter: Path) -> None:
    (adapter / "optimizer.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(BadAdapter, match="run code"):
        registry.register("ansel", adapter, manifest())
    assert registry.versions("ansel") == []


def test_nothing_but_safetensors_and_configuration_is_an_adapter(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadAdapter):
        registry.register("ansel", tmp_path / "empty", manifest())
    with pytest.raises(BadAdapter):
        registry.register("ansel", tmp_path / "nowhere", manifest())


def test_verify_checks_adapter_arrays(registry: Registry, tmp_path: Path) -> None:
    for name, options, word in (("nan", {"fill": float("nan")}, "finite"), ("rank", {"rank": 3}, "rank 4")):
        registry.register("ansel", write_adapter(tmp_path / name, **options), manifest())
        assert word in registry.verify("ansel", registry.versions("ansel")[-1].version)[0]


def test_older_layouts_are_read_and_must_be_imported(registry: Registry, tmp_path: Path) -> None:
    home = registry.root / "ansel"
    write_adapter(home)
    write_adapter(home / "v2-backup")
    (home / "v2-backup" / "adapters.safetensors").rename(home / "v2-backup" / "adapter_model.safetensors")
    (home / "_notes").mkdir()
    found = {version.version: version for version in registry.versions("ansel")}
    assert {name: (version.state, version.manifest["layout"]) for name, version in found.items()} == {
        "legacy": ("legacy", "mlx-vlm"),
        "v2-backup": ("legacy", "peft"),
    }
    with pytest.raises(BadInput, match="import"):
        promote(registry, "legacy")
    version = registry.import_from("ansel", found["legacy"].path, actor="a")
    assert (version.version, version.state, version.report) == ("v0001", "candidate", None)
    assert registry.champion("ansel") is None


def test_export_and_import_give_the_same_files_and_no_gates(filled: Registry, tmp_path: Path) -> None:
    first = filled.export("ansel", "v0001", tmp_path / "a.tar")
    assert first.read_bytes() == filled.export("ansel", "v0001", tmp_path / "b.tar").read_bytes()
    assert filled.export("ansel", "v0001", tmp_path).name == "ansel-v0001.tar"
    other = Registry(tmp_path / "other")
    version = other.import_from("ansel", first, actor="person:test")
    assert (version.version, version.state, version.verdict) == ("v0001", "candidate", None)
    assert version.manifest["imported_from"]["gate_report"]["verdict"] == "PASS"
    assert version.base_fingerprint == "f" * 64
    assert version.weights.read_bytes() == filled.get("ansel", "v0001").weights.read_bytes()


def test_an_archive_can_not_leave_its_folder(registry: Registry, tmp_path: Path) -> None:
    import io
    import tarfile

    entries = [
        ("../../x.json", tarfile.REGTYPE, ""),
        ("/etc/x.json", tarfile.REGTYPE, ""),
        ("v/.hidden", tarfile.REGTYPE, ""),
        ("v/adapters.safetensors", tarfile.SYMTYPE, "/etc/passwd"),
        ("v/adapters.safetensors", tarfile.LNKTYPE, "../../x"),
        ("v/adapters.safetensors", tarfile.CHRTYPE, ""),
    ]
    for number, (name, kind, link) in enumerate(entries):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w") as tar:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, 3 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"abc"))
        with pytest.raises(BadAdapter, match="not a regular file"):
            registry.import_from("ansel", path, actor="a")
    with pytest.raises(BadAdapter):
        registry.import_from("ansel", tmp_path / "missing.tar", actor="a")
    (tmp_path / "text.tar").write_text("no archive")
    with pytest.raises(BadAdapter):
        registry.import_from("ansel", tmp_path / "text.tar", actor="a")


def test_a_damaged_pointer_is_said_and_mended_by_the_next_writer(filled: Registry) -> None:
    promote(filled, "v0002")
    pointer = filled.root / "ansel" / "promoted.json"
    sound = pointer.read_text()
    for text in ("", "{}", sound[:40], sound.replace('"version": "v0002"', '"version": "v0001"', 1)):
        pointer.write_text(text)
        with pytest.raises(BadAdapter):
            filled.champion("ansel")
        assert filled.current("ansel") == "v0002" and filled.check("ansel")
    pointer.unlink()
    with pytest.raises(BadAdapter, match="gone"):
        filled.champion("ansel")
    back = filled.rollback("ansel", actor="a", reason="r")
    assert back is not None and back.version == "v0001" and filled.check("ansel") == ()


def test_an_old_pointer_put_back_by_hand_is_not_followed(filled: Registry) -> None:
    pointer = filled.root / "ansel" / "promoted.json"
    old = pointer.read_text()
    promote(filled, "v0002")
    pointer.write_text(old)
    with pytest.raises(BadAdapter):
        filled.champion("ansel")
    promote(filled, "v0002")
    champion = filled.champion("ansel")
    assert champion is not None and champion.version == "v0002"


@pytest.mark.parametrize("line", [0, 2])
def test_a_changed_history_is_seen(filled: Registry, line: int) -> None:
    path = filled.root / "ansel" / "history.jsonl"
    lines = path.read_text().splitlines()
    lines[line] = lines[line].replace("person:test", "person:else")
    path.write_text("\n".join(lines) + "\n")
    assert any("line" in problem for problem in filled.check("ansel"))


def test_a_removed_history_line_is_seen(filled: Registry) -> None:
    path = filled.root / "ansel" / "history.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    assert any("changed or removed" in problem for problem in filled.check("ansel"))


def test_history_order_survives_clock_going_backwards(tmp_path: Path, adapter: Path) -> None:
    from datetime import UTC, datetime, timedelta

    times = iter(datetime(2026, 1, 1, tzinfo=UTC) - timedelta(hours=hour) for hour in range(100))
    registry = Registry(tmp_path / "adapters", clock=lambda: next(times))
    for _ in range(3):
        registry.register("ansel", adapter, manifest())
    for name in ("v0001", "v0002", "v0003"):
        promote(registry, name)
    assert [entry.serial for entry in registry.history("ansel")] == [1, 2, 3, 4, 5, 6]
    assert registry.history("ansel")[-1].detail["clock"] == "behind the line before"
    back = registry.rollback("ansel", actor="a", reason="r")
    assert back is not None and back.version == "v0002" and registry.check("ansel") == ()


def test_a_later_evaluation_changes_the_state(registry: Registry, adapter: Path) -> None:
    registry.register("ansel", adapter, manifest(gate_report=None))
    failed = {"verdict": "FAIL", "gates": [{"name": "effect", "verdict": "FAIL"}]}
    version = registry.record_evaluation("ansel", "v0001", failed, actor="flow:evaluate")
    assert (version.state, version.verdict, version.verdicts) == ("rejected", "FAIL", {"effect": "FAIL"})
    passed = {"verdict": "PASS", "gates": [{"name": "effect", "verdict": "PASS"}]}
    assert registry.record_evaluation("ansel", "v0001", passed, actor="flow:evaluate").state == "candidate"
    promote(registry, "v0001")
    assert registry.record_evaluation("ansel", "v0001", failed, actor="flow:evaluate").state == "champion"


def test_retention_keeps_what_a_rollback_may_return_to(filled: Registry, adapter: Path) -> None:
    promote(filled, "v0002")
    for seed in range(3, 6):
        filled.register("ansel", write_adapter(adapter, seed), manifest(parent="v0002"))
    promote(filled, "v0005")
    assert filled.prune("ansel", keep=1, actor="a", dry_run=True) == ["v0003", "v0004"]
    assert len(filled.versions("ansel")) == 6
    assert filled.prune("ansel", keep=1, actor="a") == ["v0003", "v0004"]
    assert filled.prune("ansel", keep=0, actor="a", force=True) == ["v0002", "v0006"]  # v0001 is the best champion
    left = filled.rollback("ansel", actor="a", reason="v0002 is gone")
    assert left is not None and left.version == "v0001"


def test_lineage_describe_and_diff(registry: Registry, adapter: Path) -> None:
    registry.register("ansel", adapter, manifest(metrics={"mse": 2.0}))
    registry.register("ansel", adapter, manifest("INCONCLUSIVE", parent="v0001", metrics={"mse": 1.5}, seed=7))
    assert registry.lineage("ansel", "v0002") == ["v0002", "v0001"]
    first, second = registry.versions("ansel")
    assert version_summary(second)["verdict"] == "INCONCLUSIVE" and version_summary(second)["base"] == "mini"
    rows = {row["what"]: (row["first"], row["second"]) for row in diff_versions(first, second)}
    assert rows["metrics.mse"] == (2.0, 1.5) and rows["seed"] == (0, 7)
    assert rows["gate effect"] == ("PASS", "INCONCLUSIVE") and "run" not in rows


def test_reading_writes_nothing(registry: Registry) -> None:
    assert registry.versions("ansel") == [] and registry.champion("ansel") is None and registry.history("ansel") == ()
    for write in (lambda: promote(registry, "v0001"), lambda: registry.rollback("ansel", actor="a", reason="r")):
        with pytest.raises(UnknownVersion):
            write()
    assert not registry.root.exists()
