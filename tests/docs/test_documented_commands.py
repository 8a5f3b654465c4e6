"""Every command block of the README and of docs/, run in order in one shell, by a person who has just cloned it.

The home folder holds photographs, a table of critiques and nothing else, the folder is a copy of the tracked files,
nothing of this machine's environment is left. Each page begins in that folder. What would take longer than a test may
is made shorter or replaced by `SHORTER` and `ELSEWHERE`, and by nothing else: a command that is in neither runs as it
is written.

A `text` block of a tutorial is what a reader sees after the commands above it. A command that the README or an
earlier tutorial has too runs once, and the tutorial is compared with what it printed then.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mondrian_core.mini.renderer import render_scene
from mondrian_core.mini.scene import sample_scene
from mondrian_core.mini.scene_critic import ANSEL, write_scene_critique
from mondrian_core.ports import find_free_port
from tests.git_files import ROOT, copy_tracked_files, tracked_files
from tests.small_recipe import WHOLE_ANSWERS, small_recipe_toml

pytestmark = [pytest.mark.flow, pytest.mark.mini, pytest.mark.slow, pytest.mark.timeout(1800)]

# Of docs/, in the order in which they are read.
FOLDERS = ("index.md", "tutorials", "how-to", "reference", "explanation", "decisions", "experiments")
BLOCK = re.compile(r"^( *)```(sh|text)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
TUTORIALS = "docs/tutorials/"
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
    # the same with the settings of the quick demo, in a folder of the newcomer's home
    "mondrian retrain --advisor my-eye": (
        "mondrian retrain --advisor my-eye --recipe ../../mondrian/quick.toml",
        (0, 1),
    ),
    'mondrian start --yes --name "My eye" --photographs ~/Photographs': (
        'mondrian start --yes --name "My eye" --photographs ~/Photographs',
        (1,),
    ),  # a person has to write the critiques
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
    # begun and ended as by Ctrl-C: tests/selftest runs a whole one, and `mondrian doctor --deep` does here
    "mondrian selftest": ("timeout --preserve-status --signal=INT 5 mondrian selftest", (0, 130)),
    "mondrian selftest --minutes 15": (
        "timeout --preserve-status --signal=INT 5 mondrian selftest --minutes 15",
        (0, 130),
    ),
    "mondrian install-service": ("mondrian install-service --dry-run", (0,)),  # tests/service_units runs the units
    "mondrian uninstall-service": ("mondrian uninstall-service", (1,)),  # none are installed
}
# What needs something that a test machine has not: another Mac, a bucket, a package registry.
ELSEWHERE = {
    "docs/how-to/object-store.md": "a bucket; tests/registry/test_remote_advisor_store.py runs them on an S3 server",
    "docs/how-to/several-machines.md": "a second machine, and Docker; tests/flows/test_join.py joins one",
    "docs/how-to/shared-storage.md": "a mounted share; tests/shared_storage publishes to a folder and to an S3 server",
}


@dataclass(frozen=True)
class Command:
    """A command of a document, without its comment.

    Attributes:
        document: the page that it is on.
        text: the line.
        seen: lines that a tutorial shows below it; "..." stands for anything, and so do lines that are left out.
    """

    document: str
    text: str
    seen: tuple[str, ...] = ()


def commands() -> list[Command]:
    """In the order that a reader meets them: the README, then docs/ folder by folder."""
    documents = [file for file in tracked_files() if file.suffix == ".md" and file.parts[0] == "docs"]
    found = []
    for document in [Path("README.md"), *sorted(documents, key=lambda file: (FOLDERS.index(file.parts[1]), file))]:
        for indent, language, block in BLOCK.findall((ROOT / document).read_text(encoding="utf-8")):
            if language == "text":
                if str(document).startswith(TUTORIALS):
                    found[-1] = replace(found[-1], seen=tuple(block.splitlines()))
                continue
            text = re.sub(rf"^{indent}", "", block, flags=re.MULTILINE).replace("\\\n", "")
            lines = [re.sub(r"\s+#.*$", "", line).strip() for line in text.splitlines()]
            found += [Command(str(document), line) for line in lines if line and not line.startswith("#")]
    return found


def unseen_lines(command: Command, printed: str) -> list[str]:
    """The lines below a command that it did not print in this order, whatever the width of the terminal."""
    rest, missing = " ".join(re.sub(r"[│┃]", " ", printed).split()), []
    for line in command.seen:
        pattern = ".*?".join(re.escape(" ".join(part.split())) for part in line.split("..."))
        found = re.search(pattern, rest)
        if found:
            rest = rest[found.end() :]
        else:
            missing.append(line)
    return missing


def put_photographs_and_critiques(home: Path) -> None:
    """A folder tree of three photographs; twelve photographs, with a table of critiques of ten of them."""
    rng = np.random.default_rng(1)
    rows = []
    names = [f"Photographs/{number:02}.jpg" for number in range(1, 13)]
    for name in ["Pictures/2024/01.jpg", "Pictures/2024/trip/02.jpg", "Pictures/Best/03.jpg", *names]:
        scene = sample_scene(rng)
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        render_scene(scene).save(file, quality=93)
        row: dict[str, str | float] = {"photograph": file.name}
        for dimension, each in write_scene_critique(scene, ANSEL, rng).assessments.items():
            row |= {f"{dimension}_score": each.score, f"{dimension}_comment": each.comment}
        rows.append(row)
    with (home / "critiques.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows[3:13])


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
    put_photographs_and_critiques(home)
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


def script_of(commands: list[Command], clone: Path, port: int) -> str:
    """A shell script that notes the exit status of each line and goes on; a server runs until it has answered."""
    parts, document = ["exec 2>&1", "set -m"], ""
    for number, command in enumerate(commands):
        line = command.text
        shown = SHORTER.get(line, (line, (0,)))[0].replace("{port}", str(port))
        if line.startswith(SERVICES):
            body = IN_BACKGROUND.format(command=shown, port=port).strip()
        elif line.startswith("mondrian watch"):
            body = UNTIL_INTERRUPTED.format(command=shown).strip()
        else:
            body = f"{shown} < /dev/null"
        begin = "" if command.document == document else f"cd {clone}\n"
        parts.append(f"{begin}{body}\necho \"{number} $?\" >> {clone}/statuses\necho '=== {number} done'")
        document = command.document
    return "\n".join(parts)


def run_once(found: list[Command]) -> tuple[list[Command], list[int]]:
    """The commands to run, and for each of `found` the index of its run: a tutorial repeats no earlier command."""
    to_run: list[Command] = []
    runs = []
    for command in found:
        earlier = [
            at
            for at, each in enumerate(to_run)
            if each.text == command.text
            and each.document != command.document
            and (each.document == "README.md" or each.document.startswith(TUTORIALS))
        ]
        if earlier and command.document.startswith(TUTORIALS):
            runs.append(earlier[0])
        else:
            runs.append(len(to_run))
            to_run.append(command)
    return to_run, runs


def test_every_command_block_runs_as_written(tmp_path: Path) -> None:
    found = commands()
    assert {"make demo", "make up", "make down"} <= {each.text for each in found}
    assert set(SHORTER) <= {each.text for each in found}, "SHORTER names a command that is in no document any more"
    shown = [each for each in found if each.document not in ELSEWHERE]
    here, run_of = run_once(shown)
    clone, environment = newcomer(tmp_path)
    script = script_of(here, clone, find_free_port())
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
    unseen = {each.text: unseen_lines(each, printed[at]) for each, at in zip(shown, run_of, strict=True)}
    assert {text: lines for text, lines in unseen.items() if lines} == {}


def test_a_line_that_a_command_did_not_print_is_found() -> None:
    command = Command("docs/tutorials/a.md", "mondrian x", ("12 imported", "✓ 1. Advisor: ...", "Saved 10 critiques."))
    assert unseen_lines(command, "  12   imported\n✓ 1. Advisor: My\neye\nSaved 10 critiques.\n") == []
    assert unseen_lines(command, "✓ 1. Advisor: My\n12 imported") == ["✓ 1. Advisor: ...", "Saved 10 critiques."]


def test_the_tutorials_say_what_one_sees() -> None:
    pages = {each.document for each in commands() if each.seen}
    assert pages == {f"{TUTORIALS}first-adapter.md", f"{TUTORIALS}first-hour.md"}


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
