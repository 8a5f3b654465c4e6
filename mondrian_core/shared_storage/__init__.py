"""Storage that several machines share (MONDRIAN_SHARED): datasets, runs and checkpoints, published by digest.

publication.py   objects by SHA-256, and manifests that make them visible: publish, fetch, find what is unreferenced
datasets.py      dataset versions
runs.py          run folders
checkpoints.py   the state of a training, published in the background while it goes on
"""

from mondrian_core.shared_storage.checkpoints import CheckpointPublisher, remove_checkpoints, restore_checkpoint
from mondrian_core.shared_storage.datasets import fetch_dataset, publish_dataset
from mondrian_core.shared_storage.publication import (
    SharedStorage,
    UnreferencedObject,
    remove_unreferenced,
    unreferenced_published,
)
from mondrian_core.shared_storage.runs import PUBLICATION_MARKER, fetch_published_runs, fetch_run, publish_run

__all__ = [
    "PUBLICATION_MARKER",
    "CheckpointPublisher",
    "SharedStorage",
    "UnreferencedObject",
    "fetch_dataset",
    "fetch_published_runs",
    "fetch_run",
    "publish_dataset",
    "publish_run",
    "remove_checkpoints",
    "remove_unreferenced",
    "restore_checkpoint",
    "unreferenced_published",
]
