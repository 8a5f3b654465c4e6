"""The whole Qwen3-VL-4B at 4 bits (random weights): load, attach, swap, 32 tokens, one training step.

`make realsize` runs it; it needs 8 GB of memory, and on a CPU some ten minutes. Prompts are as short as they can be,
because mlx's packed products run on one core there, at about 3 GFLOP a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from PIL import Image

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.models.base_model import BaseVLM, load_base
from mondrian_core.models.inference.generation import Generation, generate
from mondrian_core.models.lora import lora_layers
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training.gradient_step import GradientStep
from mondrian_core.training.training_examples import encode_training_rows, make_training_batch
from tests.models.conftest import make_adapter
from tests.realsize.matrix_shapes import WHOLE_SHAPE
from tests.realsize.short_rows import short_row
from tests.skeleton_bases import skeleton_folder

pytestmark = [
    pytest.mark.realsize,
    pytest.mark.timeout(3600),
    pytest.mark.parametrize("shape", [WHOLE_SHAPE], ids=lambda shape: shape.name),
    pytest.mark.usefixtures("shape"),
]
TOKENS = 32
WORDS = [{"role": "user", "content": [{"type": "text", "text": "Look."}]}]
LOOK = [{"role": "user", "content": [{"type": "text", "text": "Look."}, {"type": "image"}]}]
SMALLEST = Image.new("RGB", (256, 256), "grey")  # 64 tokens, the fewest that the published image processor makes
RECIPE = TrainRecipe()  # rank, modules and memory as a user trains; one row of the smallest photograph
Stopwatch = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Stopwatch:
    """Record the seconds, processor seconds and peak memory of a block; `matrix_table` prints them."""

    @contextmanager
    def measure(what: str) -> Iterator[None]:
        mx.reset_peak_memory()
        began, used = time.perf_counter(), time.process_time()
        yield
        seconds, processor = time.perf_counter() - began, time.process_time() - used
        record_property("figure", f"{what}|{seconds:.1f}|{processor:.1f}|{mx.get_peak_memory() / 1e9:.2f}")

    return measure


@pytest.fixture(scope="module")
def folder() -> Path:
    """The checkpoint, 3.1 GB; a minute to build."""
    return skeleton_folder(WHOLE_SHAPE)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """What the tests of this file hand on: the loaded base and its adapters."""
    return {}


def _answer(base: BaseVLM, tokens: int) -> Generation:
    return generate(base, WORDS, None, max_tokens=tokens, exact_tokens=tokens)


def _linears(base: BaseVLM) -> int:
    """Linear layers of the language model: seven a layer, 252 in the whole 4B."""
    return 7 * int(base.configuration["text_config"]["num_hidden_layers"])


def test_load(folder: Path, whole: dict[str, Any], measured: Stopwatch) -> None:
    with measured("load"):
        whole["base"] = load_base(str(folder))
    parameters = dict(tree_flatten(whole["base"].model.parameters()))
    assert sum(name.endswith(".scales") for name in parameters) == _linears(whole["base"]) + 1  # and the embedding
    assert len(whole["base"].fingerprint) == 64


def test_attach(whole: dict[str, Any], measured: Stopwatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Layers of the default recipe on every linear layer; two adapters of them are kept for the swap."""
    base = whole["base"]
    with measured("attach"):
        names = lora_layers.attach_lora(base, RECIPE, 0)
    lora_layers.detach_lora(base)
    assert len(names) == _linears(base)
    whole["adapters"] = [
        make_adapter(base, tmp_path_factory.mktemp("adapter"), seed=seed, size=0.3, rank=RECIPE.rank) for seed in (1, 2)
    ]


def test_answer(whole: dict[str, Any], measured: Stopwatch) -> None:
    with measured(f"{TOKENS} tokens"):
        whole["plain"] = _answer(whole["base"], TOKENS)
    assert len(whole["plain"].tokens) == TOKENS


def test_swap(whole: dict[str, Any], measured: Stopwatch) -> None:
    """An adapter that was read is swapped in by pointers, changes the first token, and leaves no trace."""
    base, (one, two) = whole["base"], whole["adapters"]
    switch = lora_layers.get_adapter_switch(base)
    with measured("first use of an adapter"):
        switch.use(one)
    switch.load(two)
    with measured("swap"):
        switch.use(two)
    adapted = _answer(base, 2)
    switch.use(None)
    plain = _answer(base, 2)
    assert plain.tokens == whole["plain"].tokens[:2] != adapted.tokens


def test_train(whole: dict[str, Any], measured: Stopwatch) -> None:
    """Loss and gradient of one row."""
    base = whole["base"]
    (example,) = encode_training_rows(base, [short_row(SMALLEST, LOOK)], RECIPE, lambda event: None, "training")
    lora_layers.attach_lora(base, RECIPE, 0)
    base.model.train()
    step = GradientStep(base, threads=1)
    batch = make_training_batch(base, example, example.prompt.load().image_tokens, 1 / example.weight)
    try:
        with measured(f"step of {batch['embeddings'].shape[1]} tokens"):
            loss, gradient = step.loss_and_grad(base.model.trainable_parameters(), [batch])
        largest = {name: float(np.array(mx.abs(array).max())) for name, array in tree_flatten(gradient)}
    finally:
        step.close()
        lora_layers.detach_lora(base)
    assert np.isfinite(float(np.array(loss)))
    # A is multiplied by B, which is zero at the start, so only B has a gradient
    assert all(size > 0 for name, size in largest.items() if name.endswith("lora_b"))
