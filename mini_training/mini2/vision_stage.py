"""Trains the vision tower of the second generation, from the tower of the released weights on.

It saves a checkpoint every 100 steps and resumes from it. Legend as in `mini_training.vision_stage`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mini_training.architecture import TEXT_WIDTH, VISION_WIDTH, build_mini_model, make_mini_config
from mini_training.mini2.vision_targets import KINDS, LOCAL_TARGET_COUNT, PhotoTargets, photo_measurement_names
from mini_training.tokenizer_training import SPECIAL_TOKENS
from mini_training.vision_stage import PICTURES_PER_STEP, SUPERVISED_LAYERS, vision_tower_outputs
from mondrian_core.mini import mini_weights_path
from mondrian_core.rubric import DIMENSIONS

PEAK_RATE = 6e-4
WARM_STEPS = 50
SAVE_EVERY, LOOK_EVERY = 100, 200
MEASUREMENT_WEIGHTS = {
    "composition": 5.0,
    "focus_sharpness": 3.0,
    "subject_isolation": 3.0,
    "subject_x": 4.0,
    "tilt": 2.0,
    "rivals": 1.5,
    "rival_x": 1.5,
    "rival_y": 1.5,
}
DIMENSION_WEIGHT, FACT_WEIGHT = 2.0, 0.5
SIDE_WEIGHTS = (1.0, 0.3, 0.6)  # of the merged tokens and of the two DeepStack layers
LOCAL_WEIGHTS = (*[1.0] * 7, 4.0, 2.0, 3.0)  # of the tokens' own pixels, subject, horizon and rivals
KIND_WEIGHT, LOCAL_WEIGHT = 3.0, 0.1
RIDGE = 3.0


def fresh_tower(weights: Path) -> nn.Module:
    """The vision tower with the tensors of a folder of weights, or of a file with a tower alone."""
    ids = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    visual = build_mini_model(make_mini_config(len(SPECIAL_TOKENS), ids)).model.visual
    visual.load_state_dict(load_tower(weights if weights.is_file() else weights / "model.safetensors"))
    return visual


def load_tower(file: Path) -> dict[str, Tensor]:
    """The tower's tensors in float32, from a file of `save_tower` or of a whole model."""
    prefix = "model.visual."
    return {key.removeprefix(prefix): value.float() for key, value in load_file(file).items() if prefix in key}


def save_tower(visual: nn.Module, file: Path) -> None:
    """The tower alone in bfloat16, under the names that the whole model gives its tensors."""
    tensors = {
        f"model.visual.{key}": value.to(torch.bfloat16).contiguous() for key, value in visual.state_dict().items()
    }
    save_file(tensors, file)


def measurement_weights() -> Tensor:
    """(K,) weights of the measurements in the loss."""
    names = photo_measurement_names()
    plain = [DIMENSION_WEIGHT if name in DIMENSIONS else FACT_WEIGHT for name in names]
    return torch.tensor([MEASUREMENT_WEIGHTS.get(name, weight) for name, weight in zip(names, plain, strict=True)])


def new_heads() -> nn.ModuleList:
    """Linear heads: three for the measurements, then one of each supervised layer for the local targets."""
    heads = nn.ModuleList([nn.Linear(TEXT_WIDTH, len(photo_measurement_names())) for _ in range(3)])
    heads.extend(nn.Linear(VISION_WIDTH, LOCAL_TARGET_COUNT) for _ in SUPERVISED_LAYERS)
    return heads


@torch.no_grad()
def fit_heads(visual: nn.Module, heads: nn.ModuleList, data: PhotoTargets, batches: int = 40) -> None:
    """Set the heads to the ridge regression on the tower as it is; random heads would undo what it knows.

    Args:
        visual: the tower; it stays as it is.
        heads: those of `new_heads`.
        data: pictures to fit them on.
        batches: how many batches of them.
    """
    sums: list[tuple[Tensor, Tensor]] = []
    for at, (pictures, values, local) in enumerate(data.stream(PICTURES_PER_STEP, seed=12345)):
        if at == batches:
            break
        with torch.autocast("cpu", torch.bfloat16):
            features = [each.float() for each in vision_tower_outputs(visual, pictures, SUPERVISED_LAYERS)]
        wide = torch.nan_to_num(values)[:, None].expand(-1, features[0].shape[1], -1)
        targets = [wide, wide, wide, *[local] * len(SUPERVISED_LAYERS)]
        for k, (feature, target) in enumerate(zip(features, targets, strict=True)):
            x = torch.cat([feature, torch.ones_like(feature[..., :1])], -1).flatten(0, 1).double()
            y = target.flatten(0, 1).double()
            products = x.T @ x, x.T @ y
            if at == 0:
                sums.append(products)
            else:
                sums[k] = (sums[k][0] + products[0], sums[k][1] + products[1])
    for head, (square, cross) in zip(heads, sums, strict=True):
        solution = torch.linalg.solve(square + RIDGE * torch.eye(len(square), dtype=torch.float64), cross)
        head.weight.copy_(solution[:-1].T)
        head.bias.copy_(solution[-1])


def known_error(guess: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Weighted squared error (B, N, K) against (B, K), averaged over what is known (not NaN)."""
    known = ~torch.isnan(values)
    error = (guess - torch.nan_to_num(values)[:, None]) ** 2 * weight * known[:, None]
    return error.mean() * known.numel() / known.sum()


def train_photo_tower(
    banks: Sequence[Path], held: Path, out: Path, *, steps: int, seed: int, start: Path | None = None
) -> dict[str, float]:
    """Train the tower; saves `out/vision.pt` and `out/tower.safetensors` every 100 steps and resumes from them.

    Args:
        banks: folders of the pictures to train on.
        held: folder of the held-out pictures.
        out: folder of the checkpoint.
        steps: optimizer steps in all, those before a resume too.
        seed: seed of the batches.
        start: folder of weights or file of a tower to begin with; None: the released weights.

    Returns:
        `photo_target_errors` on the held-out pictures.
    """
    out.mkdir(parents=True, exist_ok=True)
    visual, heads = fresh_tower(start or mini_weights_path()), new_heads()
    data, kept = PhotoTargets(banks), PhotoTargets([held])
    optimizer = torch.optim.AdamW(
        [*visual.parameters(), *heads.parameters()], lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    checkpoint = out / "vision.pt"
    step = 0
    if checkpoint.exists():
        step = _resumed(torch.load(checkpoint, weights_only=False), visual, heads, optimizer)
    else:
        fit_heads(visual, heads, data)
        print("start " + _format(photo_target_errors(visual, heads, kept, limit=32)), flush=True)
    weight = measurement_weights()
    local_weight = torch.tensor([*LOCAL_WEIGHTS, *[KIND_WEIGHT] * len(KINDS)])
    began, first = time.time(), step
    for pictures, values, local in data.stream(PICTURES_PER_STEP, seed, skip=step):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps)
        with torch.autocast("cpu", torch.bfloat16):
            features = vision_tower_outputs(visual, pictures, SUPERVISED_LAYERS)
            guesses = [head(f).float() for head, f in zip(heads, features, strict=True)]
        errors = torch.stack([known_error(guess, values, weight) for guess in guesses[:3]])
        nearby = torch.stack([((guess - local) ** 2 * local_weight).sum(2).mean() for guess in guesses[3:]]).sum()
        loss = (errors * torch.tensor(SIDE_WEIGHTS)).sum() + LOCAL_WEIGHT * nearby
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(visual.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 25 == 0:
            speed = (step - first) * PICTURES_PER_STEP / (time.time() - began)
            print(f"{step}/{steps} loss {errors[0].item():.4f} local {nearby.item():.3f} {speed:.1f}/s", flush=True)
        if step % SAVE_EVERY == 0 or step >= steps:
            state = {"visual": visual.state_dict(), "heads": heads.state_dict()}
            _save({**state, "optimizer": optimizer.state_dict(), "step": step}, checkpoint)
            save_tower(visual, out / "tower.safetensors")
        if step % LOOK_EVERY == 0:
            print("  " + _format(photo_target_errors(visual, heads, kept, limit=24)), flush=True)
        if step >= steps:
            break
    return photo_target_errors(visual, heads, kept)


def _save(state: dict[str, Any], checkpoint: Path) -> None:
    unfinished = checkpoint.with_suffix(".part")
    torch.save(state, unfinished)
    unfinished.replace(checkpoint)


def _resumed(state: dict[str, Any], visual: nn.Module, heads: nn.ModuleList, optimizer: torch.optim.Optimizer) -> int:
    visual.load_state_dict(state["visual"])
    heads.load_state_dict(state["heads"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _rate(step: int, total: int) -> float:
    """Full rate until 60 % of the steps, then linearly down."""
    return PEAK_RATE * min(1.0, (step + 1) / WARM_STEPS, max(0.02, (total - step) / (0.4 * total)))


@torch.no_grad()
def photo_target_errors(
    visual: nn.Module, heads: nn.ModuleList, data: PhotoTargets, limit: int = 10**6
) -> dict[str, float]:
    """Held-out squared error of each measurement as a share of its variance (0 perfect, 1 blind), mean over tokens.

    Args:
        visual: the tower.
        heads: those of `new_heads`.
        data: held-out pictures.
        limit: at most that many of each size.
    """
    truth, guess = [], []
    for shard, values in zip(data.shards, data.values, strict=True):
        pictures = shard.pictures[: min(limit, len(values))]
        for start in range(0, len(pictures), 32):
            with torch.autocast("cpu", torch.bfloat16):
                seen = heads[0](vision_tower_outputs(visual, pictures[start : start + 32])[0])
            guess.append(seen.float().mean(1).numpy())
        truth.append(values[: len(pictures)])
    y, z = np.concatenate(truth), np.concatenate(guess)
    share = np.nanmean((y - z) ** 2, 0) / np.nanvar(y, 0)
    return dict(zip(photo_measurement_names(), share.round(3).tolist(), strict=True))


def _format(errors: dict[str, float]) -> str:
    return " ".join(f"{name[:14]} {value:.2f}" for name, value in errors.items())
