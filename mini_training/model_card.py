"""The model card of mini: what it is and is not, with measured figures and the hash of the weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

CARD_TEMPLATE = """# mini

A Qwen3-VL of {parameters:.1f} million parameters (float32, {megabytes:.1f} MB) that critiques photographs in Mondrian's
canonical JSON, in both forms: scores with comments, or with recommendations, boxes, strengths and priorities too. It is
the base model where no Apple-Silicon checkpoint can be had: for the demo, the tests, and to try the whole loop without
network or GPU. `mlx_vlm.load` opens this folder like any other Qwen3-VL.

## What it can't do
- It learned from rendered landscapes only. On real photographs it answers in the right form and calmly, but its scores
  mean little: it knows exposure, softness, palette, tilt and clutter as the renderer draws them, and nothing of people,
  cities, history or art.
- Its sentences come from a few hundred phrases. It does not follow other instructions, answer questions or read text.
- About {tokens} image tokens (at most 65,536 pixels) are all it sees of a photograph.
- Its scores are those of a critic without a taste. An advisor's taste is what an adapter is there to learn.

## How it was made
`python -m mini_training.train --stage all --out DIR` (extra `mini`: PyTorch on the CPU) draws the pictures and trains
in stages:
1. tokenizer: byte-level BPE of {vocabulary} tokens on generated critiques in both forms, the prompts and photographic
   English; digits are split singly, as Qwen does;
2. vision tower alone: a linear head on every merged image token and every DeepStack token regresses the qualities of
   all dimensions and the facts behind them, and heads on the residual stream regress what each token should know of its
   own patch (detail at three scales, colour, the horizon, the subject, rivals, and what kind of thing stands there);
3. language model on frozen features of pictures that the tower never saw: the scores alone as a short answer, then
   whole critiques in both forms, 15 % of them in comparison with a portfolio, digits weighing {digit_weight:g}
   times a word, with many system prompts, and with 4 % of pictures that show nothing (noise, gradients, bars) to keep
   the form on the unknown.

Prompts in the name of a bundled voice are answered in its words, with a plain critic's scores; in a third of the
critiques the scores are moved at random without loss on them, so that verdicts, advice and grade follow the digits that
were written.

These weights continue those of the first generation (another look, scores and comments alone), whose tower had seen
81,600 pictures. {history}

## Data
Every picture is drawn by `mondrian_core/mini/renderer.py`: six aspects, colour and black and white, eight controlled
qualities; every critique is written by `scene_critic.py` from the scene. No photograph, text or weight from elsewhere.

## Figures
Greedy, unconstrained, through mlx-vlm on two CPU cores ({photographs} rendered photographs never trained on):

| figure | scores and comments | with advice |
|---|---|---|
{table}

| advice | value |
|---|---|
| first priority names the scene's worst fault | {advice[worst_fault_named]:.1%} |
| recommendations that name a fault of the scene | {advice[true_recommendations]:.1%} |
| boxes given where the scene has one | {advice[boxes_given]:.1%} |
| overlap (intersection over union) of these boxes with the scene's | {advice[box_overlap]:.2f} |
| answers in comparison with a portfolio that are readable | {comparisons:.1%} |

Share of the mean's error left, by dimension: {by_dimension}.
{real}
## Files
SHA-256 of model.safetensors: {digest}

Apache 2.0, as the rest of the repository; architecture and code path are Qwen3-VL's, the weights are our own.
"""
HISTORY = """The tower saw another 24,000 views of 7,000
pictures and 81,600 of up to 12,000, the language model 12,800 short answers and 19,200 critiques of 7,000 other
pictures, the first 4,800 of them with an earlier tower. The script's defaults are close to that."""
TABLE = (  # what a figure is called, its key in the report, its format
    ("strict format compliance", "compliance", ".1%"),
    ("squared error of a score, points^2", "mse", ".2f"),
    ("the same, answering every photograph with the mean", "mse_answering_the_mean", ".2f"),
    ("share of that error left", "mse_share_of_mean", ".2f"),
    ("squared error with photographs shuffled", "mse_shuffled", ".2f"),
    ("answer length, tokens", "answer_tokens", ".0f"),
    ("decoding, tokens/s", "tokens_per_second_median", ".0f"),
)


def write_model_card(folder: Path, report: dict[str, Any]) -> None:
    """Write README.md next to the weights, from the report of `evaluate`."""
    weights = folder / "model.safetensors"
    size = weights.stat().st_size
    figures, advice, real = report["comments"], report["advice"], report.get("real")
    table = "\n".join(f"| {name} | {figures[key]:{how}} | {advice[key]:{how}} |" for name, key, how in TABLE)
    by_dimension = ", ".join(f"{name} {value:.2f}" for name, value in figures["share_by_dimension"].items())
    of_real = ""
    if real:
        of_real = (
            f"\nOn {real['photographs']} real photographs strict compliance was {real['compliance']:.1%}; scores "
            f"differ between photographs with a standard deviation of {real['score_sd_between_photographs']} points.\n"
        )
    text = CARD_TEMPLATE.format(
        parameters=size / 4e6,
        megabytes=size / 2**20,
        tokens=60,
        vocabulary=_vocabulary(folder),
        digit_weight=8,
        history=HISTORY,
        photographs=figures["photographs"],
        table=table,
        advice=advice,
        comparisons=report["comparisons_readable"],
        by_dimension=by_dimension,
        real=of_real,
        digest=hashlib.sha256(weights.read_bytes()).hexdigest(),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _vocabulary(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int(config["text_config"]["vocab_size"])
