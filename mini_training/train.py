"""Train mini: `python -m mini_training.train --stage all --out DIR --seed 0`.

Needs the extra `mini` (PyTorch). It continues the released weights, or begins with nothing (`--from-nothing`).
Each stage saves checkpoints and resumes from them. In order: bank (draw the pictures), tokenizer, vision, scores,
critiques, weights (write the folder that mlx-vlm opens).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mini_training import tokenizer_training as tokenizing
from mini_training.picture_bank import MAX_PIXELS, MIN_PIXELS, fill_picture_bank
from mondrian_core.mini import mini_weights_path

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import Qwen3VLForConditionalGeneration

STAGES = ("bank", "tokenizer", "vision", "scores", "critiques", "weights")
# seeds of the banks: no picture is in two of them, and none of the product's samples comes from these streams
VISION_BANK, LANGUAGE_BANK, HELD_OUT_BANK = 1, 2, 3
HELD_OUT_PICTURES = 480


def make_picture_banks(out: Path, options: argparse.Namespace) -> None:
    """Three picture banks: for the vision tower, for the language model (4 % show nothing), and held out."""
    base = 10 * options.seed
    fill_picture_bank(out / "bank/held", HELD_OUT_PICTURES, base + HELD_OUT_BANK)
    fill_picture_bank(out / "bank/vision", options.pictures, base + VISION_BANK)
    fill_picture_bank(out / "bank/language", options.pictures // 2, base + LANGUAGE_BANK, strange_share=0.04)


def make_mini_tokenizer(out: Path, options: argparse.Namespace) -> None:
    """Train the tokenizer into OUT/weights, with template and processor settings."""
    trained = tokenizing.train_mini_tokenizer(options.seed)
    tokenizing.save_mini_tokenizer(trained, out / "weights", min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)


def _tokenizer(out: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(out / "weights/tokenizer.json"))


def _model(out: Path, options: argparse.Namespace) -> Qwen3VLForConditionalGeneration:
    """A model with the tokenizer's vocabulary and the trained tower."""
    import torch

    from mini_training.architecture import build_mini_model, make_mini_config
    from mini_training.language_stage import continue_language_model, initialize_language_model

    vocabulary = _tokenizer(out)
    ids = {token: i for i, token in enumerate(tokenizing.SPECIAL_TOKENS)}
    torch.manual_seed(options.seed)
    model = build_mini_model(make_mini_config(vocabulary.get_vocab_size(), ids))
    initialize_language_model(model)
    if not options.from_nothing:
        continue_language_model(model, vocabulary, mini_weights_path())
    model.model.visual.load_state_dict(torch.load(out / "vision.pt", weights_only=False)["visual"])
    return model


def make_vision_tower(out: Path, options: argparse.Namespace) -> None:
    """Train the vision tower alone, on what the renderer drew."""
    from mini_training.vision_stage import train_vision_tower

    banks = [done.parent for done in sorted(out.glob("bank/vision*/done"))]
    start = None if options.from_nothing else mini_weights_path() / "model.safetensors"
    errors = train_vision_tower(
        banks, out / "bank/held", out, steps=options.vision_steps, seed=options.seed, start=start
    )
    print("vision, share of variance left on held-out pictures:", errors, flush=True)


def make_language_model(out: Path, options: argparse.Namespace, *, stages: tuple[str, ...]) -> None:
    """Train the language model on the frozen tower's features: scores as a short answer, then answers of every form."""
    from transformers import PreTrainedTokenizerFast

    from mini_training.language_stage import (
        AnswerEncoder,
        LanguageCourse,
        VisionFeatureGroup,
        compute_vision_features,
        load_language_checkpoint,
        train_language_model,
    )

    model = _model(out, options)
    words = PreTrainedTokenizerFast.from_pretrained(out / "weights")
    seen: list[VisionFeatureGroup] = []
    for done in sorted(out.glob("bank/language*/done")):
        seen += compute_vision_features(model, done.parent)
    held = compute_vision_features(model, out / "bank/held")
    if "scores" in stages:
        course = LanguageCourse(whole=False, steps=options.score_steps, seed=options.seed, rate=1e-3, size=64)
        train_language_model(model, seen, AnswerEncoder(words, whole=False), out, course, held)
    if "critiques" in stages:
        load_language_checkpoint(model, out, "scores")
        course = LanguageCourse(whole=True, steps=options.critique_steps, seed=options.seed, rate=8e-4, size=24)
        train_language_model(model, seen, AnswerEncoder(words, whole=True), out, course, held)


def make_mini_weights(out: Path, options: argparse.Namespace) -> None:
    """Join tower and language model into OUT/weights; with --install, into the package."""
    from mini_training.architecture import save_mini_model
    from mini_training.language_stage import load_language_checkpoint

    model = _model(out, options)
    step = load_language_checkpoint(model, out, "critiques") or load_language_checkpoint(model, out, "scores")
    print(f"language model of step {step}")
    save_mini_model(model, out / "weights")
    # transformers rewrites generation_config.json; ours comes last
    tokenizing.save_mini_tokenizer(_tokenizer(out), out / "weights", min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
    if options.install:
        shutil.copytree(out / "weights", mini_weights_path(), dirs_exist_ok=True)


def main(arguments: list[str] | None = None) -> None:
    """Run one stage or all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=(*STAGES, "all"), default="all", help="default: all of them, in this order")
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures, checkpoints and weights")
    parser.add_argument("--seed", type=int, default=0, help="seed of pictures, batches and weights (default: 0)")
    parser.add_argument("--from-nothing", action="store_true", help="don't continue the released weights")
    parser.add_argument(
        "--pictures",
        type=int,
        default=12000,
        help="pictures for the vision tower; half as many more for the language model",
    )
    parser.add_argument("--vision-steps", type=int, default=3000, help="optimizer steps of the vision tower")
    parser.add_argument("--score-steps", type=int, default=300, help="optimizer steps on scores alone")
    parser.add_argument("--critique-steps", type=int, default=1000, help="optimizer steps on whole critiques")
    parser.add_argument("--install", action="store_true", help="copy the finished weights into the package")
    options = parser.parse_args(arguments)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    stages = STAGES if options.stage == "all" else (options.stage,)
    if "bank" in stages:
        make_picture_banks(out, options)
    if "tokenizer" in stages:
        make_mini_tokenizer(out, options)
    if "vision" in stages:
        make_vision_tower(out, options)
    if "scores" in stages or "critiques" in stages:
        make_language_model(out, options, stages=stages)
    if "weights" in stages:
        make_mini_weights(out, options)


if __name__ == "__main__":
    main()
