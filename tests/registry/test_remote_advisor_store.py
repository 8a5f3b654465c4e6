"""A registry in an object store: against a real S3 server on this machine (moto's), several caches, deaths, races."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.cli import main
from mondrian_core.errors import BadAdapter, BadInput, ChampionChanged, GateFailed, MondrianError
from mondrian_core.events import StageEvent, StageNotice
from mondrian_core.object_store import ObjectStore, Unreachable, WriteConflict, open_object_store
from mondrian_core.registry import ChampionReference, Registry
from mondrian_core.registry.looks import looks_in_history
from mondrian_core.serving.http import registry_values
from mondrian_core.settings import Settings, cache_folder_from_url, url_from_cache_folder
from tests.registry.conftest import gate_report, manifest, write_adapter
from tests.registry.test_looks import look_request
from tests.s3_server import Machine


@pytest.fixture
def filled(machine: Machine, tmp_path: Path) -> Registry:
    """Three versions of ansel, v0001 the champion, by machine a."""
    registry = machine("a")
    for seed in range(3):
        registry.register("ansel", write_adapter(tmp_path / "trained", seed), manifest(), actor="person:a")
    registry.promote("ansel", "v0001", expected=None, actor="person:a", reason="first")
    return registry


def history_is_true(registry: Registry) -> None:
    """The lines follow one another, and each move begins where the one before ended."""
    assert registry.check("ansel") == ()
    champion = None
    for serial, entry in enumerate(registry.history("ansel"), start=1):
        assert entry.serial == serial
        if entry.moves_pointer:
            assert entry.before == champion
            champion = entry.after
    assert champion == registry.current("ansel")


def objects(url: str) -> set[str]:
    return set(ObjectStore(url).listing("ansel"))


def test_what_one_machine_does_another_sees(filled: Registry, machine: Machine, url: str, tmp_path: Path) -> None:
    there = machine("b")
    assert there.advisors() == ["ansel"] and there.history("ansel") == filled.history("ansel")
    assert [version.state for version in there.versions("ansel")] == ["champion", "candidate", "candidate"]
    weights = list((there.root / "ansel").rglob("*.safetensors"))
    assert weights == [], "a list fetches no weights"
    champion = there.champion("ansel")
    assert champion is not None and champion.path.is_relative_to(tmp_path / "b") and champion.weights.is_file()
    assert there.verify("ansel", "v0001") == ()
    there.promote("ansel", "v0002", expected="v0001", actor="person:b", reason="better")
    assert filled.current("ansel") == "v0002"
    back = filled.rollback("ansel", actor="person:a", reason="no")
    assert back is not None and back.version == "v0001" and back.weights.is_file()
    pointer = json.loads(ObjectStore(url).read("ansel/promoted.json"))
    assert (pointer["version"], pointer["entry"]["actor"]) == ("v0001", "person:a")
    assert [entry.actor for entry in there.history("ansel")][-2:] == ["person:b", "person:a"]
    history_is_true(there)


def test_the_store_holds_what_a_folder_would(filled: Registry, url: str, tmp_path: Path) -> None:
    """Copied down by any tool, it is a local registry."""
    store = ObjectStore(url)
    for path in store.listing("ansel"):
        target = tmp_path / "copy" / "ansel" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        store.download(f"ansel/{path}", target)
    copy = Registry(tmp_path / "copy")
    champion = copy.champion("ansel")
    assert champion is not None and champion.version == "v0001" and copy.check("ansel") == ()
    assert [copy.verify("ansel", version.version) for version in copy.versions("ansel")] == [(), (), ()]


def test_files_are_kept_by_hash(filled: Registry, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    there = machine("b")
    fetched: list[str] = []
    download = ObjectStore.download

    def counted(self: ObjectStore, path: str, target: Path) -> None:
        fetched.append(path)
        download(self, path, target)

    monkeypatch.setattr(ObjectStore, "download", counted)
    for _ in range(2):
        there.get("ansel", "v0001")
        there.get("ansel", "v0002")
    names = [path.rpartition("/")[2] for path in fetched]
    assert sorted(names) == ["adapter_config.json", "adapters.safetensors", "adapters.safetensors"]
    assert filled.get("ansel", "v0001").weights.is_file() and len(fetched) == 3, "who wrote it has it"
    assert there.verify("ansel", "v0001") == () and len(fetched) == 5, "verify asks the store"


def test_an_object_that_was_changed_is_never_served(filled: Registry, machine: Machine, url: str) -> None:
    store, path = (
        open_object_store(url),
        "photographs/" + url.partition("photographs/")[2] + "/ansel/v0002/adapters.safetensors",
    )
    sound = store.read("ansel/v0002/adapters.safetensors")
    store._fs.pipe_file(path, sound[:-1] + bytes([sound[-1] ^ 1]))
    there = machine("b")
    assert "SHA-256" in there.verify("ansel", "v0002")[0] and "SHA-256" in filled.verify("ansel", "v0002")[0]
    with pytest.raises(BadAdapter, match="SHA-256"):
        there.get("ansel", "v0002")
    with pytest.raises(BadAdapter):
        there.promote("ansel", "v0002", expected="v0001", actor="b", reason="r")
    assert [version.state for version in filled.versions("ansel")] == ["champion", "quarantined", "candidate"]
    store._fs.pipe_file(path, sound)
    assert there.release("ansel", "v0002", actor="b", reason="copied anew").state == "candidate"
    history_is_true(filled)


def overtaken_by(other: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """`other` happens on another machine just before the next line of a history is published."""
    write, waiting = ObjectStore.write_if, [other]

    def late(self: ObjectStore, path: str, *arguments: Any, **options: Any) -> Any:
        if path.endswith("history.jsonl") and waiting:
            waiting.pop()()
        return write(self, path, *arguments, **options)

    monkeypatch.setattr(ObjectStore, "write_if", late)


def test_a_failure_recorded_at_the_same_time_stops_a_promotion(
    filled: Registry, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = gate_report("PASS", health="FAIL")
    overtaken_by(lambda: machine("b").record_evaluation("ansel", "v0002", failed, actor="b"), monkeypatch)
    with pytest.raises(GateFailed):
        filled.promote("ansel", "v0002", expected="v0001", actor="a", reason="it passed")
    assert filled.current("ansel") == "v0001" and filled.get("ansel", "v0002").state == "rejected"
    history_is_true(filled)


def test_evaluations_at_the_same_time_are_both_recorded_and_the_failure_counts(
    filled: Registry, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later line says "candidate", because its writer had not seen the FAIL."""
    failed = {**gate_report("PASS", health="FAIL"), "photographs": ["one"], "run": "b"}
    overtaken_by(lambda: machine("b").record_evaluation("ansel", "v0002", failed, actor="b"), monkeypatch)
    passed = {**gate_report(), "photographs": ["two"], "run": "a"}
    assert filled.record_evaluation("ansel", "v0002", passed, actor="a").state == "rejected"
    version = machine("c").get("ansel", "v0002")
    assert [each.report["run"] for each in version.recorded] == ["b", "a"] and version.state == "rejected"
    history_is_true(filled)


def test_what_a_person_rejects_at_the_same_time_stays_rejected(
    filled: Registry, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    overtaken_by(lambda: machine("b").reject("ansel", "v0002", actor="b", reason="dull"), monkeypatch)
    filled.record_evaluation("ansel", "v0002", {**gate_report(), "run": "a"}, actor="a")
    assert machine("c").get("ansel", "v0002").state == "rejected"


def test_equal_weights_are_one_version_for_every_machine(filled: Registry, machine: Machine, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "again", 1)
    there = machine("b")
    assert there.register("ansel", adapter, manifest(), actor="b", run="tuesday").version == "v0002"
    known = machine("c").version_with_content("ansel", adapter)
    assert known is not None and known.version == "v0002" and len(there.versions("ansel")) == 3


def test_a_half_copied_version_is_none_and_its_number_is_taken(
    filled: Registry, machine: Machine, url: str, tmp_path: Path
) -> None:
    open_object_store(url).upload(
        "ansel/v0004/adapters.safetensors", write_adapter(tmp_path / "half") / "adapters.safetensors"
    )
    there = machine("b")
    assert [version.version for version in there.versions("ansel")] == ["v0001", "v0002", "v0003"]
    assert there.register("ansel", write_adapter(tmp_path / "whole"), manifest(), actor="b").version == "v0005"


def test_of_twenty_promotions_at_once_one_wins(filled: Registry, machine: Machine, tmp_path: Path) -> None:
    ends: list[str] = []
    ready = threading.Barrier(20)

    def promote(number: int) -> None:
        registry, version = machine(f"m{number}"), f"v000{2 + number % 2}"
        ready.wait()
        try:
            registry.promote("ansel", version, expected="v0001", actor=f"m{number}", reason="r")
            ends.append(version)
        except ChampionChanged:
            ends.append("lost")

    racers = [threading.Thread(target=promote, args=(number,)) for number in range(20)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    winners = [end for end in ends if end != "lost"]
    assert len(ends) == 20 and len(winners) == 1
    assert filled.current("ansel") == winners[0]
    assert [entry.event for entry in filled.history("ansel")].count("promote") == 2
    history_is_true(filled)


def test_stale_object_listing_hides_no_version(url: str) -> None:
    """Threads share a connection: what one listed must not decide what another can read."""
    store = open_object_store(url)
    store.upload("ansel/v0001/a.json", Path(__file__))
    ObjectStore(url)._fs.ls(f"{url.removeprefix('s3://')}/ansel/v0001")
    store.write_if("ansel/v0001/manifest.json", b"{}", None)
    assert store.read("ansel/v0001/manifest.json") == b"{}"
    assert set(store.listing("ansel")) == {"v0001/a.json", "v0001/manifest.json"}


def test_of_registrations_at_once_each_gets_a_number(machine: Machine, tmp_path: Path) -> None:
    ends: list[Any] = []
    ready = threading.Barrier(6)

    def register(number: int) -> None:
        folder = write_adapter(tmp_path / f"trained-{number}", number)
        ready.wait()
        try:
            ends.append(machine(f"m{number}").register("ansel", folder, manifest(run=f"run-{number}"), actor="m"))
        except MondrianError as error:
            ends.append(error)

    racers = [threading.Thread(target=register, args=(number,)) for number in range(6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    versions = machine("x").versions("ansel")
    assert sorted(version.manifest["run"] for version in versions) == [f"run-{number}" for number in range(6)], ends
    assert len({version.version for version in versions}) == 6
    history_is_true(machine("x"))


def test_of_looks_at_once_each_gets_a_number(machine: Machine) -> None:
    ready = threading.Barrier(6)

    def take(number: int) -> None:
        ready.wait()
        machine(f"m{number}").take_look("ansel", look_request(f"run-{number}"), actor="m")

    racers = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    looks = looks_in_history(machine("x").history("ansel"))
    assert sorted(look.number for look in looks) == list(range(1, 7))
    assert len({look.run for look in looks}) == 6
    assert machine("y").take_look("ansel", look_request("run-3"), actor="m") in looks
    history_is_true(machine("x"))


class Died(BaseException):
    """The process is gone."""


class Deaths:
    """Lets a writer die at its n-th write to the store; dying after a write is dying before the next one."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def before(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            here, self.count = self.count, self.count + 1
            if here == self.at:
                raise Died
            return write(*arguments, **options)

        return run


def died(monkeypatch: pytest.MonkeyPatch, deaths: Deaths, operation: Callable[[], object]) -> bool:
    with monkeypatch.context() as patch:
        for name in ("write_if", "upload"):
            patch.setattr(ObjectStore, name, deaths.before(getattr(ObjectStore, name)))
        one_by_one = deaths.before(ObjectStore.remove)
        patch.setattr(ObjectStore, "remove", lambda self, paths: [one_by_one(self, [path]) for path in paths])
        try:
            operation()
        except Died:
            return True
    return False


OPERATIONS: dict[str, tuple[Callable[[Registry, Path], object], set[str | None]]] = {
    "register": (lambda r, f: r.register("ansel", f, manifest(), actor="b"), {"v0001"}),
    "promote": (lambda r, f: r.promote("ansel", "v0002", expected="v0001", actor="b", reason="r"), {"v0001", "v0002"}),
    "rollback": (lambda r, f: r.rollback("ansel", actor="b", reason="r"), {"v0001", None}),
    "quarantine": (lambda r, f: r.quarantine("ansel", "v0001", actor="b", reason="r"), {"v0001", None}),
    "prune": (lambda r, f: r.prune("ansel", keep=0, actor="b"), {"v0001"}),
}


@pytest.mark.no_cover  # the same lines at each point
@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_writer_that_dies_at_any_write(
    name: str, machine: Machine, filled: Registry, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation, champions = OPERATIONS[name]
    adapter, store = write_adapter(tmp_path / "new", 9), open_object_store(url)
    saved = {path: store.read(f"ansel/{path}") for path in objects(url)}
    point, alive = 0, False
    while not alive:
        store.remove([f"ansel/{path}" for path in objects(url) - saved.keys()])
        for path, data in saved.items():
            store._fs.pipe_file(store._at(f"ansel/{path}"), data)
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        alive = not died(monkeypatch, Deaths(point), lambda: operation(machine("b"), adapter))
        examine(machine("c"), champions, adapter)
        pointer = json.loads(store.read("ansel/promoted.json"))
        assert pointer["version"] == machine("c").current("ansel"), "the next writer brings the pointer up to date"
        point += 1
    assert point >= 3


def examine(there: Registry, champions: set[str | None], adapter: Path) -> None:
    """What must hold for whoever looks next, and after the next writer."""
    champion = there.champion("ansel")
    assert (champion.version if champion else None) in champions
    versions = {version.version for version in there.versions("ansel")}
    assert all(there.verify("ansel", version) == () for version in versions)
    history_is_true(there)
    again = there.register("ansel", adapter, manifest(), actor="c").version
    assert {version.version for version in there.versions("ansel")} == versions | {again} and again not in versions
    history_is_true(there)


@pytest.mark.no_cover
@pytest.mark.slow
def test_a_run_that_dies_at_any_write_has_one_version(
    machine: Machine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered and promoted, then both once more from another machine."""
    adapter, store = write_adapter(tmp_path / "new", 9), open_object_store(url)

    def keep(registry: Registry) -> str:
        version = registry.register("ansel", adapter, manifest(), actor="b", run="r").version
        registry.promote("ansel", version, expected=ChampionReference(), actor="b", reason="r", run="r")
        return version

    point, alive = 0, False
    while not alive:
        store.remove([f"ansel/{path}" for path in objects(url)])
        for name in ("b", "c"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
        alive = not died(monkeypatch, Deaths(point), lambda: keep(machine("b")))
        there = machine("c")
        version = keep(there)
        assert [each.version for each in there.versions("ansel") if each.manifest["run"] == "r"] == [version], point
        assert [entry.event for entry in there.history("ansel")].count("promote") == 1, point
        assert there.current("ansel") == version
        history_is_true(there)
        point += 1
    assert point >= 6


def test_a_write_whose_answer_got_lost_counts_once(
    filled: Registry, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library sends it again, and the store refuses our own second write."""
    real = ObjectStore.write_if
    refused: list[str] = []

    def twice(self: ObjectStore, path: str, data: bytes, token: str | None) -> None:
        real(self, path, data, token)
        if path.endswith("history.jsonl") and not refused:
            refused.append(path)
            raise WriteConflict("sent twice")

    monkeypatch.setattr(ObjectStore, "write_if", twice)
    machine("b").promote("ansel", "v0002", expected="v0001", actor="b", reason="r")
    assert refused and [entry.event for entry in filled.history("ansel")].count("promote") == 2
    history_is_true(filled)


def test_without_the_store_the_last_state_is_read_and_nothing_written(
    filled: Registry, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[StageEvent] = []
    there = machine("b", listen=told.append)
    assert there.champion("ansel") is not None and told == []
    monkeypatch.setattr(ObjectStore, "listing", _down)
    champion = there.champion("ansel")
    assert champion is not None and champion.weights.is_file()
    assert any(isinstance(event, StageNotice) and "cached state" in event.message for event in told)
    with pytest.raises(Unreachable) as caught:
        there.rollback("ansel", actor="b", reason="r")
    assert caught.value.exit_status == 3 and "AWS_ENDPOINT_URL" in caught.value.next_step


def _down(self: ObjectStore, prefix: str = "") -> Any:
    with self._translate_errors():
        raise ConnectionError("no route")


def test_unreachable_object_store_is_reported(monkeypatch: pytest.MonkeyPatch, url: str, tmp_path: Path) -> None:
    from s3fs import S3FileSystem

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    S3FileSystem.clear_instance_cache()
    registry = Registry(cache_folder_from_url("s3://elsewhere/adapters", tmp_path))
    with pytest.raises(Unreachable, match="s3://elsewhere/adapters"):
        registry.register("ansel", write_adapter(tmp_path / "new"), manifest())


def test_missing_bucket_is_reported(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no-bucket"):
        Registry(cache_folder_from_url("s3://no-bucket/adapters", tmp_path)).versions("ansel")


def test_other_stores_can_only_be_read(tmp_path: Path) -> None:
    registry = Registry(cache_folder_from_url("memory://adapters", tmp_path / "cache"))
    local = Registry(tmp_path / "local")
    local.register("ansel", write_adapter(tmp_path / "new"), manifest())
    local.promote("ansel", "v0001", expected=None, actor="a", reason="r")
    store = open_object_store("memory://adapters")
    for file in (local.root / "ansel").rglob("*"):
        if file.is_file() and file.name != ".lock":
            store.upload(f"ansel/{file.relative_to(local.root / 'ansel').as_posix()}", file)
    champion = registry.champion("ansel")
    assert champion is not None and registry.verify("ansel", "v0001") == () and registry.advisors() == ["ansel"]
    with pytest.raises(BadInput, match="only be read"):
        registry.rollback("ansel", actor="a", reason="r")
    assert registry.current("ansel") == "v0001"
    with pytest.raises(BadInput, match="no-such"):
        Registry(cache_folder_from_url("no-such://adapters", tmp_path / "cache")).versions("ansel")


def test_a_removed_version_leaves_nothing_and_its_number_is_not_used_again(
    filled: Registry, machine: Machine, url: str, tmp_path: Path
) -> None:
    assert machine("b").prune("ansel", keep=0, actor="b") == ["v0002", "v0003"]
    assert {path.split("/")[0] for path in objects(url) if "/" in path} == {"v0001"}
    assert [version.version for version in filled.versions("ansel")] == ["v0001"]
    assert filled.register("ansel", write_adapter(tmp_path / "new"), manifest()).version == "v0004"
    history_is_true(filled)


def test_settings_and_commands_take_the_url(
    filled: Registry, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONDRIAN_CACHE", str(tmp_path / "d"))
    root = Settings(adapters=Path(url)).adapters_root
    assert url_from_cache_folder(root) == url and root.is_relative_to(tmp_path / "d")
    assert (
        url_from_cache_folder(tmp_path) is None
        and url_from_cache_folder(Settings(adapters=tmp_path).adapters_root) is None
    )
    where = ["--advisor", "ansel", "--adapters", url, "--json"]

    def mondrian(*words: str) -> Any:
        assert main(["adapters", *words, *where]) == 0
        return json.loads(capsys.readouterr().out)

    assert [row["state"] for row in mondrian("list")] == ["champion", "candidate", "candidate"]
    assert main(["adapters", "promote", "--version", "v0002", *where]) == 2
    assert "The champion changed since v0002" in capsys.readouterr().out, "it was compared with the base alone"
    assert mondrian("promote", "--version", "v0002", "--reason", "by eye")["to"] == "v0002"
    assert mondrian("rollback")["to"] == "v0001"
    assert mondrian("export", "v0003", "--out", str(tmp_path / "v3.tar"))["archive"]
    assert mondrian("import", str(tmp_path / "v3.tar"))["version"] == "v0004"
    assert mondrian("verify")[3]["problems"] == []
    assert filled.current("ansel") == "v0001" and len(filled.versions("ansel")) == 4


def test_pages_read_an_object_store_and_download_no_weights(filled: Registry, machine: Machine) -> None:
    registry = machine("b")
    values = registry_values.advisor_values(registry, "ansel")
    assert (values["champion"], len(values["versions"]), values["damaged"]) == ("v0001", 3, "")
    version = registry_values.find_version(registry, "ansel", "v0002")
    shown = registry_values.version_values(registry, version)
    assert {file["state"] for file in shown["files"]} == {"not downloaded"}
    config = registry.fetch_file(version, "adapter_config.json")
    assert config is not None and not (version.path / "adapters.safetensors").exists()
    assert registry.fetch_file(version, "../v0001/adapters.safetensors") is None
    states = {file["name"]: file["state"] for file in registry_values.version_values(registry, version)["files"]}
    assert states["adapter_config.json"] == "verified"
