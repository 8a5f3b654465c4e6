"""Any order of registrations, promotions, rollbacks, damage and pruning keeps the books right."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from mondrian_core.errors import BadAdapter, ChampionChanged, GateFailed, NothingToDo, UnknownVersion
from mondrian_core.registry import Registry
from tests.registry.conftest import manifest, write_adapter

pytestmark = pytest.mark.slow


class Books(RuleBasedStateMachine):
    """A model in three plain values, champions as a stack, states, and what is damaged, next to the registry itself."""

    versions = Bundle("versions")

    @initialize()
    def begin(self) -> None:
        self.room = Path(tempfile.mkdtemp(prefix="books-"))
        self.fsync = os.fsync
        os.fsync = lambda fd: None  # as in test_faults: only a power cut needs it
        self.registry = Registry(self.room / "adapters")
        self.registered = 0
        self.champions: list[str | None] = [None]
        self.states: dict[str, str] = {}
        self.damaged: set[str] = set()
        self.moves = 0

    def teardown(self) -> None:
        os.fsync = self.fsync
        shutil.rmtree(self.room)

    @rule(target=versions, verdict=st.sampled_from(["PASS", "INCONCLUSIVE", "FAIL"]))
    def register(self, verdict: str) -> str:
        state = "rejected" if verdict == "FAIL" else "candidate"
        self.registered += 1  # other weights each time: a FAIL counts for every version with the same ones
        adapter = write_adapter(self.room / "trained", self.registered)
        version = self.registry.register("ansel", adapter, manifest(verdict), state)
        assert version.version not in self.states
        self.states[version.version] = state
        return version.version

    @rule(name=versions, forced=st.booleans(), stale=st.booleans())
    def promote(self, name: str, forced: bool, stale: bool) -> None:
        expected = "v9999" if stale else self.champions[-1]
        try:
            self.registry.promote("ansel", name, expected=expected, actor="a", reason="r", forced=forced)
        except ChampionChanged:
            assert stale
        except UnknownVersion:
            assert name not in self.states
        except NothingToDo:
            assert name == self.champions[-1]
        except GateFailed:
            assert not forced
        except BadAdapter:
            assert name in self.damaged or self.states[name] == "quarantined"
            self._quarantined(name)
        else:
            assert not stale and name not in self.damaged and self.states[name] != "quarantined"
            self._retire()
            self.champions.append(name)
            self.states[name] = "champion"
            self.moves += 1

    @rule()
    def roll_back(self) -> None:
        if not self.states:
            return
        try:
            back = self.registry.rollback("ansel", actor="a", reason="r")
        except NothingToDo:
            assert self.champions[-1] is None
            return
        self._retire()
        self._pop()
        assert (back.version if back else None) == self.champions[-1]

    @rule(name=versions)
    def quarantine(self, name: str) -> None:
        if name not in self.states:
            return
        self.registry.quarantine("ansel", name, actor="a", reason="r")
        if name == self.champions[-1]:
            self._retire()
            self._pop()
        self.states[name] = "quarantined"

    @rule(name=versions)
    def damage(self, name: str) -> None:
        """The same size, other bytes: only hashing finds it."""
        if name not in self.states or name == self.champions[-1]:
            return
        path = self.registry.root / "ansel" / name / "adapters.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 0xFF
        path.chmod(0o644)
        path.write_bytes(data)
        self.damaged ^= {name}

    @rule(keep=st.integers(0, 3), force=st.booleans())
    def prune(self, keep: int, force: bool) -> None:
        if not self.states:
            return
        gone = self.registry.prune("ansel", keep=keep, actor="a", force=force)
        assert self.champions[-1] not in gone
        assert force or not set(gone) & set(self.champions)
        for name in gone:
            del self.states[name]
            self.damaged.discard(name)

    @rule(name=consumes(versions))
    def forget_pointer(self, name: str) -> None:
        """Somebody deletes promoted.json; the next rollback restores it from the history."""
        pointer = self.registry.root / "ansel" / "promoted.json"
        if self.champions[-1] is None or not pointer.exists():
            return
        pointer.unlink()
        self.roll_back()

    def _retire(self) -> None:
        if self.champions[-1] is not None:
            self.states[self.champions[-1]] = "retired"

    def _pop(self) -> None:
        leaving = self.champions.pop()
        while (name := self.champions[-1]) is not None:
            if name != leaving and name in self.states and self.states[name] != "quarantined":
                if name not in self.damaged:
                    break
                self.states[name] = "quarantined"
            self.champions.pop()
        if self.champions[-1] is not None:
            self.states[self.champions[-1]] = "champion"
        self.moves += 1

    def _quarantined(self, name: str) -> None:
        self.states[name] = "quarantined"

    @invariant()
    def books_are_right(self) -> None:
        if not hasattr(self, "registry"):
            return
        champion = self.registry.champion("ansel")
        assert (champion.version if champion else None) == self.champions[-1]
        assert champion is None or self.registry.verify("ansel", champion.version) == ()
        assert {version.version: version.state for version in self.registry.versions("ansel")} == self.states
        assert self.registry.check("ansel") == ()
        moves = [entry for entry in self.registry.history("ansel") if entry.moves_pointer]
        assert len(moves) == self.moves
        if self.moves:
            pointer = json.loads((self.registry.root / "ansel" / "promoted.json").read_text())
            assert pointer["version"] == self.champions[-1]


TestBooks = Books.TestCase
TestBooks.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
