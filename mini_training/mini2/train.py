"""Train the second generation: `python -m mini_training.mini2.train --stage all --out DIR`.

Needs the extra `mini` (PyTorch). The stages, in order: bank (draw the pictures), vision, language (writes DIR/weights).
Each saves checkpoints and resumes from them; docs/experiments/mini2.md says what is reached so far.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mini_training.mini2.renderer import render_photograph
from mini_training.picture_bank import fill_picture_bank

STAGES = ("bank", "vision", "language")
VISION_BANK, LANGUAGE_BANK, HELD_OUT_BANK = 4, 5, 6  # other seeds than the first generation's
HELD_OUT_PICTURES = 480
STRANGE_SHARE = 0.04
CHECKPOINT = Path(__file__).parent / "checkpoint/tower.safetensors"


def draw_banks(out: Path, pictures: int, seed: int) -> None:
    """Draw the pictures for the tower, half as many for the language model, and the held-out ones."""
    base = 10 * seed
    fill_picture_bank(out / "bank/held", HELD_OUT_PICTURES, base + HELD_OUT_BANK, render=render_photograph)
    fill_picture_bank(out / "bank/vision", pictures, base + VISION_BANK, render=render_photograph)
    fill_picture_bank(
        out / "bank/language",
        pictures // 2,
        base + LANGUAGE_BANK,
        strange_share=STRANGE_SHARE,
        render=render_photograph,
    )


def train_vision(out: Path, steps: int, seed: int, start: Path) -> None:
    """Train the tower on every bank OUT/bank/vision* that is finished.

    Args:
        out: folder of banks and checkpoints.
        steps: optimizer steps in all.
        seed: of the batches.
        start: tower or weights to begin with.
    """
    from mini_training.mini2.vision_stage import train_photo_tower

    banks = [done.parent for done in sorted(out.glob("bank/vision*/done"))]
    errors = train_photo_tower(banks, out / "bank/held", out, steps=steps, seed=seed, start=start)
    print("share of variance left on held-out pictures:", errors, flush=True)


def train_language(out: Path, steps: tuple[int, int], seed: int) -> None:
    """Train the language model on the tower's features of every bank OUT/bank/language* that is finished."""
    from mini_training.mini2.language_stage import LanguageBanks, train_advice_language

    banks = LanguageBanks(
        train=[done.parent for done in sorted(out.glob("bank/language*/done"))], held=out / "bank/held"
    )
    train_advice_language(banks, out / "tower.safetensors", out, steps=steps, seed=seed)


def main(arguments: list[str] | None = None) -> None:
    """Run one stage or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=(*STAGES, "all"), default="all", help="default: all of them, in this order")
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures, checkpoints and weights")
    parser.add_argument("--seed", type=int, default=0, help="seed of pictures and batches (default: 0)")
    parser.add_argument(
        "--pictures", type=int, default=12000, help="for the tower; half as many for the language model"
    )
    parser.add_argument("--start", type=Path, default=CHECKPOINT, help="tower or weights to begin with")
    parser.add_argument("--vision-steps", type=int, default=2400)
    parser.add_argument("--score-steps", type=int, default=300)
    parser.add_argument("--answer-steps", type=int, default=900)
    options = parser.parse_args(arguments)
    out: Path = options.out
    stages = STAGES if options.stage == "all" else (options.stage,)
    if "bank" in stages:
        draw_banks(out, options.pictures, options.seed)
    if "vision" in stages:
        train_vision(out, options.vision_steps, options.seed, options.start)
    if "language" in stages:
        train_language(out, (options.score_steps, options.answer_steps), options.seed)


if __name__ == "__main__":
    main()
