"""Options of the older project's scripts: taken where they mean one thing, else answered with the word to use.

docs/coming-from-the-older-scripts.md lists them; a test runs every line of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mondrian_core.errors import BadInput

DATABASE = "mondrian.db"
ANY = "any command"


@dataclass(frozen=True)
class OlderOption:
    """An option that a command doesn't have.

    Attributes:
        command: the subcommand, or `ANY`.
        name: with dashes, as the user's spelling is rewritten first.
        now: our option that takes the same value; None when there is none.
        advice: the word to use when there is none.
    """

    command: str
    name: str
    now: str | None = None
    advice: str = ""


_ROWS = "Rows per optimizer step are --accumulation: the batch size times the accumulation steps."
_DATASET = (
    "Training rows come from a dataset version: build one with `mondrian dataset --advisor A`, and name its folder "
    "with --dataset."
)
_WORKSPACE = "Photographs are in source/ and analyses in analysis_md/ of one folder: name it with --workspace."
_ONE_SERVICE = "There is one service; it keeps its own jobs and finds similar photographs itself. Leave this out."

OLDER_OPTIONS: tuple[OlderOption, ...] = (
    OlderOption("train", "--lr", "--learning-rate"),
    OlderOption("train", "--lora-rank", "--rank"),
    OlderOption("train", "--lora-r", "--rank"),
    OlderOption("train", "--lora-alpha", "--alpha"),
    OlderOption("train", "--lora-dropout", "--dropout"),
    OlderOption("train", "--batch-size", "--accumulation"),
    OlderOption("train", "--gradient-accumulation-steps", advice=_ROWS),
    OlderOption("train", "--max-seq-length", "--max-tokens"),
    OlderOption("train", "--output-dir", "--out"),
    OlderOption("train", "--output", "--out"),
    OlderOption("train", "--model", "--base-model"),
    OlderOption("train", "--train-data", advice=_DATASET),
    OlderOption("train", "--data-dir", advice=_DATASET),
    OlderOption("train", "--warmup-steps", advice="The warm-up is a share of the steps: use --warmup-fraction."),
    OlderOption("train", "--save-steps", advice="Checkpoints are always written; --resume goes on from the last."),
    OlderOption("train", "--logging-steps", advice="Every step is in training_log.jsonl of the run. Leave this out."),
    OlderOption("train", "--no-4bit", advice="The base's own precision is kept: choose it with --base-model."),
    OlderOption("link", "--source-dir", advice=_WORKSPACE),
    OlderOption("link", "--analysis-dir", advice=_WORKSPACE),
    OlderOption("link", "--output-dir", advice="The manifest is kept under runs/; for a table use --csv FILE."),
    OlderOption("link", "--min-examples", advice="Every usable record is linked. Leave this out."),
    OlderOption("dataset", "--output-dir", advice="Datasets lie in datasets/ of --workspace; for a copy use --export."),
    OlderOption("evaluate", "--lora-path", "--adapter"),
    OlderOption("evaluate", "--output-report", "--html"),
    OlderOption("evaluate", "--val-data", advice="The test rows are those of a dataset: name it with --dataset."),
    OlderOption("evaluate", "--max-examples", advice="How many photographs are asked is in the recipe: use --recipe."),
    OlderOption("serve", "--adapter", "--lora-path"),
    OlderOption("serve", "--job-service-url", advice=_ONE_SERVICE),
    OlderOption("serve", "--rag-service-url", advice=_ONE_SERVICE),
    OlderOption("serve", "--model-timeout", advice="Deadlines are the service's own. Leave this out."),
    OlderOption(ANY, "--mlx-model", "--base-model"),
    OlderOption(ANY, "--db-path", "--workspace"),
    OlderOption(ANY, "--db", "--workspace"),
)
_OF_DATABASE = ("--db-path", "--db")


def understood(arguments: list[str], say: Callable[[str], None]) -> list[str]:
    """The command line with older options in our words; `say` hears each change.

    Raises:
        BadInput: an older option that has no counterpart, with the word to use.
    """
    command = next((word for word in arguments if not word.startswith("-")), "")
    older = {each.name: each for each in OLDER_OPTIONS if each.command in (command, ANY)}
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
        if known.now is None:
            raise BadInput(f"`mondrian {command}` has no {_typed(name)}.", known.advice)
        say(f"{_typed(name)} is called {known.now} here.")
        spelled.append(known.now)
        spelled += [_meant(name, value)] if equals else [_meant(name, each) for each in islice(words, 1)]
    return spelled


def _meant(name: str, value: str) -> str:
    """The value as our option takes it: a database is named by its workspace."""
    if name not in _OF_DATABASE:
        return value
    path = Path(value)
    if path.name != DATABASE:
        raise BadInput(
            f"{_typed(name)} {value}: the database is always WORKSPACE/{DATABASE}.",
            f"Put the file there under the name {DATABASE}, and name the folder with --workspace.",
        )
    return str(path.parent)


def _typed(name: str) -> str:
    return "--" + name.removeprefix("--").replace("-", "_")
