"""A contact sheet of the same scenes in both looks: `python -m mini_training.mini2.contact_sheet FILE.jpg [--seed N]`.

Each pair of rows shows the first generation's picture above the second's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from mini_training.mini2.renderer import render_photograph
from mondrian_core.mini import renderer as first_generation
from mondrian_core.mini.scene import sample_scene

COLUMNS, PAIRS, CELL = 7, 2, 200
QUALITY = 82


def sheet_of_both_looks(seed: int) -> Image.Image:
    """The sheet, RGB, CELL pixels for each picture."""
    sheet = Image.new("RGB", (COLUMNS * CELL, 2 * PAIRS * CELL), (40, 40, 40))
    for at in range(COLUMNS * PAIRS):
        scene = sample_scene(np.random.default_rng(seed + at))
        for below, picture in enumerate((first_generation.render_scene(scene), render_photograph(scene))):
            picture.thumbnail((CELL - 8, CELL - 8), Image.Resampling.LANCZOS)
            left = at % COLUMNS * CELL + (CELL - picture.width) // 2
            top = (at // COLUMNS * 2 + below) * CELL + (CELL - picture.height) // 2
            sheet.paste(picture, (left, top))
    return sheet


def main(arguments: list[str] | None = None) -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the first scene; the others follow")
    options = parser.parse_args(arguments)
    sheet_of_both_looks(options.seed).save(options.file, quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
