"""Frozen, typed settings of every stage of a retraining.

A recipe is a TOML file with the tables below; a table or a key that is left out keeps its default. Unknown keys fail,
and all errors of a file are reported together. Its digest goes into the adapter's manifest.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from enum import StrEnum
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
from pydantic.fields import FieldInfo

from mondrian_core.errors import BadRecipe
from mondrian_core.rubric import MAX_ANSWER_TOKENS

COMMON = "common"  # marks a field that most users may want to change: `rank: Annotated[int, COMMON]`
MAX_SEED = 2**63 - 1  # random generators take 64 bits
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]

BUNDLED_RECIPES_FOLDER = Path(__file__).resolve().parent / "recipe_files"
RECIPE_SUFFIX = ".toml"
DEFAULT_RECIPE = "default"
DEMO_RECIPE = "demo"
SMALL_SET_RECIPE = "small-set"
SMALL_SET_THRESHOLD = 20  # critiques; with fewer, DEFAULT_RECIPE holds out too few for a verdict (`recipe_choice`)
REMOVED_KEYS = frozenset({("data", "wording")})  # in recipes that earlier releases recorded with a run


class Looser(StrEnum):
    """How a setting makes a verdict easier to pass: the mark of each field of `[gates]` and `[evaluate]`."""

    BELOW = "below its default"
    ABOVE = "above its default"
    NEVER = "never"  # it is only reported, or the gates themselves judge whether it is enough


class _RecipeTable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _reject_boolean_for_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would read `rank = true` as 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError("true and false are not accepted here")
        return value


class DataRecipe(_RecipeTable):
    """How critiques become dataset rows."""

    validation_fraction: float = Field(
        default=0.15, ge=0.0, le=0.5, description="fraction of photographs for validation"
    )
    test_fraction: float = Field(
        default=0.25, ge=0.0, le=0.5, description="fraction of photographs for the frozen test set"
    )
    test_from: int = Field(default=50, ge=1, description="minimum number of photographs for a frozen test set")
    flips: bool = Field(default=True, description="add a mirrored copy, with left and right swapped in the text")
    exposure_stops: float = Field(
        default=0.2, ge=0.0, le=1.0, description="maximum exposure change, +- stops in linear light; 0: none"
    )
    least_crop: float = Field(
        default=0.97, ge=0.9, le=1.0, description="minimum fraction of width and height that a crop keeps; 1: no crops"
    )
    rotation_degrees: float = Field(
        default=0.0, ge=0.0, le=5.0, description="maximum rotation, cropped to the inscribed rectangle; 0: none"
    )
    answer_form: Literal["auto", "comments", "advice"] = Field(
        default="auto",
        description="what an answer holds: comments, or advice too; auto: advice when half of the critiques recommend",
    )
    variants: int = Field(default=2, ge=0, le=8, description="augmented copies per training photograph")
    variations: int = Field(default=0, ge=0, le=3, description="paraphrased critiques per photograph")
    synthetic_share: float = Field(
        default=0.5, ge=0.0, le=0.5, description="maximum share of reviewed drafts in the training rows; 0: none"
    )
    seed: Seed = Field(default=0, description="random seed of the split and the variants")

    @model_validator(mode="after")
    def _require_training_photographs(self) -> Self:
        if self.validation_fraction + self.test_fraction > 0.8:
            raise ValueError(
                "validation_fraction and test_fraction leave too little for training; their sum may be at most 0.8"
            )
        return self


class SynthesizeRecipe(_RecipeTable):
    """How critiques are drafted for review."""

    photographs: int = Field(default=20, ge=1, le=1000, description="maximum number of drafts per run")
    calibration_photographs: int = Field(
        default=24, ge=5, description="training photographs for calibrating the base model's scores to the advisor's"
    )


class TrainRecipe(_RecipeTable):
    """How a LoRA adapter is trained."""

    rank: Annotated[int, COMMON] = Field(default=8, ge=1, le=256, description="rank of the LoRA matrices")
    alpha: Annotated[float, COMMON] = Field(
        default=16.0, gt=0, description="LoRA alpha; the update is scaled by alpha / rank"
    )
    rslora: bool = Field(
        default=False, description="scale the update by alpha / sqrt(rank) instead of alpha / rank (rsLoRA)"
    )
    dora: bool = Field(default=False, description="also train the magnitude of every row of the adapted weights (DoRA)")
    dropout: Annotated[float, COMMON] = Field(
        default=0.0, ge=0.0, lt=1.0, description="dropout probability of the LoRA input"
    )
    target_modules: Annotated[tuple[str, ...], COMMON] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="layers of the language model that get an adapter",
    )
    epochs: Annotated[int, COMMON] = Field(default=4, ge=1, le=100, description="maximum passes over the training rows")
    accumulation: Annotated[int, COMMON] = Field(
        default=4, ge=1, le=256, description="rows per optimizer step, weighted by tokens"
    )
    learning_rate: Annotated[float | None, COMMON] = Field(
        default=None, gt=0, le=1.0, description="peak learning rate; omitted: 2e-4 x (2560 / width of the base)^0.775"
    )
    warmup_fraction: float = Field(
        default=0.1, ge=0.0, lt=1.0, description="fraction of the steps with a rising learning rate"
    )
    final_rate_fraction: float = Field(
        default=0.1, ge=0.0, le=1.0, description="final learning rate of the cosine schedule, as a fraction of the peak"
    )
    weight_decay: float = Field(default=0.0, ge=0.0, description="weight decay of AdamW")
    clip_norm: float = Field(default=1.0, gt=0, description="maximum global norm of the gradient")
    score_weight: float = Field(
        default=4.0, ge=1.0, description="loss weight of score tokens; other tokens have weight 1"
    )
    score_spread: float = Field(
        default=0.0,
        ge=0.0,
        le=3.0,
        description="standard deviation, in points, of a score's target distribution; 0: one-hot",
    )
    score_value: float = Field(
        default=0.0,
        ge=0.0,
        le=100.0,
        description="loss weight of the expected score's squared error, relative to score_weight",
    )
    patience: Annotated[int, COMMON] = Field(
        default=2, ge=1, description="epochs without improvement before early stopping"
    )
    answered_photographs: int = Field(
        default=8, ge=0, description="validation photographs to generate answers for after each epoch; 0: none"
    )
    choose_by: Literal["loss", "score_error"] = Field(
        default="loss", description="validation metric for choosing the best epoch"
    )
    preference_epochs: int = Field(
        default=0, ge=0, le=50, description="epochs of preference tuning (DPO) after training; 0: none"
    )
    preference_beta: float = Field(
        default=0.1, gt=0, le=10, description="DPO beta: factor on the log-likelihood difference, in nats"
    )
    preference_reference: Literal["base", "start"] = Field(
        default="base", description="DPO reference model: the base model, or the adapter before preference tuning"
    )
    preference_learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=1.0,
        description="peak learning rate of preference tuning; omitted: a tenth of learning_rate",
    )
    preference_nll: float = Field(
        default=1.0, ge=0.0, description="weight of the chosen answer's NLL, added to the preference loss; 0: none"
    )
    preference_smoothing: float = Field(
        default=0.0, ge=0.0, lt=0.5, description="label smoothing: assumed fraction of wrongly ordered pairs"
    )
    preference_others: int = Field(
        default=1,
        ge=0,
        le=20,
        description="pairs per critique with a critique of another photograph as the rejected answer; 0: none",
    )
    preference_pairs: int = Field(default=8, ge=1, description="minimum number of pairs for preference tuning")
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        default="auto", description="recompute layers in the backward pass; auto: only when memory is short"
    )
    max_tokens: int = Field(
        default=4096,
        ge=64,
        description="maximum tokens of prompt, photograph and answer; a longer row is excluded from the dataset and "
        "is an error in training",
    )
    seed: Annotated[Seed, COMMON] = Field(default=0, description="random seed of training")

    @model_validator(mode="after")
    def _require_answers_for_score_error(self) -> Self:
        if self.choose_by == "score_error" and not self.answered_photographs:
            raise ValueError("choose_by: score_error needs answered_photographs above 0")
        return self


class EvaluateRecipe(_RecipeTable):
    """How much an evaluation measures."""

    compliance_photographs: Annotated[int, Looser.NEVER] = Field(
        default=120, ge=1, description="photographs for format compliance; they need no critique"
    )
    stop_early: Annotated[bool, Looser.NEVER] = Field(
        default=True,
        description="stop as soon as the format gate fails whatever the answers to come are; false: measure everything",
    )
    constrained_photographs: Annotated[int, Looser.NEVER] = Field(
        default=8, ge=0, description="photographs also answered with constrained decoding; 0: none"
    )
    edited_photographs: Annotated[int, Looser.BELOW] = Field(
        default=8,
        ge=0,
        description="photographs with edited copies for the metamorphic tests (blurred, tilted, dark, invisible)",
    )
    rag: Annotated[bool, Looser.NEVER] = Field(
        default=True, description="also evaluate the rag strategy of the base model, as a baseline"
    )
    temperature: Annotated[float, Looser.ABOVE] = Field(
        default=0.0,
        ge=0.0,
        le=2.0,
        description="sampling temperature of the answers; 0: greedy",
    )
    folds: Annotated[int, Looser.NEVER] = Field(
        default=0,
        ge=0,
        le=20,
        description="folds of cross-validation; a small dataset then has no held-out split (gates.md); 0: none",
    )
    latency_pairs: Annotated[int, Looser.NEVER] = Field(
        default=12,
        ge=3,
        description="interleaved base/candidate timing pairs; up to four times as many if the result is inconclusive",
    )
    latency_tokens: Annotated[int, Looser.BELOW] = Field(
        default=64, ge=8, description="output length of a timed answer, in tokens"
    )
    max_tokens: Annotated[int, Looser.NEVER] = Field(
        default=MAX_ANSWER_TOKENS,
        ge=8,
        le=MAX_ANSWER_TOKENS,
        description="maximum answer length in tokens; a longer answer counts as truncated (service: the default)",
    )
    calibration_photographs: Annotated[int, Looser.BELOW] = Field(
        default=100,
        ge=0,
        description="training photographs that the base answers too, so that its calibrations learn from the critiques "
        "that the adapter learned from; 0: they are cross-fitted on the tested photographs",
    )
    comment_photographs: Annotated[int, Looser.NEVER] = Field(
        default=12, ge=0, description="labelled photographs whose critiques base and adapter read (gate `comments`)"
    )
    effect_photographs: Annotated[int, Looser.NEVER] = Field(
        default=8, ge=1, description="photographs for measuring how much the adapter changes the base model's answers"
    )
    seed: Annotated[Seed, Looser.NEVER] = Field(default=0, description="random seed of the evaluation")

    @model_validator(mode="after")
    def _require_two_folds(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds: at least 2, or 0 for none")
        return self


class GateRecipe(_RecipeTable):
    """Thresholds of the gates; docs/reference/gates.md shows which gate uses which."""

    compliance_observed: Annotated[float, Looser.BELOW] = Field(
        default=0.95, ge=0, le=1, description="minimum share of strictly valid answers"
    )
    compliance_bound: Annotated[float, Looser.BELOW] = Field(
        default=0.90, ge=0, le=1, description="minimum exact one-sided 95 % lower bound of that share"
    )
    own_photographs: Annotated[int, Looser.BELOW] = Field(
        default=8, ge=1, description="minimum number of the workspace's own photographs for format compliance"
    )
    base_compliance: Annotated[float, Looser.NEVER] = Field(
        default=0.90, ge=0, le=1, description="share of valid answers expected of the base; reported only"
    )
    overhead_ratio: Annotated[float, Looser.ABOVE] = Field(
        default=1.10, gt=0, description="limit of the time ratio candidate/base: median and upper 95 % bound"
    )
    score_improvement: Annotated[float, Looser.BELOW] = Field(
        default=0.05, ge=0, lt=1, description="minimum relative reduction of the mean squared error"
    )
    beyond_calibration: Annotated[Literal["reported", "required"], Looser.NEVER] = Field(
        default="reported",
        description="required: a promotion needs a gain beyond the best calibration of the base; reported: it is shown",
    )
    p_value: Annotated[float, Looser.ABOVE] = Field(
        default=0.05, gt=0, lt=1, description="significance level: one-sided, paired over photographs"
    )
    effect_floor: Annotated[float, Looser.BELOW] = Field(
        default=1e-4, ge=0, description="minimum mean KL over score tokens, nats"
    )
    yearly_level: Annotated[float, Looser.ABOVE] = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="chance that a worthless candidate passes at least once in a year of looks",
    )
    first_look_level: Annotated[float, Looser.ABOVE] = Field(
        default=0.01, gt=0, lt=1, description="part of yearly_level that the first look of a year may spend"
    )
    looks_per_year: Annotated[int, Looser.NEVER] = Field(
        default=52, ge=1, le=1000, description="looks that share yearly_level; further ones in 52 weeks can't pass"
    )
    best_champion_margin: Annotated[float, Looser.ABOVE] = Field(
        default=0.01, ge=0, description="relative increase of the best champion's error that still counts as not worse"
    )
    non_inferiority_margin: Annotated[float, Looser.ABOVE] = Field(
        default=0.10, ge=0, description="relative increase of the champion's error that still counts as not worse"
    )
    score_photographs: Annotated[int, Looser.BELOW] = Field(
        default=8, ge=5, description="minimum number of photographs for a verdict on scores"
    )
    tail_deviation: Annotated[float, Looser.ABOVE] = Field(
        default=6.0,
        gt=0,
        description="robust standard deviations from the base's shifted scores above which an answer is deviant",
    )
    tail_share: Annotated[float, Looser.ABOVE] = Field(
        default=0.05, gt=0, lt=1, description="share of deviant answers that the photographs must be able to show"
    )
    modal_share: Annotated[float, Looser.ABOVE] = Field(
        default=0.9, gt=0.5, le=1, description="a dimension has collapsed when one score is this frequent"
    )
    truncated_share: Annotated[float, Looser.ABOVE] = Field(
        default=0.02, ge=0, lt=1, description="maximum share of truncated answers"
    )
    stuttering_share: Annotated[float, Looser.ABOVE] = Field(
        default=0.1, ge=0, lt=1, description="maximum share of answers that are repetitive or contain no text"
    )
    violated_share: Annotated[float, Looser.ABOVE] = Field(
        default=0.5, gt=0, le=1, description="maximum metamorphic-violation rate"
    )
    dependence_kept: Annotated[float, Looser.BELOW] = Field(
        default=0.75, ge=0, le=1, description="minimum image dependence, as a fraction of the base model's"
    )
    comment_likelihood_margin: Annotated[float, Looser.ABOVE] = Field(
        default=0.10, ge=0, description="relative increase of the comments' nats per token that is not yet worse"
    )
    attributed_share: Annotated[float, Looser.BELOW] = Field(
        default=0.5, ge=0, le=1, description="minimum share of answers in the advisor's voice, where others are known"
    )
    agreement_kept: Annotated[float, Looser.BELOW] = Field(
        default=0.75, ge=0, le=1, description="minimum agreement of comments and scores, as a share of the advisor's"
    )
    copied_share: Annotated[float, Looser.ABOVE] = Field(
        default=0.25, ge=0, le=1, description="maximum share of copied words beyond that of the advisor's own comments"
    )
    failed_share: Annotated[float, Looser.ABOVE] = Field(
        default=0.05, ge=0, lt=1, description="maximum share of photographs without any answer"
    )
    seconds_per_photograph: Annotated[float, Looser.ABOVE] = Field(
        default=3.0, gt=0, description="limit of the median time of a critique, seconds; a gate on Metal only"
    )

    @model_validator(mode="after")
    def _require_a_level_for_the_first_look(self) -> Self:
        if self.first_look_level > self.yearly_level:
            raise ValueError("first_look_level is a part of yearly_level; it may be at most that large")
        return self


class PromoteRecipe(_RecipeTable):
    """How a version that passed every gate becomes the champion."""

    rollout: bool = Field(
        default=False, description="start a staged rollout instead of a full promotion (docs/explanation/rollout.md)"
    )


class Recipe(_RecipeTable):
    """All settings of one retraining."""

    name: str = Field(default="default", description="name in reports and manifests")
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


def common_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields marked COMMON, by key: those that a help text or a form shows first."""
    return {key: field for key, field in model.model_fields.items() if COMMON in field.metadata}


def expert_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """All other fields, by key. A field without a mark is an expert field."""
    return {key: field for key, field in model.model_fields.items() if COMMON not in field.metadata}


def bundled_recipes() -> dict[str, Path]:
    """The recipe files that come with Mondrian, by name. DEFAULT_RECIPE isn't among them: it has no file."""
    return {path.stem: path for path in sorted(BUNDLED_RECIPES_FOLDER.glob("*.toml"))}


def resolve_recipe(given: Recipe | str | None) -> Recipe:
    """The recipe for a name, or the given recipe; None: the default recipe.

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
            f"Use one of {', '.join([DEFAULT_RECIPE, *bundled_recipes()])}, or the recipe's values.",
        )
    return load_recipe(bundled_recipes()[given])


def load_recipe(path: Path | None = None, **train: Any) -> Recipe:
    """Read a recipe file (None: the defaults) and override settings of training (None: keep the recipe's).

    `path` may also be DEFAULT_RECIPE or a name in `bundled_recipes()`, unless a file of that name exists.

    Raises:
        BadRecipe: naming every error of the file.
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
            raise BadRecipe(f"The recipe {path} is not valid TOML: {error}.", "Fix that line.") from error
    given = {key: value for key, value in train.items() if value is not None}
    if given and isinstance(values.get("train", {}), dict):
        values = {**values, "train": {**values.get("train", {}), **given}}
    return recipe_from_values(values, str(path or "the options"))


def with_training_overrides(recipe: Recipe, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe with other values of `[train]`; a value of None keeps the recipe's.

    Raises:
        BadRecipe: naming every value that is not valid.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    if not given:
        return recipe
    values = {**recipe.model_dump(), "train": {**recipe.train.model_dump(), **given}}
    return recipe_from_values(values, "the overrides of the recipe")


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
        BadRecipe: naming every error.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        errors = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise BadRecipe(
            f"Invalid values in {source}: {errors}.",
            "Fix all of these errors; docs/reference/recipes.md lists the keys.",
        ) from error


def recipe_reference_markdown() -> str:
    """The keys of a recipe as Markdown; docs/reference/recipes.md is this text (`python -m mondrian_core.recipes`)."""
    lines = [
        "# Recipes",
        "",
        "A recipe is a TOML file with these tables. A missing key keeps its default. An unknown key is an error,",
        "and all errors of a file are reported together. Every key of `[train]` is also an option of",
        "`mondrian train` and `mondrian retrain` (`--learning-rate 5e-4`; `--help-all` lists them all).",
        "",
        "Mondrian comes with these recipes (`--recipe small-set`; in flows `-p recipe=small-set`). Without a recipe,",
        f"`retrain` uses `{SMALL_SET_RECIPE}` below {SMALL_SET_THRESHOLD} critiques, then `folds`, and from about 30",
        f"on `{DEFAULT_RECIPE}` ([why](../decisions/0113-the-recipe-follows-the-number-of-critiques.md)).",
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
        lines += [f"## [{table}]", "", (kind.__doc__ or "").strip(), "", "| key | default | meaning |", "|---|---|---|"]
        for key, entry in kind.model_fields.items():
            default = list(entry.default) if isinstance(entry.default, tuple) else entry.default
            lines.append(f"| `{key}` | `{json.dumps(default)}` | {entry.description or ''} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(recipe_reference_markdown(), end="")
