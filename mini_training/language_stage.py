"""Stages two and three: the language model learns to read scores off the image tokens, then to write whole critiques.

The vision tower is frozen, so its features are computed once per picture, on pictures it was not trained on (their
features carry honest noise). Only answer tokens carry loss, and score digits weigh more than words.

Legend: `B` batch, `T` tokens, `N` image tokens, `D` width, `A` answer tokens in a batch.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own convention
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from mini_training.answer_forms import COMPARISON_SHARE, sample_answer_example
from mini_training.architecture import MERGE, PATCH
from mini_training.picture_bank import load_picture_shards
from mini_training.vision_stage import vision_tower_outputs
from mondrian_core.mini.scene import Scene
from mondrian_core.mini.scene_critic import GENERIC, score_scene
from mondrian_core.rubric import DIMENSIONS, canonical_answer, make_critique

DIGIT_WEIGHT = 8.0
GRADE_WEIGHT = 5.0
LENGTH_STEP, ANSWER_STEP = 64, 1024  # sizes that recur, so that freed memory is used again
PRIORITY_WEIGHT = 3.0  # the first priority is the answer's most useful word
SCORE_SPREAD = 0.8  # points; neighbours of the right score are half right, so greedy answers lean to the middle
SCORE_KEY = '": {"score": '
GRADE_PIECE, PRIORITY_PIECE = '"overall_grade": "', '"priority_improvements": ["'


@dataclass(frozen=True)
class VisionFeatureGroup:
    """Pictures of one size as the frozen tower sees them: features (n, 3, N, D) float16, grid in merged tokens."""

    features: NDArray[np.float16]
    scenes: list[Scene]
    grid: tuple[int, int]


@torch.no_grad()
def compute_vision_features(model: nn.Module, folder: Path, size: int = 64) -> list[VisionFeatureGroup]:
    """Features of every picture of a bank, `size` at once.

    Mirror images are left out: where rivals stand is drawn from the scene's seed, so a mirrored scene has other boxes.
    """
    seen = []
    for shard in load_picture_shards(folder):
        parts = []
        for i in range(0, len(shard.pictures), size):
            with torch.autocast("cpu", torch.bfloat16):
                features = vision_tower_outputs(model.model.visual, shard.pictures[i : i + size])
            parts.append(torch.stack([f.float() for f in features], 1).numpy().astype(np.float16))
        grid = (shard.pictures.shape[1] // (PATCH * MERGE), shard.pictures.shape[2] // (PATCH * MERGE))
        seen.append(VisionFeatureGroup(np.concatenate(parts), shard.scenes, grid))
        print(f"looked at {shard.aspect}: {len(shard.scenes)}", flush=True)
    return seen


class AnswerEncoder:
    """Encodes a scene as token ids: the prompt before the picture, the prompt after it, the answer.

    With `whole` False the answer is the scores alone after a short prompt, so that a step is cheap.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, whole: bool) -> None:
        self.tokenizer, self.whole, self.compared = tokenizer, whole, False
        self.image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self.end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self.key = tokenizer.encode(SCORE_KEY)[-1]
        self.digits = tokenizer.convert_tokens_to_ids(list("0123456789"))
        spelled = {ident: piece.replace("Ġ", " ") for piece, ident in tokenizer.get_vocab().items()}
        self.grade_pieces = {ident for ident, piece in spelled.items() if piece.endswith(GRADE_PIECE)}
        self.priority_pieces = {ident for ident, piece in spelled.items() if piece.endswith(PRIORITY_PIECE)}

    def begin_batch(self, rng: np.random.Generator) -> None:
        """Prompts with a comparison are three times as long, so they have batches of their own."""
        self.compared = bool(rng.random() < COMPARISON_SHARE)

    def encode_scene(self, scene: Scene, rng: np.random.Generator) -> tuple[list[int], list[int], list[int], bool]:
        """(ids before the image tokens, ids after them, answer ids with the end token, whether its digits count)."""
        if self.whole:
            example = sample_answer_example(scene, rng, compared=self.compared)
            messages, answer, honest = example.messages, example.answer, example.honest
        else:
            messages, honest = [{"role": "user", "content": [{"type": "image"}]}], True
            answer = canonical_answer(make_critique(score_scene(scene, GENERIC), dict.fromkeys(DIMENSIONS, ".")))
        prompt = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        before, after = prompt.split("<|image_pad|>")
        encode = self.tokenizer.encode
        return encode(before), encode(after), [*encode(answer), self.end], honest

    def weights(self, answer: list[int], honest: bool = True) -> list[float]:
        """Loss weight of every answer token: the digit after a score key weighs most, then grade and priorities."""
        weight = [(DIGIT_WEIGHT if honest else 0.0) if before == self.key else 1.0 for before in [-1, *answer[:-1]]]
        within = False
        for at, token in enumerate(answer):
            if within and weight[at] == 1.0:
                weight[at] = PRIORITY_WEIGHT
            if token in self.priority_pieces:
                within = True
            if token in self.grade_pieces:
                within = False
                weight[at + 1 : at + 4] = [GRADE_WEIGHT] * len(weight[at + 1 : at + 4])
        return weight


@dataclass(frozen=True, kw_only=True)
class LanguageBatch:
    """Arrays of one step.

    Attributes:
        ids: (B, T) token ids, right-padded.
        image: (B, T) True at image tokens.
        positions: (3, B, T) rotary positions.
        features: (3, B * N, D) merged features, then those of the two DeepStack layers.
        rows, columns: (A,) places whose output predicts a token of an answer.
        targets: (A,) these tokens.
        weights: (A,) what each of them counts in the loss.
    """

    ids: Tensor
    image: Tensor
    positions: Tensor
    features: Tensor
    rows: Tensor
    columns: Tensor
    targets: Tensor
    weights: Tensor


def collate_language_batch(
    group: VisionFeatureGroup, chosen: NDArray[np.int64], writer: AnswerEncoder, rng: np.random.Generator
) -> LanguageBatch:
    """A batch of pictures of one size, each with a fresh prompt and phrasing."""
    height, width = group.grid
    n = height * width
    writer.begin_batch(rng)
    written = [writer.encode_scene(group.scenes[i], rng) for i in chosen]
    longest = max(len(a) + n + len(b) + len(c) for a, b, c, _ in written)
    longest += -longest % LENGTH_STEP
    ids = np.zeros((len(chosen), longest), np.int64)
    positions = np.zeros((3, len(chosen), longest), np.int64)
    image = np.zeros((len(chosen), longest), bool)
    rows: list[int] = []
    columns: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    for row, (before, after, answer, honest) in enumerate(written):
        start, text = len(before), [*after, *answer]
        ids[row, : start + n + len(text)] = [*before, *[writer.image] * n, *text]
        image[row, start : start + n] = True
        positions[:, row, :start] = np.arange(start)
        positions[0, row, start : start + n] = start
        positions[1, row, start : start + n] = start + np.repeat(np.arange(height), width)
        positions[2, row, start : start + n] = start + np.tile(np.arange(width), height)
        rest = longest - start - n
        positions[:, row, start + n :] = start + max(height, width) + np.arange(rest)
        first = start + n + len(after) - 1
        rows += [row] * len(answer)
        columns += range(first, first + len(answer))
        targets += answer
        weights += writer.weights(answer, honest)
    spare = -len(rows) % ANSWER_STEP
    for filled, value in ((rows, 0), (columns, 0), (targets, 0), (weights, 0.0)):
        filled += [value] * spare
    features = torch.from_numpy(group.features[chosen].astype(np.float32)).transpose(0, 1).flatten(1, 2)
    return LanguageBatch(
        ids=torch.from_numpy(ids),
        image=torch.from_numpy(image),
        positions=torch.from_numpy(positions),
        features=features,
        rows=torch.tensor(rows),
        columns=torch.tensor(columns),
        targets=torch.tensor(targets),
        weights=torch.tensor(weights),
    )


def answer_logits(model: nn.Module, batch: LanguageBatch) -> Tensor:
    """(A, vocabulary) logits at the answer positions only."""
    text = model.model.language_model
    embeds = text.embed_tokens(batch.ids).clone()
    embeds[batch.image] = batch.features[0].to(embeds.dtype)
    hidden = text(
        inputs_embeds=embeds,
        position_ids=batch.positions,
        visual_pos_masks=batch.image,
        deepstack_visual_embeds=list(batch.features[1:]),
        use_cache=False,
    ).last_hidden_state
    return F.linear(hidden[batch.rows, batch.columns], text.embed_tokens.weight)


@torch.no_grad()
def initialize_language_model(model: nn.Module) -> None:
    """Starting weights of unit variance; branches that write to the residual stream start at half of it."""
    for name, parameter in model.model.language_model.named_parameters():
        if "embed_tokens" in name:
            parameter.normal_(0, 0.06)
        elif parameter.ndim == 2:
            gain = 0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            parameter.normal_(0, gain * parameter.shape[1] ** -0.5)


@torch.no_grad()
def continue_language_model(model: nn.Module, tokenizer: Tokenizer, start: Path) -> None:
    """Give the language model a folder's weights; embeddings of tokens that both tokenizers know carry over."""
    text, prefix = model.model.language_model, "model.language_model."
    released = {
        key.removeprefix(prefix): value
        for key, value in load_file(start / "model.safetensors").items()
        if key.startswith(prefix)
    }
    known = json.loads((start / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    embeddings = text.state_dict()["embed_tokens.weight"].clone()
    for piece, ident in tokenizer.get_vocab().items():
        if piece in known:
            embeddings[ident] = released["embed_tokens.weight"][known[piece]]
    text.load_state_dict({**released, "embed_tokens.weight": embeddings})


def _rate(step: int, total: int, peak: float, warm: int = 150) -> float:
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm))))


def soft_digit_losses(logits: Tensor, batch: LanguageBatch, writer: AnswerEncoder) -> Tensor:
    """(A,) cross-entropies; for a score digit the target is a bell over 1..9 around the right one."""
    losses = F.cross_entropy(logits, batch.targets, reduction="none")
    scored = batch.weights == DIGIT_WEIGHT
    digits = torch.tensor(writer.digits)
    right = (batch.targets[scored][:, None] == digits).float().argmax(1)
    points = torch.arange(10)
    bell = torch.exp(-((points - right[:, None]) ** 2) / (2 * SCORE_SPREAD**2)) * (points > 0)
    bell = bell / bell.sum(1, keepdim=True)
    losses[scored] = -(bell * F.log_softmax(logits[scored], -1)[:, digits]).sum(1)
    return losses


def _batches(
    groups: list[VisionFeatureGroup], size: int, rng: np.random.Generator
) -> Iterator[tuple[VisionFeatureGroup, NDArray[np.int64]]]:
    """Every picture once, in batches of one size each, in random order; the short rest of a size is kept too."""
    batches = []
    for group in groups:
        order = rng.permutation(len(group.scenes))
        batches += [(group, order[i : i + size]) for i in range(0, len(order), size)]
    for at in rng.permutation(len(batches)):
        yield batches[at]


@dataclass(frozen=True, kw_only=True)
class LanguageCourse:
    """Settings of one stage of the language model.

    Attributes:
        whole: True trains on whole critiques, False on the scores as a short answer.
        steps: optimizer steps.
        seed: seed of batches, prompts and phrasings.
        rate: peak learning rate.
        size: pictures per step.
    """

    whole: bool
    steps: int
    seed: int
    rate: float
    size: int = 32


def train_language_model(
    model: nn.Module,
    groups: list[VisionFeatureGroup],
    writer: AnswerEncoder,
    out: Path,
    course: LanguageCourse,
    held: list[VisionFeatureGroup],
) -> None:
    """Train the language model on frozen features; saves `out/<stage>.pt` every 200 steps and resumes from it.

    Args:
        model: the whole model; only its language model changes.
        groups: features and scenes to train on.
        writer: encodes prompts and answers.
        out: folder of the checkpoint.
        course: the stage's settings.
        held: features and scenes on which the loss per score digit is printed.
    """
    text, name = model.model.language_model, "critiques" if course.whole else "scores"
    steps, size = course.steps, course.size
    checkpoint = out / f"{name}.pt"
    optimizer = torch.optim.AdamW(text.parameters(), lr=course.rate, betas=(0.9, 0.98), weight_decay=0.01)
    step = _resume(text, optimizer, checkpoint)
    began, first = time.time(), step
    while step < steps:
        rng = np.random.default_rng([course.seed, int(course.whole), step])
        for group, chosen in _batches(groups, size, rng):
            for settings in optimizer.param_groups:
                settings["lr"] = _rate(step, steps, course.rate)
            batch = collate_language_batch(group, chosen, writer, rng)
            with torch.autocast("cpu", torch.bfloat16):
                logits = answer_logits(model, batch)
            losses = soft_digit_losses(logits.float(), batch, writer)
            loss = (losses * batch.weights).sum() / batch.weights.sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(text.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % 25 == 0:
                _report(
                    name, step, steps, losses.detach(), batch.weights, size * (step - first) / (time.time() - began)
                )
            if step % 200 == 0 or step == steps:
                torch.save({"text": text.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, checkpoint)
                print(f"  {name} held-out digit loss {held_out_digit_loss(model, held, writer):.3f}", flush=True)
            if step >= steps:
                break


def load_language_checkpoint(model: nn.Module, out: Path, name: str) -> int:
    """Give the language model the weights of the checkpoint OUT/NAME.pt; its step, 0 when there is none."""
    if not (out / f"{name}.pt").exists():
        return 0
    state = torch.load(out / f"{name}.pt", weights_only=False)
    model.model.language_model.load_state_dict(state["text"])
    return int(state["step"])


def _resume(text: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> int:
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=False)
    text.load_state_dict(state["text"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _report(name: str, step: int, steps: int, losses: Tensor, weights: Tensor, speed: float) -> None:
    digits = losses[weights == DIGIT_WEIGHT].mean().item()
    words = losses[weights == 1].mean().item()
    print(f"{name} {step}/{steps} digit {digits:.3f} word {words:.3f} {speed:.0f} examples/s", flush=True)


@torch.no_grad()
def held_out_digit_loss(model: nn.Module, held: list[VisionFeatureGroup], writer: AnswerEncoder) -> float:
    """Mean loss per score digit on held-out pictures (nats)."""
    rng, total, count = np.random.default_rng(0), 0.0, 0
    for group in held:
        chosen = np.arange(min(24, len(group.scenes)))
        batch = collate_language_batch(group, chosen, writer, rng)
        losses = F.cross_entropy(answer_logits(model, batch), batch.targets, reduction="none")
        total += losses[batch.weights == DIGIT_WEIGHT].sum().item()
        count += int((batch.weights == DIGIT_WEIGHT).sum())
    return total / count
