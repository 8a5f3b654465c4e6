"""The wheel, built from the tracked files and installed into a fresh environment without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from mondrian_core.ports import find_free_port
from mondrian_core.prefect_server import auth_string_path, prefect_record_path
from mondrian_core.registry import Registry
from mondrian_core.settings import Settings
from tests.distribution import build_distribution, wheel_of_sdist
from tests.git_files import copy_tracked_files, tracked_files
from tests.waiting import LIMIT_SECONDS

PACKAGES = ("mondrian_core", "tasks", "flows", "deployments")
FOREIGN_PACKAGE = "OWNER = 'somebody else'\n"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files, as a release is made from them."""
    return copy_tracked_files(tmp_path_factory.mktemp("tracked") / "checkout")


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the tracked files."""
    return build_distribution(checkout, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_packages_below_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {Path(name) for name in archive.namelist() if ".dist-info/" not in name}
    expected = {Path("mondrian") / file for file in tracked_files() if file.parts[0] in PACKAGES}
    expected |= {file for file in tracked_files() if file.parts[0] == "mondrian"}
    assert packed == expected | {Path("mondrian/prefect.yaml")}


@pytest.mark.slow
def test_sdist_builds_the_same_wheel(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    for name in ("sdist", "unpacked"):
        (tmp_path / name).mkdir()
    sdist = build_distribution(checkout, "sdist", tmp_path / "sdist")
    again = wheel_of_sdist(sdist, tmp_path / "unpacked")
    assert (again.name, again.read_bytes()) == (wheel.name, wheel.read_bytes())


@dataclass(frozen=True)
class Installation:
    """An environment with the wheel, and an empty folder to work in."""

    environment: Path
    folder: Path
    home: Path

    @property
    def lock(self) -> str:
        """A lock of its own: no other work on this machine holds it up."""
        return str(self.home / "accelerator.lock")

    @property
    def site_packages(self) -> Path:
        """Where the wheel was installed."""
        return next(self.environment.glob("lib/python*/site-packages"))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the empty folder, with an environment that knows no checkout."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        return subprocess.run(
            [str(self.environment / "bin" / command[0]), *command[1:]],
            cwd=self.folder,
            env={**kept, "HOME": str(self.home), "HF_HUB_OFFLINE": "1", "MONDRIAN_ACCELERATOR_LOCK": self.lock},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=3 * LIMIT_SECONDS,
        )

    def mondrian(self, *words: str) -> str:
        """Standard output of a `mondrian` command that succeeds."""
        done = self.run("mondrian", *words)
        assert done.returncode == 0, f"mondrian {' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel in an environment of its own, which finds the locked packages of this one behind it.

    Somebody else's `tasks` and `flows` are installed there too, and stand in the current folder.
    """
    root = tmp_path_factory.mktemp("installed")
    made = Installation(root / "environment", root / "folder", root / "home")
    made.folder.mkdir()
    made.home.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made.environment)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(made.environment / "bin" / "python")]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    installed = {path.name for path in made.site_packages.iterdir()}
    assert installed == {"mondrian", f"mondrian-{wheel.name.split('-')[1]}.dist-info"}
    (made.site_packages / "locked.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    for place in (made.site_packages, made.folder):
        (place / "tasks.py").write_text(FOREIGN_PACKAGE)
        (place / "flows").mkdir()
        (place / "flows" / "__init__.py").write_text(FOREIGN_PACKAGE)
    return made


def promoted_adapter(settings: Settings, folder: Path) -> str:
    """A version of ansel for mini that changes its answers a little, promoted as a retraining would."""
    import mlx.core as mx

    from mondrian_core.models.base_model import base_fingerprint, load_base
    from mondrian_core.models.lora import lora_layers
    from mondrian_core.recipes import TrainRecipe

    base = load_base("mini")
    lora_layers.attach_lora(base, TrainRecipe(rank=2), seed=1)
    taught = {
        name: value if name.endswith("lora_a") else value + 1e-3 * mx.ones_like(value)
        for name, value in lora_layers.attached_parameters(base).items()
    }
    lora_layers.save_attached_adapter(base, folder, taught)
    registry = Registry(settings.adapters_root)
    version = registry.register(
        "ansel", folder, {"base": {"name": "mini", "fingerprint": base_fingerprint("mini")}}
    ).version
    registry.promote("ansel", version, expected=None, actor="person:test", reason="a test")
    return version


@pytest.mark.flow
@pytest.mark.mini
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_installed_wheel_runs_from_init_to_down_in_an_empty_folder(installation: Installation, tmp_path: Path) -> None:
    """What `up` prints works as it stands. The sample's first photographs by name are broken ones."""
    installation.mondrian("init", "--sample", "--photographs", "12")
    linked = json.loads(installation.mondrian("link", "--advisor", "ansel", "--json"))
    assert linked, "link reported nothing"
    workspace, adapters = installation.folder / "workspace", installation.folder / "adapters"
    settings = Settings(workspace=workspace, adapters=adapters, base_model="mini")
    version = promoted_adapter(settings, tmp_path)
    # another test may start a server at the default port
    port, server_port = find_free_port(), find_free_port()
    try:
        printed = installation.mondrian("up", "--service_port", str(port), "--port", str(server_port))
        assert f"service:     http://127.0.0.1:{port}\n" in printed and "warning" not in printed
        assert f"workspace:   {workspace}\n" in printed
        assert f"Smoke set: 2 of 2 photographs answered (ansel {version}). " in printed
        assert "Not tried, because link leaves them out: " in printed
        password = auth_string_path(settings).read_text().strip()
        assert str(auth_string_path(settings)) in printed and password not in printed, "a pipe may be a log"
        health = httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).json()
        assert (health["model_mode"], health["workspace"]) == ("fine_tuned", settings.workspace_id)
        assert exported_address_and_password(printed) == (f"http://127.0.0.1:{server_port}/api", password)
        listed = installation.mondrian("prefect", "deployment", "ls")
        assert "retrain/scheduled" in listed and "serve/local" in listed
    finally:
        stopped = installation.mondrian("down")
    assert all(f"stopping the {each}" in stopped for each in ("prefect worker", "prefect server", "service"))
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
    assert "Nothing" in installation.mondrian("down")
    assert not prefect_record_path(settings).exists()
    made = {path.name for path in installation.folder.iterdir()}
    assert made <= {"workspace", "adapters", "tasks.py", "flows", "__pycache__"}


def exported_address_and_password(printed: str) -> tuple[str, str]:
    """What a terminal knows after the `export` lines of `mondrian up` were copied into it."""
    exports = "\n".join(line for line in printed.splitlines() if line.strip().startswith("export "))
    typed = f'{exports}\nprintf \'%s\\n\' "$PREFECT_API_URL" "$PREFECT_API_AUTH_STRING"'
    address, password = subprocess.run(
        ["bash", "-c", typed], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return address, password


@pytest.mark.slow
def test_packages_of_the_wheel_do_not_shadow_those_of_others(installation: Installation) -> None:
    code = "import tasks, flows; print(tasks.OWNER, '|', flows.OWNER)"
    theirs = installation.run("python", "-c", code)
    assert theirs.stdout.strip() == "somebody else | somebody else", theirs.stderr
    hidden = installation.run("python", "-c", "import mondrian, mondrian_core")
    assert "No module named 'mondrian_core'" in hidden.stderr
    ours = "import mondrian, sys; mondrian.make_packages_importable(); import tasks; print(tasks.__file__)"
    assert installation.run("python", "-c", ours).stdout.strip().startswith(str(installation.site_packages))


@pytest.mark.slow
def test_uninstalling_removes_everything_but_the_workspace(installation: Installation, tmp_path: Path) -> None:
    copy = tmp_path / "environment"
    shutil.copytree(installation.environment, copy, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(copy / "bin" / "python")]
    subprocess.run([*pip, "uninstall", "-q", "-y", "mondrian"], check=True, capture_output=True)
    site_packages = next(copy.glob("lib/python*/site-packages"))
    assert {path.name for path in site_packages.iterdir()} == {"locked.pth", "tasks.py", "flows", "__pycache__"} & {
        path.name for path in site_packages.iterdir()
    }
    assert not (copy / "bin" / "mondrian").exists()
