"""The options that several commands share, and how settings, recipes and stage contexts are made from them.

No `from __future__ import annotations` in this module: cyclopts evaluates inherited annotations that are strings in the
module of the subclass, where these names are missing.
"""

import getpass
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter, Token

from mondrian_core.cli.app import EXPERT_PANEL
from mondrian_core.recipes import Recipe, TrainRecipe, common_fields, load_recipe, recipe_from_values
from mondrian_core.settings import Settings
from mondrian_core.stages import StageContext, new_stage_context
from mondrian_core.xmp import SidecarOptions

_COMMON = Group("Workspace and output", sort_key=80)
_XMP = Group("XMP sidecars", sort_key=50)
_TRAINING = Group("Training settings (override the recipe)", sort_key=60)
_EXPERT = Group(EXPERT_PANEL, sort_key=70)


def whole_number(kind: Any, tokens: Sequence[Token]) -> int:
    """Convert a token to an integer; cyclopts itself would round "2.7"."""
    try:
        return int(tokens[-1].value)
    except ValueError:
        raise ValueError(f'"{tokens[-1].value}" is not a whole number.') from None


WholeNumber = Annotated[int, Parameter(converter=whole_number)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """Options of every command."""

    workspace: Annotated[
        Path | None, Parameter(group=_COMMON, help="folder with mondrian.db and source/ (MONDRIAN_WORKSPACE)")
    ] = None
    adapters: Annotated[
        Path | None,
        Parameter(
            group=_COMMON,
            help="root of the adapter registry (MONDRIAN_ADAPTERS; default: adapters next to the workspace)",
        ),
    ] = None
    base_model: Annotated[
        str | None,
        Parameter(group=_COMMON, help="mini, a folder, or a hub ID of a Qwen-VL model (MONDRIAN_BASE_MODEL)"),
    ] = None
    json: Annotated[bool, Parameter(group=_COMMON, help="print one JSON document")] = False
    debug: Annotated[bool, Parameter(group=_COMMON, help="print tracebacks")] = False


NO_OPTIONS = CommandOptions()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AdvisorOptions(CommandOptions):
    """Options of a command for one advisor."""

    advisor: Annotated[str, Parameter(help="advisor ID, such as ansel")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class OptionalAdvisorOptions(CommandOptions):
    """Options of a command for one advisor or all of them."""

    advisor: Annotated[str | None, Parameter(help="advisor ID; default: all advisors")] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class XmpOptions:
    """`--xmp` and how sidecars are written."""

    xmp: Annotated[
        bool, Parameter(group=_XMP, help="write rating, keywords and critique into a sidecar next to each photograph")
    ] = False
    xmp_style: Annotated[
        Literal["darktable", "lightroom"],
        Parameter(group=_XMP, show_default=True, help="names of sidecars: IMG_1.jpg.xmp or IMG_1.xmp"),
    ] = "darktable"
    xmp_overwrite_rating: Annotated[bool, Parameter(group=_XMP, help="replace ratings by people too")] = False
    xmp_label: Annotated[
        bool, Parameter(group=_XMP, help="also a color label: the weakest dimension in red, yellow or green")
    ] = False
    no_xmp_caption: Annotated[bool, Parameter(group=_XMP, help="keep the critique out of the caption")] = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RecipeFileOption:
    """`--recipe`."""

    recipe: Annotated[
        Path | None, Parameter(help="settings of every stage: a TOML file, or the name of a bundled recipe")
    ] = None


def _training_settings() -> Any:
    """A dataclass with an optional field for each setting of training; None: not given."""
    common = common_fields(TrainRecipe)
    fields = []
    for name, setting in TrainRecipe.model_fields.items():
        default = "" if setting.annotation is bool else f"(default {_display_default(setting.default)})"
        parameter = Parameter(
            group=_TRAINING if name in common else _EXPERT,
            help=f"{setting.description or ''} {default}".strip(),
            converter=whole_number if setting.annotation is int else None,
            negative_bool="no-",
            consume_multiple=1 if name == "target_modules" else None,
        )
        kind: Any = setting.annotation
        fields.append((name, Annotated[kind | None, parameter], None))
    return Parameter(name="*")(make_dataclass("TrainingSettings", fields, frozen=True, kw_only=True))


def _display_default(value: Any) -> str:
    if value is None:
        return "automatic"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RecipeOptions(RecipeFileOption, _training_settings()):  # type: ignore[misc]
    """`--recipe` and an option for each setting of training, which overrides it."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FoldsOption:
    """`--folds`."""

    folds: Annotated[
        int | None,
        Parameter(
            converter=whole_number,
            help="for small sets: retrain K times, each time evaluated on the part left out; the adapter itself is "
            "then trained on every photograph",
        ),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class NoWaitOption:
    """`--no-wait`."""

    no_wait: Annotated[bool, Parameter(help="fail when another process of this machine uses the accelerator")] = False


def settings_from_options(options: CommandOptions) -> Settings:
    """Options take precedence over the environment, the environment over defaults."""
    given = {name: getattr(options, name) for name in ("workspace", "adapters", "base_model")}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def sidecar_options(options: XmpOptions) -> SidecarOptions | None:
    """How to write sidecars; None without --xmp."""
    if not options.xmp:
        return None
    return SidecarOptions(
        style=options.xmp_style,
        overwrite_rating=options.xmp_overwrite_rating,
        label=options.xmp_label,
        caption=not options.no_xmp_caption,
    )


def recipe_from_options(options: Any) -> Recipe:
    """The recipe file, overridden by single settings of training and by --folds."""
    single = {name: getattr(options, name, None) for name in TrainRecipe.model_fields}
    recipe = load_recipe(getattr(options, "recipe", None), **single)
    folds = getattr(options, "folds", None)
    if folds is None:
        return recipe
    values = recipe.model_dump()
    return recipe_from_values({**values, "evaluate": {**values["evaluate"], "folds": folds}}, "the options")


def has_recipe_options(options: Any) -> bool:
    """True when a recipe, or any setting of one, was given."""
    return any(getattr(options, name, None) is not None for name in ("recipe", "folds", *TrainRecipe.model_fields))


def context_from_options(options: CommandOptions, advisor: str, *, run: str | None = None) -> StageContext:
    """The stage context for one run of this command."""
    dataset = getattr(options, "dataset", None)
    context = new_stage_context(
        settings_from_options(options),
        advisor,
        recipe_from_options(options),
        run=run,
        actor=command_line_actor(),
    )
    return replace(context, dataset=str(Path(dataset).resolve()) if dataset else None)


def command_line_actor() -> str:
    """The user who runs the command, as `person:NAME`, for the registry's history."""
    try:
        return f"person:{getpass.getuser()}"
    except (KeyError, OSError):
        return "person"
