"""Skeletons: checkpoints with the layout, tokenizer and settings of a real Qwen-VL, and random weights.

What a skeleton says is noise, so tests on it are about mechanics. The size "tiny" has the real vocabulary and layers
next to no width; the others are the published sizes, whole or cut to a few layers. `skeleton_folder` builds a skeleton
on first use and keeps it in the user's cache (XDG_CACHE_HOME); nothing is downloaded.
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
from tests.skeleton_sizes import SIZES, VisionTower

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
class SkeletonShape:
    """Which checkpoint a skeleton stands for.

    Attributes:
        family: `model_type`: "qwen2_vl", "qwen2_5_vl" or "qwen3_vl".
        size: "tiny", or a published size: "2b", "7b"; "3b", "7b"; "2b", "4b", "8b".
        bits: 16 (bfloat16), 8 or 4 (the language model packed in groups of 64, as mlx-community packs it).
        layers: layers of the language model; None: all.
        vision_layers: layers of the vision tower; None: all.
        tied: whether the embedding is the output layer too; None: as published.
        original: names and array layouts of transformers in two files, as Qwen publishes its checkpoints; False: those
            of mlx-vlm, as mlx-community does. Only in 16 bits.
    """

    family: str = "qwen3_vl"
    size: str = "tiny"
    bits: int = 16
    layers: int | None = None
    vision_layers: int | None = None
    tied: bool | None = None
    original: bool = False

    @property
    def name(self) -> str:
        """Such as "qwen3_vl-4b-4bit", "qwen2_vl-tiny-16bit-untied", "qwen3_vl-4b-4bit-2-layers"."""
        cut = [f"{count}-{what}" for count, what in ((self.layers, "layers"), (self.vision_layers, "vision")) if count]
        tied = [] if self.tied is None else ["tied" if self.tied else "untied"]
        original = ["original"] if self.original else []
        return "-".join([self.family, self.size, f"{self.bits}bit", *cut, *tied, *original])


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
    for file in (
        Path(__file__),
        Path(__file__).with_name("skeleton_sizes.py"),
        PACKED,
        PACKED.with_name(_TEMPLATES[shape.family]),
    ):
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
        ValueError: no such size was published, or not packed.
        FileExistsError: the folder exists.
    """
    configuration = skeleton_configuration(shape)
    if shape.original and shape.bits < 16:
        raise ValueError("Qwen publishes 16-bit weights; packed ones have mlx-vlm's names")
    folder.mkdir(parents=True)
    write_processor_files(shape.family, folder)
    model, packing = _random_model(configuration, shape.bits, seed)
    (_save_as_published if shape.original else _save_as_mlx)(shape.family, model, folder)
    _write_json(folder / "config.json", configuration | packing)
    return folder


def skeleton_configuration(shape: SkeletonShape) -> dict[str, Any]:
    """config.json as it is published, of fewer layers or with another output layer where the shape says so.

    Raises:
        ValueError: no such size was published.
    """
    size = SIZES.get((shape.family, shape.size))
    if size is None:
        raise ValueError(f"no {shape.family} of size {shape.size!r}; there are {', '.join(map('/'.join, SIZES))}")
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


def _vision_configuration(family: str, tower: VisionTower, width: int) -> dict[str, Any]:
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


def _random_model(configuration: dict[str, Any], bits: int, seed: int) -> tuple[Any, dict[str, Any]]:
    """mlx-vlm's model with random bfloat16 weights, packed by its converter, and what that adds to config.json."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_vlm.quant_utils import quantize_model
    from mlx_vlm.utils import get_model_and_args, skip_multimodal_module, update_module_configs

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
    return model, packing


def _save_as_mlx(_family: str, model: Any, folder: Path) -> None:
    from mlx_vlm.utils import save_weights

    save_weights(folder, model, donate_weights=True)


def _save_as_published(family: str, model: Any, folder: Path) -> None:
    """Under transformers' names and with its layout of convolutions, in two files and their index."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    text, vision = ("model.language_model.", "model.visual.") if family == "qwen3_vl" else ("model.", "visual.")
    tensors = {}
    for name, array in tree_flatten(model.parameters()):
        published = name.removeprefix("language_model.") if "lm_head" in name else name
        published = published.replace("language_model.model.", text, 1).replace("vision_tower.", vision, 1)
        convolution = published.endswith("patch_embed.proj.weight")
        tensors[published] = array.transpose(0, 4, 1, 2, 3) if convolution else array
    names = sorted(tensors)
    files = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        mx.save_safetensors(str(folder / file), {name: tensors[name] for name in part}, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    size = sum(array.nbytes for array in tensors.values())
    _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": files})


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
