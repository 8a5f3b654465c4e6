"""The export opens in `peft` on the same weights in transformers, with the same logits.

Torch and peft are not in the lock (they are several gigabytes): run `pip install torch peft`, then this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.models.adapter_export import export_peft_adapter
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import hidden_states, lm_head_logits
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.prompt_encoding import encode_prompt, image_token_id
from tests.models.lora.test_dora import moved_dora

torch = pytest.importorskip("torch", reason="torch is not installed; see the head of this file")
peft = pytest.importorskip("peft", reason="peft is not installed; see the head of this file")

# peft and transformers, which aren't in the lock, may be of versions that don't match
pytestmark = [pytest.mark.mini, pytest.mark.filterwarnings("ignore::FutureWarning")]


def ours(base: BaseVLM, messages: Any, image: Any, adapter: Path | None) -> np.ndarray:
    lora_layers.get_adapter_switch(base).use(adapter)
    prompt = encode_prompt(base, messages, image)
    hidden = hidden_states(base, prompt.decoder_inputs)
    return np.array(lm_head_logits(base, hidden)[0].astype(mx.float32))


@pytest.mark.parametrize("dora", [False, True])
def test_peft_export_gives_same_logits(
    base: BaseVLM, messages: Any, image: Any, adapter: Path, tmp_path: Path, dora: bool
) -> None:
    from transformers import AutoModelForImageTextToText

    adapter = moved_dora(base, tmp_path / "dora") if dora else adapter
    export_peft_adapter(base, adapter, tmp_path / "peft")
    inputs = base.processor(
        text=[base.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)], images=[image]
    )
    given: dict[str, Any] = {name: torch.tensor(np.array(value)) for name, value in dict(inputs).items()}
    given["mm_token_type_ids"] = (given["input_ids"] == image_token_id(base)).int()  # transformers' processor adds it
    plain = AutoModelForImageTextToText.from_pretrained(base.path, dtype=torch.float32)
    found = []
    with torch.no_grad():
        found.append(plain(**given).logits[0].numpy())
        model = peft.PeftModel.from_pretrained(plain, tmp_path / "peft")
        found.append(model(**given).logits[0].numpy())
    without, with_adapter = ours(base, messages, image, None), ours(base, messages, image, adapter)
    np.testing.assert_allclose(found[0], without, atol=2e-3)
    np.testing.assert_allclose(found[1], with_adapter, atol=2e-3)
    assert np.abs(with_adapter - without).max() > 0.5
