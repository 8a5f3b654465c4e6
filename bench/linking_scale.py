"""`python -m bench.linking_scale`: time and memory for linking 100,000 past jobs.

The rival is a straightforward script: read the rows, find each file by name under source/, open the photograph, and
extract the JSON with a regular expression. It doesn't report excluded records.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

JOBS, PHOTOGRAPHS = 100_000, 2_000
LIMIT_SECONDS, LIMIT_MEGABYTES = 60, 500


def main(arguments: list[str] | None = None) -> int:
    """Create the workspace, link it in a separate process, print the results; exit status 1 above a limit."""
    parser = argparse.ArgumentParser(prog="bench.linking_scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--photographs", type=int, default=PHOTOGRAPHS)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--only", choices=("ours", "rival"), help=argparse.SUPPRESS)
    parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only:
        print(json.dumps(_measure_linking(options.only, options.workspace)))
        return 0
    with tempfile.TemporaryDirectory(prefix="mondrian-linking-") as folder:
        _make_job_history_workspace(Path(folder), options.jobs, options.photographs)
        figures = {name: _in_own_process(name, Path(folder)) for name in ("ours", "rival")}
    for name, figure in figures.items():
        print(
            f"{name:6} {options.jobs:,} jobs: {figure['seconds']:6.1f} s ({figure['cpu_seconds']:.1f} of CPU time), "
            f"{figure['megabytes']:5.0f} MB, {figure['used']:,} used, {figure['explained']:,} excluded with a reason"
        )
    if options.out:
        options.out.write_text(json.dumps({"jobs": options.jobs, **figures}, indent=2) + "\n", encoding="utf-8")
    ours = figures["ours"]
    return int(ours["seconds"] > LIMIT_SECONDS or ours["megabytes"] > LIMIT_MEGABYTES)


def _make_job_history_workspace(folder: Path, jobs: int, photographs: int) -> None:
    """Create a workspace of many past jobs; every 7th has a truncated analysis, every 9th an unknown photograph."""
    import numpy as np
    from PIL import Image

    from mondrian_core.prompts import AdvisorPrompt
    from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS
    from mondrian_core.store import Job, Store

    rng = np.random.default_rng(0)
    for name in ("source", "analysis_md"):
        (folder / name).mkdir()
    for number in range(photographs):
        pixels = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((640, 480)).save(folder / "source" / f"photo-{number:05d}.jpg", quality=85)
    dimensions = [
        {
            "name": DIMENSION_TITLES[name],
            "score": 7.0,
            "comment": "A comment of some length on what is seen here.",
            "recommendation": "Wait for another light.",
        }
        for name in DIMENSIONS
    ]
    whole = f"```json\n{json.dumps({'dimensions': dimensions, 'overall_score': 7.0}, indent=2)}\n```\n"

    def job(number: int) -> Job:
        name = f"photo-{number % photographs:05d}.jpg" if number % 9 else f"lost-{number}.jpg"
        (folder / "analysis_md" / f"{number}.md").write_text(whole[:700] if number % 7 == 0 else whole)
        return Job(
            id=f"job-{number}",
            filename=name,
            advisor="ansel",
            status="completed",
            analysis_markdown=f"{number}.md",
            created_at=f"2026-01-01T{number:06d}",
        )

    with Store.create(folder / "mondrian.db") as store:
        store.add_advisor(AdvisorPrompt("ansel", "Ansel Adams"))
        store.import_jobs(job(number) for number in range(jobs))


def _in_own_process(name: str, workspace: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.linking_scale", "--only", name, "--workspace", str(workspace)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _measure_linking(name: str, workspace: Path) -> dict[str, float]:
    began, worked = time.perf_counter(), time.process_time()
    used, explained = {"ours": _ours, "rival": _rival}[name](workspace)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    megabytes = peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - worked,
        "megabytes": megabytes,
        "used": used,
        "explained": explained,
    }


def _ours(workspace: Path) -> tuple[int, int]:
    from mondrian_core.data.linking.link import link_critiques
    from mondrian_core.store import Store

    with Store(workspace / "mondrian.db", read_only=True) as store:
        manifest = link_critiques(store, workspace, "ansel")
    return len(manifest.used), len(manifest.left_out)


def _rival(workspace: Path) -> tuple[int, int]:
    from PIL import Image

    files = {path.name: path for path in (workspace / "source").rglob("*.jpg")}
    used = {}
    with closing(sqlite3.connect(workspace / "mondrian.db")) as connection:
        rows = connection.execute("SELECT filename, analysis_markdown FROM jobs WHERE status = 'completed'").fetchall()
    for filename, analysis in rows:
        path = files.get(filename)
        text = (workspace / "analysis_md" / analysis).read_text()
        fenced = re.search(r"```json\s*(.*?)```", text, re.DOTALL)
        if path is None or fenced is None:
            continue
        try:
            answer = json.loads(fenced.group(1))
            with Image.open(path) as image:
                image.convert("RGB")
        except (ValueError, OSError):
            continue
        used[filename] = answer
    return len(used), 0


if __name__ == "__main__":
    sys.exit(main())
