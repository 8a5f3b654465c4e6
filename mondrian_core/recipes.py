"""Frozen, typed settings of every stage of a retraining.

A recipe is a TOML file with the tables below; a table or a key that is left out keeps its default. Unknown keys fail,
and all mistakes of a file are reported at once. Its digest goes into the adapter's manifest.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mondrian_core.errors import BadRecipe
from mondrian_core.rubric import MAX_ANSWER_TOKENS

MAX_SEED = 2**63 - 1  # random generators take 64 bits
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]

BUNDLED_RECIPES_FOLDER = Path(__file__).resolve().parent / "recipe_files"
DEFAULT_RECIPE = "default"
SMALL_SET_RECIPE = "small-set"
SMALL_SET_THRESHOLD = 20  # critiques; with fewer a retraining that was given no recipe uses that one
REMOVED_KEYS = frozenset({("data", "wording")})  # in recipes that earlier releases recorded with a run


class _RecipeTable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _a_truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`rank = true` would be read as 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError("true and false are not accepted here")
        return value


class DataRecipe(_RecipeTable):
    """How critiques become rows."""

    validation_fraction: float = Field(
        default=0.15, ge=0.0, le=0.5, description="share of photographs kept for validation"
    )
    test_fraction: float = Field(default=0.25, ge=0.0, le=0.5, description="share kept for the frozen test")
    test_from: int = Field(default=50, ge=1, description="number of photographs from which on there is a frozen test")
    flips: bool = Field(default=True, description="add a mirrored copy, left and right swapped in the text")
    exposure_stops: float = Field(default=0.2, ge=0.0, le=1.0, description="+- stops in linear light; 0: none")
    least_crop: float = Field(
        default=0.97, ge=0.9, le=1.0, description="share of both sides that a crop keeps at least; 1: no crops"
    )
    rotation_degrees: float = Field(
        default=0.0, ge=0.0, le=5.0, description="largest rotation, cut to the inscribed rectangle; 0: none"
    )
    variants: int = Field(default=2, ge=0, le=8, description="augmented copies per training photograph")
    variations: int = Field(
        default=0, ge=0, le=3, description="the same critique in other words, copies per photograph"
    )
    synthetic_share: float = Field(
        default=0.5, ge=0.0, le=0.5, description="most that reviewed drafts may be of the training rows; 0: none"
    )
    seed: Seed = 0

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.validation_fraction + self.test_fraction > 0.8:
            raise ValueError(
                "validation_fraction and test_fraction together leave too little to train on (at most 0.8)"
            )
        return self


class SynthesizeRecipe(_RecipeTable):
    """How critiques are drafted for a person to review."""

    photographs: int = Field(default=20, ge=1, le=1000, description="drafts that one run makes at most")
    calibration_photographs: int = Field(
        default=24, ge=5, description="training photographs on which base and advisor are compared"
    )


class TrainRecipe(_RecipeTable):
    """How a LoRA adapter is trained."""

    rank: int = Field(default=8, ge=1, le=256)
    alpha: float = Field(default=16.0, gt=0)
    rslora: bool = Field(default=False, description="the product is scaled by alpha / sqrt(rank), not by alpha / rank")
    dora: bool = Field(default=False, description="also learn the length of every row of the adapted weights (DoRA)")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    target_modules: tuple[str, ...] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"), min_length=1
    )
    epochs: int = Field(default=4, ge=1, le=100)
    accumulation: int = Field(default=4, ge=1, le=256, description="rows per optimizer step, weighted by tokens")
    learning_rate: float | None = Field(
        default=None, gt=0, le=1.0, description="peak; left out: 2e-4 x (2560 / width of the base)^0.775"
    )
    warmup_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)
    final_rate_fraction: float = Field(
        default=0.1, ge=0.0, le=1.0, description="learning rate at the end of the cosine"
    )
    weight_decay: float = Field(default=0.0, ge=0.0)
    clip_norm: float = Field(default=1.0, gt=0, description="global norm")
    score_weight: float = Field(
        default=4.0, ge=1.0, description="weight of a score token in the loss; other tokens have 1"
    )
    score_spread: float = Field(
        default=0.0, ge=0.0, le=3.0, description="standard deviation (points) of a score's target; 0: the digit alone"
    )
    score_value: float = Field(
        default=0.0, ge=0.0, le=100.0, description="weight of the squared error of the expected score, in score_weight"
    )
    patience: int = Field(default=2, ge=1, description="epochs without a better figure before it stops")
    answered_photographs: int = Field(
        default=8, ge=0, description="validation photographs that are also answered after each epoch; 0: none"
    )
    choose_by: Literal["loss", "score_error"] = Field(
        default="loss", description="figure of the validation photographs by which the best epoch is chosen"
    )
    preference_epochs: int = Field(
        default=0, ge=0, le=50, description="epochs of preference tuning (DPO) after the training; 0: none"
    )
    preference_beta: float = Field(
        default=0.1, gt=0, le=10, description="how much a difference of log-likelihoods (nats) counts as a reward"
    )
    preference_reference: Literal["base", "start"] = Field(
        default="base", description="what likelihoods are compared with: the base alone, or the adapter as trained"
    )
    preference_learning_rate: float | None = Field(
        default=None, gt=0, le=1.0, description="peak of preference tuning; left out: a tenth of learning_rate"
    )
    preference_nll: float = Field(
        default=1.0, ge=0.0, description="weight of the chosen answer's own loss beside the preference; 0: none"
    )
    preference_smoothing: float = Field(
        default=0.0, ge=0.0, lt=0.5, description="share of the pairs that may be the wrong way round"
    )
    preference_others: int = Field(
        default=1, ge=0, le=20, description="critiques of other photographs that each one is held against; 0: none"
    )
    preference_pairs: int = Field(
        default=8, ge=1, description="with fewer pairs there is no preference tuning, and the log says so"
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        default="auto", description="layers computed again for the gradient; auto: where memory would be short"
    )
    max_tokens: int = Field(
        default=4096,
        ge=64,
        description="prompt, photograph and answer; a longer row is left out of the dataset and stops a training",
    )
    seed: Seed = 0

    @model_validator(mode="after")
    def _something_to_choose_by(self) -> Self:
        if self.choose_by == "score_error" and not self.answered_photographs:
            raise ValueError("choose_by: score_error needs answered_photographs above 0")
        return self


class EvaluateRecipe(_RecipeTable):
    """How much is measured."""

    compliance_photographs: int = Field(
        default=120, ge=1, description="photographs for format compliance; no labels needed"
    )
    constrained_photographs: int = Field(
        default=8, ge=0, description="photographs also answered under the schema; 0: none"
    )
    edited_photographs: int = Field(
        default=8, ge=0, description="photographs of which edited copies (blurred, tilted, dark, invisible) are judged"
    )
    rag: bool = Field(default=True, description="also ask the base with the advisor's similar photographs, as a rival")
    temperature: float = Field(
        default=0.0,
        ge=0.0,
        le=2.0,
        description="of the answers that are judged; 0: greedy, above: sampled with the seed",
    )
    folds: int = Field(
        default=0,
        ge=0,
        le=20,
        description="retrain so many times on the other photographs; a small set is then trained on whole (gates.md); "
        "0: don't",
    )
    latency_pairs: int = Field(
        default=12, ge=3, description="interleaved pairs base/candidate; up to four times as many while it is undecided"
    )
    latency_tokens: int = Field(default=64, ge=8, description="forced output length of a timed answer")
    max_tokens: int = Field(
        default=MAX_ANSWER_TOKENS,
        ge=64,
        le=MAX_ANSWER_TOKENS,
        description="an answer that reaches this is counted as cut; the service cuts at the default",
    )
    effect_photographs: int = Field(
        default=8, ge=1, description="photographs on which the effect on the base is measured"
    )
    seed: Seed = 0

    @model_validator(mode="after")
    def _more_than_one_fold(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds: at least 2, or 0 for none")
        return self


class GateRecipe(_RecipeTable):
    """Thresholds of the gates (PRODUCT: gates that decide a promotion)."""

    compliance_observed: float = Field(default=0.95, ge=0, le=1)
    compliance_bound: float = Field(default=0.90, ge=0, le=1, description="exact one-sided 95 % lower bound")
    base_compliance: float = Field(default=0.90, ge=0, le=1, description="reported only")
    overhead_ratio: float = Field(default=1.10, gt=0, description="median and upper 95 % bound of candidate/base")
    score_improvement: float = Field(default=0.05, ge=0, lt=1, description="relative drop of the mean squared error")
    p_value: float = Field(default=0.05, gt=0, lt=1, description="one-sided, paired over photographs")
    effect_floor: float = Field(default=1e-4, ge=0, description="mean KL (nats) over scored tokens")
    non_inferiority_margin: float = Field(
        default=0.10, ge=0, description="relative rise of the error that is still not worse"
    )
    score_photographs: int = Field(default=8, ge=5, description="fewer photographs give no verdict on scores")
    modal_share: float = Field(default=0.9, gt=0.5, le=1, description="one score this often is a collapsed dimension")
    truncated_share: float = Field(default=0.02, ge=0, lt=1, description="share of the answers that may be cut")
    stuttering_share: float = Field(
        default=0.1, ge=0, lt=1, description="share of the answers that may stutter or be no text at all"
    )
    violated_share: float = Field(
        default=0.5, gt=0, le=1, description="share of edited copies that may be judged the wrong way round"
    )
    dependence_kept: float = Field(
        default=0.75, ge=0, le=1, description="share of the base's dependence on the photograph that must be left"
    )
    failed_share: float = Field(
        default=0.05, ge=0, lt=1, description="share of photographs without any answer that a verdict can bear"
    )
    seconds_per_photograph: float = Field(default=3.0, gt=0, description="absolute; a gate on Metal only")


class PromoteRecipe(_RecipeTable):
    """How a version that passed every gate becomes the champion."""

    rollout: bool = Field(
        default=False, description="begin with a share of the photographs that grows by itself (docs/rollout.md)"
    )


class Recipe(_RecipeTable):
    """All settings of one retraining."""

    name: str = "default"
    data: DataRecipe = DataRecipe()
    synthesize: SynthesizeRecipe = SynthesizeRecipe()
    train: TrainRecipe = TrainRecipe()
    evaluate: EvaluateRecipe = EvaluateRecipe()
    gates: GateRecipe = GateRecipe()
    promote: PromoteRecipe = PromoteRecipe()

    @property
    def digest(self) -> str:
        """SHA-256 of the values, hexadecimal; the same values give the same digest on any machine."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def bundled_recipes() -> dict[str, Path]:
    """The recipes that come with Mondrian, by name; DEFAULT is none of them, it has no file."""
    return {path.stem: path for path in sorted(BUNDLED_RECIPES_FOLDER.glob("*.toml"))}


def resolve_recipe(given: Recipe | str | None) -> Recipe:
    """The recipe itself, from its values or its name; None is the default.

    Raises:
        BadRecipe: no recipe has that name.
    """
    if isinstance(given, Recipe):
        return given
    if given in (None, DEFAULT_RECIPE):
        return Recipe()
    if given not in bundled_recipes():
        raise BadRecipe(
            f"No recipe is named '{given}'.",
            f"Use one of {', '.join([DEFAULT_RECIPE, *bundled_recipes()])}, or its values.",
        )
    return load_recipe(bundled_recipes()[given])


def load_recipe(path: Path | None = None, **train: Any) -> Recipe:
    """Read a recipe file (None: the defaults) and put single settings of training over it (None: not given).

    A name without a folder and an ending is DEFAULT or one of `shipped_recipes`, unless a file of that name is there.

    Raises:
        BadRecipe: naming every mistake in the file.
    """
    values: dict[str, Any] = {}
    if path is not None and (path.is_file() or str(path) != DEFAULT_RECIPE):
        path = path if path.is_file() else bundled_recipes().get(str(path), path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadRecipe(
                f"The recipe {path} can't be read: {error.strerror}.",
                f"Check --recipe: a TOML file, or one of {', '.join([DEFAULT_RECIPE, *bundled_recipes()])}.",
            ) from error
        except ValueError as error:
            raise BadRecipe(f"The recipe {path} is no TOML: {error}.", "Mend that line.") from error
    given = {key: value for key, value in train.items() if value is not None}
    if given and isinstance(values.get("train", {}), dict):
        values = {**values, "train": {**values.get("train", {}), **given}}
    return recipe_from_values(values, str(path or "the options"))


def recorded_recipe(values: dict[str, Any], source: str) -> Recipe:
    """A recipe that a run recorded, possibly with an earlier release: keys that were removed since are dropped.

    Raises:
        BadRecipe: naming every key that is wrong.
    """
    if isinstance(values, dict):
        values = dict(values)
        for table, key in REMOVED_KEYS:
            if isinstance(values.get(table), dict):
                values[table] = {name: value for name, value in values[table].items() if name != key}
    return recipe_from_values(values, source)


def recipe_from_values(values: dict[str, Any], source: str = "the recipe") -> Recipe:
    """A recipe from plain values, such as a flow's parameter or a manifest.

    Raises:
        BadRecipe: naming every mistake.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise BadRecipe(
            f"Mistakes in {source}: {mistakes}.", "Mend them all; docs/recipes.md lists the keys."
        ) from error


def recipe_reference_markdown() -> str:
    """The keys of a recipe as Markdown; docs/recipes.md is this text (`python -m mondrian_core.recipes`)."""
    lines = [
        "# Recipes",
        "",
        "A recipe is a TOML file with these tables. What is left out keeps its default; an unknown key is an",
        "error, and all mistakes of a file are told at once. Every key of `[train]` is also an option of",
        "`mondrian train` and `mondrian retrain` (`--learning-rate 5e-4`).",
        "",
        "These come with Mondrian, by name (`--recipe small-set`; in flows `-p recipe=small-set`). A retraining",
        f"without one uses `{SMALL_SET_RECIPE}` below {SMALL_SET_THRESHOLD} critiques, else `{DEFAULT_RECIPE}`.",
        "",
    ]
    for name, path in bundled_recipes().items():
        text = path.read_text(encoding="utf-8")
        lines += [f"* `{name}`: " + " ".join(line[2:] for line in text.splitlines() if line.startswith("# "))]
    lines.append("")
    for table, field in Recipe.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            continue
        lines += [f"## [{table}]", "", (kind.__doc__ or "").strip(), "", "| key | default | what |", "|---|---|---|"]
        for key, entry in kind.model_fields.items():
            default = list(entry.default) if isinstance(entry.default, tuple) else entry.default
            lines.append(f"| `{key}` | `{json.dumps(default)}` | {entry.description or ''} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(recipe_reference_markdown(), end="")
