"""Answers: the library's own, greedily; constrained ones always parse; scores come from the distribution."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast
from weakref import WeakSet

import mlx.core as mx
import numpy as np
import pytest

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.errors import BadInput
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.forward_pass import DecoderInputs, hidden_states, lm_head_logits
from mondrian_core.models.inference.decoding import CompiledDecoder, EagerDecoder
from mondrian_core.models.inference.generation import generate, mean_kl, prepare_prompt
from mondrian_core.models.kl import log_probabilities, teacher_forced_inputs
from mondrian_core.models.lora import lora_layers
from mondrian_core.models.prompt_encoding import answer_token_ids, encode_prompt
from mondrian_core.models.score_distribution import (
    ScoreLogitsRecorder,
    digit_tokens,
    locate_scores,
)
from mondrian_core.rubric import DIMENSIONS, grade_from_scores
from tests.models.conftest import photograph

pytestmark = pytest.mark.mini


def _library(base: BaseVLM, messages: Any, image: Any, tokens: int, adapter: Path | None = None) -> str:
    from mlx_vlm import generate as plain
    from mlx_vlm import load

    model, processor = load(str(base.path), adapter_path=str(adapter) if adapter else None)
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    said = plain(model, processor, text, image=[image], max_tokens=tokens, temperature=0.0, verbose=False).text
    return re.sub(r"<\|\w+\|>", "", str(said))  # the library spells special tokens out


def test_greedy_generation_matches_mlx_vlm(base: BaseVLM, messages: Any, image: Any, adapter: Path) -> None:
    assert generate(base, messages, image, max_tokens=60).text == _library(base, messages, image, 60)
    lora_layers.get_adapter_switch(base).use(adapter)
    ours = generate(base, messages, image, max_tokens=60).text
    assert ours == _library(base, messages, image, 60, adapter)


def test_logits_depend_on_the_image(base: BaseVLM, messages: Any, image: Any) -> None:
    def last(picture: Any) -> np.ndarray:
        prompt = encode_prompt(base, messages, picture)
        hidden = hidden_states(base, prompt.decoder_inputs)
        return np.array(log_probabilities(base, hidden[0, -1:]))

    assert np.array_equal(last(image), last(image))
    assert np.abs(last(image) - last(photograph(2))).max() > 1e-4


def test_deepstack_features_reach_the_logits(base: BaseVLM, messages: Any, image: Any) -> None:
    prompt = encode_prompt(base, messages, image)
    assert prompt.deepstack and prompt.deepstack[0].shape[0] == prompt.image_tokens

    def last(deepstack: Any) -> np.ndarray:
        hidden = hidden_states(base, DecoderInputs(prompt.embeddings, prompt.positions, prompt.image_index, deepstack))
        return np.array(log_probabilities(base, hidden[0, -1:]))

    assert np.abs(last(prompt.deepstack) - last(())).max() > 1e-4


def test_decoders_match_one_teacher_forced_pass(base: BaseVLM, messages: Any, image: Any, answer: str) -> None:
    """Also over the edge where the compiled decoder's buffer grows."""
    prompt = encode_prompt(base, messages, image)
    tokens = (answer_token_ids(base, messages, answer) * 3)[:300]
    hidden = hidden_states(base, teacher_forced_inputs(base, prompt, tokens))
    expected = np.array(log_probabilities(base, hidden[0, len(prompt.ids) - 1 :]))
    for decoder in (CompiledDecoder(base), EagerDecoder(base)):
        found = [decoder.start(prompt)]
        for token in tokens[:-1]:
            found.append(decoder.step(mx.array(token, dtype=mx.int32)))
            mx.eval(found[-1])
        np.testing.assert_allclose(
            np.array(mx.stack(found) - mx.logsumexp(mx.stack(found), -1, keepdims=True)), expected, atol=2e-4
        )
        probed = np.array(decoder.probe(17, tokens[17]))
        np.testing.assert_allclose(probed, np.array(found[18]), atol=2e-4)


@pytest.mark.parametrize("make", [CompiledDecoder, EagerDecoder])
def test_extend_equals_single_steps(base: BaseVLM, messages: Any, image: Any, answer: str, make: Any) -> None:
    """Runs of every width, also over the edge where the compiled decoder's buffer grows."""
    prompt = encode_prompt(base, messages, image)
    tokens = (answer_token_ids(base, messages, answer) * 4)[:200]
    one, together = make(base), make(base)
    one.start(prompt), together.start(prompt)
    at = 0
    for width in (1, 2, 3, 5, 8, 16, 17, 40, 1, 100):
        run = tokens[at : at + width]
        at += len(run)
        for token in run:
            expected = one.step(mx.array(token, dtype=mx.int32))
            mx.eval(expected)
        np.testing.assert_allclose(np.array(together.extend(run)), np.array(expected), atol=2e-4, err_msg=str(width))
    assert at > 190
    np.testing.assert_allclose(np.array(together.probe(17, tokens[17])), np.array(one.probe(17, tokens[17])), atol=2e-4)


def test_forced_tokens_do_not_change_the_answer(base: BaseVLM, messages: Any, image: Any, monkeypatch: Any) -> None:
    from mondrian_core.models.inference.json_grammar import JsonGrammar

    options: dict[str, Any] = {
        "max_tokens": 400,
        "constrained": True,
        "prepared": prepare_prompt(base, messages, image),
    }
    heard: list[str] = []
    together = generate(base, messages, image, on_token=heard.append, **options)
    cut = generate(base, messages, image, **{**options, "max_tokens": 2})
    monkeypatch.setattr(JsonGrammar, "forced", lambda self: [])
    single = generate(base, messages, image, **options)
    assert (together.tokens, together.finish_reason) == (single.tokens, single.finish_reason)
    assert "".join(heard) == together.text
    assert together.expected_scores == pytest.approx(single.expected_scores, abs=1e-3)
    assert (cut.tokens, cut.finish_reason) == (single.tokens[:2], "length"), "a run is cut at the limit"


def test_a_choice_and_the_tokens_that_it_forces_are_read_in_one_pass(
    base: BaseVLM, messages: Any, image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder that builds passes ahead does so where few tokens may come, as after a score's digit."""
    from mondrian_core.models.inference import generation
    from mondrian_core.models.inference.generation_loop import GenerationLoop, TokenSampler

    options: dict[str, Any] = {
        "max_tokens": 400,
        "constrained": True,
        "prepared": prepare_prompt(base, messages, image),
    }
    chosen: list[int] = []
    register = GenerationLoop._register_choice
    monkeypatch.setattr(
        GenerationLoop, "_register_choice", lambda loop, token: chosen.append(token) or register(loop, token)
    )
    merged = generate(base, messages, image, **options)
    choices = len(chosen)
    assert choices < len(merged.tokens)
    assert merged.passes <= choices + 1, "one for each choice, and one for the tokens before the first"
    monkeypatch.setattr(generation, "make_decoder", EagerDecoder)
    ahead = generate(base, messages, image, **options)
    assert ahead.tokens == merged.tokens
    monkeypatch.setattr(TokenSampler, "decides_what_follows", False)
    apart = generate(base, messages, image, **options)
    assert apart.tokens == merged.tokens
    assert merged.passes <= ahead.passes < apart.passes


def test_prefix_cache_is_keyed_by_adapter(
    base: BaseVLM, messages: Any, image: Any, adapter: Path, monkeypatch: Any
) -> None:
    from mondrian_core.models.inference import decoding

    mounted, computed, kept = lora_layers.get_adapter_switch(base), [], {}
    compute = decoding._computed_prefix
    monkeypatch.setattr(decoding, "_computed_prefix", lambda *a: computed.append(1) or compute(*a))
    base.cache.pop("prefixes", None)
    prompt = encode_prompt(base, messages, photograph(3))
    for folder in (None, adapter, None, adapter):
        mounted.use(folder)
        found = np.array(decoding.prefill(base, prompt)[0])
        hidden = hidden_states(base, prompt.decoder_inputs)
        whole = np.array(lm_head_logits(base, hidden[:, -1])[0])
        np.testing.assert_allclose(found, whole, atol=2e-4)
        kept.setdefault(folder, found)
        assert np.array_equal(found, kept[folder])
    assert len(computed) == 2, "once for the base, once for the adapter"
    assert np.abs(kept[None] - kept[adapter]).max() > 1e-3
    base.model._vlm_adapter_config = {"training": "goes on"}
    try:
        assert decoding._cached_prefix(base, prompt) == []
    finally:
        base.model._vlm_adapter_config = None
        mounted.use(None)


def test_constrained_answers_parse_strictly(base: BaseVLM, messages: Any, image: Any) -> None:
    answer = generate(base, messages, image, max_tokens=900, constrained=True, temperature=1.0, seed=3)
    if answer.finish_reason == "stop":
        critique = parse_critique_strict(answer.text)
        assert critique.overall_grade == grade_from_scores(critique.scores)
    assert set(answer.expected_scores) <= set(DIMENSIONS)
    assert answer.expected_scores and all(0 <= score <= 10 for score in answer.expected_scores.values())


def test_exact_tokens_forces_the_length(base: BaseVLM, messages: Any, image: Any, adapter: Path) -> None:
    lora_layers.get_adapter_switch(base).use(adapter)
    for count in (1, 24):
        answer = generate(base, messages, image, max_tokens=5, exact_tokens=count)
        assert len(answer.tokens) == count and answer.finish_reason == "length"
        assert not set(answer.tokens) & base.end_tokens


def test_sampling_follows_the_seed(base: BaseVLM, messages: Any, image: Any) -> None:
    prompt = prepare_prompt(base, messages, image)
    options: dict[str, Any] = {"max_tokens": 30, "temperature": 1.0, "prepared": prompt}
    one, again, other = (generate(base, messages, image, seed=seed, **options).tokens for seed in (1, 1, 2))
    assert one == again != other


def test_streamed_tokens_form_the_text(base: BaseVLM, messages: Any, image: Any) -> None:
    heard: list[str] = []
    answer = generate(base, messages, image, max_tokens=30, on_token=heard.append)
    assert "".join(heard) == answer.text


def test_scores_are_located_in_generated_text(base: BaseVLM, answer: str) -> None:
    tokens = base.tokenizer.encode(answer, add_special_tokens=False)
    places = locate_scores(base, tokens)
    assert list(places) == list(DIMENSIONS)
    critique = parse_critique_strict(answer)
    for name, place in places.items():
        rest = base.tokenizer.decode(tokens[place.token_index :])[len(place.prefix) :]
        assert rest.startswith(str(int(critique.scores[name])))


def test_expected_scores_split_one_and_ten(base: BaseVLM, answer: str) -> None:
    """Made-up distributions: P("1") = 0.5 of which 0.8 become a ten, P("4") = 0.5."""
    tokens = base.tokenizer.encode(answer, add_special_tokens=False)
    digits = digit_tokens(base, "")
    assert digits is not None
    vocabulary = base.language_model.args.vocab_size

    def logits(**shares: float) -> mx.array:
        values = np.full(vocabulary, -60.0, dtype=np.float32)
        for name, share in shares.items():
            values[digits.tokens[int(name[1:])]] = np.log(share)
        return mx.array(values)

    watch = ScoreLogitsRecorder(base)
    for index, token in enumerate(tokens):
        watch.record(index, token, logits(d1=0.5, d4=0.5))
    asked: list[int] = []

    def probe(index: int, token: int) -> mx.array:
        asked.append(index)
        return logits(d0=0.8, d9=0.2)

    found = {name: each.expected_score for name, each in watch.score_distributions(tokens, probe).items()}
    places = locate_scores(base, tokens)
    # where the answer has no "1", the question is asked: 0.5 x (0.8 x 10 + 0.2 x 1) + 0.5 x 4
    assert found["composition"] == pytest.approx(0.5 * 8.2 + 2.0, abs=1e-4)
    assert places["composition"].token_index in asked and places["lighting"].token_index not in asked
    assert list(found) == list(DIMENSIONS)


def test_expected_scores_match_teacher_forced_pass(base: BaseVLM, messages: Any, image: Any) -> None:
    answer = generate(base, messages, image, max_tokens=400, constrained=True)
    prompt = encode_prompt(base, messages, image)
    hidden = hidden_states(base, teacher_forced_inputs(base, prompt, [*answer.tokens, 0]))
    chances = np.exp(np.array(log_probabilities(base, hidden[0, len(prompt.ids) - 1 :])))
    digits = digit_tokens(base, "")
    assert digits is not None and answer.expected_scores
    for name, place in locate_scores(base, answer.tokens).items():
        share = chances[place.token_index, list(digits.tokens)]
        low, high = (share * np.arange(10)).sum(), (share * np.arange(10)).sum() + 9 * share[1]
        assert low / share.sum() - 1e-3 <= answer.expected_scores[name] <= high / share.sum() + 1e-3


def test_kl_is_zero_without_effect_and_positive_otherwise(
    base: BaseVLM, messages: Any, image: Any, answer: str, adapter: Path
) -> None:
    mounted = lora_layers.get_adapter_switch(base)
    found = mean_kl(base, mounted, adapter, messages, image, answer)
    assert found > 1e-4
    assert mounted.folder is None


def test_kl_uses_score_tokens_only(base: BaseVLM, messages: Any, image: Any, answer: str, adapter: Path) -> None:
    mounted, prompt, tokens = (
        lora_layers.get_adapter_switch(base),
        encode_prompt(base, messages, image),
        answer_token_ids(base, messages, answer),
    )
    found = mean_kl(base, mounted, adapter, messages, image, answer)
    sides = []
    for folder in (None, adapter):
        mounted.use(folder)
        hidden = hidden_states(base, teacher_forced_inputs(base, prompt, tokens))
        sides.append(np.array(log_probabilities(base, hidden[0, len(prompt.ids) - 1 :])))
    everywhere = (np.exp(sides[0]) * (sides[0] - sides[1])).sum(axis=1)
    places = [place.token_index for place in locate_scores(base, tokens).values()]
    assert len(places) == len(DIMENSIONS)
    assert found == pytest.approx(everywhere[places].mean(), rel=1e-3)
    assert found != pytest.approx(everywhere.mean(), rel=1e-2)


def test_kl_requires_scores(base: BaseVLM, messages: Any, image: Any, adapter: Path) -> None:
    with pytest.raises(BadInput, match="no scores"):
        mean_kl(base, lora_layers.get_adapter_switch(base), adapter, messages, image, "A calm evening.")


def test_score_probabilities_are_kept(base: BaseVLM, messages: Any, image: Any) -> None:
    made = generate(base, messages, image, max_tokens=400, constrained=True)
    assert list(made.score_chances) == list(made.expected_scores) == list(DIMENSIONS)
    for name, chances in made.score_chances.items():
        assert len(chances) == 11 and 0 < sum(chances) <= 1 + 1e-5
        assert made.expected_scores[name] == pytest.approx(np.average(range(11), weights=chances))


@pytest.mark.parametrize(
    ("written", "points", "expected"),
    [
        ("8.5", {"8": 0.9, "7": 0.3}, 0.6 * (8 + 0.9 * 0.44) + 0.4 * (7 + 0.3 * 0.44)),
        ("8.50", {"8": 0.9, "7": 0.3}, 0.6 * (8 + 0.9 * 0.44) + 0.4 * (7 + 0.3 * 0.44)),
        ("8.25", {"8": 1.0, "7": 0.0}, 0.6 * (8 + 0.44 + 0.05) + 0.4 * 7),
        ("8", {"8": 0.4, "7": 0.3}, 7.6),
        ("85.5", {"8": 0.4, "7": 0.3}, 7.6),
    ],
)
def test_a_written_fraction_counts(base: BaseVLM, written: str, points: dict[str, float], expected: float) -> None:
    """A made-up model: P("8") = 0.6, P("7") = 0.4, P(".") after each as given, then "5" (0.8) or "2" (0.2)."""

    def logits(number: str) -> mx.array:
        shares = {"5": 0.8, "2": 0.2} if number else {"8": 0.6, "7": 0.4}
        if number in points:
            shares = {".": points[number], ",": 1 - points[number]}
        values = np.full(base.language_model.args.vocab_size, -60.0, dtype=np.float32)
        for piece, share in shares.items():
            values[base.tokenizer.encode(piece, add_special_tokens=False)] = np.log(max(share, 1e-9))
        return mx.array(values)

    text = f'{{"dimensional_analysis": {{"composition": {{"score": {written}, "comment": "Calm."'
    tokens = base.tokenizer.encode(text, add_special_tokens=False)
    recorder, said = ScoreLogitsRecorder(base), ""
    for index, token in enumerate(tokens):
        said += base.tokenizer.decode([token])
        recorder.record(index, token, logits(said.rpartition('"score": ')[2]))
    found = recorder.score_distributions(tokens, lambda _, token: logits(base.tokenizer.decode([token])))["composition"]
    assert found.expected_score == pytest.approx(expected, abs=1e-4)
    assert found.chances[7:9] == pytest.approx((0.4, 0.6), abs=1e-4), "the shares of the whole scores stay"


def test_only_logits_at_scores_are_kept(base: BaseVLM, answer: str) -> None:
    """Each token's logits are 300 kB with a real vocabulary: those of a whole answer would be hundreds of megabytes."""
    tokens = base.tokenizer.encode(answer, add_special_tokens=False)
    recorder, alive = ScoreLogitsRecorder(base), WeakSet[Any]()

    class Logits:
        """Stands for an array."""

    for index, token in enumerate(tokens):
        alive.add(logits := Logits())
        recorder.record(index, token, cast(mx.array, logits))
        del logits
    assert 2 * len(DIMENSIONS) <= len(alive) <= 3 * len(DIMENSIONS) < len(tokens) / 2
