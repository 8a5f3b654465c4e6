"""Every command block of the README and of docs/, run in order in one shell, by a person who has just cloned it.

The home folder holds a few photographs and nothing else, the folder is a copy of the tracked files, nothing of this
machine's environment is left. What would take longer than a test may is made shorter or replaced by `SHORTER` and
`ELSEWHERE`, and by nothing else: a command that is in neither runs as it is written.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mondrian_core.ports import find_free_port
from tests.git_files import ROOT, copy_tracked_files, tracked_files
from tests.small_recipe import WHOLE_ANSWERS, small_recipe_toml

pytestmark = [pytest.mark.flow, pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(1800)]

# Of docs/, in the order in which they are read.
FOLDERS = ("index.md", "tutorials", "how-to", "reference", "explanation", "decisions", "experiments")
BLOCK = re.compile(r"^( *)```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# What is added so that the same command ends sooner. `make` takes ARGS from the environment.
SHORTER = {
    "make demo": (
        "ARGS='--recipe quick.toml --photographs 12' make demo",
        (0, 2),
    ),  # make says 2 where the gates keep a candidate
    "make test": ("ARGS='-q -p no:cacheprovider tests/core/test_exif.py' WORKERS=0 make test", (0,)),
    "mondrian start": ("mondrian start --yes --advisor ansel --no-serve", (0, 1)),  # 1: the quick demo promotes nothing
    "make up": ("ARGS='--service-port {port}' make up", (0,)),
    "mondrian retrain --advisor ansel": (
        "mondrian retrain --advisor ansel --resume $(basename workspace/runs/*-retrain-ansel-*)",
        (0, 1),
    ),  # the demo's run, which is complete: tests/loop and tests/flows train
    "mondrian adapters list": ("mondrian adapters list", (0,)),
    "mondrian serve --model_mode fine_tuned": (
        "mondrian serve --model_mode fine_tuned --fallback base --port {port}",
        (0,),
    ),
    "mondrian import --rescan": ("mondrian import --rescan", (0, 1)),  # 1: the sample has unusable files
    "mondrian start --page": ("mondrian start --page --port {port}", (0,)),
    "MONDRIAN_SERVICE_TOKEN=$(openssl rand -hex 24) mondrian serve --host 0.0.0.0 --model-mode fine_tuned": (
        "MONDRIAN_SERVICE_TOKEN=$(openssl rand -hex 24) mondrian serve --host 0.0.0.0 --model-mode fine_tuned "
        "--fallback base --port {port}",
        (0,),
    ),
    "mondrian watch workspace/source/visitors --advisor ansel --xmp": (
        "timeout --preserve-status --signal=INT 30 mondrian watch workspace/source/visitors --advisor ansel --xmp",
        (0,),
    ),
    "mondrian analyze workspace/source/visitors/visitor_00*.jpg --advisor ansel --html sheet.html": (
        "mondrian analyze workspace/source/visitors/visitor_00[01].jpg --advisor ansel --html sheet.html",
        (0,),
    ),  # two photographs instead of ten
    "mondrian drift --advisor ansel --accept": ("mondrian drift --advisor ansel --accept", (1,)),  # nothing is promoted
    "MONDRIAN_NOTIFICATIONS=slack-webhook/team mondrian up": (
        "MONDRIAN_NOTIFICATIONS=slack-webhook/team mondrian up",
        (2,),
    ),  # the server of a newcomer has no such block, and the message says so
    "mondrian install-service": ("mondrian install-service --dry-run", (0,)),  # tests/service_units runs the units
    "mondrian uninstall-service": ("mondrian uninstall-service", (1,)),  # none are installed
}
# What needs something that a test machine has not: another Mac, a bucket, a package registry.
ELSEWHERE = {
    "docs/reference/registry.md": "a bucket; tests/registry/test_remote_advisor_store.py runs them on an S3 server",
    "docs/how-to/several-machines.md": "a second machine, and Docker; tests/flows/test_join.py joins one",
    "docs/how-to/shared-storage.md": "a mounted share; tests/shared_storage publishes to a folder and to an S3 server",
}


@dataclass(frozen=True)
class Command:
    """A command of a document, without its comment."""

    document: str
    text: str


def commands() -> list[Command]:
    """In the order that a reader meets them: the README, then docs/ folder by folder."""
    documents = [file for file in tracked_files() if file.suffix == ".md" and file.parts[0] == "docs"]
    found = []
    for document in [Path("README.md"), *sorted(documents, key=lambda file: (FOLDERS.index(file.parts[1]), file))]:
        for indent, block in BLOCK.findall((ROOT / document).read_text(encoding="utf-8")):
            text = re.sub(rf"^{indent}", "", block, flags=re.MULTILINE).replace("\\\n", "")
            lines = [re.sub(r"\s+#.*$", "", line).strip() for line in text.splitlines()]
            found += [Command(str(document), line) for line in lines if line and not line.startswith("#")]
    return found


def newcomer(folder: Path) -> tuple[Path, dict[str, str]]:
    """A clone with the environment that `make` built, and what a fresh terminal has in its environment."""
    clone = copy_tracked_files(folder / "mondrian")
    (clone / "quick.toml").write_text(small_recipe_toml(data={"test_from": 8}, evaluate=WHOLE_ANSWERS))
    venv = clone / ".venv"
    here = Path(sys.prefix)
    shutil.copytree(here / "bin", venv / "bin", symlinks=True)
    for script in (venv / "bin").iterdir():
        if script.is_file() and not script.is_symlink() and str(here).encode() in script.read_bytes():
            script.write_bytes(script.read_bytes().replace(str(here).encode(), str(venv).encode()))
    for name in ("lib", "include"):
        (venv / name).symlink_to(here / name)
    shutil.copy(here / "pyvenv.cfg", venv)
    for mark in (".locked", ".ready"):
        (venv / mark).touch()
    home = folder / "home"
    for seed, name in enumerate(("2024/01.jpg", "2024/trip/02.jpg", "Best/03.jpg")):
        file = home / "Pictures" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (240, 360, 3), np.uint8)).save(file)
    machine = ("PATH", "LANG", "LC_ALL", "TMPDIR", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    kept = {name: os.environ[name] for name in machine if name in os.environ}
    ours = {"HF_HUB_OFFLINE": "1", "MONDRIAN_ACCELERATOR_LOCK": str(folder / "accelerator.lock")}  # no other test's
    return clone, {**kept, **ours, "HOME": str(home), "PYTHONPATH": str(clone)}


SERVICES = ("mondrian serve", "mondrian start --page", "MONDRIAN_SERVICE_TOKEN=")
UNTIL_INTERRUPTED = """
{command} & running=$!
sleep 10
kill -INT $running; wait $running
"""
IN_BACKGROUND = """
{command} & server=$!
for attempt in $(seq 300); do
  python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/health')" 2> /dev/null && break
  kill -0 $server 2>/dev/null || break
  sleep 0.3
done
kill -INT $server; wait $server
"""


def script_of(lines: list[str], port: int) -> str:
    """A shell script that notes the exit status of each line and goes on; a server runs until it has answered."""
    parts = ["exec 2>&1", "set -m"]
    for number, line in enumerate(lines):
        shown = SHORTER.get(line, (line, (0,)))[0].replace("{port}", str(port))
        if line.startswith(SERVICES):
            body = IN_BACKGROUND.format(command=shown, port=port).strip()
        elif line.startswith("mondrian watch"):
            body = UNTIL_INTERRUPTED.format(command=shown).strip()
        else:
            body = f"{shown} < /dev/null"
        parts.append(f"{body}\necho \"{number} $?\" >> statuses\necho '=== {number} done'")
    return "\n".join(parts)


def test_every_command_block_runs_as_written(tmp_path: Path) -> None:
    found = commands()
    assert {"make demo", "make up", "make down"} <= {each.text for each in found}
    assert set(SHORTER) <= {each.text for each in found}, "SHORTER names a command that is in no document any more"
    here = [each for each in found if each.document not in ELSEWHERE]
    clone, environment = newcomer(tmp_path)
    script = script_of([each.text for each in here], find_free_port())
    try:
        with (clone / "output").open("w") as output:
            subprocess.run(
                ["bash", "-c", script],
                cwd=clone,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=1700,
            )
    finally:
        subprocess.run(["make", "down"], cwd=clone, env=environment, capture_output=True, check=False, timeout=300)
    pairs = [line.split() for line in (clone / "statuses").read_text().splitlines()]
    statuses = {int(number): int(status) for number, status in pairs}
    failed = [
        (number, each.document, each.text, statuses.get(number))
        for number, each in enumerate(here)
        if statuses.get(number) not in SHORTER.get(each.text, ("", (0,)))[1]
    ]
    assert "Done in" in (clone / "output").read_text(), "the demo broke before its end"
    printed = re.split(r"^=== \d+ done$", (clone / "output").read_text(), flags=re.MULTILINE)
    retraining = [each.text for each in here].index("mondrian retrain --advisor ansel")
    assert "Report: " in printed[retraining], printed[retraining]
    assert failed == [], "\n".join(
        f"{document}: {text}: {status}\n{printed[at][-1500:]}" for at, document, text, status in failed
    )


def test_excluded_documents_contain_command_blocks() -> None:
    assert set(ELSEWHERE) <= {each.document for each in commands()}


def test_commands_appear_only_in_tested_blocks() -> None:
    """A block without `sh` would not be run."""
    hidden = []
    for document in [file for file in tracked_files() if file.suffix == ".md"]:
        blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", (ROOT / document).read_text(encoding="utf-8"), re.M | re.S)
        hidden += [
            (str(document), line)
            for language, text in blocks
            for line in text.splitlines()
            if language != "sh" and re.match(r"\s*\$? ?(mondrian|make|prefect|pip|python3?) \w", line)
        ]
    assert hidden == []
