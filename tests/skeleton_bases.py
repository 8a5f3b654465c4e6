"""Skeletons: checkpoints with the layout, tokenizer and settings of a real Qwen-VL, and random weights.

What a skeleton says is noise, so tests on it are about mechanics. The size "tiny" has the real vocabulary and layers
next to no width; the others are the published sizes, whole or cut to a few layers. `skeleton_folder` builds a skeleton
on first use and keeps it in the user's cache (XDG_CACHE_HOME); nothing is downloaded.

Sources: config.json of Qwen/Qwen3-VL-{2,4,8}B-Instruct, Qwen2-VL-{2,7}B-Instruct and Qwen2.5-VL-{3,7}B-Instruct.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from tests.real_tokenizer import PACKED, tokenizer_json

STANDARD_DEVIATION = 0.02  # of the weights: `initializer_range` of all three families
UNUSED_DAYS = 7  # after which a kept skeleton is deleted
_IDS = {
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_end_token_id": 151653,
    "vision_start_token_id": 151652,
}
_END_OF_TURN, _END_OF_TEXT = 151645, 151643
_TEMPLATES = {"qwen2_vl": "qwen2-vl.jinja", "qwen2_5_vl": "qwen2-vl.jinja", "qwen3_vl": "qwen3-vl.jinja"}
_PROCESSORS = {"qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor", "qwen3_vl": "Qwen3VLProcessor"}
_ARCHITECTURES = {kind: name.replace("Processor", "ForConditionalGeneration") for kind, name in _PROCESSORS.items()}
_LONGEST_INPUT = {"qwen2_vl": 32768, "qwen2_5_vl": 131072, "qwen3_vl": 262144}  # tokens


@dataclass(frozen=True, kw_only=True)
class _Tower:
    """A vision tower: layers, width, heads, MLP width, and the layers that are special in its family.

    `special` are DeepStack's layers in Qwen3-VL and the ones with full attention in Qwen2.5-VL.
    """

    depth: int
    width: int
    heads: int
    mlp: int
    special: tuple[int, ...] = ()

    def cut(self, depth: int | None) -> _Tower:
        """The first `depth` layers, with as many special ones as fit, spread as in the whole tower."""
        kept = depth or self.depth
        places = {max(0, round((place + 1) * kept / self.depth) - 1) for place in self.special}
        return _Tower(depth=kept, width=self.width, heads=self.heads, mlp=self.mlp, special=tuple(sorted(places)))


@dataclass(frozen=True, kw_only=True)
class _Size:
    """A published size of the language model, with its vision tower; heads are 128 wide in all of them."""

    width: int
    layers: int
    heads: int
    key_value_heads: int
    mlp: int
    tower: _Tower
    tied: bool = True
    vocabulary: int = 151936


_TINY: dict[str, Any] = {"width": 256, "layers": 4, "mlp": 512}
_TOWER2 = _Tower(depth=32, width=1280, heads=16, mlp=5120)
_TOWER2_5 = _Tower(depth=32, width=1280, heads=16, mlp=3420, special=(7, 15, 23, 31))
_TOWER3 = _Tower(depth=24, width=1024, heads=16, mlp=4096, special=(5, 11, 17))
_TOWER3_8B = _Tower(depth=27, width=1152, heads=16, mlp=4304, special=(8, 16, 24))
_UNTIED: dict[str, Any] = {"tied": False, "vocabulary": 152064}
_SIZES = {
    ("qwen2_vl", "tiny"): _Size(
        **_TINY, heads=2, key_value_heads=1, tower=_Tower(depth=4, width=160, heads=2, mlp=640)
    ),
    ("qwen2_vl", "2b"): _Size(width=1536, layers=28, heads=12, key_value_heads=2, mlp=8960, tower=_TOWER2),
    ("qwen2_vl", "7b"): _Size(width=3584, layers=28, heads=28, key_value_heads=4, mlp=18944, tower=_TOWER2, **_UNTIED),
    ("qwen2_5_vl", "tiny"): _Size(
        **_TINY, heads=2, key_value_heads=1, tower=_Tower(depth=4, width=160, heads=2, mlp=420, special=(1, 3))
    ),
    ("qwen2_5_vl", "3b"): _Size(width=2048, layers=36, heads=16, key_value_heads=2, mlp=11008, tower=_TOWER2_5),
    ("qwen2_5_vl", "7b"): _Size(
        width=3584, layers=28, heads=28, key_value_heads=4, mlp=18944, tower=_TOWER2_5, **_UNTIED
    ),
    ("qwen3_vl", "tiny"): _Size(
        **_TINY, heads=4, key_value_heads=2, tower=_Tower(depth=6, width=128, heads=2, mlp=256, special=(1, 3, 5))
    ),
    ("qwen3_vl", "2b"): _Size(width=2048, layers=28, heads=16, key_value_heads=8, mlp=6144, tower=_TOWER3),
    ("qwen3_vl", "4b"): _Size(width=2560, layers=36, heads=32, key_value_heads=8, mlp=9728, tower=_TOWER3),
    ("qwen3_vl", "8b"): _Size(
        width=4096, layers=36, heads=32, key_value_heads=8, mlp=12288, tower=_TOWER3_8B, tied=False
    ),
}


@dataclass(frozen=True, kw_only=True)
class SkeletonShape:
    """Which checkpoint a skeleton stands for.

    Attributes:
        family: `model_type`: "qwen2_vl", "qwen2_5_vl" or "qwen3_vl".
        size: "tiny", or a published size: "2b", "7b"; "3b", "7b"; "2b", "4b", "8b".
        bits: 16 (bfloat16), 8 or 4 (the language model packed in groups of 64, as mlx-community packs it).
        layers: layers of the language model; None: all.
        vision_layers: layers of the vision tower; None: all.
        tied: whether the embedding is the output layer too; None: as published.
    """

    family: str = "qwen3_vl"
    size: str = "tiny"
    bits: int = 16
    layers: int | None = None
    vision_layers: int | None = None
    tied: bool | None = None

    @property
    def name(self) -> str:
        """Such as "qwen3_vl-4b-4bit", "qwen2_vl-tiny-16bit-untied", "qwen3_vl-4b-4bit-2-layers"."""
        cut = [f"{count}-{what}" for count, what in ((self.layers, "layers"), (self.vision_layers, "vision")) if count]
        tied = [] if self.tied is None else ["tied" if self.tied else "untied"]
        return "-".join([self.family, self.size, f"{self.bits}bit", *cut, *tied])


def skeleton_folder(shape: SkeletonShape) -> Path:
    """The folder of a skeleton, built if it isn't in the cache; treat it as read-only.

    Its name has a digest of what it is made from, so a changed builder or mlx-vlm builds it again.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mondrian-tests"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{shape.name}-{_digest(shape)}"
    with FileLock(cache / f"{shape.name}.lock"):
        _delete_unused(cache)
        if not folder.is_dir():
            partial = cache / f"{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            build_skeleton_base(shape, partial)
            partial.rename(folder)
        os.utime(folder)
    return folder


def _digest(shape: SkeletonShape) -> str:
    found = hashlib.sha256(repr(asdict(shape)).encode())
    for file in (Path(__file__), PACKED, PACKED.with_name(_TEMPLATES[shape.family])):
        found.update(file.read_bytes())
    for package in ("mlx", "mlx-vlm"):
        found.update(importlib.metadata.version(package).encode())
    return found.hexdigest()[:12]


def _delete_unused(cache: Path) -> None:
    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    for folder in cache.iterdir():
        if folder.is_dir() and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)


def build_skeleton_base(shape: SkeletonShape, folder: Path, *, seed: int = 0) -> Path:
    """Write a skeleton into a new folder and return it; the same seed gives the same weights.

    Raises:
        ValueError: no such size was published.
        FileExistsError: the folder exists.
    """
    configuration = skeleton_configuration(shape)
    folder.mkdir(parents=True)
    write_processor_files(shape.family, folder)
    _write_json(folder / "config.json", configuration | _write_weights(configuration, shape.bits, seed, folder))
    return folder


def skeleton_configuration(shape: SkeletonShape) -> dict[str, Any]:
    """config.json as it is published, of fewer layers or with another output layer where the shape says so.

    Raises:
        ValueError: no such size was published.
    """
    size = _SIZES.get((shape.family, shape.size))
    if size is None:
        raise ValueError(f"no {shape.family} of size {shape.size!r}; there are {', '.join(map('/'.join, _SIZES))}")
    tied = size.tied if shape.tied is None else shape.tied
    text = {
        "attention_dropout": 0.0,
        "bos_token_id": _END_OF_TEXT,
        "eos_token_id": _END_OF_TURN,
        "hidden_act": "silu",
        "hidden_size": size.width,
        "initializer_range": STANDARD_DEVIATION,
        "intermediate_size": size.mlp,
        "num_attention_heads": size.heads,
        "num_hidden_layers": shape.layers or size.layers,
        "num_key_value_heads": size.key_value_heads,
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": tied,
        "use_cache": True,
        "vocab_size": size.vocabulary,
    }
    whole = {"architectures": [_ARCHITECTURES[shape.family]], "model_type": shape.family, **_IDS}
    tower = size.tower.cut(shape.vision_layers)
    if shape.family == "qwen3_vl":
        return {
            **whole,
            "text_config": text | _QWEN3_TEXT,
            "tie_word_embeddings": tied,
            "transformers_version": "4.57.0.dev0",
            "vision_config": _vision_configuration(shape.family, tower, size.width),
        }
    return {
        **whole,
        **text,
        "max_position_embeddings": 128000 if shape.family == "qwen2_5_vl" else 32768,
        "max_window_layers": size.layers,
        "rope_scaling": {"mrope_section": [16, 24, 24], "type": "mrope"},
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.41.2",
        "use_sliding_window": False,
        "vision_config": _vision_configuration(shape.family, tower, size.width),
        "vision_token_id": 151654,
    }


_QWEN3_TEXT = {
    "attention_bias": False,
    "dtype": "bfloat16",
    "head_dim": 128,
    "max_position_embeddings": 262144,
    "model_type": "qwen3_vl_text",
    "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
    "rope_theta": 5000000,
}


def _vision_configuration(family: str, tower: _Tower, width: int) -> dict[str, Any]:
    """`vision_config`; `width` is that of the language model."""
    common = {"depth": tower.depth, "num_heads": tower.heads, "spatial_merge_size": 2, "temporal_patch_size": 2}
    if family == "qwen2_vl":
        own = {"embed_dim": tower.width, "hidden_size": width, "mlp_ratio": tower.mlp // tower.width}
        return {**common, **own, "in_chans": 3, "patch_size": 14, "spatial_patch_size": 14}
    common |= {"hidden_size": tower.width, "intermediate_size": tower.mlp, "out_hidden_size": width}
    if family == "qwen2_5_vl":
        windows = {"fullatt_block_indexes": list(tower.special), "window_size": 112, "tokens_per_second": 2}
        return {**common, **windows, "hidden_act": "silu", "in_chans": 3, "patch_size": 14, "spatial_patch_size": 14}
    return {
        **common,
        "deepstack_visual_indexes": list(tower.special),
        "hidden_act": "gelu_pytorch_tanh",
        "in_channels": 3,
        "initializer_range": STANDARD_DEVIATION,
        "model_type": family,
        "num_position_embeddings": 2304,
        "patch_size": 16,
    }


def write_processor_files(family: str, folder: Path) -> None:
    """Tokenizer, chat template, and the settings of the image processor and of sampling, as they are published."""
    contents = tokenizer_json()
    (folder / "tokenizer.json").write_bytes(contents)
    added = json.loads(contents)["added_tokens"]
    template = PACKED.with_name(_TEMPLATES[family]).read_text()
    (folder / "chat_template.jinja").write_text(template)
    _write_json(folder / "chat_template.json", {"chat_template": template})
    _write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": {str(token["id"]): _without_id(token) for token in added},
            "additional_special_tokens": [token["content"] for token in added[1:14]],
            "bos_token": None,
            "chat_template": template,
            "clean_up_tokenization_spaces": False,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": _LONGEST_INPUT[family],
            "pad_token": "<|endoftext|>",
            "processor_class": _PROCESSORS[family],
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    )
    _write_json(folder / "preprocessor_config.json", _image_settings(family))
    cold = {"temperature": 0.01, "top_k": 1, "top_p": 0.001}
    warm = {"temperature": 0.7, "top_k": 20, "top_p": 0.8}
    ends = {"bos_token_id": _END_OF_TEXT, "eos_token_id": [_END_OF_TURN, _END_OF_TEXT], "pad_token_id": _END_OF_TEXT}
    sampling = {"do_sample": True, "repetition_penalty": 1.0, **(warm if family == "qwen3_vl" else cold)}
    _write_json(folder / "generation_config.json", {**ends, **sampling})
    if family == "qwen3_vl":
        kind = dict.fromkeys(("image_processor_type", "video_processor_type"), "Qwen3VLVideoProcessor")
        size = {"longest_edge": 25165824, "shortest_edge": 4096}
        _write_json(folder / "video_preprocessor_config.json", {**_image_settings(family), **kind, "size": size})


def _without_id(token: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in token.items() if key != "id"}


def _image_settings(family: str) -> dict[str, Any]:
    common = {"merge_size": 2, "temporal_patch_size": 2, "processor_class": _PROCESSORS[family]}
    if family == "qwen3_vl":
        half = [0.5, 0.5, 0.5]
        size = {"longest_edge": 16777216, "shortest_edge": 65536}
        kind = {"image_processor_type": "Qwen2VLImageProcessorFast", "patch_size": 16, "size": size}
        return {**common, **kind, "image_mean": half, "image_std": half}
    return {
        **common,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "max_pixels": 12845056,
        "min_pixels": 3136,
        "patch_size": 14,
    }


def _write_weights(configuration: dict[str, Any], bits: int, seed: int, folder: Path) -> dict[str, Any]:
    """Random bfloat16 weights under mlx-vlm's names, packed by its converter; returns what that adds to config.json."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_vlm.quant_utils import quantize_model
    from mlx_vlm.utils import get_model_and_args, save_weights, skip_multimodal_module, update_module_configs

    values = copy.deepcopy(configuration)  # mlx-vlm changes it
    library, _ = get_model_and_args(values)
    values.setdefault("text_config", {})
    shape = update_module_configs(library.ModelConfig.from_dict(values), library, values, ["text", "vision"])
    model = library.Model(shape)
    key = mx.random.key(seed)
    drawn = []
    for name, array in tree_flatten(model.parameters()):
        key, own = mx.random.split(key)
        drawn.append((name, _drawn(name, array.shape, own)))
    model.load_weights(drawn)
    del drawn
    packing: dict[str, Any] = {}
    if bits < 16:
        model, packed = quantize_model(
            model, configuration, 64, bits, quant_predicate=lambda path, _: not skip_multimodal_module(path)
        )
        packing = {name: packed[name] for name in ("quantization", "quantization_config")}
    for _, module in model.named_modules():
        if not tree_flatten(module.children()):  # one layer after the other, so that few unpacked weights are in memory
            mx.eval(module.parameters())
    save_weights(folder, model, donate_weights=True)
    return packing


def _drawn(name: str, shape: tuple[int, ...], key: Any) -> Any:
    """Norms as a training begins with them; everything else uniform, which takes a third of the time of normal."""
    import mlx.core as mx

    module, _, kind = name.rpartition(".")
    if "norm" in module.rpartition(".")[2]:
        return (mx.ones if kind == "weight" else mx.zeros)(shape, mx.bfloat16)
    reach = STANDARD_DEVIATION * 3**0.5
    return mx.random.uniform(-reach, reach, shape, mx.bfloat16, key=key)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
