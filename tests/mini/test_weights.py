"""The weights that ship: small, as the card says, opened by plain mlx-vlm, and they see."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct

import numpy as np
import pytest
from PIL import Image

from mini_training.evaluate import VOICE, evaluation_scenes, make_mini_asker, mini_metrics, true_scores
from mondrian_core.mini import mini_weights_path
from mondrian_core.mini.renderer import render_scene
from mondrian_core.prompts import critique_messages

SHOWN = 24


def tensors() -> dict[str, dict]:
    with (mini_weights_path() / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    header.pop("__metadata__", None)
    return header


def test_mini_has_at_most_8_million_parameters_and_32_megabytes() -> None:
    assert sum(math.prod(tensor["shape"]) for tensor in tensors().values()) <= 8_000_000
    assert sum(path.stat().st_size for path in mini_weights_path().iterdir()) <= 32 * 1024**2


def test_mini_weights_are_float32() -> None:
    assert {tensor["dtype"] for tensor in tensors().values()} == {"F32"}


def test_model_card_names_weights_hash() -> None:
    digest = hashlib.sha256((mini_weights_path() / "model.safetensors").read_bytes()).hexdigest()
    card = (mini_weights_path() / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"model\.safetensors.*{digest}", card)


def test_mini_model_is_qwen3_vl() -> None:
    assert json.loads((mini_weights_path() / "config.json").read_text())["model_type"] == "qwen3_vl"


@pytest.fixture(scope="module")
def answers() -> tuple[list, np.ndarray]:
    ask, scenes = make_mini_asker(mini_weights_path()), evaluation_scenes(SHOWN)
    strange = [Image.new("RGB", (640, 427), "white"), Image.effect_noise((300, 500), 90).convert("RGB")]
    pictures = [*map(render_scene, scenes), *strange]
    return [ask(critique_messages(VOICE), picture) for picture in pictures], true_scores(scenes)


@pytest.mark.soak
@pytest.mark.mini
def test_unconstrained_answers_parse_strictly(answers: tuple[list, np.ndarray]) -> None:
    assert sum(answer.scores is not None for answer in answers[0][:SHOWN]) >= 0.95 * SHOWN


@pytest.mark.soak
@pytest.mark.mini
def test_blank_images_get_complete_answer(answers: tuple[list, np.ndarray]) -> None:
    assert all(answer.scores is not None for answer in answers[0][SHOWN:])


@pytest.mark.soak
@pytest.mark.mini
def test_mini_model_depends_on_image(answers: tuple[list, np.ndarray]) -> None:
    report = mini_metrics(answers[0][:SHOWN], answers[1])
    assert report["mse_share_of_mean"] < 0.5
    assert report["mse_shuffled"] > 1.5 * report["mse_answering_the_mean"]
