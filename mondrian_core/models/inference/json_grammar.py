"""Constrain decoding to a JSON schema with llguidance.

llguidance computes the masks. They are applied with plain array operations, because mlx-vlm's kernel for them needs
Metal. The grammar forces the spelling of `rubric.canonical_answer`: the separators of `json.dumps`, raw characters,
keys in the schema's order. The overall grade of a critique is the mean of its scores, which no grammar can compute:
`CritiqueGrammar` computes it and forces it.

Shapes: `V` vocabulary.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from mondrian_core.answer_schema import compile_json_grammar
from mondrian_core.models.base_model import BaseVLM
from mondrian_core.models.score_distribution import decode_token_texts
from mondrian_core.rubric import AnswerForm, critique_json_schema, grade_of_unfinished_answer

_KEPT_GRAMMARS = 128  # one for each grade, and callers may send any number of schemas


class JsonGrammar:
    """The grammar's state in one constrained answer."""

    def __init__(self, base: BaseVLM, schema: Mapping[str, Any], vocabulary: int) -> None:
        """`vocabulary` is the length of the logits; it may exceed the tokenizer's."""
        self._matcher = _matcher(base, schema)
        self._bits = np.zeros((1, (_tokenizer(base).vocab_size + 31) // 32), dtype=np.int32)
        self._vocabulary = vocabulary
        self._filled = False

    def mask_logits(self, logits: mx.array) -> mx.array:
        """Logits (V,), minus infinity at every token that can't come next."""
        self._fill()
        allowed = np.zeros(self._vocabulary, dtype=bool)
        known = np.unpackbits(self._bits.view(np.uint8)[0], bitorder="little")[: self._vocabulary].astype(bool)
        allowed[: len(known)] = known
        return mx.where(mx.array(allowed), logits, -mx.inf)

    def allows(self, token: int) -> bool:
        """True if the mask allows this token to come next.

        The matcher's `validate_tokens` can't be used, because it also accepts other spellings of forced tokens.
        """
        self._fill()
        word, bit = divmod(token, 32)
        return word < self._bits.shape[1] and bool(int(self._bits[0, word]) >> bit & 1)

    def choices(self) -> int:
        """How many tokens may come next."""
        self._fill()
        return int(np.bitwise_count(self._bits.view(np.uint32)).sum())

    def _fill(self) -> None:
        import llguidance.numpy

        if not self._filled:
            llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits, 0)
            self._filled = True

    def forced(self) -> list[int]:
        """The tokens that must come next, in the tokenizer's spelling; [] if there is a choice."""
        return list(self._matcher.compute_ff_tokens())

    def consume(self, *tokens: int) -> None:
        """Advance by the chosen tokens."""
        self._filled = False
        self._matcher.consume_tokens(list(tokens))
        error = self._matcher.get_error()
        if error:
            raise RuntimeError(f"the grammar refused a token that it had allowed: {error}")


class CritiqueGrammar(JsonGrammar):
    """The grammar of one critique: as soon as all scores are written, the only grade it allows is the one they give.

    So an answer can't contradict itself, and its grade is known text that costs no choice of the model.
    """

    def __init__(self, base: BaseVLM, vocabulary: int, form: AnswerForm) -> None:
        """`vocabulary` is the length of the logits; it may exceed the tokenizer's."""
        super().__init__(base, critique_json_schema(form), vocabulary)
        self._base, self._form = base, form
        self._tokens: list[int] = []
        self._text = ""
        self._graded = False

    def consume(self, *tokens: int) -> None:
        """Advance by the chosen tokens; the last score replaces the grammar by that of its grade."""
        super().consume(*tokens)
        if self._graded:
            return
        self._tokens += tokens
        self._text += "".join(decode_token_texts(self._base, tokens))
        grade = grade_of_unfinished_answer(self._text)
        if grade is not None:
            self._graded = True
            self._matcher = _matcher(self._base, critique_json_schema(self._form, grade))
            super().consume(*self._tokens)


def answer_grammar(base: BaseVLM, schema: Mapping[str, Any], vocabulary: int) -> JsonGrammar:
    """The grammar of answers that follow a schema; the rubric's own schemas have a computed grade.

    Args:
        base: the base.
        schema: the rubric's schema of a form, or a caller's.
        vocabulary: length of the logits.
    """
    for form in AnswerForm:
        if schema == critique_json_schema(form):
            return CritiqueGrammar(base, vocabulary, form)
    return JsonGrammar(base, schema, vocabulary)


def _matcher(base: BaseVLM, schema: Mapping[str, Any]) -> Any:
    import llguidance

    return llguidance.LLMatcher(_tokenizer(base), _compiled(base, schema))


def _tokenizer(base: BaseVLM) -> Any:
    import llguidance.hf

    if "grammar_tokenizer" not in base.cache:
        base.cache["grammar_tokenizer"] = llguidance.hf.from_tokenizer(base.tokenizer)
    return base.cache["grammar_tokenizer"]


def _compiled(base: BaseVLM, schema: Mapping[str, Any]) -> str:
    text = json.dumps(schema)
    grammars: OrderedDict[str, str] = base.cache.setdefault("grammars", OrderedDict())
    if text not in grammars:
        grammars[text] = compile_json_grammar(schema)
        while len(grammars) > _KEPT_GRAMMARS:
            grammars.popitem(last=False)
    grammars.move_to_end(text)
    return grammars[text]
