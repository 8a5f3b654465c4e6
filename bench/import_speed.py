"""Speed and memory of an import, against what a user would write instead.

    python -m bench.import_speed --photographs 60 --rounds 3 FOLDER
    python -m bench.import_speed --photographs 1000 --rounds 1 --only mondrian FOLDER

The photographs have 24 megapixels and a place in their metadata. They are made from sharpened noise over soft areas, as
large as a camera's files, and differ in their pixels: one JPEG is cut at its restart markers and its bands are put in
another order for each file, which takes no decoding.

What is compared, each in a process of its own, in rotating order: `mondrian import` (copy without place, SHA-256, EXIF,
thumbnails of 320 and 640 pixels, near-duplicates, rows); a loop with Pillow (copy, SHA-256, thumbnails of 320 and 640
pixels); exiftool (copy without place) followed by that loop without its copy.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.store import Store

WIDTH, HEIGHT, BAND_ROWS = 6000, 4000, 25
WAYS = ("mondrian", "pillow", "exiftool + pillow")
SAMPLE_SECONDS = 0.1
_LOOP = """
import hashlib, shutil, sys
from pathlib import Path
from PIL import Image, ImageOps
source, target, copies = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "copy"
for path in sorted(source.glob("*.jpg")):
    print(hashlib.sha256(path.read_bytes()).hexdigest(), file=sys.stderr)
    if copies:
        shutil.copy2(path, target / path.name)
    with Image.open(path) as image:
        image.thumbnail((640, 640))
        upright = ImageOps.exif_transpose(image)
        for side in (640, 320):
            upright.thumbnail((side, side))
            upright.save(target / f"{path.stem}-{side}.jpg", quality=85)
"""


@dataclass(frozen=True)
class ImportMeasurement:
    """One run: wall-clock and processor seconds, and the largest memory of all its processes in bytes."""

    way: str
    seconds: float
    processor: float
    memory: int


def write_photographs(folder: Path, count: int) -> None:
    """Write `count` JPEG files of 24 megapixels with different pixels; existing ones are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.glob("*.jpg"))) == count:
        return
    head, bands, end = _banded(_encoded())
    chance = random.Random(1)
    for number in range(count):
        order = list(range(len(bands)))
        chance.shuffle(order)
        marked = [band + bytes((0xFF, 0xD0 + at % 8)) for at, band in enumerate(bands[each] for each in order)]
        body = b"".join(marked)[:-2]  # no marker after the last band
        (folder / f"{number:05}.jpg").write_bytes(head + body + end)


def _encoded() -> bytes:
    """A JPEG with a restart marker after each band, and EXIF data with a place."""
    chance = np.random.default_rng(1)
    soft = Image.fromarray(chance.integers(0, 255, (10, 15, 3), dtype=np.uint8))
    pixels = np.asarray(soft.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = chance.normal(0, 9, (HEIGHT, WIDTH, 1)).astype(np.int16)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "NIKON CORPORATION", "NIKON Z 6"
    exif.get_ifd(0x8769).update({0x9003: "2026:05:17 04:12:00", 0x8827: 100})
    exif.get_ifd(0x8825).update({1: "N", 2: (59.0, 54.0, 0.0), 3: "E", 4: (10.0, 45.0, 12.5)})
    buffer = io.BytesIO()
    picture = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
    picture.save(buffer, "JPEG", quality=90, exif=exif.tobytes(), restart_marker_rows=BAND_ROWS)
    return buffer.getvalue()


def _banded(data: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Headers, the entropy-coded bands between restart markers, and the end marker (ITU T.81, E.1.4)."""
    start = data.index(b"\xff\xda")
    start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    bands = re.split(rb"\xff[\xd0-\xd7]", data[start:-2])
    whole = HEIGHT // 16 // BAND_ROWS
    return data[:start], bands[:whole], data[-2:]


def measure_import(way: str, photographs: Path, place: Path) -> ImportMeasurement:
    """Import the photographs in one way into an empty folder, which is deleted afterwards."""
    target = place / way.replace(" ", "-")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    processor, memory = 0.0, 0
    commands = _commands(way, photographs, target)
    began = time.monotonic()
    for command in commands:
        used, peak = _watched(command)
        processor, memory = processor + used, max(memory, peak)
    seconds = time.monotonic() - began
    shutil.rmtree(target)
    return ImportMeasurement(way, seconds, processor, memory)


def _commands(way: str, photographs: Path, target: Path) -> list[list[str]]:
    loop = [sys.executable, "-c", _LOOP]
    if way == "mondrian":
        (target / "source").mkdir()
        with Store.create(target / "mondrian.db") as store:
            store.add_advisor(AdvisorPrompt("ansel", "Ansel Adams"))
        words = ["import", str(photographs), "--advisor", "ansel", "--workspace", str(target), "--json"]
        return [[sys.executable, "-m", "mondrian_core.cli", *words]]
    if way == "pillow":
        return [[*loop, str(photographs), str(target), "copy"]]
    copies = target / "copies"
    return [
        ["exiftool", "-q", "-o", f"{copies}/", "-gps:all=", "-xmp:geotag=", str(photographs)],
        [*loop, str(copies), str(target), "keep"],
    ]


def _watched(command: Sequence[str]) -> tuple[float, int]:
    """Processor seconds of a command with its children, and their largest memory together (bytes)."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        peak = max(peak, _memory_of(process.pid))
        time.sleep(SAMPLE_SECONDS)
    if status:
        raise SystemExit(f"{command[0]} ended with status {os.waitstatus_to_exitcode(status)}")
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime, peak


def _memory_of(pid: int) -> int:
    """Resident memory of a process and its descendants; shared pages count once for each."""
    total = 0
    try:
        root = psutil.Process(pid)
        for each in (root, *root.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def print_tables(measured: Sequence[ImportMeasurement], count: int, sizes: int) -> None:
    """The tables of the page: each way, and the ratios of each round."""
    print(f"\n{count:,} photographs of 24 megapixels, {sizes / 1e9:.1f} GB\n")
    print("| | seconds, median (min to max) | processor, s | photographs per minute | memory, MB |")
    print("|---|---|---:|---:|---:|")
    by_way = {way: [each for each in measured if each.way == way] for way in WAYS}
    for way, runs in by_way.items():
        if runs:
            times = sorted(run.seconds for run in runs)
            middle = statistics.median(times)
            processor = statistics.median(run.processor for run in runs)
            memory = max(run.memory for run in runs) / 1e6
            print(
                f"| {way} | {middle:.1f} ({times[0]:.1f} to {times[-1]:.1f}) | {processor:.1f} | "
                f"{60 * count / middle:,.0f} | {memory:,.0f} |"
            )
    ours = by_way["mondrian"]
    others = [way for way in WAYS[1:] if by_way[way]]
    if others:
        print("\n| others / mondrian | wall clock (min to max) | processor (min to max) |\n|---|---|---|")
    for way in others:
        wall = sorted(other.seconds / run.seconds for other, run in zip(by_way[way], ours, strict=True))
        used = sorted(other.processor / run.processor for other, run in zip(by_way[way], ours, strict=True))
        cells = [f"{statistics.median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})" for each in (wall, used)]
        print(f"| {way} | {cells[0]} | {cells[1]} |")


def digest_of(folder: Path) -> str:
    """SHA-256 over the names and bytes of the photographs, so that a repeat can be compared."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.jpg")):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the photographs, measure in rotating order, and print the tables."""
    parser = argparse.ArgumentParser(description="Speed and memory of an import.")
    parser.add_argument("folder", type=Path, help="for photographs and copies; on the disk to be measured")
    parser.add_argument("--photographs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=WAYS, action="append")
    options = parser.parse_args(arguments)
    photographs = options.folder / f"photographs-{options.photographs}"
    write_photographs(photographs, options.photographs)
    ways = [way for way in options.only or WAYS if way != "exiftool + pillow" or shutil.which("exiftool")]
    measured = []
    for number in range(options.rounds):
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            measured.append(measure_import(way, photographs, options.folder))
            print(measured[-1], file=sys.stderr)
    sizes = sum(path.stat().st_size for path in photographs.glob("*.jpg"))
    print_tables(measured, options.photographs, sizes)


if __name__ == "__main__":
    main()
