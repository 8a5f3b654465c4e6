"""mini's own byte-level BPE tokenizer, with Qwen's special tokens and chat template.

Digits are split singly, as Qwen does, so "10" is two tokens and a score is read from its own positions. Each piece of
the canonical answer that never changes ('": {"score": ' and the like) is one token, which makes answers half as long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from mini_training.answer_forms import COMPARISON_SHARE, sample_answer_example
from mini_training.prompt_sampling import CLAUSES, NAMES
from mondrian_core.mini.scene import sample_scene

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
SCAFFOLD = (
    r'\{"dimensional_analysis": \{"|": \{"score": |, "comment": "'
    r'|\."\}, "|"\}, "|\."\}\}, "overall_grade": "|"\}\}, "overall_grade": "|"\}'
)
VOCABULARY_SIZE = 3072
# pieces of advice that follow a text, with and without its full stop, or a box
_AFTER_TEXT = (
    '", "recommendation": "',
    '", "regions": [[',
    '"}}, "strengths": ["',
    '"}}, "priority_improvements": ["',
    '"], "priority_improvements": ["',
    '"], "overall_grade": "',
    '", "',
)
_AFTER_BOX = (
    ']]}, "',
    ']]}}, "overall_grade": "',
    ']]}}, "strengths": ["',
    ']]}}, "priority_improvements": ["',
)
WORDS = (
    r"[a-z]+_[a-z]+|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\x00-\x7F]+| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCABULARY = (
    "exposure contrast highlight shadow tonal range detail texture foreground background middle ground horizon "
    "composition leading lines rule of thirds negative space framing perspective viewpoint camera lens aperture "
    "shutter tripod filter darkroom print negative grain focus sharp soft blur motion depth of field bokeh subject "
    "isolation clutter distraction balance symmetry weight tension rhythm pattern shape form line curve diagonal "
    "vertical horizontal light dramatic soft harsh side back golden hour overcast mist fog cloud storm sky sun moon "
    "mountain valley river lake snow rock tree forest desert dune canyon waterfall ocean beach road path building "
    "house church portrait face hands figure people street color palette warm cool saturated muted harmony mood "
    "emotion atmosphere story serenity grandeur wilderness Yosemite Sierra Zone System previsualization the and of "
    "to a in is that it with as for this on are by but from be an at not more which would could should very strong "
    "weak excellent good fair poor beautiful powerful subtle careful effective successful lacks needs adds creates "
    "draws leads holds frames fills keeps shows gives makes image photograph picture scene viewer eye overall"
)

CHAT_TEMPLATE = """{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}{{- message['content'] -}}
{%- else -%}{%- for item in message['content'] -%}
{%- if item['type'] == 'image' or 'image' in item or 'image_url' in item -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif item['type'] == 'video' or 'video' in item -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif 'text' in item -%}{{- item['text'] -}}
{%- elif 'content' in item -%}{{- item['content'] -}}
{%- endif -%}{%- endfor -%}{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""


def answer_scaffold() -> str:
    """A pattern of the pieces that stay whole; the first alternative that matches is taken, so the longest is first.

    The grammar spells what it forces without the text before it, so a piece must be the same tokens alone as in an
    answer: after a symbol, without a full stop, and between the numbers of a box.
    """
    pieces = [*_AFTER_TEXT, *("." + piece for piece in _AFTER_TEXT), *_AFTER_BOX]
    escaped = [re.sub(r"([.\[\]{}])", r"\\\1", piece) for piece in pieces]
    ordered = sorted([*escaped, *SCAFFOLD.split("|")], key=len, reverse=True)
    return "|".join([*ordered, r"(?<=\d), (?=\d)", r", (?![\s\S])"])


def tokenizer_corpus(seed: int, count: int = 2500) -> Iterator[str]:
    """Prompts and answers of every form, and photographic English."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        example = sample_answer_example(sample_scene(rng), rng, compared=bool(rng.random() < COMPARISON_SHARE))
        # some people leave out the full stop; each piece that never changes must still be one token
        yield example.answer.replace('."', '"') if number % 20 == 0 else example.answer
        if rng.random() < 0.25:
            for message in example.messages:
                yield message["role"] + "\n" + "".join(part.get("text", "") for part in message["content"])
    for _ in range(6):
        yield VOCABULARY
        yield " " + VOCABULARY.title()
        yield " ".join((*CLAUSES, *NAMES))


def train_mini_tokenizer(seed: int) -> Tokenizer:
    """A byte-level BPE of at most `VOCABULARY_SIZE` tokens; ids 0.. are the special tokens, then bytes, then merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"{answer_scaffold()}|{WORDS}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        show_progress=False,
    )
    tokenizer.train_from_iterator(tokenizer_corpus(seed), trainer)
    return tokenizer


def save_mini_tokenizer(tokenizer: Tokenizer, folder: Path, *, min_pixels: int, max_pixels: int) -> None:
    """Write everything that the processor needs besides the model's config and weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "processor_class": "Qwen3VLProcessor",
            "model_max_length": 8192,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "bos_token": None,
            "unk_token": None,
            "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
            "chat_template": CHAT_TEMPLATE,
        },
    )
    _write(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    picture = {
        "processor_class": "Qwen3VLProcessor",
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "min_pixels": min_pixels,
        "max_pixels": max_pixels,
        "size": {"shortest_edge": min_pixels, "longest_edge": max_pixels},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "rescale_factor": 1 / 255,
    }
    _write(folder / "preprocessor_config.json", picture)
    _write(folder / "video_preprocessor_config.json", {**picture, "video_processor_type": "Qwen3VLVideoProcessor"})
    ids = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    _write(
        folder / "generation_config.json",
        {
            "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
            "pad_token_id": ids["<|endoftext|>"],
            "do_sample": False,
        },
    )


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
