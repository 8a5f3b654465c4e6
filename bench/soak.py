"""The service under stress: many requests while its processes are killed and adapters are promoted and rolled back.

    python -m bench.soak --requests 1000 --kills 20 --api-kills 5 --promotions 5 --rollbacks 2

The service is the real one in a process of its own, with the real registry and database; --kills end its model process,
--api-kills the service itself, which is started again on its port while clients send their requests again with the
same idempotency key. Three crashes with an adapter within PIN_SECONDS pin the base, as they do outside of here. The
model is mini unless --model names the command of another process.

It ends with 0 when no job was lost or made twice, no request failed, every recorded version is one that was promoted
while the job was worked on, every crash on a job's record was a kill while that job was worked on, every fallback has
such a reason, and memory and file descriptors stayed flat.
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
from mondrian_core.settings import Settings
from mondrian_core.store import Job, Store, utc_timestamp

ADVISOR = "ansel"
PIN_SECONDS = 20.0  # how long crashes count; shorter than in use, so that adapters answer most of the time
CLIENT_TIMEOUT_SECONDS = 300.0  # seconds that a client sends a request again
CRASH_MESSAGE = "The model process"  # begins the reason of a hop where it died over a job
ACCEPTED_FALLBACK_REASONS = (
    CRASH_MESSAGE,
    "crashed too often",
    "service went down",
)  # what a killed process may cost a job
SERVE_SCRIPT = """
import json, sys
from pathlib import Path
from mondrian_core.serving.server import Options, run
from mondrian_core.serving.engine.supervisor import Limits
from mondrian_core.settings import Settings
told = json.loads(sys.argv[1])
settings = Settings(workspace=Path(told["workspace"]), adapters=Path(told["adapters"]), base_model="mini")
limits = Limits(backoff=0.05, crash_window=told["pin_seconds"])
options = Options(port=told["port"], model_mode="fine_tuned", command=tuple(told["command"]) or None,
                  limits=limits, quiet=True)
run(settings, options, ready=lambda port: print(port, flush=True))
"""


@dataclass(kw_only=True)
class _SoakCounts:
    """What was seen."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    kills: int = 0
    api_kills: int = 0
    promotions: int = 0
    rollbacks: int = 0
    lost: int = 0
    wrong_version: int = 0
    made_twice: int = 0
    sent_again: int = 0
    tried_again: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)
    unexplained_fallbacks: int = 0
    misattributed_crashes: int = 0
    by_version: Counter[str] = field(default_factory=Counter)
    memory_mb: list[list[float]] = field(default_factory=list)
    descriptors: list[list[int]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_correct(self) -> bool:
        """True when nothing was lost or wrong."""
        wrong = (self.lost, self.made_twice, self.wrong_version, self.unexplained_fallbacks, self.misattributed_crashes)
        return not any(wrong) and set(self.statuses) == {200} and self.is_resource_use_flat

    @property
    def is_resource_use_flat(self) -> bool:
        """True when, in each start, memory grew by less than a quarter and descriptors by fewer than ten after the
        first quarter.
        """
        return all(map(_is_flat, self.memory_mb, self.descriptors))


def _is_flat(memory: list[float], descriptors: list[int]) -> bool:
    start = len(memory) // 4
    memory, descriptors = memory[start:], descriptors[start:]
    return len(memory) < 4 or (memory[-1] < 1.25 * memory[0] + 10 and descriptors[-1] < descriptors[0] + 10)


class _SoakService:
    """The service in a process of its own, on one port for all its starts."""

    def __init__(self, workspace: Path, adapters: Path, command: list[str], counts: _SoakCounts) -> None:
        self._told = {
            "workspace": str(workspace),
            "adapters": str(adapters),
            "command": command,
            "port": 0,
            "pin_seconds": PIN_SECONDS,
        }
        self._workspace, self._counts = Settings(workspace=workspace).workspace_id, counts
        self.boot = ""
        self.killed: list[tuple[str, str]] = []  # before and after each kill of a model process, as rows write times
        self.start()

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._told['port']}"

    def start(self) -> None:
        """Start it, and make sure that it is ours and another start than the one before."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE_SCRIPT, json.dumps(self._told)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self._told["port"] = int(self.process.stdout.readline())
        health = httpx.get(f"{self.address}/health", timeout=60).json()
        assert health["workspace"] == self._workspace and health["boot"] != self.boot, health
        self.boot = health["boot"]
        self._counts.memory_mb.append([])
        self._counts.descriptors.append([])

    def record_resources(self) -> None:
        """Add its memory and descriptors to the figures."""
        pid = self.process.pid
        self._counts.memory_mb[-1].append(_memory(pid))
        self._counts.descriptors[-1].append(len(os.listdir(f"/proc/{pid}/fd")))  # noqa: PTH208

    def kill_model(self) -> None:
        """SIGKILL for the model process, if there is one at the moment."""
        pid = httpx.get(f"{self.address}/health", timeout=60).json()["model_process"]["pid"]
        if pid is not None:
            before = utc_timestamp()
            try:
                os.kill(pid, signal.SIGKILL)
                self._counts.kills += 1
            except ProcessLookupError:
                pass
            self.killed.append((before, utc_timestamp()))

    def kill(self) -> None:
        """SIGKILL for the service, then another start."""
        self.process.kill()
        self._leave()
        self._counts.api_kills += 1
        self.start()

    def stop(self) -> None:
        """Let it leave in order."""
        self.process.send_signal(signal.SIGTERM)
        self._leave()

    def _leave(self) -> None:
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


class _PromotionHistory:
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


@dataclass(frozen=True, kw_only=True)
class SoakPlan:
    """How much of everything; deeds happen before requests that the seed chooses, rollbacks after promotions."""

    requests: int
    kills: int = 0
    api_kills: int = 0
    promotions: int = 0
    rollbacks: int = 0
    seed: int = 0

    def actions_by_request(self) -> dict[int, list[str]]:
        """Deeds by the number of the request before which they happen."""
        rng, found = random.Random(self.seed), dict[int, list[str]]()
        for deed in ["kill"] * self.kills + ["kill_api"] * self.api_kills:
            found.setdefault(rng.randrange(1, self.requests), []).append(deed)
        moves = sorted(rng.sample(range(1, self.requests), self.promotions + self.rollbacks))
        for place, number in enumerate(moves):
            found.setdefault(number, []).append("promote" if place < self.promotions else "roll_back")
        return found


def run_soak(plan: SoakPlan, workers: int, command: list[str]) -> _SoakCounts:
    """Run it in a folder of its own, gone afterwards."""
    counts, began = _SoakCounts(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mondrian-soak-") as folder:
        workspace, adapters = Path(folder) / "workspace", Path(folder) / "adapters"
        history = _prepare(workspace, adapters, real=not command)
        service = _SoakService(workspace, adapters, command, counts)
        try:
            _send_all(service, plan, workers, history, counts)
        finally:
            service.stop()
        with Store(workspace / "mondrian.db", read_only=True) as store:
            _check_jobs(list(store.jobs()), service.killed, plan, counts)
    counts.seconds = time.monotonic() - began
    return counts


def _check_jobs(jobs: list[Job], killed: list[tuple[str, str]], plan: SoakPlan, counts: _SoakCounts) -> None:
    """What the rows say: each request one completed job, crashes with whoever was at work, fallbacks with a reason."""
    counts.lost = plan.requests - sum(job.status == "completed" for job in jobs)
    counts.made_twice = max(0, len(jobs) - plan.requests)
    for job in jobs:
        hops = job.details.get("hops", ())
        crashes = sum(hop["reason"].startswith(CRASH_MESSAGE) for hop in hops)
        counts.tried_again += crashes > 0
        met = sum((job.started_at or "") <= after and before <= (job.completed_at or "") for before, after in killed)
        counts.misattributed_crashes += crashes > met
        left = [hop["reason"] for hop in hops if hop["left"]]
        if left:  # the first is why the adapter didn't answer; what comes after follows from it
            why = next((each for each in ACCEPTED_FALLBACK_REASONS if each in left[0]), None)
            counts.fallbacks[why or left[0]] += 1
            counts.unexplained_fallbacks += why is None


def _send_all(
    service: _SoakService, plan: SoakPlan, workers: int, history: _PromotionHistory, counts: _SoakCounts
) -> None:
    lock, deeds = threading.Lock(), plan.actions_by_request()
    photographs = [_photograph(index) for index in range(8)]
    with httpx.Client(timeout=600) as client, ThreadPoolExecutor(workers) as pool:

        def one(number: int) -> None:
            with lock:
                for deed in deeds.get(number, ()):
                    _perform_action(deed, service, history, counts)
            began = time.monotonic()
            answer, times = _send(client, service, photographs[number % 8], f"soak-{number}")
            with lock:
                counts.sent_again += times - 1
                _note(answer, began, history, counts)
                if number % max(1, plan.requests // 40) == 0:
                    service.record_resources()

        list(pool.map(one, range(plan.requests)))


def _send(client: httpx.Client, service: _SoakService, photograph: bytes, key: str) -> tuple[httpx.Response, int]:
    """The answer, and how often it took to get one: a client goes on while the service is away or full."""
    until, times = time.monotonic() + CLIENT_TIMEOUT_SECONDS, 0
    while True:
        times += 1
        try:
            answer = client.post(
                f"{service.address}/analyze",
                files={"image": ("x.jpg", photograph)},
                data={"advisor": ADVISOR},
                headers={"Prefer": "wait=300", "Idempotency-Key": key},
            )
            if answer.status_code != 503 or time.monotonic() > until:
                return answer, times
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
        time.sleep(0.5)


def _note(answer: httpx.Response, began: float, history: _PromotionHistory, counts: _SoakCounts) -> None:
    body = answer.json()
    version = body.get("adapter_version") or "base"
    counts.requests += 1
    counts.statuses[answer.status_code] += 1
    counts.by_version[version] += 1
    critique = body.get("critique") or {}
    said = critique.get("dimensional_analysis", {}).get("lighting", {}).get("comment", "")
    fell_back = any(hop["left"] for hop in body.get("fallbacks", ()))
    named = not said.startswith("said by ") or said == f"said by {version}" or fell_back
    served = version in history.between(began - 0.05, time.monotonic()) or fell_back
    counts.wrong_version += not (named and served)


def _perform_action(deed: str, service: _SoakService, history: _PromotionHistory, counts: _SoakCounts) -> None:
    if deed == "kill":
        service.kill_model()
    elif deed == "kill_api":
        service.kill()
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
    from mondrian_core.mini import renderer

    return jpeg_bytes(renderer.render_scene(renderer.sample_scene(np.random.default_rng(seed))))


def _prepare(workspace: Path, adapters: Path, *, real: bool) -> _PromotionHistory:
    """A workspace, and two versions of which the first is promoted."""
    from mondrian_core.prompts import AdvisorPrompt

    (workspace / "source").mkdir(parents=True)
    with Store.create(workspace / "mondrian.db") as store:
        store.add_advisor(AdvisorPrompt(ADVISOR, "Ansel Adams", "Landscapes."))
    registry, made = Registry(adapters), workspace / "made"
    made.mkdir()
    versions = []
    for number in (1, 2):
        fingerprint = _real_adapter(made, number) if real else _toy_adapter(made, number)
        versions.append(
            registry.register(ADVISOR, made, {"base": {"name": "mini", "fingerprint": fingerprint}}).version
        )
    registry.promote(ADVISOR, versions[0], expected=None, actor="person:soak", reason="soak")
    return _PromotionHistory(registry, versions)


def _toy_adapter(folder: Path, number: int) -> str:
    import numpy as np
    from safetensors.numpy import save_file

    pair = {name: np.full((2, 2), number, np.float32) for name in ("layer.lora_a", "layer.lora_b")}
    save_file(pair, folder / "adapters.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    return "fake"


def _real_adapter(folder: Path, number: int) -> str:
    from bench.adapter_overhead import make_random_adapter

    return make_random_adapter(folder, rank=2, seed=number, size=0.02)


def main(arguments: list[str] | None = None) -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="bench.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--api-kills", type=int, default=5)
    parser.add_argument("--promotions", type=int, default=5)
    parser.add_argument("--rollbacks", type=int, default=2)
    parser.add_argument("--workers", type=int, default=4, help="requests under way at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", nargs="+", default=[], help="command of another model process, {descriptor} in it")
    options = parser.parse_args(arguments)
    plan = SoakPlan(
        requests=options.requests,
        kills=options.kills,
        api_kills=options.api_kills,
        promotions=options.promotions,
        rollbacks=options.rollbacks,
        seed=options.seed,
    )
    counts = run_soak(plan, options.workers, options.model)
    print(json.dumps({**vars(counts), "flat": counts.is_resource_use_flat, "sound": counts.is_correct}, indent=2))
    return 0 if counts.is_correct else 1


if __name__ == "__main__":
    sys.exit(main())
