"""The product's half of the matrix: index, evaluation and service run on every base as on mini.

Random weights answer with noise, so answers are cut off and gates fail; what is tested is that each part gets there.
"""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from mondrian_core.data.base_model_critic import BaseModelCritic
from mondrian_core.data.retrieval_index import build_index
from mondrian_core.evaluation import (
    CandidateInfo,
    EvaluationInputs,
    LabelledPhotograph,
    TrainingProvenance,
    evaluate_adapter,
)
from mondrian_core.evaluation.measure.samples import load_evaluation_samples
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.recipes import recipe_from_values
from mondrian_core.registry import Registry
from mondrian_core.rubric import DIMENSIONS
from mondrian_core.store.embeddings import EmbeddingStore
from tests.data.stand_in import VOICE, jpeg, workspace_of
from tests.small_recipe import SHORT_ANSWER, small_recipe

pytestmark = pytest.mark.mini
SECONDS = 120  # until a test gives up waiting; only reached when something hangs


def test_index(base: BaseVLM, tmp_path: Path) -> None:
    """Photographs with a critique are embedded; one without needs an answer, and is left out when that is noise."""
    store = workspace_of(tmp_path, 2)
    portfolio = tmp_path / "source" / "advisor" / "photographer" / "ansel"
    portfolio.mkdir(parents=True)
    (portfolio / "uncritiqued.jpg").write_bytes(jpeg(7))
    done = build_index(store, tmp_path, "ansel", BaseModelCritic(base, VOICE, SHORT_ANSWER))
    assert (done.embedded, done.scored) == (2, 0)
    assert ["can't be read" in each.reason for each in done.left_out] == [True]
    vectors = [entry.vector for entry in EmbeddingStore(store).find("ansel", base.fingerprint)]
    assert {len(vector) for vector in vectors} == {base.hidden_size}
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)


def test_evaluation(base: BaseVLM, real_adapter: Path, picture: Image.Image, tmp_path: Path) -> None:
    """Both arms are asked and timed, and an adapter whose answers are noise does not pass."""
    recipe = small_recipe(evaluate={"compliance_photographs": 1})
    scores = dict.fromkeys(DIMENSIONS, 5.0)
    report = evaluate_adapter(
        base,
        EvaluationInputs(
            adapter=real_adapter,
            labelled=[LabelledPhotograph(photograph="one", image=picture, scores=scores)],
            prompt=VOICE,
            recipe=recipe_from_values(recipe),
            out=tmp_path / "run",
            info=CandidateInfo(trained=TrainingProvenance(), cache=tmp_path / "cache"),
        ),
    )
    assert report.gate("integrity").verdict == "PASS"
    assert "PASS" not in (report.gate("format_compliance").verdict, report.verdict)
    samples = load_evaluation_samples(tmp_path / "run" / "samples.jsonl")
    assert {outcome.arm for outcome in samples.outcomes} == {"base", "candidate"}
    assert not any(outcome.readable for outcome in samples.outcomes)
    assert report.gate("latency_overhead").n >= 3


SERVE = """
import json, sys
from functools import partial
from pathlib import Path
from mondrian_core.serving.server import ServerOptions, run_server
from mondrian_core.settings import Settings
told = json.loads(sys.argv[1])
settings = Settings(workspace=Path(told["workspace"]), adapters=Path(told["adapters"]), base_model=told["base"])
run_server(settings, ServerOptions(port=0, model_mode="fine_tuned", quiet=True), ready=partial(print, flush=True))
"""


@pytest.fixture
def served(base: BaseVLM, folder: Path, real_adapter: Path, tmp_path: Path, root: Path) -> Iterator[str]:
    """The address of a service on the base, with the adapter as champion."""
    workspace_of(tmp_path, 0).close()
    registry = Registry(tmp_path / "adapters")
    registry.register("ansel", real_adapter, {"base": {"name": str(folder), "fingerprint": base.fingerprint}})
    registry.promote("ansel", "v0001", expected=None, actor="person:test", reason="a test")
    told = {"workspace": str(tmp_path), "adapters": str(tmp_path / "adapters"), "base": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, json.dumps(told)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def test_serve(served: str, base: BaseVLM, picture: Image.Image) -> None:
    """The champion answers over HTTP in a form that the request brings; the base answers otherwise."""
    forms = {
        "type": "object",
        "properties": {"light": {"enum": ["soft", "hard"]}},
        "required": ["light"],
        "additionalProperties": False,
    }
    for model, answered in (("ansel", "ansel@v0001"), ("ansel@base", "ansel@base")):
        found = httpx.post(f"{served}/v1/chat/completions", json=_chat(model, picture, forms), timeout=SECONDS)
        assert found.status_code == 200, found.text
        value = found.json()
        assert (value["model"], value["system_fingerprint"]) == (answered, base.fingerprint)
        assert json.loads(value["choices"][0]["message"]["content"])["light"] in ("soft", "hard")
        assert value["usage"]["prompt_tokens"] > 100


def _chat(model: str, picture: Image.Image, schema: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {
        "model": model,
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "light", "schema": schema}},
    }
