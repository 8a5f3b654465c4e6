"""Wheel and sdist of the tracked files, and `make dist`: what a person gets who installs them and knows no checkout.

`python -m tests.distribution --uv PATH` builds both into dist/, compares the wheel with the one that the sdist builds,
installs it as a tool of its own with the newest dependencies that it allows, and runs `mondrian start --demo` there, in
an empty folder with an empty home. With `--python`, another interpreter runs it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.git_files import ROOT, copy_tracked_files

_DEMO = ("start", "--demo", "--no-serve")
# what a fresh terminal has; where certificates are is the machine's business
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


def build_distribution(checkout: Path, target: str, folder: Path) -> Path:
    """Build the `wheel` or the `sdist` of a folder that holds tracked files only; returns the file, in `folder`.

    Untracked files in `checkout` would be packed too. The build back-end is that of this environment.
    """
    before = set(folder.glob("*"))
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    (made,) = set(folder.glob("*")) - before
    return made


def wheel_of_sdist(sdist: Path, folder: Path) -> Path:
    """The wheel that an sdist builds, in `folder`; the sdist is unpacked there too."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    made = folder / "wheel"
    made.mkdir()
    return build_distribution(unpacked, "wheel", made)


@dataclass(frozen=True)
class InstalledTool:
    """A wheel that uv installed as a tool, below `folder`, with an empty home and an empty folder to work in."""

    uv: Path
    folder: Path

    @property
    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        lock = str(self.folder / "accelerator.lock")  # no other work on this machine holds it up
        return {**kept, "HOME": str(self.folder / "home"), "MONDRIAN_ACCELERATOR_LOCK": lock}

    def install(self, wheel: Path, python: str) -> None:
        """Install with the newest dependencies that the wheel allows; downloads go to the person's own uv cache.

        Raises:
            SystemExit: uv can't; it has printed why. An interpreter that isn't on this machine is never downloaded.
        """
        for name in ("home", "empty"):
            (self.folder / name).mkdir()
        tool = {"UV_TOOL_DIR": str(self.folder / "tools"), "UV_TOOL_BIN_DIR": str(self.folder / "bin")}
        options = ["--quiet", "--no-config", "--no-python-downloads", "--python", python]
        command = [str(self.uv), "tool", "install", *options, str(wheel)]
        done = subprocess.run(command, env={**os.environ, **tool}, cwd=self.folder / "empty", check=False)
        if done.returncode:
            raise SystemExit(f"uv could not install {wheel.name} with Python {python}.")

    def run(self, *words: str) -> int:
        """Exit status of a `mondrian` command, which prints to this terminal."""
        command = [str(self.folder / "bin" / "mondrian"), *words]
        folder = self.folder / "empty"
        return subprocess.run(
            command, env=self._environment, cwd=folder, stdin=subprocess.DEVNULL, check=False
        ).returncode


def main() -> int:
    """Build, compare, install, run; exit status 0 when a newcomer's adapter was promoted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uv", type=Path, required=True, help="the uv that installs the wheel")
    parser.add_argument("--python", default=sys.executable, help="interpreter or version that runs the wheel: 3.13")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mondrian-dist-") as name:
        scratch = Path(name)
        wheel = _build_both(scratch)
        tool = InstalledTool(given.uv.absolute(), scratch / "installed")
        tool.folder.mkdir()
        print(f"==> installing {wheel.name} with Python {given.python}", flush=True)
        tool.install(wheel, given.python)
        tool.run("--version")
        print(f"==> mondrian {' '.join(_DEMO)}, in an empty folder with an empty home", flush=True)
        status = tool.run(*_DEMO)
        print(f"==> exit status {status}", flush=True)
        return status


def _build_both(scratch: Path) -> Path:
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    checkout = copy_tracked_files(scratch / "checkout")
    wheel = build_distribution(checkout, "wheel", dist)
    sdist = build_distribution(checkout, "sdist", dist)
    again = scratch / "sdist"
    again.mkdir()
    if wheel_of_sdist(sdist, again).read_bytes() != wheel.read_bytes():
        raise SystemExit(f"The wheel that {sdist.name} builds differs from {wheel.name}.")
    for file in (wheel, sdist):
        print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1e6:.1f} MB", flush=True)
    print("The sdist builds the same wheel.", flush=True)
    return wheel


if __name__ == "__main__":
    sys.exit(main())
