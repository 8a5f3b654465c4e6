"""A sheet of rendered scenes: `python -m mini_training.scene_sheet FILE.jpg [--seed N]`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from mondrian_core.mini.renderer import render_scene
from mondrian_core.mini.scene import sample_scene

COLUMNS, ROWS, CELL = 7, 4, 200
QUALITY = 82


def sheet_of_scenes(seed: int) -> Image.Image:
    """The sheet, RGB, CELL pixels for each picture."""
    sheet = Image.new("RGB", (COLUMNS * CELL, ROWS * CELL), (40, 40, 40))
    for at in range(COLUMNS * ROWS):
        picture = render_scene(sample_scene(np.random.default_rng(seed + at)))
        picture.thumbnail((CELL - 8, CELL - 8), Image.Resampling.LANCZOS)
        left = at % COLUMNS * CELL + (CELL - picture.width) // 2
        top = at // COLUMNS * CELL + (CELL - picture.height) // 2
        sheet.paste(picture, (left, top))
    return sheet


def main(arguments: list[str] | None = None) -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the first scene; the others follow")
    options = parser.parse_args(arguments)
    sheet_of_scenes(options.seed).save(options.file, quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
