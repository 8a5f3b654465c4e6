"""The service under stress: many requests while its model process is killed and adapters are promoted and rolled back.

    python -m bench.soak --requests 1000 --kills 20 --promotions 5 --rollbacks 2

The service is the real one in a process of its own, with the real registry and database. The model is mini unless
--model names the command of another process. It ends with 0 when no job was lost, no request failed, every recorded
version is one that was promoted while the job was worked on, and memory and file descriptors stayed flat.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from mondrian_core.registry import Registry
from mondrian_core.store import Store

ADVISOR = "ansel"
SERVE = """
import json, sys
from pathlib import Path
from mondrian_core.serving.server import Options, run
from mondrian_core.serving.supervisor import Limits
from mondrian_core.settings import Settings
told = json.loads(sys.argv[1])
settings = Settings(workspace=Path(told["workspace"]), adapters=Path(told["adapters"]), base_model="mini")
limits = Limits(backoff=0.05, crashes=10**9)
options = Options(port=0, model_mode="fine_tuned", command=tuple(told["command"]) or None, limits=limits, quiet=True)
run(settings, options, ready=lambda port: print(port, flush=True))
"""


@dataclass
class Counts:
    """What was seen."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    kills: int = 0
    promotions: int = 0
    rollbacks: int = 0
    lost: int = 0
    wrong_version: int = 0
    tried_again: int = 0
    by_version: Counter[str] = field(default_factory=Counter)
    memory_mb: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """True when nothing was lost or wrong."""
        return not self.lost and not self.wrong_version and set(self.statuses) == {200} and self.flat

    @property
    def flat(self) -> bool:
        """True when memory grew by less than a quarter and descriptors by fewer than ten after the first quarter."""
        start = len(self.memory_mb) // 4
        memory, descriptors = self.memory_mb[start:], self.descriptors[start:]
        if len(memory) < 2:
            return True
        return memory[-1] < 1.25 * memory[0] + 10 and descriptors[-1] < descriptors[0] + 10


class Promotions:
    """Which versions were champion, and from when to when; the clock is this process's."""

    def __init__(self, registry: Registry, versions: list[str]) -> None:
        self._registry, self._versions = registry, versions
        self.spans: list[tuple[float, str]] = []
        self._note()

    def promote(self) -> None:
        """Make another version the champion."""
        current = self._registry.current(ADVISOR)
        choice = next(each for each in self._versions[len(self.spans) % 2 :] + self._versions if each != current)
        self._registry.promote(ADVISOR, choice, expected=current, actor="person:soak", reason="soak")
        self._note()

    def roll_back(self) -> None:
        """Go back to the one before."""
        self._registry.rollback(ADVISOR, actor="person:soak", reason="soak")
        self._note()

    def between(self, began: float, ended: float) -> set[str]:
        """Versions that were champion at some moment of a span."""
        found = set()
        for index, (since, version) in enumerate(self.spans):
            until = self.spans[index + 1][0] if index + 1 < len(self.spans) else float("inf")
            if since <= ended and until >= began:
                found.add(version)
        return found

    def _note(self) -> None:
        self.spans.append((time.monotonic(), self._registry.current(ADVISOR) or "base"))


def run(requests: int, kills: int, promotions: int, rollbacks: int, workers: int, command: list[str],
        seed: int) -> Counts:  # fmt: skip
    """Run it in a folder of its own, gone afterwards."""
    rng, counts, began = random.Random(seed), Counts(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mondrian-soak-") as folder:
        workspace, adapters = Path(folder) / "workspace", Path(folder) / "adapters"
        history = _prepare(workspace, adapters, real=not command)
        told = {"workspace": str(workspace), "adapters": str(adapters), "command": command}
        service = subprocess.Popen([sys.executable, "-c", SERVE, json.dumps(told)], stdout=subprocess.PIPE, text=True)
        assert service.stdout is not None
        try:
            address = f"http://127.0.0.1:{int(service.stdout.readline())}"
            photographs = [_photograph(index) for index in range(8)]
            plan = _plan(rng, requests, kills, promotions, rollbacks)
            _send_all(address, photographs, requests, workers, plan, history, counts, service.pid)
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(30)
            service.stdout.close()
        with Store(workspace / "mondrian.db", read_only=True) as store:
            states = Counter(job.status for job in store.jobs())
            counts.tried_again = sum(bool(job.details.get("crashed")) for job in store.jobs())
        counts.lost = requests - states["completed"]
    counts.seconds = time.monotonic() - began
    return counts


def _plan(rng: random.Random, requests: int, kills: int, promotions: int, rollbacks: int) -> dict[int, list[str]]:
    """Deeds by the number of the request before which they happen; rollbacks come after promotions."""
    plan: dict[int, list[str]] = {}
    for _ in range(kills):
        plan.setdefault(rng.randrange(1, requests), []).append("kill")
    moves = sorted(rng.sample(range(1, requests), promotions + rollbacks))
    for place, number in enumerate(moves):
        plan.setdefault(number, []).append("promote" if place < promotions else "roll_back")
    return plan


def _send_all(address: str, photographs: list[bytes], requests: int, workers: int, plan: dict[int, list[str]],
              history: Promotions, counts: Counts, service: int) -> None:  # fmt: skip
    lock = threading.Lock()
    with httpx.Client(timeout=600) as client, ThreadPoolExecutor(workers) as pool:

        def one(number: int) -> None:
            with lock:
                for deed in plan.get(number, ()):
                    _do(deed, client, address, history, counts)
            began = time.monotonic()
            answer = client.post(f"{address}/analyze", files={"image": ("x.jpg", photographs[number % 8])},
                                 data={"advisor": ADVISOR}, headers={"Prefer": "wait=300"})  # fmt: skip
            body = answer.json()
            version = body.get("adapter_version") or "base"
            with lock:
                counts.requests += 1
                counts.statuses[answer.status_code] += 1
                counts.by_version[version] += 1
                said = body.get("critique", {}).get("dimensional_analysis", {}).get("lighting", {}).get("comment", "")
                fell_back = any(hop["left"] for hop in body.get("fallbacks", ()))
                named = not said.startswith("said by ") or said == f"said by {version}" or fell_back
                served = version in history.between(began - 0.05, time.monotonic()) or fell_back
                counts.wrong_version += not (named and served)
                if number % max(1, requests // 40) == 0:
                    counts.memory_mb.append(_memory(service))
                    counts.descriptors.append(len(os.listdir(f"/proc/{service}/fd")))  # noqa: PTH208

        list(pool.map(one, range(requests)))


def _do(deed: str, client: httpx.Client, address: str, history: Promotions, counts: Counts) -> None:
    if deed == "kill":
        pid = client.get(f"{address}/health").json()["model_process"]["pid"]
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
                counts.kills += 1
            except ProcessLookupError:
                pass
    elif deed == "promote":
        history.promote()
        counts.promotions += 1
    else:
        history.roll_back()
        counts.rollbacks += 1


def _memory(pid: int) -> float:
    """Resident memory of a process in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _photograph(seed: int) -> bytes:
    import numpy as np

    from mondrian_core.images import jpeg_bytes
    from mondrian_core.mini import render

    return jpeg_bytes(render.render(render.sample_scene(np.random.default_rng(seed))))


def _prepare(workspace: Path, adapters: Path, *, real: bool) -> Promotions:
    """A workspace, and two versions of which the first is promoted."""
    from mondrian_core.prompts import Voice

    (workspace / "source").mkdir(parents=True)
    with Store.create(workspace / "mondrian.db") as store:
        store.add_advisor(Voice(ADVISOR, "Ansel Adams", "Landscapes."))
    registry, made = Registry(adapters), workspace / "made"
    made.mkdir()
    versions = []
    for number in (1, 2):
        fingerprint = _real_adapter(made, number) if real else _toy_adapter(made, number)
        versions.append(
            registry.register(ADVISOR, made, {"base": {"name": "mini", "fingerprint": fingerprint}}).version
        )
    registry.promote(ADVISOR, versions[0], expected=None, actor="person:soak", reason="soak")
    return Promotions(registry, versions)


def _toy_adapter(folder: Path, number: int) -> str:
    import numpy as np
    from safetensors.numpy import save_file

    pair = {name: np.full((2, 2), number, np.float32) for name in ("layer.lora_a", "layer.lora_b")}
    save_file(pair, folder / "adapters.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    return "fake"


def _real_adapter(folder: Path, number: int) -> str:
    from bench.adapters import make_adapter

    return make_adapter(folder, rank=2, seed=number, size=0.02)


def main(arguments: list[str] | None = None) -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="bench.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--promotions", type=int, default=5)
    parser.add_argument("--rollbacks", type=int, default=2)
    parser.add_argument("--workers", type=int, default=4, help="requests under way at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", nargs="+", default=[], help="command of another model process, {descriptor} in it")
    options = parser.parse_args(arguments)
    counts = run(options.requests, options.kills, options.promotions, options.rollbacks, options.workers, options.model,
                 options.seed)  # fmt: skip
    print(json.dumps({**vars(counts), "flat": counts.flat, "sound": counts.sound}, indent=2))
    return 0 if counts.sound else 1


if __name__ == "__main__":
    sys.exit(main())
