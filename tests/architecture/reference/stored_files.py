"""The files of datasets, the registry and backups, and reports."""

from __future__ import annotations

from mondrian_core.backup.snapshots import SnapshotEntry
from mondrian_core.importing.import_report import OUTCOME_TITLES, ImportedFile, ImportOutcome
from mondrian_core.registry.history import HistoryEntry
from mondrian_core.rollout.plan import RolloutPlan
from mondrian_core.serving.batch_report import CAMERA_COLUMNS
from tests.architecture.reference.file_format import FileFormat

HISTORY_EVENTS = {
    "register": "a new version",
    "adopt": "a version that was found without a line",
    "promote": "a version became the champion",
    "rollback": "the champion before came back",
    "quarantine": "a damaged version is never served",
    "release": "a quarantined version passed verification again",
    "reject": "a person rejected a version",
    "evaluate": "a version was measured again; `detail.report` is the gate report",
    "remove": "retention deleted a version",
    "rollout": "the share of a rollout changed",
    "look": "an evaluation begins to judge an adapter",
    "look_result": "what that look measured",
}
DATASET_FILES = (
    FileFormat(
        name="manifest.json",
        place="workspace/datasets/*/*/manifest.json",
        about="What the dataset version is made of. It is written last: a folder without it is incomplete.",
        fields=(
            {
                "digest": "string: SHA-256 over what the rows teach; the name of the folder",
                "format": "integer: of the file",
                "advisor": "string: whose critiques",
                "voice": "object: name of the advisor, digest of the prompt",
                "answer_form": "string: `comments`, or `advice` with recommendations",
                "parts": "object: photographs whose critiques teach each part of an advising answer",
                "recipe": "object: table `[data]` of the [recipe](recipes.md)",
                "photographs": "object: number by split",
                "rows": "object: number by split",
                "held_out_variants": "integer: rows of variants of held-out photographs, for a training on all of them",
                "linked": "object: records by outcome, as in link_manifest.json",
                "histograms": "object: by split and dimension, how often each score occurs",
                "members": "list of object: the photographs, below",
                "corrections": "object: by photograph, the model's critique that a person corrected",
                "advice_pairs": "object: by kind, how many pairs people's judgements of advice make",
                "damaged": "list of object: records whose photograph can't be decoded",
                "too_long": "list of object: records whose critique is too long",
                "shortened": "list of object: records whose rows leave out some advice",
                "drafts": "object: drafts that joined, and why others did not",
                "retrieval": "object: photographs in the index, and those that an evaluation may look up",
                "files": "object: SHA-256 by file",
            },
        ),
        inside={
            "members": (
                {
                    "lineage": "string: SHA-256 of the photograph",
                    "split": "string: train, validation or test",
                    "group": "string: of near-duplicates, which stay in one split",
                    "record": "string: `profile:ID`, `job:ID` or `draft:ID`",
                    "photograph": "string: path in the workspace",
                    "origin": "string: human, synthetic or model",
                    "variants": "list of string: the rows made of it",
                },
            )
        },
    ),
)
DATASET_COLUMNS = {
    "messages": "system, user and assistant, as a chat template takes them; the answer is the last one",
    "image": "the photograph or its variant, JPEG",
    "scores": "the advisor's own by dimension, 0 to 10",
    "loss_dimensions": "dimensions whose score still holds for this variant",
    "lineage": "SHA-256 of the source photograph, equal for its variants",
    "variant": "how it was augmented",
    "record": "the critique",
    "origin": "human, synthetic or model",
    "weight": "the weights of one photograph add up to 1",
}
_GATE_REPORT = {
    "verdict": "string: PASS, FAIL or INCONCLUSIVE",
    "gates": "list of object: as in comparison_report.json",
    "compared_with": "object: the champion of that time, with the hash of its manifest",
    "run": "string: that evaluated",
    "conditions": "object: base, prompt, EXIF switch and answer format",
    "recipe": "string: digest",
    "settings": "object: settings that the verdict depends on",
    "adapter": "string: SHA-256 of the weights",
    "dataset": "string: digest",
    "split": "string: photographs that it was judged on",
    "photographs": "list of string: their SHA-256",
    "code": "object: digest and commit",
    "packages": "object: versions",
    "training_inputs": "string: digest of what the retraining learned from",
    "look": "object: which look of the year it was",
}
REGISTRY_FILES = (
    FileFormat(
        name="VERSION/manifest.json",
        place="adapters/*/v*/manifest.json",
        about="Everything that is needed to repeat the run. It is written last and never changes.",
        fields=(
            {
                "format": "integer: of the file",
                "advisor": "string: whose adapter",
                "version": "string: such as v0003",
                "created_at": "string: UTC",
                "registered_as": "string: `candidate` or `rejected`",
                "run": "string: name of the run",
                "parent": "string or null: the champion at the time of the training",
                "base": "object: name and fingerprint of the base model, digests of weights, settings and templates",
                "answer_form": "string: `comments` or `advice`",
                "prompt_digest": "string: SHA-256 of the prompt",
                "dataset": "object: digest, sizes by split, what was trained on and evaluated on",
                "recipe": "object: digest and values",
                "seed": "integer: of the training",
                "training": "object: as train.json",
                "gate_report": "object: below",
                "metrics": "object: as in comparison_report.json",
                "packages": "object: versions",
                "device": "object: system, machine, Python",
                "code_commit": "string or null: of the repository",
                "files": "object: SHA-256 and bytes by file",
            },
        ),
        inside={"gate_report": (_GATE_REPORT,)},
    ),
    FileFormat(
        name="VERSION/adapter_config.json",
        place="adapters/*/v*/adapter_config.json",
        about="The adapter's configuration, as mlx-vlm writes and loads it. PEFT's configuration is read too.",
        fields=(
            {
                "fine_tune_type": "string: `lora` or `dora`",
                "num_layers": "integer: layers of the language model",
                "lora_parameters": "object: `rank`, `scale`, `dropout` and `keys` (the adapted layers)",
                "base_quantization": "object: packing of the base's layers, for a packed base",
                "answer_form": "string: `advice`; missing for `comments`",
            },
        ),
        optional=("base_quantization", "answer_form"),
    ),
    FileFormat(
        name="promoted.json",
        place="adapters/*/promoted.json",
        about="The champion. Replacing this file is what makes a promotion take effect.",
        fields=(
            {
                "advisor": "string: whose",
                "version": "string or null: the champion; null: the base alone",
                "previous": "string or null: the champion before",
                "promoted_at": "string: UTC",
                "manifest_sha256": "string: of the version's manifest, so that an edited one is not served",
                "entry": "object: the line of history.jsonl",
            },
        ),
    ),
    FileFormat(
        name="history.jsonl",
        place="adapters/*/history.jsonl",
        about="What happened to an advisor's versions. Lines are only added; each holds the hash of the one before.",
        kinds=HISTORY_EVENTS,
        kind_key="event",
        fields=(
            HistoryEntry,
            {
                "event": "string: one of the events above",
                "version": "string or null: that it is about",
                "actor": "string: `person:NAME`, or what did it",
                "reason": "string: for people",
                "at": "string: UTC by the clock, which may go backwards",
                "moves_pointer": "boolean: the champion changed",
                "forced": "boolean: against the gates",
                "verdicts": "object: by gate, of a promotion",
                "detail": "object: by event",
            },
        ),
    ),
    FileFormat(
        name="plan of a rollout",
        about="A JSON file for `mondrian adapters promote --plan FILE`; a missing key keeps its default "
        "([rollout](../explanation/rollout.md)).",
        fields=(RolloutPlan,),
    ),
)
BACKUP_FILES = (
    FileFormat(
        name="snapshots/NAME.json",
        place="backup/snapshots/*.json",
        about="One snapshot. The contents are in `objects/AB/SHA256`, each stored once.",
        fields=(
            {
                "format": "integer: of the file",
                "made_at": "string: UTC",
                "program": "string: version of Mondrian",
                "entries": "list of object: the files, below",
                "entries_sha256": "string: of the list",
                "left_out": "list of list: unreadable files, path and reason",
            },
        ),
        inside={
            "entries": (
                SnapshotEntry,
                {
                    "path": "string: `workspace/...` or `adapters/...`",
                    "sha256": "string: of the content",
                    "bytes": "integer: size",
                    "mtime_ns": "integer: modification time in nanoseconds",
                    "mode": "integer: permission bits",
                },
            )
        },
    ),
)
REPORTS = (
    FileFormat(
        name="imports/TIME.json",
        about="What an import of photographs did, in the workspace; written when it is too long for the screen.",
        fields=(
            {
                "dry_run": "boolean: nothing was written",
                "referenced": "boolean: photographs are links to the originals",
                **{str(outcome): f"integer: {OUTCOME_TITLES[outcome]}" for outcome in ImportOutcome},
                "place_removed": "object: how often GPS data was removed, by where it was",
                "other_files": "object: files that aren't photographs, by suffix",
                "files": "list of object: files that were not imported, below; keys without a value are left out",
                "moved": "object: new path of photographs that were moved, by the former",
                "missing": "list of string: photographs that are gone",
                "near_duplicates": "list of object: `first`, `second`, and how they look alike",
            },
        ),
        inside={"files": (ImportedFile, {"outcome": "string: one of the words above"})},
    ),
    FileFormat(
        name="mondrian-selftest-TIME.json",
        about="The report of [`mondrian selftest`](../how-to/selftest.md); it names no user, host or path.",
        fields=(
            {
                "schema": "string: `mondrian-selftest`",
                "schema_version": "integer: of the file",
                "date": "string: UTC",
                "verdict": "string: ok or off",
                "seconds": "number: how long all of it took",
                "mondrian": "object: version and digest of the code",
                "packages": "object: versions",
                "machine": "object: facts about chip, memory and system",
                "variables_set": "list of string: names of variables that change MLX",
                "bases": "object: names of the bases that were used",
                "steps": "list of object: the results",
            },
        ),
    ),
    FileFormat(
        name="analyze --csv",
        about="One row per critique; a text that a spreadsheet would run as a formula gets an apostrophe in front.",
        fields=(
            {
                "photograph": "text: its path",
                "advisor": "text: ID",
                "requested_mode, mode": "text: strategy that was asked for, and that answered",
                "model_used": "text: `base` or `fine_tuned`",
                "adapter_version": "text: version that answered",
                "taken_at": "text: by the camera's clock",
                ", ".join(CAMERA_COLUMNS): "text: of the camera",
                "overall_grade": "text: such as 8.1",
                "DIMENSION_score": "number: 0 to 10, for each dimension",
                "DIMENSION_comment": "text: for each dimension",
                "seconds": "number: time of the critique",
                "job": "text: ID",
                "error": "text: why it failed",
            },
        ),
    ),
)
