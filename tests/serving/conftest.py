"""A small workspace with two adapter versions, and a service whose model process is a fake."""

from __future__ import annotations

import importlib.util
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.registry import Registry
from mondrian_core.serving.critique.routing import RoutingPolicy
from mondrian_core.serving.engine.supervisor import ModelProcess, ModelProcessLimits
from mondrian_core.serving.http.service import Service
from mondrian_core.serving.server import ServerOptions, build_service
from mondrian_core.settings import Settings
from mondrian_core.store import Store

CODE = """
import json, resource, sys
from pathlib import Path
from mondrian_core.errors import MondrianError
from mondrian_core.serving.server import ServerOptions, run_server
from mondrian_core.settings import Settings
told = json.loads(sys.argv[1])
if told["descriptors"]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (told["descriptors"], told["descriptors"]))
settings = Settings(workspace=Path(told["workspace"]), adapters=Path(told["adapters"]), base_model="mini")
options = ServerOptions(port=told["port"], command=tuple(told["command"]), **told["options"])
try:
    run_server(settings, options, ready=lambda port: print(port, flush=True))
except MondrianError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_status)
"""
HERE = Path(__file__).resolve().parent
SECONDS = 90  # until a test gives up waiting; only reached when something hangs, however loaded the machine is
QUICK = ModelProcessLimits(backoff=0.01, longest_backoff=0.05)


def _fake_model() -> Any:
    spec = importlib.util.spec_from_file_location("fake_model", HERE / "fake_model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fake_model = _fake_model()


def jpeg(seed: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


class Running:
    """A service in its own process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        self.port = int(line) if line.strip() else 0

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=SECONDS)

    def post(self, data: bytes, **headers: str) -> httpx.Response:
        return httpx.post(
            f"http://127.0.0.1:{self.port}/analyze",
            files={"image": ("x.jpg", data)},
            data={"advisor": "ansel"},
            headers=headers,
            timeout=SECONDS,
        )

    @property
    def model_pid(self) -> int:
        pid: int = self.get("/health").json()["model_process"]["pid"]
        return pid

    def leave(self, how: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(how)
        _, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, errors


@pytest.fixture
def photograph() -> Callable[..., bytes]:
    """Bytes of a small JPEG; another seed is another photograph."""
    return jpeg


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A workspace with the advisors ansel and dorothea and one photograph."""
    root = tmp_path / "workspace"
    (root / "source").mkdir(parents=True)
    (root / "source" / "one.jpg").write_bytes(jpeg())
    with Store.create(root / "mondrian.db") as store:
        store.add_advisor(AdvisorPrompt("ansel", "Ansel Adams", "Landscapes."))
        store.add_advisor(AdvisorPrompt("dorothea", "Dorothea Lange", "People."))
    return Settings(workspace=root, adapters=tmp_path / "adapters", base_model="mini")


@pytest.fixture
def registry(settings: Settings) -> Registry:
    """v0001 and v0002 of ansel as candidates; none is promoted."""
    from safetensors.numpy import save_file

    found = Registry(settings.adapters_root)
    made = settings.root / "made"
    made.mkdir()
    for number in (1, 2):
        pair = {name: np.full((2, 2), number, np.float32) for name in ("layer.lora_a", "layer.lora_b")}
        save_file(pair, made / "adapters.safetensors")
        (made / "adapter_config.json").write_text("{}")
        found.register("ansel", made, {"base": {"name": "mini", "fingerprint": "fake"}})
    return found


@pytest.fixture
def promote(registry: Registry) -> Callable[[str | None], None]:
    """Make a version of ansel the champion; None rolls back."""

    def act(version: str | None) -> None:
        if version is None:
            registry.rollback("ansel", actor="person:test", reason="a test")
            return
        registry.promote("ansel", version, expected=registry.current("ansel"), actor="person:test", reason="a test")

    return act


@pytest.fixture
def control(tmp_path: Path) -> Callable[..., None]:
    """Write new instructions for the fake model."""

    def act(**orders: Any) -> None:
        (tmp_path / "control.json").write_text(json.dumps(orders))

    return act


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    """The command line of the fake model process."""
    return (sys.executable, str(HERE / "fake_model.py"), "{descriptor}", str(tmp_path / "control.json"))


@pytest.fixture
def fake_engine(tmp_path: Path) -> Any:
    """The fake model in this process."""
    return fake_model.FakeEngine(tmp_path / "control.json")


@pytest.fixture
def model(tmp_path: Path, command: tuple[str, ...]) -> Iterator[ModelProcess]:
    """A supervised fake model process, started with the first question."""
    found = ModelProcess(command, tmp_path / "model.log", limits=QUICK)
    yield found
    found.stop()


@pytest.fixture
def make_service(settings: Settings, registry: Registry, model: ModelProcess) -> Iterator[Callable[..., Service]]:
    """Build a service whose worker is not started; with `records`, it records what is under source/."""
    stores = []

    def make(model_mode: str = "base", *, records: bool = False, **options: Any) -> Service:
        store = Store(settings.database)
        stores.append(store)
        policy = RoutingPolicy(model_mode=model_mode, split=options.pop("ab_test_split", 0.5))
        told = ServerOptions(model_mode=model_mode, ab_test_split=policy.split, **options)
        service = build_service(settings, told, policy, store, model, lambda event: None)
        if not records:
            service.recording.stop()  # no row appears that the test didn't add
        return service

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def start(settings: Settings, command: tuple[str, ...], root: Path) -> Iterator[Callable[..., Running]]:
    """Start a service; it is killed at the end of the test."""
    made: list[subprocess.Popen[str]] = []

    def act(port: int = 0, log: Path | None = None, descriptors: int | None = None, **options: Any) -> Running:
        told = {
            "workspace": str(settings.root),
            "adapters": str(settings.adapters_root),
            "port": port,
            "command": command,
            "options": options,
            "descriptors": descriptors,
        }
        # a pipe that is read only at the end fills up after some hundred jobs; a file doesn't
        errors = log.open("w") if log else subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, json.dumps(told)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=root,
        )
        if log:
            errors.close()
        made.append(process)
        return Running(process)

    yield act
    for process in made:
        if process.poll() is None:
            process.kill()
        process.communicate()
