"""The model's half of the matrix: every base is loaded, decoded, trained and exported as mini is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from PIL import Image

import mondrian_core.training  # noqa: F401  (before mlx)
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.errors import BadInput
from mondrian_core.events import StageEvent, StageProgressed
from mondrian_core.models import adapter_export
from mondrian_core.models.base_model import BaseVLM, base_fingerprint
from mondrian_core.models.forward_pass import hidden_states, lm_head_logits
from mondrian_core.models.image_embedding import photo_embedding
from mondrian_core.models.inference import generation
from mondrian_core.models.inference.batch_decoding import BatchDecoder
from mondrian_core.models.inference.decoding import CompiledDecoder, EagerDecoder
from mondrian_core.models.inference.generation import Generation, generate
from mondrian_core.models.lora import lora_adapter, lora_layers
from mondrian_core.models.prompt_encoding import answer_token_ids, encode_prompt, image_token_id, processor_inputs
from mondrian_core.recipes import TrainRecipe
from mondrian_core.training import TrainingRows, train_adapter, training_examples
from mondrian_core.training.gradient_step import GradientStep
from mondrian_core.training.training_examples import encode_training_rows, make_training_batch
from tests.models.conftest import photograph
from tests.models.oracle import Oracle
from tests.realsize.short_rows import PADDED_TO, SHORT_ANSWER, short_row
from tests.skeleton_bases import SkeletonShape

pytestmark = pytest.mark.mini
Messages = list[dict[str, Any]]
LAST = 4  # positions whose logits are compared
RECIPE = TrainRecipe(rank=2, alpha=4, epochs=1, accumulation=1, learning_rate=5e-3, answered_photographs=0)
FORM = {
    "type": "object",
    "properties": {"light": {"enum": ["soft", "hard"]}, "stars": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["light", "stars"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def _little_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_examples, "LENGTH_BUCKET", PADDED_TO)


def _row(asked: Messages, number: int) -> DatasetRow:
    return short_row(photograph(number, (96, 96)), asked)


def _plain_model(folder: Path) -> Any:
    """The checkpoint in mlx-vlm alone, in the data type that the CPU computes in."""
    from mlx_vlm.utils import load_model

    model = load_model(folder)
    model.set_dtype(mx.float32)
    return model


def _plain_logits(model: Any, base: BaseVLM, asked: Messages, picture: Image.Image) -> np.ndarray:
    """(LAST, V) from mlx-vlm's own forward pass."""
    ids, arrays = processor_inputs(base, asked, picture)
    _head_at_last_positions(model.language_model)
    return np.array(model(mx.array(ids), arrays["pixel_values"], None, image_grid_thw=arrays["image_grid_thw"]).logits)[
        0
    ]


def _head_at_last_positions(language_model: Any) -> None:
    if hasattr(language_model, "lm_head"):
        head = language_model.lm_head
        language_model.lm_head = lambda hidden: head(hidden[:, -LAST:])
    else:
        tied = language_model.model.embed_tokens
        as_linear = tied.as_linear
        tied.as_linear = lambda hidden: as_linear(hidden[:, -LAST:])


def _own_logits(base: BaseVLM, asked: Messages, picture: Image.Image) -> np.ndarray:
    prompt = encode_prompt(base, asked, picture)
    return np.array(lm_head_logits(base, hidden_states(base, prompt.decoder_inputs)[:, -LAST:]))[0]


def test_load(base: BaseVLM, folder: Path, shape: SkeletonShape) -> None:
    assert (base.family.model_type, base.quantized) == (shape.family, shape.bits < 16)
    assert base.fingerprint == base_fingerprint(str(folder))
    assert hasattr(base.language_model, "lm_head") == (shape.tied is False)  # the tiny sizes are tied as published
    assert base.end_tokens == {151643, 151645}
    assert base.language_model.args.vocab_size == 151936


def test_encode(base: BaseVLM, asked: Messages, picture: Image.Image, shape: SkeletonShape) -> None:
    """The tokens are those of mlx-vlm's processor for the same chat, and patches are counted by the published sizes."""
    text = base.processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    theirs = base.processor(text=[text], images=[picture])
    prompt = encode_prompt(base, asked, picture)
    assert prompt.ids == tuple(np.array(theirs["input_ids"])[0])
    side = 32 if shape.family == "qwen3_vl" else 28  # pixels of an image token: two patches of 16 or 14
    width, height = (round(length / side) for length in picture.size)
    grid = np.array(theirs["image_grid_thw"])[0]
    assert prompt.image_tokens == prompt.ids.count(image_token_id(base)) == grid.prod() // 4
    assert prompt.image_tokens >= width * height
    assert answer_token_ids(base, asked, SHORT_ANSWER)[-1] == 151645


def test_logits(base: BaseVLM, folder: Path, asked: Messages, picture: Image.Image) -> None:
    theirs = _plain_logits(_plain_model(folder), base, asked, picture)
    np.testing.assert_allclose(_own_logits(base, asked, picture), theirs, atol=1e-4)
    other = _own_logits(base, asked, photograph(9, picture.size))
    assert np.abs(other - theirs).max() > 1e-3, "the photograph changes nothing"


def _answered(base: BaseVLM, asked: Messages, picture: Image.Image, tokens: int = 14, **options: Any) -> Generation:
    return generate(base, asked, picture, max_tokens=tokens, constrained=True, **options)


def test_constrained(base: BaseVLM, asked: Messages, picture: Image.Image) -> None:
    """A whole answer in a form that ends, and the beginning of a critique with its first expected score."""
    whole = _answered(base, asked, picture, tokens=40, schema=FORM)
    found = json.loads(whole.text)
    assert whole.finish_reason == "stop"
    assert found["light"] in ("soft", "hard") and found["stars"] in range(1, 6)
    critique = _answered(base, asked, picture)
    assert critique.text.startswith('{"dimensional_analysis": {"composition": {"score": ')
    assert 0 <= critique.expected_scores["composition"] <= 10


def test_drafts(base: BaseVLM, asked: Messages, picture: Image.Image) -> None:
    """Right drafts save passes and wrong ones change nothing, whatever text the random weights give here."""
    plain = _answered(base, asked, picture, tokens=40)
    right = Oracle(lambda at, limit: list(plain.tokens[at : at + limit]))
    drafted = _answered(base, asked, picture, tokens=40, precedents=right)
    assert drafted.tokens == plain.tokens
    assert drafted.accepted > 0 and drafted.passes < plain.passes
    wrong = Oracle(lambda at, limit: [*plain.tokens[at : at + 1], *[7] * (limit - 1)])
    assert _answered(base, asked, picture, tokens=40, precedents=wrong).tokens == plain.tokens


def test_batch(base: BaseVLM, asked: Messages, picture: Image.Image) -> None:
    """Two photographs decoded together give each one's own logits."""
    prompts = [encode_prompt(base, asked, image) for image in (picture, photograph(2, (96, 160)))]
    together = BatchDecoder(base, groups=2)
    rows = [together.open(prompt) for prompt in prompts]
    for row in rows:
        together.feed(row, [16, 15])
    while together.run_pass():
        pass
    for row, prompt in zip(rows, prompts, strict=True):
        alone = CompiledDecoder(base)
        alone.start(prompt)
        np.testing.assert_allclose(np.array(row.logits), np.array(alone.extend([16, 15])), atol=1e-4)


def test_embedding(base: BaseVLM, asked: Messages, picture: Image.Image) -> None:
    one, two = (photo_embedding(encode_prompt(base, asked, image)) for image in (picture, photograph(2)))
    assert len(one) == base.hidden_size and np.linalg.norm(one) == pytest.approx(1)
    assert not np.allclose(one, two, atol=1e-3)


class _Interrupted:
    """Interrupts as Ctrl-C does, after the first optimizer step."""

    def __call__(self, event: StageEvent) -> None:
        if isinstance(event, StageProgressed) and event.stage == "train" and event.done == 1:
            raise KeyboardInterrupt


def test_train(base: BaseVLM, asked: Messages, tmp_path: Path) -> None:
    """A training that was interrupted and resumed ends with the same bytes; the base is as it was."""
    before = {name: np.array(array) for name, array in tree_flatten(base.model.parameters())}
    rows = TrainingRows([_row(asked, 1), _row(asked, 2)])
    whole = train_adapter(base, rows, RECIPE, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_adapter(base, rows, RECIPE, tmp_path / "cut", listen=_Interrupted())
    resumed = train_adapter(base, rows, RECIPE, tmp_path / "cut", resume=True)
    weights = [(result.adapter / "adapters.safetensors").read_bytes() for result in (whole, resumed)]
    assert weights[0] == weights[1]
    assert lora_layers.validate_adapter_folder(base, whole.adapter) == ()
    for name, array in tree_flatten(base.model.parameters()):
        assert np.array_equal(before[name], np.array(array)), name


def test_reopen(base: BaseVLM, folder: Path, real_adapter: Path, asked: Messages, picture: Image.Image) -> None:
    """mlx-vlm alone, with base and adapter, gives the logits that this base gives with the adapter in use."""
    from mlx_vlm.trainer.peft import apply_lora_layers

    plain = _own_logits(base, asked, picture)
    lora_layers.get_adapter_switch(base).use(real_adapter)
    adapted = _own_logits(base, asked, picture)
    model = apply_lora_layers(_plain_model(folder), str(real_adapter))
    model.set_dtype(mx.float32)
    np.testing.assert_allclose(adapted, _plain_logits(model, base, asked, picture), atol=1e-3)
    assert np.abs(adapted - plain).max() > 0.1


def test_peft(base: BaseVLM, real_adapter: Path, tmp_path: Path) -> None:
    adapter_export.export_peft_adapter(base, real_adapter, tmp_path / "peft")
    assert lora_layers.validate_adapter_folder(base, tmp_path / "peft") == ()
    ours, theirs = _products(real_adapter), _products(tmp_path / "peft")
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name], array, atol=1e-6)
    targets = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())["target_modules"]
    assert all(name.startswith("model.language_model.layers.") for name in targets)


def _products(folder: Path) -> dict[str, np.ndarray]:
    found = lora_adapter.load_lora_adapter(folder)
    return {name: np.array(found.scale * (found.lora_a[name] @ found.lora_b[name])) for name in found.modules}


def test_merge(
    base: BaseVLM,
    real_adapter: Path,
    asked: Messages,
    picture: Image.Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Into bfloat16 with the rounding reported; refused by packed weights."""
    monkeypatch.setattr(adapter_export, "_TOKENS", 4)
    if base.quantized:
        with pytest.raises(BadInput, match="packed"):
            adapter_export.export_merged_model(base, real_adapter, tmp_path / "merged", [(asked, picture)])
        assert not (tmp_path / "merged").exists()
        return
    parity = adapter_export.export_merged_model(base, real_adapter, tmp_path / "merged", [(asked, picture)])
    assert 0 < parity.delta_error < 0.1 and parity.log_probability_difference < 0.5
    lora_layers.get_adapter_switch(base).use(real_adapter)
    theirs = _plain_logits(_plain_model(tmp_path / "merged"), base, asked, picture)
    assert np.abs(theirs - _own_logits(base, asked, picture)).max() < 0.5


@contextmanager
def _data_types_of_a_mac(base: BaseVLM) -> Iterator[None]:
    """bfloat16, as a GPU keeps it; the CPU's float32 has the same values, so both ways are exact."""
    base.model.set_dtype(mx.bfloat16)
    base.cache.clear()
    try:
        yield
    finally:
        base.model.set_dtype(mx.float32)
        base.cache.clear()


def test_mac_decoder(
    base: BaseVLM, real_adapter: Path, asked: Messages, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The growing cache gives the compiled buffer's answer, and runs in bfloat16 with an adapter."""
    lora_layers.get_adapter_switch(base).use(real_adapter)
    compiled = _answered(base, asked, picture)
    monkeypatch.setattr(generation, "make_decoder", EagerDecoder)
    eager = _answered(base, asked, picture)
    assert eager.tokens == compiled.tokens
    assert eager.expected_scores == pytest.approx(compiled.expected_scores, abs=1e-3)
    lora_layers.get_adapter_switch(base).use(None)
    with _data_types_of_a_mac(base):
        lora_layers.get_adapter_switch(base).use(real_adapter)
        half = _answered(base, asked, picture)
        assert half.text.startswith('{"dimensional_analysis": {"composition": {"score": ')
        assert half.expected_scores == pytest.approx(eager.expected_scores, abs=1.0)
        lora_layers.get_adapter_switch(base).use(None)


def test_mac_step(base: BaseVLM, asked: Messages) -> None:
    """The compiled training step gives the eager one's loss and gradient, and runs in bfloat16."""
    whole, least = _row(asked, 1), short_row(photograph(1, (96, 96)), asked, answer="7")
    plain_loss, plain = _gradient(base, whole, compiled=False)
    loss, compiled = _gradient(base, whole, compiled=True)
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    for name, array in plain.items():
        np.testing.assert_allclose(compiled[name], array, atol=1e-5 + 1e-3 * np.abs(array).max(), err_msg=name)
    exact_loss, exact = _gradient(base, least, compiled=False)
    with _data_types_of_a_mac(base):
        half_loss, half = _gradient(base, least, compiled=True)
    assert half_loss == pytest.approx(exact_loss, rel=0.02)
    assert half.keys() == exact.keys()
    lost = sum(np.square(half[name] - array).sum() for name, array in exact.items())
    assert lost < 0.05 * sum(np.square(array).sum() for array in exact.values())


def _gradient(base: BaseVLM, row: DatasetRow, *, compiled: bool) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and gradient of one row; a step that mlx can't compile fails here instead of running eagerly."""
    lora_layers.attach_lora(base, RECIPE, 0)
    base.model.train()
    step = GradientStep(base, compiled=compiled, threads=1)
    try:
        (example,) = encode_training_rows(base, [row], RECIPE, lambda event: None, "training")
        batch = make_training_batch(base, example, example.prompt.load().image_tokens, 1 / example.weight)
        loss, gradient = step.loss_and_grad(base.model.trainable_parameters(), [batch])
        assert step.compiled == compiled
        return float(np.array(loss)), {
            name: np.array(array.astype(mx.float32)) for name, array in tree_flatten(gradient)
        }
    finally:
        step.close()
        lora_layers.detach_lora(base)
