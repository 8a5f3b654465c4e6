"""Trains the language model of the second generation on frozen features: scores first, then answers of every form.

The language model of the released weights is where it begins; tokens that both tokenizers know keep their embeddings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedTokenizerFast

from mini_training.architecture import build_mini_model, make_mini_config, save_mini_model
from mini_training.language_stage import (
    AnswerEncoder,
    LanguageCourse,
    VisionFeatureGroup,
    compute_vision_features,
    initialize_language_model,
    train_language_model,
)
from mini_training.mini2.answer_forms import sample_answer_example
from mini_training.mini2.tokenizer import train_advice_tokenizer
from mini_training.mini2.vision_stage import load_tower
from mini_training.picture_bank import MAX_PIXELS, MIN_PIXELS
from mini_training.tokenizer_training import SPECIAL_TOKENS, save_mini_tokenizer
from mondrian_core.mini import mini_weights_path
from mondrian_core.mini.scene import Scene

PRIORITY_WEIGHT = 3.0  # the first priority is the answer's most useful word
GRADE_PIECE, PRIORITY_PIECE = '"overall_grade": "', '"priority_improvements": ["'


class AdviceEncoder(AnswerEncoder):
    """Encodes a scene as token ids in one of the product's forms; see `answer_forms`."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, whole: bool) -> None:
        super().__init__(tokenizer, whole=whole)
        spelled = {ident: piece.replace("Ġ", " ") for piece, ident in tokenizer.get_vocab().items()}
        self.grade_pieces = {ident for ident, piece in spelled.items() if piece.endswith(GRADE_PIECE)}
        self.priority_pieces = {ident for ident, piece in spelled.items() if piece.endswith(PRIORITY_PIECE)}

    def encode_scene(self, scene: Scene, rng: np.random.Generator) -> tuple[list[int], list[int], list[int], bool]:
        """(ids before the image tokens, ids after them, answer ids with the end token, whether its digits count)."""
        if not self.whole:
            return super().encode_scene(scene, rng)
        example = sample_answer_example(scene, rng)
        prompt = self.tokenizer.apply_chat_template(example.messages, tokenize=False, add_generation_prompt=True)
        before, after = prompt.split("<|image_pad|>")
        encode = self.tokenizer.encode
        return encode(before), encode(after), [*encode(example.answer), self.end], example.honest

    def weights(self, answer: list[int], honest: bool = True) -> list[float]:
        """Loss weight of every answer token: score digits most, then grade and priorities."""
        weight = super().weights(answer, honest)
        within = False
        for at, token in enumerate(answer):
            if within and weight[at] == 1.0:
                weight[at] = PRIORITY_WEIGHT
            if token in self.priority_pieces:
                within = True
            if token in self.grade_pieces:
                within = False
                weight[at + 1 : at + 4] = [5.0] * len(weight[at + 1 : at + 4])
        return weight


def continued_model(tokenizer: Tokenizer, tower: Path, seed: int) -> nn.Module:
    """A model with the tower of a file, and the released language model fitted to the tokenizer."""
    torch.manual_seed(seed)
    ids = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    model = build_mini_model(make_mini_config(tokenizer.get_vocab_size(), ids))
    initialize_language_model(model)
    model.model.visual.load_state_dict(load_tower(tower))
    text, prefix = model.model.language_model, "model.language_model."
    released = {
        key.removeprefix(prefix): value
        for key, value in load_file(mini_weights_path() / "model.safetensors").items()
        if key.startswith(prefix)
    }
    known = json.loads((mini_weights_path() / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    embeddings = text.state_dict()["embed_tokens.weight"].clone()
    for piece, ident in tokenizer.get_vocab().items():
        if piece in known:
            embeddings[ident] = released["embed_tokens.weight"][known[piece]]
    text.load_state_dict({**released, "embed_tokens.weight": embeddings})
    return model


@dataclass(frozen=True, kw_only=True)
class LanguageBanks:
    """Folders of pictures: `train` new to the tower, `held` held out."""

    train: Sequence[Path]
    held: Path


def train_advice_language(banks: LanguageBanks, tower: Path, out: Path, *, steps: tuple[int, int], seed: int) -> None:
    """Train the language model on a frozen tower, and write OUT/weights.

    Args:
        banks: the pictures.
        tower: file of `vision_stage.save_tower`.
        out: folder of checkpoints and weights; a run resumes from what is there.
        steps: optimizer steps on scores alone, then on whole answers.
        seed: of weights, batches and phrasings.
    """
    folder = out / "weights"
    if not (folder / "tokenizer.json").exists():
        save_mini_tokenizer(train_advice_tokenizer(seed), folder, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    model = continued_model(vocabulary, tower, seed)
    # without mirror images: where rivals stand is drawn from the scene's seed, so a mirrored scene has other boxes
    seen: list[VisionFeatureGroup] = []
    for bank in banks.train:
        seen += compute_vision_features(model, bank, mirror=False)
    held = compute_vision_features(model, banks.held, mirror=False)
    scores = LanguageCourse(whole=False, steps=steps[0], seed=seed, rate=1e-3, size=64)
    answers = LanguageCourse(whole=True, steps=steps[1], seed=seed, rate=8e-4, size=24)
    for course in (scores, answers):
        if course.steps:
            train_language_model(model, seen, AdviceEncoder(words, whole=course.whole), out, course, held)
    save_mini_model(model, folder)
    # transformers rewrites generation_config.json; ours comes last
    save_mini_tokenizer(vocabulary, folder, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)
