"""Options of the older project's scripts: taken where they mean one thing, else answered with the word to use.

docs/coming-from-the-older-scripts.md lists them; a test runs every line of it.
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
    """An option that a command doesn't have.

    Attributes:
        command: the subcommand, or `ANY`.
        name: with dashes, as the user's spelling is rewritten first.
        now: our option that takes the same value; None when there is none.
        advice: the word to use when there is none.
    """

    command: str
    name: str
    replacement: str | None = None
    advice: str = ""


_ROWS = "Rows per optimizer step are --accumulation: the batch size times the accumulation steps."
_DATASET = (
    "Training rows come from a dataset version: build one with `mondrian dataset --advisor A`, and name its folder "
    "with --dataset."
)
_WORKSPACE = "Photographs are in source/ and analyses in analysis_md/ of one folder: name it with --workspace."
_ONE_SERVICE = "There is one service; it keeps its own jobs and finds similar photographs itself. Leave this out."

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
    LegacyOption("train", "--warmup-steps", advice="The warm-up is a share of the steps: use --warmup-fraction."),
    LegacyOption("train", "--save-steps", advice="Checkpoints are always written; --resume goes on from the last."),
    LegacyOption("train", "--logging-steps", advice="Every step is in training_log.jsonl of the run. Leave this out."),
    LegacyOption("train", "--no-4bit", advice="The base's own precision is kept: choose it with --base-model."),
    LegacyOption("link", "--source-dir", advice=_WORKSPACE),
    LegacyOption("link", "--analysis-dir", advice=_WORKSPACE),
    LegacyOption("link", "--output-dir", advice="The manifest is kept under runs/; for a table use --csv FILE."),
    LegacyOption("link", "--min-examples", advice="Every usable record is linked. Leave this out."),
    LegacyOption(
        "dataset", "--output-dir", advice="Datasets lie in datasets/ of --workspace; for a copy use --export."
    ),
    LegacyOption("evaluate", "--lora-path", "--adapter"),
    LegacyOption("evaluate", "--output-report", "--html"),
    LegacyOption("evaluate", "--val-data", advice="The test rows are those of a dataset: name it with --dataset."),
    LegacyOption("evaluate", "--max-examples", advice="How many photographs are asked is in the recipe: use --recipe."),
    LegacyOption("serve", "--adapter", "--lora-path"),
    LegacyOption("serve", "--job-service-url", advice=_ONE_SERVICE),
    LegacyOption("serve", "--rag-service-url", advice=_ONE_SERVICE),
    LegacyOption("serve", "--model-timeout", advice="Deadlines are the service's own. Leave this out."),
    LegacyOption(ANY_COMMAND, "--mlx-model", "--base-model"),
    LegacyOption(ANY_COMMAND, "--db-path", "--workspace"),
    LegacyOption(ANY_COMMAND, "--db", "--workspace"),
)
_DATABASE_OPTIONS = ("--db-path", "--db")


def translate_legacy_options(arguments: list[str], say: Callable[[str], None]) -> list[str]:
    """The command line with older options in our words; `say` hears each change.

    Raises:
        BadInput: an older option that has no counterpart, with the word to use.
    """
    command = next((word for word in arguments if not word.startswith("-")), "")
    older = {each.name: each for each in LEGACY_OPTIONS if each.command in (command, ANY_COMMAND)}
    words = iter(arguments)
    spelled: list[str] = []
    for word in words:
        if word == "--":
            return [*spelled, word, *words]
        name, equals, value = word.partition("=")
        known = older.get(name)
        if known is None:
            spelled.append(word)
            continue
        if known.replacement is None:
            raise BadInput(f"`mondrian {command}` has no {_with_underscores(name)}.", known.advice)
        say(f"{_with_underscores(name)} is called {known.replacement} here.")
        spelled.append(known.replacement)
        spelled += (
            [_translate_value(name, value)] if equals else [_translate_value(name, each) for each in islice(words, 1)]
        )
    return spelled


def _translate_value(name: str, value: str) -> str:
    """The value as our option takes it: a database is named by its workspace."""
    if name not in _DATABASE_OPTIONS:
        return value
    path = Path(value)
    if path.name != DATABASE_NAME:
        raise BadInput(
            f"{_with_underscores(name)} {value}: the database is always WORKSPACE/{DATABASE_NAME}.",
            f"Put the file there under the name {DATABASE_NAME}, and name the folder with --workspace.",
        )
    return str(path.parent)


def _with_underscores(name: str) -> str:
    return "--" + name.removeprefix("--").replace("-", "_")
