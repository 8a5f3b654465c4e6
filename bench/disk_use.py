"""Disk use of a year of weekly retrainings, with and without `prune/scheduled`, from the sizes of a real run.

`python -m bench.disk_use WORKSPACE` reads the sizes of the newest run with weights, of its dataset and of its cached
features, makes 52 such weeks (files without content, so no space is used), and lets the real prune look at each Monday.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mondrian_core.pruning import PrunePolicy, apply_prune, plan_prune
from mondrian_core.registry import Registry, VersionState
from mondrian_core.runs import RunCatalogue
from mondrian_core.settings import Settings

WEEK = 7 * 86_400.0
BEGAN = 1_767_225_600.0  # 2026-01-01
WEEKS, PROMOTED_EVERY = 52, 8
SHOWN_WEEKS = (4, 13, 26, 39, 52)
NEW_PHOTOGRAPHS = 2  # critiques that are added each week


@dataclass(frozen=True)
class MeasuredSizes:
    """Sizes in bytes: files of a run by name, its dataset, one cached feature file; photographs that it used."""

    run: dict[str, int]
    dataset: int
    features: list[int]
    photographs: int


@dataclass
class RetrainedYear:
    """A workspace that grows by a week at a time."""

    folder: Path
    sizes: MeasuredSizes
    pruned: bool
    bytes_by_week: dict[int, Counter[str]] = field(default_factory=dict)

    def run(self) -> None:
        """All weeks."""
        root = self.folder / "workspace"
        root.mkdir(parents=True)
        settings = Settings(workspace=root, adapters=self.folder / "adapters")
        registry = Registry(settings.adapters_root)
        for week in range(1, WEEKS + 1):
            now = BEGAN + week * WEEK
            self._retrain(root, registry, week, now)
            if self.pruned:
                monday = now + 86_400.0 + 7_200.0
                apply_prune(plan_prune(settings, PrunePolicy(), monday))
            self.bytes_by_week[week] = self._bytes(root)

    def _retrain(self, root: Path, registry: Registry, week: int, now: float) -> None:
        name = f"week-{week:02}"
        run = root / "runs" / name
        grown = 1 + NEW_PHOTOGRAPHS * (week - 1) / self.sizes.photographs
        for file, size in self.sizes.run.items():
            _sized_file(run / file, size, now)
            if file.endswith(".json"):
                (run / file).write_text("{}".ljust(size))
                os.utime(run / file, (now, now))
        digest = f"{week:064x}"
        for file, values in _records(digest, name).items():
            (run / file).write_text(json.dumps(values))
            os.utime(run / file, (now, now))
        _sized_file(root / "datasets" / "ansel" / digest / "train" / "data.arrow", int(self.sizes.dataset * grown), now)
        for number in range(int(len(self.sizes.features) * grown)):
            size = self.sizes.features[number % len(self.sizes.features)]
            _sized_file(root / "runs" / "cache" / "features" / f"{number:064x}.safetensors", size, now)
        self._register(registry, name, digest, week)

    def _register(self, registry: Registry, run: str, digest: str, week: int) -> None:
        adapter = self.folder / "trained" / run
        adapter.mkdir(parents=True)
        module = "language_model.model.layers.0.self_attn.q_proj"
        draw = np.random.default_rng(week)
        arrays = {f"{module}.lora_a": draw.normal(size=(8, 4)), f"{module}.lora_b": draw.normal(size=(4, 8))}
        save_file({key: array.astype(np.float32) for key, array in arrays.items()}, adapter / "adapters.safetensors")
        parameters = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": [module]}
        config = {"fine_tune_type": "lora", "num_layers": -1, "lora_parameters": parameters}
        (adapter / "adapter_config.json").write_text(json.dumps(config))
        manifest = {"run": run, "dataset": {"digest": digest}, "base": {"name": "mini", "fingerprint": "f" * 64}}
        state: VersionState = "candidate" if week % PROMOTED_EVERY == 1 else "rejected"
        version = registry.register("ansel", adapter, manifest, state, actor="bench").version
        if state == "candidate":
            champion = registry.current("ansel")
            registry.promote("ansel", version, expected=champion, actor="bench", reason="simulated", verdicts={})

    def _bytes(self, root: Path) -> Counter[str]:
        found: Counter[str] = Counter()
        for path in root.rglob("*"):
            if path.is_file():
                found[_kind(path.relative_to(root))] += path.stat().st_size
        return found


def _kind(path: Path) -> str:
    if path.parts[0] == "datasets":
        return "datasets"
    if path.parts[:2] == ("runs", "cache"):
        return "features"
    return "weights of runs" if path.suffix == ".safetensors" else "records of runs"


def _records(digest: str, run: str) -> dict[str, dict[str, object]]:
    context: dict[str, object] = {"advisor": "ansel", "run": run, "recipe": {"name": "default"}, "adapter": None}
    return {
        "context.json": context,
        "dataset.json": {"digest": digest},
        "train.json": {"seconds": 100.0},
        "evaluate.json": {"verdict": "FAIL"},
        "promote.json": {"decision": "rejected"},
    }


def _sized_file(path: Path, size: int, now: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        stream.truncate(size)
    os.utime(path, (now, now))


def measured_sizes(workspace: Path) -> MeasuredSizes:
    """Sizes of the newest run of a workspace that has weights, and of what it used."""
    for record in RunCatalogue(workspace).runs():
        folder = workspace / "runs" / record.name
        files = {str(file.relative_to(folder)): file.stat().st_size for file in folder.rglob("*") if file.is_file()}
        dataset = workspace / "datasets" / record.advisor / record.dataset
        if record.dataset and any(name.endswith(".safetensors") for name in files):
            rows = sum(file.stat().st_size for file in dataset.rglob("*") if file.is_file())
            features = [file.stat().st_size for file in (workspace / "runs" / "cache" / "features").glob("*")]
            return MeasuredSizes(files, rows, features, record.photographs or 1)
    raise SystemExit("No run with weights; train one with `mondrian retrain`.")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    sizes = measured_sizes(parser.parse_args().workspace)
    weights = sum(size for name, size in sizes.run.items() if name.endswith(".safetensors"))
    print(
        f"One run: weights {weights / 1e6:.1f} MB, records {(sum(sizes.run.values()) - weights) / 1e6:.1f} MB; ", end=""
    )
    print(f"dataset {sizes.dataset / 1e6:.1f} MB, features {sum(sizes.features) / 1e6:.1f} MB")
    years = []
    with tempfile.TemporaryDirectory() as folder:
        for pruned in (False, True):
            years.append(RetrainedYear(Path(folder) / str(pruned), sizes, pruned))
            years[-1].run()
    kinds = sorted({kind for year in years for week in year.bytes_by_week.values() for kind in week})
    print("\n| week | prune | " + " | ".join(f"{kind}, MB" for kind in kinds) + " | all, MB |")
    print("|---:|---|" + "---:|" * (len(kinds) + 1))
    for week in SHOWN_WEEKS:
        for year in years:
            found = year.bytes_by_week[week]
            cells = " | ".join(f"{found[kind] / 1e6:,.1f}" for kind in kinds)
            print(f"| {week} | {'yes' if year.pruned else 'no'} | {cells} | {found.total() / 1e6:,.1f} |")


if __name__ == "__main__":
    main()
