"""Stage one: the vision tower alone learns to measure what the renderer drew.

A linear head reads every measurement from EVERY merged image token (and every DeepStack token); the loss is the mean
over tokens. So each token ends up carrying the global facts linearly, and the language model can later read them from
any of them with one step of attention. Trained end to end instead, a model of this size hardly begins to see.

Legend: `B` pictures of one size, `S` patches, `N` = S/4 image tokens, `D` width, `K` measurements.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own convention
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

from mini_training.architecture import MERGE, PATCH, TEXT_WIDTH, VISION_WIDTH, build_mini_model, make_mini_config
from mini_training.tokenizer_training import SPECIAL_TOKENS
from mini_training.vision_targets import (
    KINDS,
    LOCAL_PIXEL_TARGETS,
    LOCAL_TARGET_COUNT,
    VisionTargets,
    measurement_names,
)
from mondrian_core.rubric import DIMENSIONS

PEAK_RATE, PICTURES_PER_STEP = 6e-4, 24
SUPERVISED_LAYERS = (1, 3)
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
LOCAL_WEIGHTS = (*[1.0] * LOCAL_PIXEL_TARGETS, 4.0, 2.0, 3.0)  # of the tokens' own pixels, subject, horizon and rivals
KIND_WEIGHT, LOCAL_WEIGHT = 3.0, 0.1
RIDGE = 3.0


def to_patches(pictures: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, S, 3 * 16 * 16) in -1..1, in the processor's order (merge groups together)."""
    b, h, w, _ = pictures.shape
    x = torch.from_numpy(np.array(pictures)).float() / 127.5 - 1
    step = PATCH * MERGE
    x = x.view(b, h // step, MERGE, PATCH, w // step, MERGE, PATCH, 3)
    return x.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(b, -1, 3 * PATCH * PATCH)


def vision_tower_outputs(visual: nn.Module, pictures: NDArray[np.uint8], taps: tuple[int, ...] = ()) -> list[Tensor]:
    """[merged, DeepStack 1, DeepStack 2], each (B, N, D): the tower's own forward, batched over one picture size.

    The residual streams after the blocks in `taps` come last: (B, N, width), mean over each merge group.

    The library's forward loops over pictures in every layer; pictures of one size can share a batched attention.
    """
    patches = to_patches(pictures)
    b, s, _ = patches.shape
    grid = torch.tensor([[1, pictures.shape[1] // PATCH, pictures.shape[2] // PATCH]])
    index, weight = get_vision_interpolation_indices_and_weights(
        grid,
        num_grid_per_side=visual.num_grid_per_side,
        mode="bilinear",
        align_corners=True,
        spatial_merge_size=MERGE,
        kwargs={},
    )
    position = (visual.pos_embed(index) * weight[:, :, None]).sum(1)
    kernel = visual.patch_embed.proj
    # a still picture fills both frames of the temporal patch with the same pixels
    x = F.linear(patches, kernel.weight.sum(2).flatten(1), kernel.bias) + position
    cos, sin = visual.rotary_pos_emb(x, get_vision_position_ids(grid, MERGE, kwargs={}))
    features, tapped = [], []
    for depth, block in enumerate(visual.blocks):
        x = x + _attend(block.attn, block.norm1(x), cos, sin)
        x = x + block.mlp(block.norm2(x))
        if depth in taps:
            tapped.append(F.layer_norm(x, x.shape[-1:]).view(b, s // MERGE**2, MERGE**2, -1).mean(2))
        if depth in visual.deepstack_visual_indexes:
            merger = visual.deepstack_merger_list[list(visual.deepstack_visual_indexes).index(depth)]
            features.append(merger(x.reshape(b * s, -1)).view(b, s // MERGE**2, -1))
    return [visual.merger(x.reshape(b * s, -1)).view(b, s // MERGE**2, -1), *features, *tapped]


def _attend(attention: nn.Module, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    b, s, d = x.shape
    q, k, v = attention.qkv(x).view(b, s, 3, attention.num_heads, -1).transpose(1, 3).unbind(2)
    q, k = _apply_rotary(q, cos, sin), _apply_rotary(k, cos, sin)
    out = F.scaled_dot_product_attention(q, k, v)
    return attention.proj(out.transpose(1, 2).reshape(b, s, d))


def _apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)  # chunks, not slices: their gradients are joined without filling zeros first
    return x * cos + torch.cat((-right, left), -1) * sin


@torch.no_grad()
def initialize_vision_tower(visual: nn.Module, seed: int) -> None:
    """Starting weights that shorten the training: Gabor filters, a large position code, layers of unit variance.

    With the library's 0.02 everywhere the position code is too small compared with the patches, and texture gets a
    fifth of the weight of brightness; placement and blur are then not learned for a long time.
    """
    rng = np.random.default_rng(seed)
    for name, parameter in visual.named_parameters():
        if parameter.ndim == 2 and "pos_embed" not in name:
            gain = 0.5 if name.endswith(("proj.weight", "linear_fc2.weight")) else 1.0
            parameter.normal_(0, gain * parameter.shape[1] ** -0.5)
    width = visual.pos_embed.weight.shape[1]
    visual.pos_embed.weight.copy_(torch.from_numpy(_position_code(visual.num_grid_per_side, width)))
    kernel = visual.patch_embed.proj.weight
    filters = np.stack([_gabor(rng) for _ in range(kernel.shape[0])])
    kernel.copy_(torch.from_numpy(filters)[:, :, None].expand_as(kernel) / 2)


def _position_code(side: int, width: int) -> NDArray[np.float32]:
    """(side * side, width): slow cosines of row and column, amplitude 0.4."""
    at = (np.arange(side) + 0.5) / side
    waves = np.cos(np.pi * at[:, None] * np.arange(1, width // 2 + 1)[None, :] / 4)
    waves *= 0.4 * np.minimum(1, 24 / np.arange(1, width // 2 + 1))
    rows, columns = np.repeat(waves, side, 0), np.tile(waves, (side, 1))
    return np.concatenate([rows, columns], 1).astype(np.float32)


def _gabor(rng: np.random.Generator) -> NDArray[np.float32]:
    """(3, 16, 16) filter; the gain grows with frequency, because the energy of pictures falls with it."""
    frequency = 0.02 * 22.0 ** rng.random()
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:PATCH, 0:PATCH] - rng.uniform(4, 11, 2)[:, None, None]
    wave = np.cos(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    wave *= np.exp(-(x * x + y * y) / (2 * rng.uniform(3, 9) ** 2))
    if frequency > 0.08:
        wave -= wave.mean()
    colour = np.ones(3) if rng.random() < 0.6 else rng.standard_normal(3)
    kernel = colour[:, None, None] * wave[None]
    gain = 0.12 + 12 * frequency
    return (kernel / np.linalg.norm(kernel) * gain).astype(np.float32)


def new_vision_tower() -> nn.Module:
    """A tower of mini's shape; its weights are the library's."""
    ids = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    return build_mini_model(make_mini_config(len(SPECIAL_TOKENS), ids)).model.visual


def load_tower(file: Path) -> dict[str, Tensor]:
    """The tower's tensors in float32, from a file of a whole model or of a tower alone."""
    prefix = "model.visual."
    return {key.removeprefix(prefix): value.float() for key, value in load_file(file).items() if prefix in key}


def measurement_weights() -> Tensor:
    """(K,) weights of the measurements in the loss."""
    names = measurement_names()
    plain = [DIMENSION_WEIGHT if name in DIMENSIONS else FACT_WEIGHT for name in names]
    return torch.tensor([MEASUREMENT_WEIGHTS.get(name, weight) for name, weight in zip(names, plain, strict=True)])


def new_heads() -> nn.ModuleList:
    """Linear heads: three for the measurements, then one of each supervised layer for the local targets."""
    heads = nn.ModuleList([nn.Linear(TEXT_WIDTH, len(measurement_names())) for _ in range(3)])
    heads.extend(nn.Linear(VISION_WIDTH, LOCAL_TARGET_COUNT) for _ in SUPERVISED_LAYERS)
    return heads


@torch.no_grad()
def fit_heads(visual: nn.Module, heads: nn.ModuleList, data: VisionTargets, batches: int = 40) -> None:
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


def train_vision_tower(
    banks: Sequence[Path], held: Path, out: Path, *, steps: int, seed: int, start: Path | None = None
) -> dict[str, float]:
    """Train the tower; saves `out/vision.pt` every 100 steps and resumes from it.

    Args:
        banks: folders of the pictures to train on.
        held: folder of the held-out pictures.
        out: folder of the checkpoint.
        steps: optimizer steps in all, those before a resume too.
        seed: seed of the batches.
        start: file of weights to begin with; None: from nothing.

    Returns:
        `vision_target_errors` on the held-out pictures.
    """
    out.mkdir(parents=True, exist_ok=True)
    visual, heads = new_vision_tower(), new_heads()
    data, kept = VisionTargets(banks), VisionTargets([held])
    optimizer = torch.optim.AdamW(
        [*visual.parameters(), *heads.parameters()], lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    checkpoint = out / "vision.pt"
    step = 0
    if checkpoint.exists():
        step = _resumed(torch.load(checkpoint, weights_only=False), visual, heads, optimizer)
    elif start is None:
        initialize_vision_tower(visual, seed)
    else:
        visual.load_state_dict(load_tower(start))
        fit_heads(visual, heads, data)
        print("start " + _format(vision_target_errors(visual, heads, kept, limit=32)), flush=True)
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
        if step % LOOK_EVERY == 0:
            print("  " + _format(vision_target_errors(visual, heads, kept, limit=24)), flush=True)
        if step >= steps:
            break
    return vision_target_errors(visual, heads, kept)


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
def vision_target_errors(
    visual: nn.Module, heads: nn.ModuleList, data: VisionTargets, limit: int = 10**6
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
    return dict(zip(measurement_names(), share.round(3).tolist(), strict=True))


def _format(errors: dict[str, float]) -> str:
    return " ".join(f"{name[:14]} {value:.2f}" for name, value in errors.items())
