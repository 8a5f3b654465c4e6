"""Stage one: the vision tower alone learns to measure what the renderer drew.

A linear head reads every measurement from EVERY merged image token (and every DeepStack token); the loss is the mean
over tokens. So each token ends up carrying the global facts linearly, and the language model can later read them from
any of them with one step of attention. Trained end to end instead, a model of this size hardly begins to see.

Legend: `B` pictures of one size, `S` patches, `N` = S/4 image tokens, `D` width, `K` measurements.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  PyTorch's own convention
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

from mini_training.architecture import MERGE, PATCH, TEXT_WIDTH, VISION_WIDTH
from mini_training.vision_targets import LOCAL_TARGET_COUNT, VisionTargets, measurement_names
from mondrian_core.rubric import DIMENSIONS

PEAK_RATE, PICTURES_PER_STEP = 1e-3, 24
SUPERVISED_LAYERS = (1, 3)
MEASUREMENT_WEIGHTS = {
    "composition": 5.0,
    "focus_sharpness": 3.0,
    "subject_x": 4.0,
    "tilt": 1.5,
}  # what is slowest to be found


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


def train_vision_tower(
    model: nn.Module, banks: tuple[Path, Path], out: Path, *, steps: int, seed: int
) -> dict[str, float]:
    """Train `model.model.visual`; saves `out/vision.pt` every 300 steps and resumes from it.

    Args:
        model: the whole model; only its vision tower changes.
        banks: folders of the pictures to train on and of the held-out ones.
        out: folder of the checkpoint.
        steps: optimizer steps.
        seed: seed of weights and batches.

    Returns:
        `vision_target_errors` on the held-out pictures.
    """
    visual, (bank, held) = model.model.visual, banks
    data, names = VisionTargets(bank), measurement_names()
    initialize_vision_tower(visual, seed)
    heads = nn.ModuleList([nn.Linear(TEXT_WIDTH, len(names)) for _ in range(3)])
    heads.extend(nn.Linear(VISION_WIDTH, LOCAL_TARGET_COUNT) for _ in SUPERVISED_LAYERS)
    weight = torch.tensor([MEASUREMENT_WEIGHTS.get(name, 2.0 if name in DIMENSIONS else 0.5) for name in names])
    local_weight = torch.tensor([1.0] * (LOCAL_TARGET_COUNT - 2) + [4.0, 2.0])
    optimizer = torch.optim.AdamW(
        [*visual.parameters(), *heads.parameters()], lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    step = _resume(visual, heads, optimizer, out / "vision.pt")
    began, first = time.time(), step
    for pictures, values, local in data.stream(PICTURES_PER_STEP, seed, skip=step):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps, PEAK_RATE)
        with torch.autocast("cpu", torch.bfloat16):  # 1.7 times the speed where the CPU has AVX-512 bf16
            features = vision_tower_outputs(visual, pictures, SUPERVISED_LAYERS)
            guesses = [head(f).float() for head, f in zip(heads[:3], features[:3], strict=True)]
            nearby = [head(f).float() for head, f in zip(heads[3:], features[3:], strict=True)]
        error = [((guess - values[:, None]) ** 2 * weight).mean() for guess in guesses]
        near_loss = torch.stack([((guess - local) ** 2 * local_weight).mean() for guess in nearby]).sum()
        loss = error[0] + 0.3 * error[1] + 0.6 * error[2] + near_loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(visual.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            speed = (step - first) * PICTURES_PER_STEP / (time.time() - began)
            print(
                f"vision {step}/{steps} loss {error[0].item():.4f} local {near_loss.item():.3f} {speed:.0f} pictures/s",
                flush=True,
            )
        if step % 300 == 0 or step >= steps:
            print("  " + _format_errors(vision_target_errors(visual, heads, held, limit=32)), flush=True)
            torch.save(
                {
                    "visual": visual.state_dict(),
                    "heads": heads.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                },
                out / "vision.pt",
            )
        if step >= steps:
            break
    return vision_target_errors(visual, heads, held)


def _resume(visual: nn.Module, heads: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> int:
    if not checkpoint.exists():
        return 0
    state = torch.load(checkpoint, weights_only=False)
    visual.load_state_dict(state["visual"])
    heads.load_state_dict(state["heads"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _rate(step: int, total: int, peak: float, warm: int = 150) -> float:
    """Full rate until 60 % of the steps, then linearly down.

    The tower learns blur, tilt and subject one after the other, and stops learning when the rate falls too early.
    """
    return peak * min(1.0, (step + 1) / warm, max(0.02, (total - step) / (0.4 * total)))


@torch.no_grad()
def vision_target_errors(visual: nn.Module, heads: nn.ModuleList, folder: Path, limit: int = 10**6) -> dict[str, float]:
    """Held-out squared error of each measurement as a share of its variance (0 perfect, 1 blind), mean over tokens."""
    data = VisionTargets(folder)
    truth, guess = [], []
    for shard, values in zip(data.shards, data.values, strict=True):
        pictures = shard.pictures[: min(limit, len(values))]
        for start in range(0, len(pictures), 64):
            guess.append(heads[0](vision_tower_outputs(visual, pictures[start : start + 64])[0]).mean(1).numpy())
        truth.append(values[: len(pictures)])
    y, z = np.concatenate(truth), np.concatenate(guess)
    share = ((y - z) ** 2).mean(0) / y.var(0)
    return dict(zip(measurement_names(), share.round(3).tolist(), strict=True))


def _format_errors(errors: dict[str, float]) -> str:
    return " ".join(f"{name[:9]} {value:.2f}" for name, value in errors.items())
