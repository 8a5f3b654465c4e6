"""Stress test of the service: requests while its processes are killed and adapters are promoted and rolled back.

    python -m bench.soak --requests 1000 --kills 20 --api-kills 5 --promotions 5 --rollbacks 2

The service runs in a separate process, with a real registry and database. --kills end its model process, --api-kills
the service itself; it is restarted on its port while clients retry with the same idempotency key. Three crashes of an
adapter within PIN_SECONDS pin the base model, as in production. The model is mini unless --model gives the command of
another model process.

The exit status is 0 if no job was lost or duplicated, no request failed, every recorded version was champion while the
job ran, every recorded crash was a kill during the job, every fallback has such a reason, and memory and file
descriptors stayed flat.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.soaked_service import SoakCounts, SoakedService
from mondrian_core.registry import Registry
from mondrian_core.serving.critique.fallback_chain import SERVICE_STOPPED_REASON
from mondrian_core.serving.jobs.job_runner import PINNED_REASON
from mondrian_core.store import Job, Store

ADVISOR = "ansel"
PHOTOGRAPHS = 8  # different photographs in the requests
CLIENT_TIMEOUT_SECONDS = 300.0  # how long a client retries
CRASH_MESSAGE = "The model process"  # prefix of the reason of a hop where the model process died
# fallback reasons that a killed process explains
ACCEPTED_FALLBACK_REASONS = (CRASH_MESSAGE, PINNED_REASON, SERVICE_STOPPED_REASON)


class _PromotionHistory:
    """The champion versions over time, by this process's monotonic clock."""

    def __init__(self, registry: Registry, versions: list[str]) -> None:
        self._registry, self._versions = registry, versions
        self.spans: list[tuple[float, str]] = []
        self._note()

    def promote(self) -> None:
        """Make another version the champion."""
        current = self._registry.current(ADVISOR)
        choice = next(name for name in self._versions[len(self.spans) % 2 :] + self._versions if name != current)
        self._registry.promote(ADVISOR, choice, expected=current, actor="person:soak", reason="soak")
        self._note()

    def roll_back(self) -> None:
        """Roll back to the previous champion."""
        self._registry.rollback(ADVISOR, actor="person:soak", reason="soak")
        self._note()

    def between(self, began: float, ended: float) -> set[str]:
        """Versions that were champion at any time between `began` and `ended`."""
        versions = set()
        for index, (since, version) in enumerate(self.spans):
            until = self.spans[index + 1][0] if index + 1 < len(self.spans) else float("inf")
            if since <= ended and until >= began:
                versions.add(version)
        return versions

    def _note(self) -> None:
        self.spans.append((time.monotonic(), self._registry.current(ADVISOR) or "base"))


@dataclass(frozen=True, kw_only=True)
class SoakPlan:
    """Number of requests and disruptions. The seed places disruptions; rollbacks follow promotions."""

    requests: int
    kills: int = 0
    api_kills: int = 0
    promotions: int = 0
    rollbacks: int = 0
    seed: int = 0

    def actions_by_request(self) -> dict[int, list[str]]:
        """Actions by the number of the request that they precede."""
        rng, actions = random.Random(self.seed), dict[int, list[str]]()
        for action in ["kill"] * self.kills + ["kill_api"] * self.api_kills:
            actions.setdefault(rng.randrange(1, self.requests), []).append(action)
        moves = sorted(rng.sample(range(1, self.requests), self.promotions + self.rollbacks))
        for index, number in enumerate(moves):
            actions.setdefault(number, []).append("promote" if index < self.promotions else "roll_back")
        return actions


def run_soak(plan: SoakPlan, workers: int, command: list[str]) -> SoakCounts:
    """Run the stress test in a temporary folder."""
    counts, began = SoakCounts(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mondrian-soak-") as folder:
        workspace, adapters = Path(folder) / "workspace", Path(folder) / "adapters"
        history = _prepare(workspace, adapters, real=not command)
        service = SoakedService(workspace, adapters, command, counts)
        try:
            _send_all(service, plan, workers, history, counts)
        finally:
            service.stop()
        with Store(workspace / "mondrian.db", read_only=True) as store:
            _check_jobs(list(store.jobs()), service.killed, plan, counts)
    counts.seconds = time.monotonic() - began
    return counts


def _check_jobs(jobs: list[Job], killed: list[tuple[str, str]], plan: SoakPlan, counts: SoakCounts) -> None:
    """Check the jobs: one completed job per request, crashes only during kills, fallbacks only with a reason."""
    counts.lost = plan.requests - sum(job.status == "completed" for job in jobs)
    counts.made_twice = max(0, len(jobs) - plan.requests)
    for job in jobs:
        hops = job.details.get("hops", ())
        crashes = sum(hop["reason"].startswith(CRASH_MESSAGE) for hop in hops)
        counts.tried_again += crashes > 0
        overlapping = sum(
            (job.started_at or "") <= after and before <= (job.completed_at or "") for before, after in killed
        )
        counts.misattributed_crashes += crashes > overlapping
        left = [hop["reason"] for hop in hops if hop["left"]]
        if left:  # the first reason is the cause of the others
            reason = next((text for text in ACCEPTED_FALLBACK_REASONS if text in left[0]), None)
            counts.fallbacks[reason or left[0]] += 1
            counts.unexplained_fallbacks += reason is None


def _send_all(
    service: SoakedService, plan: SoakPlan, workers: int, history: _PromotionHistory, counts: SoakCounts
) -> None:
    lock, actions = threading.Lock(), plan.actions_by_request()
    photographs = [_photograph(index) for index in range(PHOTOGRAPHS)]
    with httpx.Client(timeout=600) as client, ThreadPoolExecutor(workers) as pool:

        def send_request(number: int) -> None:
            with lock:
                for action in actions.get(number, ()):
                    _perform_action(action, service, history, counts)
            began = time.monotonic()
            answer, times = _send(client, service, photographs[number % PHOTOGRAPHS], f"soak-{number}")
            with lock:
                counts.sent_again += times - 1
                _note(answer, began, history, counts)
                if number % max(1, plan.requests // 40) == 0:
                    service.record_resources()

        list(pool.map(send_request, range(plan.requests)))


def _send(client: httpx.Client, service: SoakedService, photograph: bytes, key: str) -> tuple[httpx.Response, int]:
    """The response and the number of attempts; a client retries while the service is down or busy."""
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


def _note(answer: httpx.Response, began: float, history: _PromotionHistory, counts: SoakCounts) -> None:
    body = answer.json()
    version = body.get("adapter_version") or "base"
    counts.requests += 1
    counts.statuses[answer.status_code] += 1
    counts.by_version[version] += 1
    critique = body.get("critique") or {}
    comment = critique.get("dimensional_analysis", {}).get("lighting", {}).get("comment", "")
    fell_back = any(hop["left"] for hop in body.get("fallbacks", ()))
    named = not comment.startswith("said by ") or comment == f"said by {version}" or fell_back
    served = version in history.between(began - 0.05, time.monotonic()) or fell_back
    counts.wrong_version += not (named and served)


def _perform_action(action: str, service: SoakedService, history: _PromotionHistory, counts: SoakCounts) -> None:
    if action == "kill":
        service.kill_model()
    elif action == "kill_api":
        service.kill()
    elif action == "promote":
        history.promote()
        counts.promotions += 1
    else:
        history.roll_back()
        counts.rollbacks += 1


def _photograph(seed: int) -> bytes:
    import numpy as np

    from mondrian_core.images import jpeg_bytes
    from mondrian_core.mini.renderer import render_scene
    from mondrian_core.mini.scene import sample_scene

    return jpeg_bytes(render_scene(sample_scene(np.random.default_rng(seed))))


def _prepare(workspace: Path, adapters: Path, *, real: bool) -> _PromotionHistory:
    """Create a workspace and two versions; the first one is promoted."""
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
    """Run the stress test and print its counts."""
    parser = argparse.ArgumentParser(prog="bench.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--api-kills", type=int, default=5)
    parser.add_argument("--promotions", type=int, default=5)
    parser.add_argument("--rollbacks", type=int, default=2)
    parser.add_argument("--workers", type=int, default=4, help="concurrent requests (default 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--model", nargs="+", default=[], help="command of another model process; contains {descriptor}"
    )
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
