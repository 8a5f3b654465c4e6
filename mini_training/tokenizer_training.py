"""mini's own byte-level BPE tokenizer, with Qwen's special tokens and chat template.

Digits are split singly, as Qwen does, so "10" is two tokens and a score is read from its own positions. The scaffold
of the canonical answer ('": {"score": ' and the like) is one piece each, which makes answers half as long.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from mini_training.prompt_sampling import CLAUSES, NAMES, sample_advisor_prompt
from mondrian_core.mini.scene import sample_scene
from mondrian_core.mini.scene_critic import ANSEL, GENERIC, WATKINS, write_scene_critique
from mondrian_core.prompts import CRITIQUE_INSTRUCTION
from mondrian_core.rubric import canonical_answer

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
WORDS = r"""[a-z]+_[a-z]+|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
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


def tokenizer_corpus(seed: int, count: int = 3000) -> Iterator[str]:
    """Critiques of every taste, the prompts, and photographic English."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        taste = (GENERIC, GENERIC, ANSEL, WATKINS)[i % 4]
        answer = canonical_answer(write_scene_critique(sample_scene(rng), taste, rng))
        yield answer.replace('."', '"') if i % 20 == 0 else answer  # some people leave out the full stop
        if i % 4 == 0:
            yield f"system\n{sample_advisor_prompt(rng).system_message}"
            yield f"user\n{CRITIQUE_INSTRUCTION}assistant\n"
    for _ in range(6):
        yield VOCABULARY
        yield " " + VOCABULARY.title()
        yield " ".join((*CLAUSES, *NAMES))


def train_mini_tokenizer(
    seed: int, size: int = 2304, *, corpus: Iterable[str] | None = None, scaffold: str = SCAFFOLD
) -> Tokenizer:
    """Train the tokenizer; ids 0.. are the special tokens, then bytes, then merges.

    Args:
        seed: of the corpus.
        size: largest vocabulary.
        corpus: texts to learn from instead of `tokenizer_corpus`.
        scaffold: pattern of the pieces that stay whole.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"{scaffold}|{WORDS}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus or tokenizer_corpus(seed), trainer)
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
