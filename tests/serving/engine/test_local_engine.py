"""The real model and the fake pass the same contract test; adapter switching, drafting, the real model process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mondrian_core.errors import BadAdapter, ModelProcessDied
from mondrian_core.mini.renderer import render_scene
from mondrian_core.mini.scene import sample_scene
from mondrian_core.photograph_model import Question
from mondrian_core.pixel_files import PixelFileCache, load_image
from mondrian_core.prompts import AdvisorPrompt, critique_messages
from mondrian_core.registry import Registry
from mondrian_core.serving.batch_analyze import BatchRequest, analyze_photographs
from mondrian_core.serving.engine.interface import Canceled
from mondrian_core.serving.engine.local_engine import LocalEngine
from mondrian_core.serving.engine.supervisor import ModelProcess, model_command
from mondrian_core.settings import Settings
from mondrian_core.store import Store

pytestmark = pytest.mark.mini
QUESTION = Question(
    messages=critique_messages(AdvisorPrompt("ansel", "Ansel Adams")),
    image=Image.new("RGB", (96, 64), "navy"),
    max_tokens=12,
)


@pytest.fixture(scope="module")
def mini() -> LocalEngine:
    """The bundled base in this process."""
    return LocalEngine("mini")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that fits mini and changes its answers."""
    return _random_adapter(tmp_path_factory.mktemp("adapter"), spread=0.5)


def _random_adapter(folder: Path, spread: float) -> Path:
    """An adapter for mini with a B of this standard deviation."""
    import mlx.core as mx

    from mondrian_core.models.base_model import load_base
    from mondrian_core.models.lora import lora_layers
    from mondrian_core.recipes import TrainRecipe

    base = load_base("mini")
    lora_layers.attach_lora(base, TrainRecipe(rank=2), seed=1)
    weights = lora_layers.attached_parameters(base)
    key = mx.random.key(7)
    changed = {}
    for name, value in weights.items():
        key, draw = mx.random.split(key)
        changed[name] = value if name.endswith("lora_a") else spread * mx.random.normal(value.shape, key=draw)
    lora_layers.save_attached_adapter(base, folder, changed)
    return folder


@pytest.fixture(params=["fake", "mini"])
def engine(request: pytest.FixtureRequest, fake_engine: Any) -> Any:
    """Both engines: the fake and the real model."""
    return fake_engine if request.param == "fake" else request.getfixturevalue("mini")


def test_local_and_process_engines_behave_alike(engine: Any, tmp_path: Path, control: Any) -> None:
    control(unsound=["v0666"])
    unsound = tmp_path / "v0666"
    unsound.mkdir()
    (unsound / "adapters.safetensors").write_bytes(b"no arrays")
    heard: list[int] = []
    reply = engine.ask(QUESTION, heard.append)
    assert heard and heard == sorted(heard)
    assert 0 < reply.tokens <= 12
    assert reply.text.startswith('{"dimensional_analysis": {"composition": {"score": ')
    assert reply.finish_reason in ("stop", "length")
    assert reply.boot == str(os.getpid())
    assert engine.ask(QUESTION).text == reply.text, "greedy answers repeat"
    assert engine.check(unsound)
    with pytest.raises(BadAdapter):
        engine.ask(replace(QUESTION, adapter=unsound))
    assert engine.ask(QUESTION).text == reply.text, "an invalid adapter leaves no trace"

    def stop(count: int) -> None:
        raise Canceled

    with pytest.raises(Canceled):
        engine.ask(QUESTION, stop)
    assert engine.ask(QUESTION).text == reply.text, "a cancellation leaves no trace"


def test_adapter_changes_the_answer_and_switching_back_restores_the_base(mini: LocalEngine, adapter: Path) -> None:
    question = replace(QUESTION, constrained=False, max_tokens=24)
    plain = mini.ask(question)
    tuned = mini.ask(replace(question, adapter=adapter))
    assert tuned.text != plain.text
    assert mini.ask(question).text == plain.text
    switched = [mini.ask(replace(question, adapter=each, max_tokens=1)).switch_seconds for each in (adapter, None) * 3]
    began = time.perf_counter()
    LocalEngine("mini")
    assert min(switched) < (time.perf_counter() - began) / 5, "only arrays are swapped, nothing is loaded"


def test_photograph_is_encoded_once_for_both_arms(
    mini: LocalEngine, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mondrian_core.models.inference import generation

    looked, prepare = [], generation.prepare_prompt
    monkeypatch.setattr(generation, "prepare_prompt", lambda *given: looked.append(1) or prepare(*given))
    question = replace(QUESTION, image=Image.new("RGB", (96, 64), "maroon"), embed=True)
    replies = [mini.ask(replace(question, adapter=each)) for each in (None, adapter, None)]
    assert len(looked) == 1
    assert replies[0].text == replies[2].text
    assert sum(value * value for value in replies[1].embedding) == pytest.approx(1.0)
    assert mini.ask(replace(question, image=QUESTION.image, embed=False)).embedding == ()
    assert len(looked) == 2, "another photograph is encoded"


def _scene(seed: int) -> Image.Image:
    return render_scene(sample_scene(np.random.default_rng(seed)))


def test_drafting_accepts_tokens_and_keeps_answers_equal(mini: LocalEngine) -> None:
    questions = [replace(QUESTION, image=_scene(seed), max_tokens=90) for seed in range(6)]
    plain = [mini.ask(replace(each, precedents=False)) for each in questions]
    assert {(each.drafted, each.accepted) for each in plain} == {(0, 0)}
    other = LocalEngine("mini")
    found = [other.ask(each) for each in questions]
    assert [each.text for each in found] == [each.text for each in plain]
    assert found[-1].expected_scores == pytest.approx(plain[-1].expected_scores, abs=1e-3)
    assert sum(each.accepted for each in found[3:]) > 30
    assert mini.ask(replace(questions[0], image=_scene(9))).accepted > 0, "answers made without drafting are learned"


def test_each_adapter_has_its_own_drafter(adapter: Path) -> None:
    engine = LocalEngine("mini")
    for seed in range(3):
        engine.ask(replace(QUESTION, image=_scene(seed), max_tokens=60))
    base = engine._drafter_for(None)
    before = (len(base), base.drafted, base.accepted)
    engine.ask(replace(QUESTION, adapter=adapter))
    own = engine._drafter_for(adapter)
    assert own is not base and 0 < len(own) < len(base)
    assert own.drafted == 0, "its first answer has no earlier ones to draft from"
    assert before == (len(base), base.drafted, base.accepted)
    for number in range(9):
        engine._drafter_for(Path(f"v{number:04d}"))
    assert len(engine._drafters) < 9
    assert engine._drafter_for(None) is not base, "the least recently used drafter is evicted"


def test_drafter_starts_with_the_answers_of_the_evaluation(mini: LocalEngine, adapter: Path, tmp_path: Path) -> None:
    question = replace(QUESTION, image=_scene(0), max_tokens=40)
    plain = mini.ask(replace(question, adapter=adapter, precedents=False))
    rows = [
        {"kind": "identity"},
        {"kind": "answer", "arm": "base", "text": "of the other arm"},
        {"kind": "answer", "arm": "candidate", "text": plain.text},
    ]
    whole = "".join(json.dumps(row) + "\n" for row in rows)
    for name, record in {"whole": whole, "torn": whole + "{", "odd": "7\n[]\n{}\n"}.items():
        folder = shutil.copytree(adapter, tmp_path / name)
        (folder / "samples.jsonl").write_text(record)
        memory = mini._drafter_for(folder)
        memory.start_answer()
        expected = mini.base.tokenizer.decode(memory.likely_continuation(8)[0])
        assert (plain.text.startswith(expected) and len(expected) > 20) if name != "odd" else len(memory) == 0
        assert mini.ask(replace(question, adapter=folder)).text == plain.text


@pytest.fixture
def process(tmp_path: Path) -> Iterator[ModelProcess]:
    """The real model process."""
    found = ModelProcess(model_command("mini"), tmp_path / "model.log")
    yield found
    found.stop()


def test_real_model_process_answers_and_recovers_from_a_kill(
    process: ModelProcess, mini: LocalEngine, adapter: Path, tmp_path: Path
) -> None:
    stored = PixelFileCache(tmp_path / "decoded", capacity=1).put("navy", load_image(QUESTION.image))
    in_process, question = replace(QUESTION, adapter=adapter), replace(QUESTION, image=stored, adapter=adapter)
    process.start()
    assert process.fingerprint == mini.fingerprint
    assert process.check(adapter) == ()
    text = process.ask(question).text
    assert text == mini.ask(in_process).text
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with contextlib.suppress(ModelProcessDied):  # not raised when the death was found before asking
        process.ask(replace(question, adapter=None))
    assert process.ask(question).text == text


def test_analyze_writes_rows_with_base_and_adapter(settings: Settings, tmp_path: Path, mini: LocalEngine) -> None:
    (tmp_path / "weak").mkdir()
    adapter = _random_adapter(tmp_path / "weak", spread=0.001)  # its answer is a critique
    registry = Registry(settings.adapters_root)
    manifest = {"base": {"name": "mini", "fingerprint": mini.fingerprint}}
    version = registry.register("ansel", adapter, manifest).version
    registry.promote("ansel", version, expected=None, actor="person:test", reason="a test")
    photograph = settings.root / "source" / "one.jpg"
    missing = settings.root / "none.jpg"
    tuned, refused = analyze_photographs(
        settings, BatchRequest(paths=[photograph, missing], advisor="ansel", mode="lora")
    )
    assert refused.critique is None and "no such file" in (refused.error or "")
    with Store(settings.database, read_only=True) as store:
        (row,) = store.jobs()
    assert row.status == "completed"
    assert (row.model_used, row.mode, row.adapter_version, row.filename) == (
        tuned.model_used,
        tuned.mode,
        tuned.adapter_version,
        "one.jpg",
    )
    assert tuned.critique is not None and tuned.model_used == "fine_tuned"


def test_a_folder_critiqued_together_equals_one_by_one(
    settings: Settings, tmp_path: Path, mini: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Base and adapter, a damaged photograph among the others: the same critiques, in the order of the names."""
    from mondrian_core.models.inference import batch_generation, batch_size

    (tmp_path / "weak").mkdir()
    adapter = _random_adapter(tmp_path / "weak", spread=0.001)
    folder = tmp_path / "shoot"
    folder.mkdir()
    rng = np.random.default_rng(5)
    for name in ("a.png", "b.png", "d.png"):
        render_scene(sample_scene(rng)).resize((192, 128)).save(folder / name)
    (folder / "c.png").write_bytes(b"not a photograph")
    batches: list[int] = []
    together = batch_generation.generate_batch

    def counted(base: Any, next_order: Any, rows: int) -> Any:
        batches.append(rows)
        return together(base, next_order, rows)

    monkeypatch.setattr(batch_generation, "generate_batch", counted)

    def critiques(gain: float) -> list[Any]:
        monkeypatch.setattr(batch_size, "measured_gain", lambda *_: gain)
        results = [
            result
            for mode in ("baseline", "lora")
            for result in analyze_photographs(
                settings,
                BatchRequest(paths=[folder], advisor="ansel", mode=mode, lora_path=str(adapter)),
                engine=mini,
            )
        ]
        return [(result.path.name, result.mode, result.critique) for result in results]

    alone = critiques(1.0)
    assert not batches
    assert critiques(8.0) == alone
    assert batches and set(batches) == {3}, "the first photograph is critiqued alone, the other three together"
    assert [critique is None for _, _, critique in alone] == [False, False, True, False] * 2
    mini._use(None)
