"""`python -m bench.memory_table > docs/reference/memory.md`: which training fits into which Mac, predicted from sizes.

No weights are read and nothing is measured: sizes come from the published configurations, the prediction is the one
that a training uses. A test compares the page with this module.
"""

from __future__ import annotations

from dataclasses import dataclass

from mondrian_core.models.model_memory import (
    ModelSize,
    ServingLoad,
    configured_model_size,
    predict_serving_memory,
    usable_memory,
)
from mondrian_core.models.service_memory import LARGEST_PHOTOGRAPH_TOKENS, PROMPT_TOKENS
from mondrian_core.recipes import TrainRecipe
from mondrian_core.rubric import MAX_ANSWER_TOKENS
from mondrian_core.training.memory import TrainingLoad, plan_training_memory, predict_training_memory
from tests.skeleton_bases import SkeletonShape, skeleton_configuration

MACHINES = (16, 24, 32, 64)  # GB
RANKS = (8, 32)
ADAPTER_CACHE_BYTES = 512 << 20
_METAL_ITEM_BYTES = 2


@dataclass(frozen=True)
class PublishedBase:
    """A published base, by family and size."""

    name: str
    family: str
    size: str

    def sizes(self, bits: int) -> ModelSize:
        """Its sizes on Metal."""
        shape = SkeletonShape(family=self.family, size=self.size, bits=bits)
        configuration = skeleton_configuration(shape)
        if bits < 16:
            configuration["quantization"] = {"group_size": 64, "bits": bits}
        return configured_model_size(configuration, _METAL_ITEM_BYTES)


BASES = (
    PublishedBase("Qwen2-VL-2B", "qwen2_vl", "2b"),
    PublishedBase("Qwen2.5-VL-3B", "qwen2_5_vl", "3b"),
    PublishedBase("Qwen3-VL-2B", "qwen3_vl", "2b"),
    PublishedBase("Qwen3-VL-4B", "qwen3_vl", "4b"),
    PublishedBase("Qwen3-VL-8B", "qwen3_vl", "8b"),
)
ROWS = (
    TrainingLoad(tokens=1216, answer_tokens=352, image_tokens=576, validation_rows=20, answered_rows=8),
    TrainingLoad(tokens=2048, answer_tokens=736, image_tokens=1024, validation_rows=20, answered_rows=8),
)


def memory_page() -> str:
    """docs/reference/memory.md."""
    tables = [*_INTRODUCTION, "", *_training_table(), "", *_SERVICE, "", *_service_table(), "", *_AFTER]
    return "\n".join(tables) + "\n"


def _training_table() -> list[str]:
    head = ["base", "bits", "rank", "longest row", "GB, with checkpointing", *(f"{size} GB" for size in MACHINES)]
    lines = [_line(head), _line(["---", *["---:"] * 4, *["---"] * len(MACHINES)])]
    for base in BASES:
        for bits in (4, 16):
            sizes = base.sizes(bits)
            for rank in RANKS:
                for load in ROWS:
                    lines.append(_training_line(base.name, bits, sizes, TrainRecipe(rank=rank), load))
    return lines


def _training_line(name: str, bits: int, size: ModelSize, recipe: TrainRecipe, load: TrainingLoad) -> str:
    plain, saving = (
        predict_training_memory(size, recipe, load, checkpointing=checkpointing) for checkpointing in (False, True)
    )
    verdicts = [_verdict(size, recipe, load, usable_memory(machine * 10**9)) for machine in MACHINES]
    needs = f"{plain.peak / 1e9:.1f}, {saving.peak / 1e9:.1f}"
    return _line([name, str(bits), str(recipe.rank), f"{load.tokens:,}", needs, *verdicts])


def _verdict(size: ModelSize, recipe: TrainRecipe, load: TrainingLoad, available: int) -> str:
    plan = plan_training_memory(size, recipe, load, 1, available)
    if not plan.fits:
        return "**no**"
    return "checkpointing" if plan.checkpointing else "fits"


def _service_table() -> list[str]:
    head = ["base", "bits", "service, GB", *(f"{size} GB" for size in MACHINES)]
    lines = [_line(head), _line(["---", "---:", "---:", *["---"] * len(MACHINES)])]
    recipe, load = TrainRecipe(), ROWS[0]
    for base in BASES:
        for bits in (4, 16):
            size = base.sizes(bits)
            held = served_bytes(size)
            verdicts = [
                "service: **no**" if held > usable else _verdict(size, recipe, load, usable - held)
                for usable in (usable_memory(machine * 10**9) for machine in MACHINES)
            ]
            lines.append(_line([base.name, str(bits), f"{held / 1e9:.1f}", *verdicts]))
    return lines


def served_bytes(size: ModelSize) -> int:
    """Bytes of a service with the largest photographs and the longest answers."""
    return predict_serving_memory(
        size,
        ServingLoad(
            text_tokens=PROMPT_TOKENS,
            image_tokens=LARGEST_PHOTOGRAPH_TOKENS,
            answer_tokens=MAX_ANSWER_TOKENS,
            adapter_bytes=ADAPTER_CACHE_BYTES,
        ),
    ).peak


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


_INTRODUCTION = (
    "# Memory",
    "",
    "Which training fits into which Mac. **Predicted from sizes, not measured on Metal.** The prediction is the one",
    "that `mondrian train` uses before its first step; on the CPU it is compared with measured peaks",
    "([experiments](../experiments/training.md)). `mondrian train --advisor A --dry-run` predicts your own training",
    "and probes two layers of your base.",
    "",
    "What is assumed:",
    "",
    "- MLX may use two thirds of the memory up to 36 GB and three quarters above, about what macOS recommends for the",
    "  GPU. On a Mac the recommendation itself is used; MONDRIAN_MEMORY_GB sets another limit. A GB is 10^9 bytes.",
    "- Numbers are computed in 16 bits, one row at a time; all seven kinds of linear layers are adapted.",
    "- Attention and norms are not fused while training, as on the CPU. Kernels that fuse them take less.",
    "- The rest is the default recipe, with 20 validation rows. 1,216 tokens are a photograph of 1024 x 576 pixels",
    "  with an English critique; 2,048 are one of 1024 x 1024 with a critique of twice that length.",
    "",
    "*fits*: without checkpointing. *checkpointing*: layers are computed twice, which takes about a third longer;",
    '`gradient_checkpointing = "auto"` switches it on. **no**: refused before the first step, with what to change.',
)
_SERVICE = (
    "## While a service runs",
    "",
    "A service keeps its base in memory while a training runs; the two only take turns at computing. So a training",
    "counts what the services on this machine may take at most (base, adapters, the longest answer about the largest",
    "photograph) as gone. It then computes with checkpointing, or is refused with the advice to stop the service",
    "meanwhile. A service that starts during a training is refused if both don't fit, with the name of the training.",
    "The table: rank 8, rows of 1,216 tokens, and a service of the same base on the same machine.",
)
_AFTER = (
    "## What to change",
    "",
    "The refusal names each change that would suffice for this training:",
    "",
    "1. `mondrian down` during the training, and `mondrian up` after it.",
    '2. `gradient_checkpointing = "auto"`, if the recipe has it off.',
    "3. A smaller `max_tokens`, with shorter critiques or smaller photographs: attention grows with the square of the",
    "   tokens.",
    "4. A smaller `rank`: it matters where the adapter is large compared with a layer.",
    "5. A packed base (4 bits), or a smaller one.",
    "",
    "This page is made by `python -m bench.memory_table > docs/reference/memory.md`.",
)


if __name__ == "__main__":
    print(memory_page(), end="")
