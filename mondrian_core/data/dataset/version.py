"""Reading a finished dataset version: its manifest, its rows, and whether its files are unchanged.

Format 2 (written today) keeps the taught answer once, as the last message of `messages`, and stores the augmented rows
of held-out photographs in `held_out_variants/`. Format 1 had the answer a second time in a column `answer`, possibly
with ASCII escapes, and no `held_out_variants/`. Both are read.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from mondrian_core.critique_parsing import normalize_answer_json, parse_critique_strict
from mondrian_core.data.dataset.advice_pairs import ADVICE_PAIRS
from mondrian_core.data.dataset.writer import HELD_OUT_VARIANTS, MANIFEST_FILE, progress_bars_disabled
from mondrian_core.data.linking.link_manifest import SYNTHETIC
from mondrian_core.data.splits.split import TEST, VALIDATION
from mondrian_core.dataset_types import DatasetRow, PreferencePair
from mondrian_core.errors import BadInput
from mondrian_core.files import file_sha256, read_json
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS, AnswerForm


@dataclass(frozen=True, kw_only=True)
class DatasetVersion:
    """A finished dataset. `photographs` and `rows_per_split` count by split; all splits have an entry."""

    path: Path
    digest: str
    advisor: str
    photographs: Mapping[str, int]
    rows_per_split: Mapping[str, int]
    manifest: Mapping[str, Any] = field(repr=False, default_factory=dict)
    # Columns of the splits that were read, pictures as JPEG: a version never changes, so each split is read once.
    stored_columns: dict[str, list[dict[str, Any]]] = field(repr=False, compare=False, default_factory=dict)

    @property
    def answer_form(self) -> AnswerForm:
        """The form of its answers; datasets of earlier releases have comments."""
        return AnswerForm(self.manifest.get("answer_form", AnswerForm.COMMENTS))

    @property
    def evaluation_split(self) -> str:
        """The split that gates are measured on: the frozen test, or the validation while there is no test."""
        return TEST if self.photographs[TEST] else VALIDATION

    @property
    def selection_split(self) -> str | None:
        """The split that may choose a checkpoint; None while the gates are measured on the validation."""
        return VALIDATION if self.photographs[TEST] and self.photographs[VALIDATION] else None

    @property
    def photograph_hashes(self) -> frozenset[str]:
        """Photo ids (SHA-256) of every photograph in any split."""
        return frozenset(member["lineage"] for member in self.manifest["members"])

    @property
    def retrieval_photo_ids(self) -> frozenset[str]:
        """Photo ids that an evaluation may look up: neither held out nor near-duplicates of held-out photographs."""
        return frozenset(self.manifest.get("retrieval", {}).get("for_evaluation", ()))

    @property
    def near_duplicate_groups(self) -> dict[str, str]:
        """Photo id -> group of near-duplicates, without drafts; folds keep groups together."""
        members = self.manifest["members"]
        return {member["lineage"]: member["group"] for member in members if member["origin"] != SYNTHETIC}

    @property
    def corrections(self) -> Mapping[str, str]:
        """Photo id -> the model's critique that a person corrected; none from the test."""
        return dict(self.manifest.get("corrections", {}))

    @property
    def recipe(self) -> DataRecipe:
        """The recipe it was built with; keys that this release no longer has are ignored."""
        known = {key: value for key, value in self.manifest["recipe"].items() if key in DataRecipe.model_fields}
        return DataRecipe.model_validate(known)

    def rows(self, split: str) -> list[DatasetRow]:
        """The rows of a split; pictures are decoded when they are first used.

        Raises:
            BadInput: when the split's files are damaged.
        """
        return self._rows(split) if self.rows_per_split.get(split) else []

    def advice_pairs(self, photo_ids: Collection[str], *, others: bool) -> list[PreferencePair]:
        """Pairs from people's judgements of advice on some photographs; ordered by photo id.

        A pair is left out when a photograph of the dataset that shows the same as its own is not among `photo_ids`.

        Args:
            photo_ids: photographs of the dataset, whole groups of near-duplicates.
            others: whether photographs count that nothing in the dataset resembles.

        Raises:
            BadInput: when the files are damaged.
        """
        if not self.manifest.get(ADVICE_PAIRS):
            return []
        if ADVICE_PAIRS not in self.stored_columns:
            self.stored_columns[ADVICE_PAIRS] = load_stored_columns(self.path / ADVICE_PAIRS)
        wanted = frozenset(photo_ids)
        return [
            _pair_from_columns(columns)
            for columns in self.stored_columns[ADVICE_PAIRS]
            if (wanted.issuperset(columns["related"]) if columns["related"] else others)
        ]

    def held_out_variants(self) -> dict[str, list[DatasetRow]] | None:
        """Photo id -> the augmented rows that a held-out photograph would have in training; None in format 1.

        Raises:
            BadInput: when the files are damaged.
        """
        if HELD_OUT_VARIANTS not in self.manifest:
            return None
        by_photograph: dict[str, list[DatasetRow]] = {}
        for row in self._rows(HELD_OUT_VARIANTS) if self.manifest[HELD_OUT_VARIANTS] else ():
            by_photograph.setdefault(row.photo_id, []).append(row)
        return by_photograph

    def _rows(self, folder: str) -> list[DatasetRow]:
        if folder not in self.stored_columns:
            self.stored_columns[folder] = load_stored_columns(self.path / folder)
        return [replace(row_from_columns(columns), form=self.answer_form) for columns in self.stored_columns[folder]]


def load_dataset_version(path: Path) -> DatasetVersion:
    """Open a dataset version.

    Raises:
        BadInput: when the folder is not a finished dataset.
    """
    try:
        manifest = read_json(path / MANIFEST_FILE)
        return DatasetVersion(
            path=path,
            digest=manifest["digest"],
            advisor=manifest["advisor"],
            photographs=manifest["photographs"],
            rows_per_split=manifest["rows"],
            manifest=manifest,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} is not a finished dataset: {type(error).__name__} while reading its {MANIFEST_FILE}.",
            "Build it with `mondrian dataset --advisor A`, or name another one with --dataset.",
        ) from error


def changed_dataset_files(version: DatasetVersion) -> tuple[str, ...]:
    """Files that are missing or differ from their SHA-256 in the manifest; () when the version is unchanged."""
    problems = []
    for name, expected in version.manifest["files"].items():
        file = version.path / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif file_sha256(file) != expected:
            problems.append(f"{name} was changed")
    return tuple(problems)


def load_stored_columns(folder: Path) -> list[dict[str, Any]]:
    """The columns of every row of a split, in the form of today whatever format they were written in.

    Pictures are {"bytes", "path"}; `answer` is the text of the last message.

    Raises:
        BadInput: when the files are damaged.
    """
    import datasets

    try:
        with progress_bars_disabled():
            table = datasets.load_from_disk(str(folder)).cast_column("image", datasets.Image(decode=False))
        return [current_columns(row) for row in table]
    except (OSError, ValueError) as error:
        raise BadInput(
            f"The dataset at {folder} is damaged: {error}.", "Remove the folder and build it again."
        ) from error


def current_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Stored columns of either format, with `answer`, and messages without the empty columns of the table."""
    *prompt, taught = (_without_empty_columns(message) for message in columns["messages"])
    if "answer" not in columns:
        return {**columns, "messages": [*prompt, taught], "answer": taught["content"][0]["text"]}
    answer = normalize_answer_json(columns["answer"])  # the grammar of the service can't write ASCII escapes
    message = {"role": taught["role"], "content": [{"type": "text", "text": answer}]}
    return {**columns, "messages": [*prompt, message], "answer": answer}


def row_from_columns(columns: Mapping[str, Any]) -> DatasetRow:
    """A row from `current_columns`; the picture is decoded when it is first used."""
    return DatasetRow(
        photo_id=columns["lineage"],
        image=Image.open(io.BytesIO(columns["image"]["bytes"])),
        messages=columns["messages"],
        answer=columns["answer"],
        scores=dict(columns["scores"]),
        loss_dimensions=tuple(columns["loss_dimensions"]),
        weight=columns["weight"],
    )


def _pair_from_columns(columns: Mapping[str, Any]) -> PreferencePair:
    row = DatasetRow(
        photo_id=columns["lineage"],
        image=Image.open(io.BytesIO(columns["image"]["bytes"])),
        messages=columns["messages"],
        answer=columns["answer"],
        scores=parse_critique_strict(columns["answer"]).scores,
        loss_dimensions=DIMENSIONS,
        weight=1.0,
        form=AnswerForm.ADVICE,
    )
    return PreferencePair(row, columns["rejected"], columns["kind"], columns["dimension"])


def _without_empty_columns(message: Mapping[str, Any]) -> dict[str, Any]:
    parts = [{key: value for key, value in part.items() if value is not None} for part in message["content"]]
    return {"role": message["role"], "content": parts}
