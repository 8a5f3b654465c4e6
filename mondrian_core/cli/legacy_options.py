"""Options of the legacy scripts: translated where the meaning is clear, otherwise rejected with the option to use.

docs/how-to/coming-from-the-older-scripts.md lists them, and a test runs every line of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mondrian_core.errors import BadInput

DATABASE_NAME = "mondrian.db"
ANY_COMMAND = "any command"


@dataclass(frozen=True)
class LegacyOption:
    """A legacy option.

    Attributes:
        command: the command, or `ANY_COMMAND`.
        name: the legacy option, spelled with dashes.
        replacement: the option of today that takes the same value; None if there is none.
        advice: what to use instead if there is no replacement.
    """

    command: str
    name: str
    replacement: str | None = None
    advice: str = ""


_ROWS = "Rows per optimizer step are --accumulation: the batch size times the accumulation steps."
_DATASET = (
    "Training rows come from a dataset version: build one with `mondrian dataset --advisor A`, and give its folder "
    "with --dataset."
)
_WORKSPACE = "Photographs are in source/ and analyses in analysis_md/ of one folder: give it with --workspace."
_ONE_SERVICE = "There is only one service; it stores jobs and retrieves similar photographs itself. Leave this out."

LEGACY_OPTIONS: tuple[LegacyOption, ...] = (
    LegacyOption("train", "--lr", "--learning-rate"),
    LegacyOption("train", "--lora-rank", "--rank"),
    LegacyOption("train", "--lora-r", "--rank"),
    LegacyOption("train", "--lora-alpha", "--alpha"),
    LegacyOption("train", "--lora-dropout", "--dropout"),
    LegacyOption("train", "--batch-size", "--accumulation"),
    LegacyOption("train", "--gradient-accumulation-steps", advice=_ROWS),
    LegacyOption("train", "--max-seq-length", "--max-tokens"),
    LegacyOption("train", "--output-dir", "--out"),
    LegacyOption("train", "--output", "--out"),
    LegacyOption("train", "--model", "--base-model"),
    LegacyOption("train", "--train-data", advice=_DATASET),
    LegacyOption("train", "--data-dir", advice=_DATASET),
    LegacyOption("train", "--warmup-steps", advice="The warm-up is a fraction of the steps: use --warmup-fraction."),
    LegacyOption("train", "--save-steps", advice="Checkpoints are always written; --resume continues from the last."),
    LegacyOption("train", "--logging-steps", advice="Every step is in training_log.jsonl of the run. Leave this out."),
    LegacyOption("train", "--no-4bit", advice="The precision is that of the base model: choose it with --base-model."),
    LegacyOption("link", "--source-dir", advice=_WORKSPACE),
    LegacyOption("link", "--analysis-dir", advice=_WORKSPACE),
    LegacyOption("link", "--output-dir", advice="The manifest is kept under runs/; for a table use --csv FILE."),
    LegacyOption("link", "--min-examples", advice="Every usable record is linked. Leave this out."),
    LegacyOption(
        "dataset", "--output-dir", advice="Datasets are stored in datasets/ of --workspace; for a copy use --export."
    ),
    LegacyOption("evaluate", "--lora-path", "--adapter"),
    LegacyOption("evaluate", "--output-report", "--html"),
    LegacyOption("evaluate", "--val-data", advice="The test rows are those of a dataset: give it with --dataset."),
    LegacyOption("evaluate", "--max-examples", advice="The number of photographs is in the recipe: use --recipe."),
    LegacyOption("serve", "--adapter", "--lora-path"),
    LegacyOption("serve", "--job-service-url", advice=_ONE_SERVICE),
    LegacyOption("serve", "--rag-service-url", advice=_ONE_SERVICE),
    LegacyOption("serve", "--model-timeout", advice="The service sets its own deadlines. Leave this out."),
    LegacyOption(ANY_COMMAND, "--mlx-model", "--base-model"),
    LegacyOption(ANY_COMMAND, "--db-path", "--workspace"),
    LegacyOption(ANY_COMMAND, "--db", "--workspace"),
)
_DATABASE_OPTIONS = ("--db-path", "--db")


def translate_legacy_options(arguments: list[str], on_translated: Callable[[str], None]) -> list[str]:
    """The command line with legacy options replaced; `on_translated` is called with a message for each.

    Raises:
        BadInput: a legacy option without a replacement; the message says what to use.
    """
    command = next((word for word in arguments if not word.startswith("-")), "")
    legacy = {option.name: option for option in LEGACY_OPTIONS if option.command in (command, ANY_COMMAND)}
    words = iter(arguments)
    spelled: list[str] = []
    for word in words:
        if word == "--":
            return [*spelled, word, *words]
        name, equals, value = word.partition("=")
        option = legacy.get(name)
        if option is None:
            spelled.append(word)
            continue
        if option.replacement is None:
            raise BadInput(f"`mondrian {command}` has no {_with_underscores(name)}.", option.advice)
        on_translated(f"{_with_underscores(name)} is now called {option.replacement}.")
        spelled.append(option.replacement)
        spelled += (
            [_translate_value(name, value)]
            if equals
            else [_translate_value(name, next_word) for next_word in islice(words, 1)]
        )
    return spelled


def _translate_value(name: str, value: str) -> str:
    """The value for the replacement; a database is replaced by its workspace."""
    if name not in _DATABASE_OPTIONS:
        return value
    path = Path(value)
    if path.name != DATABASE_NAME:
        raise BadInput(
            f"{_with_underscores(name)} {value}: the database is always WORKSPACE/{DATABASE_NAME}.",
            f"Put the file there under the name {DATABASE_NAME}, and give the folder with --workspace.",
        )
    return str(path.parent)


def _with_underscores(name: str) -> str:
    return "--" + name.removeprefix("--").replace("-", "_")
