"""Creating workspaces: empty, or a sample with rendered photographs, an advisor's critiques and invalid records.

A sample workspace is drawn so that the default recipe's split has exactly the configured shares: of the 80 photographs
of `mondrian init --sample`, 20 are the frozen test. Everything is determined by the seed.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mondrian_core.data.invalid_sample_data import UNSCORED, invalid_profiles, past_jobs, write_invalid_files
from mondrian_core.data.splits.split import split_point
from mondrian_core.errors import BadInput, translate_foreign_errors
from mondrian_core.events import EventListener, StageProgressed, ignore_events
from mondrian_core.files import file_sha256, make_folder, sync_folder
from mondrian_core.images import read_photograph_header
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import Critique
from mondrian_core.settings import ALL_ADVISORS
from mondrian_core.store import DimensionalProfile, Store, utc_timestamp
from mondrian_core.store.photographs import Photograph, Photographs
from mondrian_core.store.records import REGIONS

if TYPE_CHECKING:
    from mondrian_core.mini.scene import Scene

ADVISOR = "ansel"
PORTFOLIO = f"source/advisor/photographer/{ADVISOR}"
SAMPLE_FILE_PREFIX = "plate_"
VISITORS = "source/visitors"
WORKSPACE_FOLDERS = (PORTFOLIO, VISITORS, "analysis_md", "datasets", "runs")
UNCRITIQUED_COUNT = 40
FOREIGN_ROOT = "/Users/studio/dev/mondrian"
DATABASE = "mondrian.db"
SAMPLE_START = datetime(2026, 1, 5, 10)  # noqa: DTZ001 (the database's times carry no zone)
_ORIENTATION = 0x0112
_PROMPT = (
    "You are {name}. Judge the photograph in the first person, frankly, from the seeing of it to the finished print."
)


@dataclass(frozen=True)
class SamplePhotograph:
    """A critiqued photograph of the sample: path in the workspace, JPEG bytes, critique, the rendered scene."""

    path: str
    jpeg: bytes
    critique: Critique
    scene: Scene


def create_workspace(
    root: Path, *, sample: bool, seed: int = 0, photographs: int = 80, listen: EventListener = ignore_events
) -> dict[str, int]:
    """Create a workspace; return how much it contains, by kind.

    It is built in a folder next to `root` and moved into place at the end, the database last, so that an interruption
    leaves no incomplete workspace.

    Args:
        root: the workspace's folder.
        sample: fill it with rendered photographs and critiques.
        seed: of the sample.
        photographs: critiqued photographs of the sample.
        listen: receives progress.

    Raises:
        BadInput: when there is already a database, or files that a sample would be mixed with.
        DiskFull: when no space is left.
    """
    _refuse_to_mix(root, sample)
    with translate_foreign_errors(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}-making-"))
        try:
            for folder in WORKSPACE_FOLDERS if sample else ("source/advisor", *WORKSPACE_FOLDERS[2:]):
                make_folder(building / folder)
            with Store.create(building / DATABASE) as store:
                made = (
                    _fill(store, building, seed, photographs, listen) if sample else {"advisors": 0, "photographs": 0}
                )
            _move_into(building, root)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return made


def is_sample_workspace(root: Path) -> bool:
    """True for a workspace that `create_workspace(sample=True)` created."""
    return any((root / PORTFOLIO).glob(f"{SAMPLE_FILE_PREFIX}*.jpg"))


def add_sample_critiques(root: Path, count: int, listen: EventListener = ignore_events) -> int:
    """Add `count` photographs with critiques to a sample, as time passes; return how many critiques there are now.

    The number of existing photographs determines the new ones, so the same history gives the same workspace.

    Raises:
        NoDatabase: when there is no workspace.
    """
    with translate_foreign_errors(root), Store(root / DATABASE) as store:
        present = sum(1 for _ in (root / PORTFOLIO).glob(f"{SAMPLE_FILE_PREFIX}*.jpg"))
        rng = np.random.default_rng([present, count])
        plates = []
        for plate in _render_photographs(count, rng, first=present):
            (root / plate.path).write_bytes(plate.jpeg)
            plates.append(plate)
            listen(StageProgressed("init", len(plates), count, plate.path))
        store.add_profiles([_profile(present + number, plate) for number, plate in enumerate(plates)])
        Photographs(store).add(*(_photograph(root, plate.path) for plate in plates))
    return present + count


def _refuse_to_mix(root: Path, sample: bool) -> None:
    if (root / DATABASE).exists():
        raise BadInput(
            f"There is already a workspace at {root}; its database is unchanged.",
            "Use it, or name another folder with --workspace.",
        )
    if root.exists() and not root.is_dir():
        raise BadInput(f"{root} is a file.", "Name a folder with --workspace.")
    if sample and any((root / name).is_dir() and any((root / name).iterdir()) for name in ("source", "analysis_md")):
        raise BadInput(f"{root} already contains photographs or analyses.", "Name an empty folder with --workspace.")


def _move_into(building: Path, root: Path) -> None:
    """Move the finished workspace to `root`, the database last; a user's existing folders are kept."""
    root.mkdir(mode=0o700, exist_ok=True)  # an existing folder keeps its permissions
    children = sorted(building.iterdir(), key=lambda child: (child.name == DATABASE, child.name))
    for child in children:
        target = root / child.name
        if child.is_dir() and target.is_dir():
            if any(target.iterdir()):
                continue
            target.rmdir()
        child.rename(target)
    sync_folder(root)


def _fill(store: Store, workspace: Path, seed: int, photographs: int, listen: EventListener) -> dict[str, int]:
    from mondrian_core.mini.renderer import render_scene
    from mondrian_core.mini.scene import sample_scene
    from mondrian_core.mini.scene_critic import ADVISORS

    rng = np.random.default_rng(seed)
    plates = []
    total = photographs + UNCRITIQUED_COUNT
    for plate in _render_photographs(photographs, rng):
        (workspace / plate.path).write_bytes(plate.jpeg)
        plates.append(plate)
        listen(StageProgressed("init", len(plates), total, plate.path))
    visitors = []
    for number in range(UNCRITIQUED_COUNT):
        scene = sample_scene(rng)
        path = f"{VISITORS}/visitor_{number:03d}.jpg"
        (workspace / path).write_bytes(_jpeg(render_scene(scene)))
        visitors.append((path, scene))
        listen(StageProgressed("init", photographs + number + 1, total, path))
    for taste in ADVISORS.values():
        store.add_advisor(AdvisorPrompt(taste.advisor, taste.name, taste.bio, _PROMPT.format(name=taste.name)))
    good = [_profile(number, plate) for number, plate in enumerate(plates)]
    invalid = invalid_profiles(good, PORTFOLIO)
    store.add_profiles([*good, *invalid])
    write_invalid_files(workspace / PORTFOLIO, [_jpeg(render_scene(sample_scene(rng))) for _ in UNSCORED])
    usable = (
        [plate.path for plate in plates] + [path for path, _ in visitors] + [f"{PORTFOLIO}/{name}" for name in UNSCORED]
    )
    Photographs(store).add(*(_photograph(workspace, path) for path in usable))
    jobs = past_jobs(visitors, workspace / "analysis_md", rng, SAMPLE_START)
    store.import_jobs(jobs)
    return {
        "advisors": len(ADVISORS),
        "photographs": len(plates),
        "photographs without critique": len(visitors),
        "critiques": len(good),
        "unusable critiques": len(invalid),
        "past jobs": len(jobs),
    }


def _render_photographs(count: int, rng: np.random.Generator, first: int = 0) -> Iterator[SamplePhotograph]:
    """Rendered photographs with the advisor's critiques; every eighth is stored sideways, as phones do."""
    from mondrian_core.mini.renderer import render_scene
    from mondrian_core.mini.scene import sample_scene
    from mondrian_core.mini.scene_critic import ANSEL, write_scene_critique

    missing = _photographs_per_split(count)
    number = first
    while number < first + count:
        scene = sample_scene(rng)
        picture = render_scene(scene)
        jpeg = _sideways(picture) if number % 8 == 3 else _jpeg(picture)
        split = _split_of_jpeg(jpeg)
        if not missing[split]:
            continue
        missing[split] -= 1
        critique = write_scene_critique(scene, ANSEL, rng)
        yield SamplePhotograph(f"{PORTFOLIO}/{SAMPLE_FILE_PREFIX}{number:03d}.jpg", jpeg, critique, scene)
        number += 1


def _photographs_per_split(count: int) -> Counter[str]:
    """How many of `count` photographs belong to each split of the default recipe."""
    recipe = DataRecipe()
    test = round(count * recipe.test_fraction)
    validation = round(count * recipe.validation_fraction)
    return Counter(test=test, validation=validation, train=count - test - validation)


def _split_of_jpeg(jpeg: bytes) -> str:
    import hashlib

    recipe = DataRecipe()
    point = split_point(hashlib.sha256(jpeg).hexdigest(), recipe.seed)
    if point < recipe.test_fraction:
        return "test"
    return "validation" if point < recipe.test_fraction + recipe.validation_fraction else "train"


def _jpeg(picture: Image.Image, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=93, subsampling=0, exif=exif)
    return buffer.getvalue()


def _sideways(picture: Image.Image) -> bytes:
    """Pixels turned to the left, and the note that tells a viewer to turn them back."""
    return _jpeg(picture.transpose(Image.Transpose.ROTATE_90), orientation=6)


def _photograph(workspace: Path, path: str) -> Photograph:
    """The row of a photograph; those outside the portfolio belong to every advisor."""
    portfolio = path.startswith(f"{PORTFOLIO}/")
    header = read_photograph_header(workspace / path)
    return Photograph(
        sha256=file_sha256(workspace / path),
        image_path=path,
        advisor=ADVISOR if portfolio else ALL_ADVISORS,
        portfolio=portfolio,
        width=header.width,
        height=header.height,
        imported_at=utc_timestamp(SAMPLE_START),
    )


def _profile(number: int, plate: SamplePhotograph) -> DimensionalProfile:
    """The database row of a photograph; every fifth has a path from another machine."""
    path = f"{FOREIGN_ROOT}/{plate.path}" if number % 5 == 0 else plate.path
    created = (SAMPLE_START + timedelta(hours=number)).isoformat()
    critique = plate.critique
    regions = {name: [list(box) for box in each.regions] for name, each in critique.assessments.items() if each.regions}
    details = {
        "strengths": list(critique.strengths),
        "priority_improvements": list(critique.priority_improvements),
        REGIONS: regions,
    }
    return DimensionalProfile(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, plate.path)),
        advisor=ADVISOR,
        image_path=path,
        scores=critique.scores,
        comments={name: each.comment for name, each in critique.assessments.items()},
        recommendations=critique.recommendations,
        overall_grade=critique.overall_grade,
        origin="human",
        created_at=created,
        details={name: value for name, value in details.items() if value},
    )
